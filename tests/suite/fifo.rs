//! FIFOs: what is read when, what the end of the stream means, and which FIFO the path names.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use aqueduct::fifo::{OpenOptions, ReaderGone, Receiver, Sender};
use aqueduct::frame::{FrameError, Framing};
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_test::{assert_pending, task};

use crate::support::{Log, Peer, compile_c, deadline};

mod path;

/// A directory of the test's own with a FIFO in it, and its path.
pub(crate) fn with_fifo() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("fifo");
    mkfifo(&path, Mode::from_bits_truncate(0o600)).unwrap();
    (dir, path)
}

/// CPU time that this thread has used; a `#[tokio::test]` runs on one.
pub(crate) fn cpu() -> Duration {
    let usage = getrusage(UsageWho::RUSAGE_THREAD).unwrap();
    let total = usage.user_time() + usage.system_time();
    Duration::new(
        total.tv_sec().try_into().unwrap(),
        (total.tv_usec() * 1000).try_into().unwrap(),
    )
}

/// A writer that is no part of this library.
fn plain_writer(path: &Path) -> File {
    File::options().write(true).open(path).unwrap()
}

fn receiver(path: &Path) -> Receiver {
    OpenOptions::new().open_receiver(path).unwrap()
}

fn persistent(path: &Path) -> Receiver {
    let mut options = OpenOptions::new();
    options.persist(true).open_receiver(path).unwrap()
}

fn sender(path: &Path) -> Sender {
    OpenOptions::new().try_open_sender(path).unwrap()
}

fn keeping_sender(path: &Path) -> Sender {
    let mut options = OpenOptions::new();
    let options = options.on_reader_gone(ReaderGone::Keep);
    options.try_open_sender(path).unwrap()
}

async fn read(receiver: &mut Receiver) -> Vec<u8> {
    let mut buf = [0; 100];
    let n = deadline(receiver.read(&mut buf)).await.unwrap();
    buf[..n].to_vec()
}

async fn assert_nothing_comes(receiver: &mut Receiver) {
    // Long enough for the I/O driver to report whatever there is to report.
    let mut buf = [0; 100];
    let read = tokio::time::timeout(Duration::from_millis(20), receiver.read(&mut buf));
    assert!(read.await.is_err(), "a read that should wait came back");
}

/// The kernel answers such a read with 0 bytes; that is not the end of a stream that never began.
#[tokio::test]
async fn before_the_first_writer_a_read_waits() {
    let (_dir, path) = with_fifo();
    let mut receiver = receiver(&path);
    assert_nothing_comes(&mut receiver).await;

    plain_writer(&path).write_all(b"abc").unwrap();
    assert_eq!(read(&mut receiver).await, b"abc");
    assert_eq!(read(&mut receiver).await, b"");
}

#[tokio::test]
async fn the_stream_ends_after_the_last_writer_and_can_start_again() {
    let (_dir, path) = with_fifo();
    let mut receiver = receiver(&path);
    let mut first = plain_writer(&path);
    let mut second = plain_writer(&path);
    first.write_all(b"one").unwrap();
    drop(first);
    assert_eq!(read(&mut receiver).await, b"one");
    assert_nothing_comes(&mut receiver).await;
    second.write_all(b"two").unwrap();
    drop(second);
    assert_eq!(read(&mut receiver).await, b"two");
    assert_eq!(read(&mut receiver).await, b"");
    // For as long as nobody comes.
    assert_eq!(read(&mut receiver).await, b"");

    let mut third = plain_writer(&path);
    assert_nothing_comes(&mut receiver).await;
    third.write_all(b"three").unwrap();
    assert_eq!(read(&mut receiver).await, b"three");
    drop(third);
    assert_eq!(read(&mut receiver).await, b"");
}

#[tokio::test]
async fn a_writer_that_leaves_without_writing_is_an_end_of_stream() {
    let (_dir, path) = with_fifo();
    let mut receiver = receiver(&path);
    drop(plain_writer(&path));
    assert_eq!(read(&mut receiver).await, b"");
}

/// Tokio's pipe receiver burns a core here: it never forgets that its peer was gone once.
#[tokio::test]
async fn a_silent_writer_after_an_earlier_ones_exit_costs_no_cpu() {
    let (_dir, path) = with_fifo();
    // One at a time: a persistent receiver is a writer to all the others.
    for is_persistent in [false, true] {
        let mut receiver = match is_persistent {
            false => receiver(&path),
            true => persistent(&path),
        };
        plain_writer(&path).write_all(b"x").unwrap();
        assert_eq!(read(&mut receiver).await, b"x");
        if !is_persistent {
            assert_eq!(read(&mut receiver).await, b"");
        }
        let mut silent = plain_writer(&path);
        let before = cpu();
        let mut buf = [0; 1];
        let waited = tokio::time::timeout(Duration::from_secs(1), receiver.read(&mut buf)).await;
        let used = cpu() - before;
        assert!(waited.is_err());
        assert!(used < Duration::from_millis(10), "{used:?}");

        silent.write_all(b"y").unwrap();
        assert_eq!(read(&mut receiver).await, b"y");
    }
}

#[tokio::test]
async fn a_persistent_receiver_outlives_its_writers() {
    let (_dir, path) = with_fifo();
    let mut receiver = persistent(&path);
    for _ in 0..3 {
        plain_writer(&path).write_all(b"abc").unwrap();
        assert_eq!(read(&mut receiver).await, b"abc");
        assert_nothing_comes(&mut receiver).await;
    }
}

#[tokio::test]
async fn writes_without_a_reader_fail_until_another_has_come() {
    let (_dir, path) = with_fifo();
    let first = receiver(&path);
    let mut sender = sender(&path);
    drop(first);
    for _ in 0..2 {
        let error = deadline(sender.write_all(b"x")).await.unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EPIPE));
    }
    let mut second = receiver(&path);
    deadline(sender.write_all(b"again")).await.unwrap();
    assert_eq!(read(&mut second).await, b"again");
}

/// A sender that has once seen its reader go must sleep on a full FIFO like any other.
#[tokio::test]
async fn a_full_fifo_after_an_earlier_readers_exit_costs_no_cpu() {
    let (_dir, path) = with_fifo();
    let first = receiver(&path);
    let mut sender = sender(&path);
    drop(first);
    deadline(sender.write_all(b"x")).await.unwrap_err();
    let mut second = receiver(&path);
    while let Ok(Ok(())) =
        tokio::time::timeout(Duration::from_millis(20), sender.write_all(&[7; 4096])).await
    {}
    let before = cpu();
    let waited = tokio::time::timeout(Duration::from_secs(1), sender.write_all(b"z")).await;
    let used = cpu() - before;
    assert!(waited.is_err());
    assert!(used < Duration::from_millis(10), "{used:?}");
    let mut buf = vec![0; 65536];
    deadline(second.read_exact(&mut buf[..4096])).await.unwrap();
    deadline(sender.write_all(b"z")).await.unwrap();
}

#[tokio::test]
async fn default_signals_kill_a_program_when_its_reader_goes() {
    let (dir, path) = with_fifo();
    let program = compile_c(
        dir.path(),
        "gush",
        "#include <fcntl.h>\n#include <unistd.h>\n\
         int main(int n, char **arg) {\n\
             static char text[4096];\n\
             int fd = open(arg[1], O_WRONLY);\n\
             while (write(fd, text, sizeof text) > 0) {}\n\
             return 3;\n\
         }\n",
    );
    let mut receiver = receiver(&path);
    let mut peer = Peer::spawn(std::process::Command::new(program).arg(&path));
    let mut buf = [0; 5000];
    deadline(receiver.read_exact(&mut buf)).await.unwrap();
    drop(receiver);
    let status = peer.exit().await.unwrap();
    assert_eq!(status.signal(), Some(libc::SIGPIPE));
}

#[tokio::test]
async fn unread_bytes_are_lost_when_every_process_has_closed() {
    let (_dir, path) = with_fifo();
    let first = receiver(&path);
    plain_writer(&path).write_all(b"lost").unwrap();
    drop(first);
    let mut second = receiver(&path);
    assert_nothing_comes(&mut second).await;
}

#[tokio::test]
async fn unread_bytes_wait_for_the_next_reader_while_a_writer_stays() {
    let (_dir, path) = with_fifo();
    let first = receiver(&path);
    let mut sender = sender(&path);
    deadline(sender.write_all(b"kept")).await.unwrap();
    drop(first);
    deadline(sender.write_all(b"refused")).await.unwrap_err();
    let mut second = receiver(&path);
    assert_eq!(read(&mut second).await, b"kept");
}

#[tokio::test]
async fn a_sender_that_keeps_its_bytes_survives_its_readers() {
    let (_dir, path) = with_fifo();
    let mut sender = keeping_sender(&path);
    deadline(sender.write_all(b"early ")).await.unwrap();
    let mut first = receiver(&path);
    assert_eq!(read(&mut first).await, b"early ");
    deadline(sender.write_all(b"between")).await.unwrap();
    drop(first);
    deadline(sender.write_all(b" readers")).await.unwrap();
    let mut second = receiver(&path);
    assert_eq!(read(&mut second).await, b"between readers");
    // It waits when the FIFO is full, and goes on when there is room.
    drop(second);
    let large = vec![7; 200_000];
    let mut write = task::spawn(sender.write_all(&large));
    assert_pending!(write.poll());
    let mut third = receiver(&path);
    let mut got = vec![0; large.len()];
    let (written, read) = deadline(async { tokio::join!(write, third.read_exact(&mut got)) }).await;
    written.unwrap();
    read.unwrap();
    assert_eq!(got, large);
    // It is a reader itself, and that is documented: nobody is told that there is none.
    drop(third);
    OpenOptions::new().try_open_sender(&path).unwrap();
}

#[tokio::test]
async fn a_reader_that_died_inside_a_frame_leaves_the_rest_of_it() {
    let (_dir, path) = with_fifo();
    for (framing, overhead, expected) in [
        (Framing::lines(), 1, Some("ond")),
        (Framing::nul(), 1, Some("ond")),
        // The four bytes "ond\0" are taken for a length.
        (Framing::length(), 4, None),
    ] {
        let mut sender = keeping_sender(&path).framed(framing.clone());
        for body in ["first", "second", "third"] {
            deadline(sender.feed(Bytes::from(body))).await.unwrap();
        }
        deadline(sender.flush()).await.unwrap();
        let header = overhead - usize::from(expected.is_some());
        let mut dies = receiver(&path);
        let taken = overhead + "first".len() + header + "sec".len();
        deadline(dies.read_exact(&mut vec![0; taken]))
            .await
            .unwrap();
        drop(dies);

        let mut next = receiver(&path).framed(framing);
        let item = deadline(next.next()).await.unwrap();
        if let Some(expected) = expected {
            assert_eq!(item.unwrap(), expected);
            assert_eq!(deadline(next.next()).await.unwrap().unwrap(), "third");
        } else {
            let error = item.unwrap_err();
            assert!(
                matches!(FrameError::of(&error), Some(FrameError::TooLarge { .. })),
                "{error}"
            );
        }
    }
}

#[tokio::test]
async fn a_writer_killed_inside_a_frame_truncates_the_last_frame() {
    let (_dir, path) = with_fifo();
    let mut frames = receiver(&path).framed(Framing::length());
    plain_writer(&path)
        .write_all(b"\0\0\0\x05whole\0\0\0\x05torn")
        .unwrap();
    assert_eq!(deadline(frames.next()).await.unwrap().unwrap(), "whole");
    let error = deadline(frames.next()).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    assert!(deadline(frames.next()).await.is_none());
}

#[tokio::test]
async fn frames_go_through_whole_whatever_their_size() {
    let (_dir, path) = with_fifo();
    let mut frames = receiver(&path).framed(Framing::length());
    let mut sender = sender(&path).framed(Framing::length());
    let sizes = [0, 1, 4092, 4093, 12_288, 20_000, 300_000];
    let sending = async {
        for size in sizes {
            sender.send(Bytes::from(vec![1; size])).await.unwrap();
        }
        sender.close().await.unwrap();
        drop(sender);
    };
    let receiving = async {
        let mut got = Vec::new();
        while let Some(frame) = frames.next().await {
            got.push(frame.unwrap().len());
        }
        got
    };
    let ((), got) = deadline(async { tokio::join!(sending, receiving) }).await;
    assert_eq!(got, sizes);
}

/// The future is polled once, with bytes in the FIFO or not, and dropped: whatever it did not
/// return is still there.
#[tokio::test]
async fn dropping_a_read_at_its_await_point_loses_nothing() {
    let (_dir, path) = with_fifo();
    let mut receiver = receiver(&path);
    let mut writer = plain_writer(&path);
    let mut sent = Vec::new();
    let mut got = Vec::new();
    let mut dropped = 0;
    for i in 0..200u8 {
        let mut buf = [0; 3];
        match task::spawn(receiver.read(&mut buf)).poll() {
            std::task::Poll::Ready(n) => got.extend_from_slice(&buf[..n.unwrap()]),
            std::task::Poll::Pending => dropped += 1,
        }
        writer.write_all(&[i]).unwrap();
        sent.push(i);
        tokio::task::yield_now().await;
    }
    drop(writer);
    deadline(receiver.read_to_end(&mut got)).await.unwrap();
    assert_eq!(got, sent);
    assert!(dropped > 0);
}

#[tokio::test]
async fn dropping_a_write_at_its_await_point_writes_nothing() {
    let (_dir, path) = with_fifo();
    let mut reader = File::options().read(true).write(true).open(&path).unwrap();
    let mut sender = sender(&path);
    let mut sent = Vec::new();
    for i in 0..100u8 {
        // The FIFO holds far fewer than 100 of these.
        if let std::task::Poll::Ready(n) = task::spawn(sender.write(&[i; 4096])).poll() {
            assert_eq!(n.unwrap(), 4096);
            sent.extend_from_slice(&[i; 4096]);
        }
        tokio::task::yield_now().await;
    }
    assert!(sent.len() < 100 * 4096);
    let mut got = vec![0; sent.len()];
    reader.read_exact(&mut got).unwrap();
    assert!(got == sent);
    // And not a byte more.
    assert_eq!(deadline(sender.write(b"!")).await.unwrap(), 1);
    let mut last = [0; 1];
    reader.read_exact(&mut last).unwrap();
    assert_eq!(&last, b"!");
}

#[test]
fn an_end_logs_its_opening_its_lost_peer_and_its_closing() {
    let (_dir, path) = with_fifo();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let ((), lines) = Log::record(|| {
        runtime.block_on(async {
            let mut receiver = receiver(&path);
            let mut sender = sender(&path);
            sender.write_all(b"x").await.unwrap();
            assert_eq!(read(&mut receiver).await, b"x");
            drop(sender);
            assert_eq!(read(&mut receiver).await, b"");
        });
    });
    let count = |part: &str| lines.iter().filter(|line| line.contains(part)).count();
    assert_eq!(count("fifo receiver{path="), 3, "{lines:#?}");
    assert_eq!(count("fifo sender{path="), 2, "{lines:#?}");
    assert_eq!(count("opened"), 2, "{lines:#?}");
    assert_eq!(count("the last writer has gone"), 1, "{lines:#?}");
    assert_eq!(count("closed"), 2, "{lines:#?}");
    assert_eq!(lines.len(), 5, "{lines:#?}");
}

#[tokio::test]
async fn ends_are_send_sync_and_debug() {
    fn check<T: Send + Sync + Unpin + std::fmt::Debug>() {}
    check::<Receiver>();
    check::<Sender>();
    check::<aqueduct::fifo::SharedSender>();
    check::<OpenOptions>();
}
