//! Ends of the streams from a child, also where a grandchild holds them open.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use aqueduct::child::{Child, StreamEnd};
use aqueduct::codec::Text;
use aqueduct::frame::Framing;
use aqueduct::{OpenErrorKind, Receiver};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_test::{assert_pending, task};

use super::{read_all, sh, succeeds};
use crate::support::deadline;

#[tokio::test]
async fn each_side_sees_the_other_close() {
    // The child closes its ends and lives on.
    let mut command = sh("exec 3>&- 4<&-; read line");
    command.pipe_to_child(0).pipe_from_child(3).pipe_to_child(4);
    let mut child = command.spawn().unwrap();
    let (text, end) = read_all(child.take_receiver(3).unwrap()).await;
    assert_eq!((text.as_str(), end), ("", Some(StreamEnd::Eof)));
    let mut four = child.take_sender(4).unwrap();
    let error = deadline(async {
        loop {
            if let Err(e) = four.write_all(&[0; 4096]).await {
                return e;
            }
        }
    });
    assert_eq!(error.await.raw_os_error(), Some(libc::EPIPE));
    assert!(child.try_wait().unwrap().is_none(), "still running");
    // `wait` closes the input that nobody took.
    let status = deadline(child.wait()).await.unwrap();
    assert_eq!(status.code(), Some(1), "`read` met the end of its input");
}

/// All earlier frames arrive first.
#[tokio::test]
async fn a_child_killed_inside_a_frame_is_unexpected_eof() {
    let mut command = sh(r#"printf '\0\0\0\002hi\0\0\0\003you\0\0\0\011part'; kill -9 $$"#);
    command.pipe_from_child(1);
    let mut child = command.spawn().unwrap();
    let frames = child.take_receiver(1).unwrap().framed(Framing::length());
    let mut receiver = Receiver::<String>::new(frames, Text);
    for expected in ["hi", "you"] {
        assert_eq!(deadline(receiver.recv()).await.unwrap().unwrap(), expected);
    }
    let error = deadline(receiver.recv()).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    assert!(deadline(receiver.recv()).await.is_none());
    let status = deadline(child.wait()).await.unwrap();
    assert!(!status.success());
}

/// A child that writes `text` and exits, and leaves a process behind which holds its stdout until
/// descriptor 3 is closed, and copies to it what comes there.
pub(super) fn leaves_one_behind(text: &str) -> Child {
    let mut command = sh(&format!("cat <&3 & printf {text}"));
    command.pipe_to_child(3).pipe_from_child(1);
    command.spawn().unwrap()
}

#[tokio::test]
async fn a_grandchild_that_holds_the_pipe_cannot_hang_the_reader() {
    let mut child = leaves_one_behind("all");
    let holder = child.take_sender(3).unwrap();
    let mut output = child.take_receiver(1).unwrap();
    output.set_grace(Some(Duration::from_millis(50)));
    let (text, end) = read_all(output).await;
    assert_eq!((text.as_str(), end), ("all", Some(StreamEnd::Abandoned)));
    assert_eq!(child.stream_end(1), Some(StreamEnd::Abandoned));
    succeeds(&mut child).await;
    drop(holder);
}

#[tokio::test]
async fn a_typed_channel_ends_too_when_a_grandchild_holds_the_pipe() {
    let mut child = leaves_one_behind(r"'one\ntwo\n'");
    let mut channel = child
        .channel::<String, String, _>(3, 1, Framing::lines(), Text)
        .unwrap();
    let mut lines = Vec::new();
    while let Some(line) = deadline(channel.recv()).await {
        lines.push(line.unwrap());
    }
    assert_eq!(lines, ["one", "two"]);
    assert_eq!(child.stream_end(1), Some(StreamEnd::Abandoned));
    succeeds(&mut child).await;
}

#[tokio::test]
async fn without_a_bound_the_stream_lasts_as_long_as_the_grandchild() {
    for unbounded in [true, false] {
        let mut child = leaves_one_behind("first");
        let mut holder = child.take_sender(3).unwrap();
        let mut output: Box<dyn tokio::io::AsyncRead + Unpin> = if unbounded {
            Box::new(child.take_unbounded_receiver(1).unwrap())
        } else {
            let mut output = child.take_receiver(1).unwrap();
            output.set_grace(None);
            Box::new(output)
        };
        succeeds(&mut child).await;
        let mut text = [0; 5];
        deadline(output.read_exact(&mut text)).await.unwrap();
        {
            let mut byte = [0; 1];
            let mut reading = task::spawn(output.read(&mut byte));
            assert_pending!(reading.poll());
        }
        holder.write_all(b"later").await.unwrap();
        drop(holder);
        let mut rest = String::new();
        deadline(output.read_to_string(&mut rest)).await.unwrap();
        assert_eq!(rest, "later");
    }
}

#[tokio::test]
async fn output_of_a_child_is_never_cut_off_by_a_slow_reader() {
    // More than fits one small pipe, so that the child may still be writing when reading begins;
    // and a grandchild holds the pipe, so that there is no true end.
    let mut command = sh("cat <&3 & head -c 20000 /dev/zero");
    command.pipe_to_child(3).pipe_from_child(1);
    let mut child = command.spawn().unwrap();
    let _holder = child.take_sender(3).unwrap();
    let mut output = child.take_receiver(1).unwrap();
    output.set_grace(Some(Duration::ZERO));
    let mut total = 0;
    let mut buf = [0; 500];
    loop {
        match deadline(output.read(&mut buf)).await.unwrap() {
            0 => break,
            n => total += n,
        }
        if total >= 16_000 && child.id().is_some() {
            // All is in the pipe, and the grace has passed, long before the rest is read.
            succeeds(&mut child).await;
        }
    }
    assert_eq!(total, 20_000);
    assert_eq!(output.end(), Some(StreamEnd::Abandoned));
}

#[tokio::test]
async fn a_grandchild_that_never_stops_cannot_keep_the_reader() {
    let mut command = sh("yes & echo $!");
    command.pipe_from_child(1);
    let mut child = command.spawn().unwrap();
    let mut output = child.take_receiver(1).unwrap();
    output.set_grace(Some(Duration::from_millis(20)));
    // In sips, so that the pipe never runs empty meanwhile.
    let mut sip = [0; 16];
    let read = async { while output.read(&mut sip).await.unwrap() > 0 {} };
    deadline(read).await;
    assert_eq!(output.end(), Some(StreamEnd::Abandoned));
    succeeds(&mut child).await;
    // Dropping the pipe ends `yes` by SIGPIPE.
}

/// Who reads the pipe as well may have taken what the child wrote last; that is not waited for.
#[tokio::test]
async fn what_another_reader_has_taken_is_not_waited_for() {
    // As many reads of 16 bytes as it takes until the exit is looked for, and 100 bytes.
    let mut child = leaves_one_behind(&"x".repeat(32 * 16 + 100));
    let _holder = child.take_sender(3).unwrap();
    succeeds(&mut child).await;
    // Taken after the exit was seen: the end is bounded all the same.
    let mut output = child.take_receiver(1).unwrap();
    for _ in 0..32 {
        assert_eq!(deadline(output.read(&mut [0; 16])).await.unwrap(), 16);
    }
    let mut taken = [0; 200];
    assert_eq!(nix::unistd::read(output.as_fd(), &mut taken).unwrap(), 100);
    output.set_grace(Some(Duration::from_millis(10)));
    assert_eq!(deadline(output.read(&mut taken)).await.unwrap(), 0);
    assert_eq!(output.end(), Some(StreamEnd::Abandoned));
    assert_eq!(child.stream_end(1), Some(StreamEnd::Abandoned));
}

#[tokio::test]
async fn a_channel_that_cannot_be_made_takes_neither_pipe() {
    let mut command = sh("cat <&3");
    command.pipe_to_child(3).pipe_from_child(1);
    let mut child = command.spawn().unwrap();
    for (to, from, missing) in [(3, 7, "from descriptor 7"), (8, 1, "to descriptor 8")] {
        let made = child.channel::<String, String, _>(to, from, Framing::lines(), Text);
        let error = made.unwrap_err();
        assert_eq!(error.kind(), &OpenErrorKind::NotFound, "{error:?}");
        assert!(error.object().contains(missing), "{error}");
    }
    let mut channel = child
        .channel::<String, String, _>(3, 1, Framing::lines(), Text)
        .unwrap();
    deadline(channel.send("all there".into())).await.unwrap();
    assert_eq!(
        deadline(channel.recv()).await.unwrap().unwrap(),
        "all there"
    );
    deadline(channel.close()).await.unwrap();
    succeeds(&mut child).await;
}
