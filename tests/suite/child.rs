//! Child processes: pipes on any descriptor, nothing leaked either way, ends that cannot hang.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::path::PathBuf;
use std::time::Duration;

use aqueduct::child::{self, Child, Command, StreamEnd};
use aqueduct::codec::{Json, Text};
use aqueduct::frame::Framing;
use aqueduct::{Channel, pipe};
use serde::{Deserialize, Serialize};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_test::{assert_pending, task};

use crate::support::{Log, compile_c, deadline, is_peer, peer_command};

mod ends;
mod inherited;
mod refused;

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
async fn a_child_has_only_mapped_descriptors_all_of_them_blocking() {
    // Open in this process without close-on-exec, as careless code leaves them.
    let leaky: Vec<OwnedFd> = (0..3)
        .map(|_| nix::unistd::dup(io::stderr()).unwrap())
        .collect();
    let highest = leaky.iter().map(AsRawFd::as_raw_fd).max().unwrap();
    let passed: OwnedFd = std::fs::File::open("/dev/null").unwrap().into();

    let dir = tempfile::tempdir().unwrap();
    let mut command = Command::new(list_fds(&dir));
    command.as_tokio_mut().stdin(std::process::Stdio::null());
    command
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
    let limit = Duration::from_millis(20);
    let waited = tokio::time::timeout(limit, child.wait()).await;
    waited.expect_err("it waits for its input");
    drop(input);
    let waited = deadline(child.wait()).await.unwrap();
    assert_eq!(waited.code(), Some(3));
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
    let same = pipe::Receiver::from_shared_fd(&output).unwrap();
    deadline(same.readable()).await.unwrap();
    drop(same);
    let status = deadline(child.kill()).await.unwrap();
    assert!(!status.success());
    assert!(!exists(pid));
    // It has gone: there is nothing left to kill, which is no error.
    child.as_tokio_mut().start_kill().unwrap();
    assert_eq!(deadline(child.kill()).await.unwrap(), status);
    let mut text = String::new();
    deadline(output.read_to_string(&mut text)).await.unwrap();
    assert_eq!(text, "last\n");
}

#[test]
fn a_child_says_when_it_starts_exits_and_is_let_go() {
    let ((), lines) = Log::record(|| {
        let runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = { runtime }.enable_all().build().unwrap();
        runtime.block_on(async {
            let mut child = ends::leaves_one_behind("all");
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
    assert_eq!(count("dropped before its exit"), 1, "{lines:#?}");
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
