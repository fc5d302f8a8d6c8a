//! Descriptors that another process shares: `O_NONBLOCK` stays ours.

use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::process::{Command, Stdio};

use crate::support::is_nonblocking;
use aqueduct::OpenError;
use aqueduct::pipe::{Receiver, Sender, packet};
use nix::mount::{MsFlags, mount};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_test::{assert_pending, task};

use crate::actor::{become_nobody, runtime};
use crate::mq_limits::own_namespace;
use crate::pipe::{Fifo, next_read, raw_writer};
use crate::support::{Peer, alone, deadline};

/// Whether descriptor `fd` of process `pid` is in non-blocking mode, as the kernel shows it.
fn nonblocking_over_there(pid: u32, fd: u32) -> bool {
    let info = std::fs::read_to_string(format!("/proc/{pid}/fdinfo/{fd}")).unwrap();
    let flags = info.lines().find_map(|line| line.strip_prefix("flags:"));
    let flags = i32::from_str_radix(flags.unwrap().trim(), 8).unwrap();
    flags & libc::O_NONBLOCK != 0
}

/// A process that holds `stdin` and `stdout` and waits in `read`.
fn cat(stdin: impl Into<Stdio>, stdout: impl Into<Stdio>) -> Peer {
    Peer::spawn(Command::new("cat").stdin(stdin).stdout(stdout))
}

#[tokio::test]
async fn a_shared_reading_end_stays_blocking_for_the_other_process() {
    let (reader, mut writer) = io::pipe().unwrap();
    let (copied, copy_to) = io::pipe().unwrap();
    let mut peer = cat(reader.try_clone().unwrap(), copy_to);
    let rx = Receiver::from_shared_fd(&reader).unwrap();
    assert!(is_nonblocking(&rx).unwrap());
    assert!(!is_nonblocking(&reader).unwrap());
    assert!(!nonblocking_over_there(peer.0.id(), 0));

    // It is one pipe all the same: what one of them has read, the other has not.
    drop(rx);
    let mut copied = Receiver::from_owned_fd(copied.into()).unwrap();
    writer.write_all(b"to cat").unwrap();
    let mut buf = [0; 16];
    assert_eq!(deadline(copied.read(&mut buf)).await.unwrap(), 6);
    drop(writer);
    assert!(peer.exit().await.unwrap().success());

    // The control: taking over the descriptor itself does leak.
    let (reader, _writer) = io::pipe().unwrap();
    // It does not read, and so does not end with what a read would say now.
    let mut sleep = Command::new("sleep");
    let peer = Peer::spawn(sleep.arg("1000").stdin(reader.try_clone().unwrap()));
    let _rx = Receiver::from_owned_fd(reader.into()).unwrap();
    assert!(nonblocking_over_there(peer.0.id(), 0));
}

#[tokio::test]
async fn a_shared_writing_end_stays_blocking_for_the_other_process() {
    let (reader, writer) = io::pipe().unwrap();
    let (cat_in, cat_feed) = io::pipe().unwrap();
    let mut peer = cat(cat_in, writer.try_clone().unwrap());
    let mut tx = Sender::from_shared_fd(&writer).unwrap();
    assert!(is_nonblocking(&tx).unwrap());
    assert!(!is_nonblocking(&writer).unwrap());
    assert!(!nonblocking_over_there(peer.0.id(), 1));
    tx.write_all(b"ours").await.unwrap();
    let mut rx = Receiver::from_owned_fd(reader.into()).unwrap();
    let mut buf = [0; 16];
    assert_eq!(deadline(rx.read(&mut buf)).await.unwrap(), 4);
    drop((cat_feed, tx, writer));
    assert!(peer.exit().await.unwrap().success());
    assert_eq!(deadline(rx.read(&mut buf)).await.unwrap(), 0);
}

#[tokio::test]
async fn an_anonymous_pipe_whose_writer_has_gone_is_at_its_end() {
    let (reader, writer) = io::pipe().unwrap();
    drop(writer);
    let mut rx = Receiver::from_shared_fd(&reader).unwrap();
    assert_eq!(deadline(rx.read(&mut [0; 1])).await.unwrap(), 0);
}

/// `program < fifo` whose writer is quicker than the program: opened anew, the FIFO reports nothing
/// (the kernel shows a fresh reader no hang-up from before its time), and the program would wait for
/// ever for the end that has been.
#[tokio::test]
async fn a_fifo_whose_writer_has_gone_is_at_its_end() {
    let fifo = Fifo::new();
    let inherited = crate::pipe::raw_reader(&fifo);
    raw_writer(&fifo).write_all(b"").unwrap();
    let mut rx = Receiver::from_shared_fd(&inherited).unwrap();
    let mut buf = [0; 8];
    assert_eq!(deadline(rx.read(&mut buf)).await.unwrap(), 0);
    assert_eq!(deadline(next_read(&rx)).await.unwrap(), b"");

    // And it is in order again for the next writer.
    let mut writer = raw_writer(&fifo);
    assert_pending!(task::spawn(rx.read(&mut buf)).poll());
    writer.write_all(b"abc").unwrap();
    assert_eq!(deadline(rx.read(&mut buf)).await.unwrap(), 3);
    assert_pending!(task::spawn(rx.read(&mut buf)).poll());
    drop(writer);
    assert_eq!(deadline(rx.read(&mut buf)).await.unwrap(), 0);
}

/// Nothing has ended where nothing has begun.
#[tokio::test]
async fn a_fifo_that_never_had_a_writer_is_not_at_its_end() {
    let fifo = Fifo::new();
    let inherited = crate::pipe::raw_reader(&fifo);
    let mut rx = Receiver::from_shared_fd(&inherited).unwrap();
    let mut buf = [0; 8];
    assert_pending!(task::spawn(rx.read(&mut buf)).poll());
    raw_writer(&fifo).write_all(b"abc").unwrap();
    assert_eq!(deadline(rx.read(&mut buf)).await.unwrap(), 3);
}

#[tokio::test]
async fn a_fifo_without_a_reader_cannot_be_opened_again_for_writing() {
    let fifo = Fifo::new();
    let reader = crate::pipe::raw_reader(&fifo);
    let writer = raw_writer(&fifo);
    drop(reader);
    let error = Sender::from_shared_fd(&writer).unwrap_err();
    let inside = OpenError::of(&error).expect("it is inside");
    assert_eq!(inside.raw_os_error(), Some(libc::ENXIO), "{error}");
    assert!(inside.cure().unwrap().contains("start a reader first"));
}

#[tokio::test]
async fn a_packet_end_of_a_shared_pipe_leaves_the_other_in_byte_mode() {
    let (mut reader, writer) = io::pipe().unwrap();
    // A description of its own, as for bytes.
    let own = Sender::from_shared_fd(&writer).unwrap();
    let tx = packet::Sender::from_owned_fd(own.into_nonblocking_fd().unwrap()).unwrap();
    tx.send(b"one").await.unwrap();
    tx.send(b"two").await.unwrap();
    let mut buf = [0; 16];
    assert_eq!(reader.read(&mut buf).unwrap(), 3, "packets");
    assert_eq!(reader.read(&mut buf).unwrap(), 3);
    (&writer).write_all(b"one").unwrap();
    (&writer).write_all(b"two").unwrap();
    assert_eq!(reader.read(&mut buf).unwrap(), 6, "bytes");
    let own = Receiver::from_shared_fd(&reader).unwrap();
    let rx = packet::Receiver::from_owned_fd(own.into_nonblocking_fd().unwrap()).unwrap();
    tx.send(b"three").await.unwrap();
    assert_eq!(deadline(rx.recv()).await.unwrap().unwrap(), "three");
    assert!(!is_nonblocking(&reader).unwrap());
}

#[tokio::test]
async fn a_private_description_is_closed_on_exec() {
    let (reader, _writer) = io::pipe().unwrap();
    let rx = Receiver::from_shared_fd(&reader).unwrap();
    let fd: OwnedFd = rx.into_nonblocking_fd().unwrap();
    let mut peer = Peer::spawn(
        Command::new("test")
            .arg("!")
            .arg("-e")
            .arg(format!("/proc/self/fd/{}", fd.as_raw_fd())),
    );
    assert!(peer.exit().await.unwrap().success());
}

/// What stands in the way of a second description is told with its cure: no `/proc`, or a pipe of another
/// user's.
#[test]
fn what_cannot_be_opened_again_is_told_with_its_cure() {
    const NAME: &str = "pipe::shared::what_cannot_be_opened_again_is_told_with_its_cure";
    alone(NAME, || {
        if !nix::unistd::geteuid().is_root() || !own_namespace(NAME) {
            println!("SKIPPED: {NAME} needs root");
            return;
        }
        let runtime = runtime();
        let _guard = runtime.enter();
        let (reader, _writer) = io::pipe().unwrap();
        let refused = |number, cure| {
            let error = Receiver::from_shared_fd(&reader).unwrap_err();
            let inside = OpenError::of(&error).expect("it is inside");
            assert_eq!(inside.raw_os_error(), Some(number), "{error}");
            assert!(error.to_string().contains(cure), "{error}");
        };
        const NONE: Option<&str> = None;
        mount(
            Some("tmpfs"),
            "/proc",
            Some("tmpfs"),
            MsFlags::empty(),
            NONE,
        )
        .unwrap();
        refused(libc::ENOENT, "mount /proc");
        nix::mount::umount("/proc").unwrap();
        become_nobody();
        refused(libc::EACCES, "another user created this pipe");
    });
}
