//! Child processes: pipes on any descriptor, nothing leaked either way, ends that cannot hang.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::path::PathBuf;
use std::time::Duration;

use aqueduct::child::{self, Child, Command, Error, StreamEnd};
use aqueduct::codec::{Json, Text};
use aqueduct::frame::Framing;
use aqueduct::{Channel, Receiver};
use serde::{Deserialize, Serialize};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_test::{assert_pending, task};

use crate::support::{Log, compile_c, deadline, is_peer, peer_command};

mod inherited;

fn sh(script: &str) -> Command {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", script]);
    command
}

/// A C program that prints a line `number flags` for each descriptor it has, to its stdout.
fn list_fds(dir: &TempDir) -> PathBuf {
    let source = r#"
        #include <fcntl.h>
        #include <stdio.h>
        int main(void) {
            for (int fd = 0; fd < 4096; fd++) {
                int flags = fcntl(fd, F_GETFL);
                if (flags >= 0) printf("%d %d\n", fd, flags);
            }
            return 0;
        }"#;
    compile_c(dir.path(), "list_fds", source)
}

async fn read_all(mut from: child::Receiver) -> (String, Option<StreamEnd>) {
    let mut text = String::new();
    deadline(from.read_to_string(&mut text)).await.unwrap();
    (text, from.end())
}

/// What `list_fds` printed.
fn parse_fds(text: &str) -> Vec<(RawFd, i32)> {
    let number = |word: Option<&str>| word.unwrap().parse().unwrap();
    text.lines()
        .map(|line| line.split(' '))
        .map(|mut words| (number(words.next()), number(words.next())))
        .collect()
}

async fn succeeds(child: &mut Child) {
    let status = deadline(child.wait()).await.unwrap();
    assert!(status.success(), "{status}");
}

fn exists(pid: u32) -> bool {
    std::path::Path::new(&format!("/proc/{pid}")).exists()
}

#[derive(Serialize, Deserialize, PartialEq, Debug)]
struct Job {
    id: u32,
    text: String,
}

#[tokio::test]
async fn a_typed_channel_over_descriptors_3_and_4() {
    let mut command = sh("cat <&3 >&4");
    command.pipe_to_child(3).pipe_from_child(4);
    let mut child = command.spawn().unwrap();
    let mut channel: Channel<Job, Job> = child.channel(3, 4, Framing::lines(), Json).unwrap();
    for id in 0..100 {
        let text = format!("line\nbreak {id}");
        deadline(channel.send(Job { id, text })).await.unwrap();
        let back = deadline(channel.recv()).await.unwrap().unwrap();
        assert_eq!((back.id, back.text), (id, format!("line\nbreak {id}")));
    }
    deadline(channel.close()).await.unwrap();
    assert!(deadline(channel.recv()).await.is_none());
    assert_eq!(child.stream_end(4), Some(StreamEnd::Eof));
    succeeds(&mut child).await;
}

#[tokio::test]
async fn all_three_standard_streams_can_be_pipes() {
    let mut command = sh("read line; echo out $line; echo err $line >&2");
    command
        .pipe_to_child(0)
        .pipe_from_child(1)
        .pipe_from_child(2);
    let mut child = command.spawn().unwrap();
    let mut input = child.take_sender(0).unwrap();
    input.write_all(b"x\n").await.unwrap();
    let out = read_all(child.take_receiver(1).unwrap());
    let err = read_all(child.take_receiver(2).unwrap());
    let (out, err) = tokio::join!(out, err);
    assert_eq!(out.0, "out x\n");
    assert_eq!(err.0, "err x\n");
    succeeds(&mut child).await;
}

#[tokio::test]
async fn numbers_that_are_in_use_in_the_parent_are_mapped_right_too() {
    // Whatever numbers the pipes get in this process, many of them are also asked for, crosswise.
    let numbers: Vec<RawFd> = (3..40).collect();
    let script: String = (3..40).map(|n| format!("echo {n} >/dev/fd/{n};")).collect();
    let mut command = sh(&script);
    for number in numbers.iter().rev() {
        command.pipe_from_child(*number);
    }
    let mut child = command.spawn().unwrap();
    for number in numbers {
        let (text, end) = read_all(child.take_receiver(number).unwrap()).await;
        assert_eq!(text, format!("{number}\n"));
        assert_eq!(end, Some(StreamEnd::Eof));
    }
    succeeds(&mut child).await;
}

#[tokio::test]
async fn the_child_has_what_was_mapped_and_nothing_else_and_all_of_it_blocking() {
    // Open in this process without close-on-exec, as careless code leaves them.
    let leaky: Vec<OwnedFd> = (0..3)
        .map(|_| nix::unistd::dup(io::stderr()).unwrap())
        .collect();
    let highest = leaky.iter().map(AsRawFd::as_raw_fd).max().unwrap();
    let passed: OwnedFd = std::fs::File::open("/dev/null").unwrap().into();

    let dir = tempfile::tempdir().unwrap();
    let mut command = Command::new(list_fds(&dir));
    command
        .stdin(std::process::Stdio::null())
        .pipe_from_child(1)
        .pipe_to_child(7)
        .pipe_from_child(highest)
        .pass(highest + 1, passed);
    let mut child = command.spawn().unwrap();
    let (text, _) = read_all(child.take_receiver(1).unwrap()).await;
    let fds = parse_fds(&text);
    let numbers: BTreeSet<RawFd> = fds.iter().map(|(number, _)| *number).collect();
    assert_eq!(numbers, BTreeSet::from([0, 1, 2, 7, highest, highest + 1]));
    for (number, flags) in fds.iter().filter(|(number, _)| *number != 2) {
        assert_eq!(flags & libc::O_NONBLOCK, 0, "{number} must be blocking");
    }
    succeeds(&mut child).await;
}

#[tokio::test]
async fn each_side_sees_the_other_close_because_nobody_else_holds_the_ends() {
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

#[tokio::test]
async fn a_child_killed_inside_a_frame_gives_all_earlier_frames_then_unexpected_eof() {
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
fn leaves_one_behind(text: &str) -> Child {
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
async fn without_a_bound_the_stream_goes_on_until_the_grandchild_is_done() {
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
async fn what_the_child_wrote_is_never_cut_off_however_slowly_it_is_read() {
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
async fn a_grandchild_that_never_stops_writing_cannot_keep_the_reader() {
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

#[tokio::test]
async fn dropped_reads_and_waits_lose_nothing() {
    let mut command = sh("cat <&3; exit 7");
    command.pipe_to_child(3).pipe_from_child(1);
    let mut child = command.spawn().unwrap();
    let mut input = child.take_sender(3).unwrap();
    let mut output = child.take_receiver(1).unwrap();
    for n in 0..50_u8 {
        let mut buf = [0; 16];
        {
            let mut reading = task::spawn(output.read(&mut buf));
            assert_pending!(reading.poll());
        }
        assert_pending!(task::spawn(child.wait()).poll());
        input.write_all(&[n]).await.unwrap();
        assert_eq!(deadline(output.read(&mut buf)).await.unwrap(), 1);
        assert_eq!(buf[0], n);
    }
    drop(input);
    assert_eq!(deadline(output.read(&mut [0; 1])).await.unwrap(), 0);
    for _ in 0..2 {
        let status = deadline(child.wait()).await.unwrap();
        assert_eq!(status.code(), Some(7));
    }
    assert_eq!(child.id(), None);
}

#[tokio::test]
async fn a_bounded_wait_gives_up_and_can_go_on() {
    let mut command = sh("read line; exit 3");
    command.pipe_to_child(0);
    let mut child = command.spawn().unwrap();
    let input = child.take_sender(0).unwrap();
    let waited = child.wait_timeout(Duration::from_millis(20)).await.unwrap();
    assert_eq!(waited, None);
    drop(input);
    let waited = child.wait_timeout(Duration::from_secs(20)).await.unwrap();
    assert_eq!(waited.and_then(|status| status.code()), Some(3));
}

#[tokio::test]
async fn a_child_that_is_let_go_leaves_no_zombie() {
    for kill in [false, true] {
        let mut command = sh("read line");
        command.pipe_to_child(0).kill_on_drop(kill);
        let mut child = command.spawn().unwrap();
        let pid = child.id().unwrap();
        let input = child.take_sender(0).unwrap();
        drop(child);
        if !kill {
            assert!(exists(pid), "it is not killed");
            drop(input);
        }
        deadline(async {
            while exists(pid) {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        })
        .await;
    }
}

#[tokio::test]
async fn a_killed_child_is_reaped_and_its_last_words_are_read() {
    let mut command = sh("echo last; read line");
    command.pipe_to_child(0).pipe_from_child(1);
    let mut child = command.spawn().unwrap();
    let _input = child.take_sender(0).unwrap();
    let pid = child.id().unwrap();
    let mut output = child.take_receiver(1).unwrap();
    deadline(output.get_ref().readable()).await.unwrap();
    let status = deadline(child.kill()).await.unwrap();
    assert!(!status.success());
    assert!(!exists(pid));
    let mut text = String::new();
    deadline(output.read_to_string(&mut text)).await.unwrap();
    assert_eq!(text, "last\n");
}

#[tokio::test]
async fn a_program_that_cannot_start_says_which_and_why() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("missing");
    match Command::new(&missing).spawn().unwrap_err() {
        Error::NotFound { program, source } => {
            assert_eq!(program, missing);
            assert_eq!(source.raw_os_error(), Some(libc::ENOENT));
        }
        other => panic!("{other:?}"),
    }

    let plain = dir.path().join("plain");
    std::fs::write(&plain, "no program").unwrap();
    let error = Command::new(&plain).spawn().unwrap_err();
    assert!(matches!(error, Error::NotExecutable { .. }), "{error:?}");
    assert!(error.to_string().contains("plain"), "{error}");
    assert_eq!(
        io::Error::from(error).kind(),
        io::ErrorKind::PermissionDenied
    );

    let mut elsewhere = sh("true");
    elsewhere.current_dir(&missing);
    match elsewhere.spawn().unwrap_err() {
        Error::NoDirectory { dir, .. } => assert_eq!(dir, missing),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_failed_start_is_noticed_whatever_numbers_are_mapped() {
    // std reports the failure through a pipe of its own: it must not get a number which is then
    // mapped over. Then the start would seem to succeed.
    for number in 3..100 {
        let mut command = Command::new("/nonexistent/program");
        command.pipe_from_child(number);
        match command.spawn() {
            Err(Error::NotFound { .. }) => {}
            other => panic!("with descriptor {number}: {other:?}"),
        }
    }
}

/// As above, where another thread gives the number up in the very moment: std's own pipe may get it.
#[tokio::test]
async fn a_failed_start_is_noticed_while_other_threads_open_and_close() {
    let mut child = role("child::role_starts_in_a_crowd").spawn().unwrap();
    succeeds(&mut child).await;
}

#[test]
fn role_starts_in_a_crowd() {
    if !is_peer("child::role_starts_in_a_crowd") {
        return;
    }
    let runtime = crate::actor::runtime();
    let _guard = runtime.enter();
    let done = std::sync::atomic::AtomicBool::new(false);
    // The lowest number that is free, which is the one that both threads and std get.
    let number = io::pipe().unwrap().0.as_raw_fd();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !done.load(std::sync::atomic::Ordering::Relaxed) {
                    drop(io::stderr().as_fd().try_clone_to_owned());
                }
            });
        }
        let outcomes: Vec<_> = (0..300)
            .map(|i| {
                let mut command = Command::new("/nonexistent/program");
                command.pipe_from_child(number + i % 8);
                command.spawn().map(drop)
            })
            .collect();
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        for outcome in outcomes {
            let error = outcome.unwrap_err();
            assert!(matches!(error, Error::NotFound { .. }), "{error:?}");
        }
    });
}

#[tokio::test]
async fn impossible_descriptor_numbers_are_refused_by_name() {
    let mut twice = sh("true");
    twice.pipe_from_child(3).pipe_to_child(3);
    let error = twice.spawn().unwrap_err();
    assert!(matches!(error, Error::Duplicate { number: 3 }), "{error:?}");

    let mut both = sh("true");
    both.stdout(std::process::Stdio::null()).pipe_from_child(1);
    let error = both.spawn().unwrap_err();
    assert!(
        matches!(error, Error::StdioTaken { number: 1 }),
        "{error:?}"
    );

    for impossible in [-1, RawFd::MIN, RawFd::MAX] {
        let mut command = sh("true");
        command.pipe_from_child(impossible);
        match command.spawn().unwrap_err() {
            Error::BadNumber { number } => assert_eq!(number, impossible),
            other => panic!("{other:?}"),
        }
    }

    let mut command = sh("true");
    command.pipe_from_child(3);
    let mut child = command.spawn().unwrap();
    let error = child.take_sender(3).unwrap_err();
    assert!(
        error.to_string().contains("pipe to it on descriptor 3"),
        "{error}"
    );
    child.take_receiver(3).unwrap();
    let error = child.take_receiver(3).unwrap_err();
    assert!(
        matches!(error, Error::NoPipe { number: 3, .. }),
        "{error:?}"
    );
    succeeds(&mut child).await;
}

#[test]
fn a_child_says_when_it_starts_exits_and_is_let_go() {
    let ((), lines) = Log::record(|| {
        let runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = { runtime }.enable_all().build().unwrap();
        runtime.block_on(async {
            let mut child = leaves_one_behind("all");
            let _holder = child.take_sender(3).unwrap();
            let mut output = child.take_receiver(1).unwrap();
            output.set_grace(Some(Duration::ZERO));
            read_all(output).await;
            succeeds(&mut child).await;
            drop(child);
            drop(sh("true").spawn().unwrap());
        });
    });
    let lines: Vec<_> = lines
        .into_iter()
        .filter(|it| it.contains("aqueduct::child"))
        .collect();
    let count = |part: &str| lines.iter().filter(|line| line.contains(part)).count();
    assert_eq!(count("child{program=\"/bin/sh\" pid="), 5, "{lines:#?}");
    assert_eq!(count("started"), 2, "{lines:#?}");
    assert_eq!(
        count("another process holds its pipe open"),
        1,
        "{lines:#?}"
    );
    assert_eq!(count("exited status=exit status: 0"), 1, "{lines:#?}");
    assert_eq!(count("let go"), 1, "{lines:#?}");
}

#[test]
fn without_a_runtime_it_is_an_error_and_no_panic() {
    let error = sh("true").spawn().unwrap_err();
    assert!(matches!(error, Error::NoRuntime), "{error:?}");
}

/// Runs a test function of this binary as a process, with what else the test sets.
fn role(name: &str) -> Command {
    let mut command = tokio::process::Command::from(peer_command(name));
    command.stdout(std::process::Stdio::null());
    command.into()
}

#[tokio::test]
async fn nothing_is_left_open_in_the_parent() {
    // In a process of its own, where no other test opens descriptors meanwhile.
    let mut child = role("child::role_counts_descriptors").spawn().unwrap();
    succeeds(&mut child).await;
}

#[test]
fn role_counts_descriptors() {
    if !is_peer("child::role_counts_descriptors") {
        return;
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let open = || std::fs::read_dir("/proc/self/fd").unwrap().count();
        let one_round = async || {
            let mut command = sh("cat");
            command
                .pipe_to_child(0)
                .pipe_from_child(1)
                .pipe_from_child(9);
            let mut child = command.spawn().unwrap();
            let mut channel = child
                .channel::<String, String, _>(0, 1, Framing::lines(), Text)
                .unwrap();
            channel.send("x".into()).await.unwrap();
            assert_eq!(channel.recv().await.unwrap().unwrap(), "x");
            channel.close().await.unwrap();
            assert!(channel.recv().await.is_none());
            assert!(child.wait().await.unwrap().success());

            let mut command = Command::new("/nonexistent");
            command.pipe_to_child(0).pipe_from_child(9);
            command.spawn().unwrap_err();
        };
        one_round().await;
        let before = open();
        for _ in 0..20 {
            one_round().await;
        }
        assert_eq!(open(), before);
    });
}

#[test]
fn the_example_of_parent_and_child_runs_to_its_end() {
    let output = crate::support::example("pipe_parent_child").output();
    let output = output.unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(!output.stdout.is_empty());
}
