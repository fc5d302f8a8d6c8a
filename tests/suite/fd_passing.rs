//! Passing descriptors: they stay with their message, are limited, and none leaks.

use std::fs::File;
use std::io::{self, IoSlice, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;

use aqueduct::frame::FrameError;
use aqueduct::unix::{self, seqpacket};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tokio_test::assert_pending;

use crate::actor::{Actor, open_descriptors, runtime, say, told};
use crate::support::{deadline, is_peer};

fn null() -> File {
    File::open("/dev/null").expect("every system has it")
}

fn nulls(count: usize) -> Vec<File> {
    (0..count).map(|_| null()).collect()
}

/// The kernel's limit (`SCM_MAX_FD`).
const MAX_FDS: usize = 253;
const DEFAULT_MAX_FDS: usize = 16;

fn message_error(error: &io::Error) -> FrameError {
    FrameError::of(error)
        .cloned()
        .unwrap_or_else(|| panic!("{error:?}"))
}

fn is_close_on_exec(fd: &OwnedFd) -> bool {
    nix::fcntl::fcntl(fd, nix::fcntl::FcntlArg::F_GETFD) == Ok(libc::FD_CLOEXEC)
}

#[tokio::test]
async fn another_process_writes_into_a_file_it_was_given() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("socket");
    let listener = unix::BindOptions::new()
        .bind_seqpacket(&path)
        .expect("bound");
    let mut actor = Actor::spawn("fd_passing::role_writer");
    actor.tell(path.to_str().expect("it is text"));
    let server = deadline(listener.accept()).await.expect("accepted");
    let file = tempfile::tempfile().expect("a file");
    let (mut reader, writer) = io::pipe().expect("a pipe");
    server.send(b"none with this").await.expect("sent");
    let both = [file.as_fd(), writer.as_fd()];
    server
        .send_with_fds(b"two with this", &both)
        .await
        .expect("sent");
    server.send(b"none with this").await.expect("sent");
    drop(writer);
    assert_eq!(actor.hear().await, "done");
    let mut text = String::new();
    reader.read_to_string(&mut text).expect("read");
    assert_eq!(text, "into the pipe");
    assert_eq!(
        file.metadata().expect("it is open").len(),
        "into the file".len() as u64
    );
    actor.succeed().await;
}

#[test]
fn role_writer() {
    if !is_peer("fd_passing::role_writer") {
        return;
    }
    let path = told().expect("a path");
    let messages = runtime().block_on(async {
        let socket = unix::ConnectOptions::new()
            .connect_seqpacket(path)
            .await
            .expect("connected");
        let mut messages = Vec::new();
        for _ in 0..3 {
            let message = deadline(socket.recv_with_fds(DEFAULT_MAX_FDS)).await;
            messages.push(message.expect("received").expect("one more"));
        }
        messages
    });
    let counts: Vec<_> = messages.iter().map(|it| it.1.len()).collect();
    assert_eq!(counts, [0, 2, 0]);
    let [_, message, _] = messages.try_into().expect("three");
    assert_eq!(&message.0[..], b"two with this");
    for (fd, text) in message
        .1
        .into_iter()
        .zip(["into the file", "into the pipe"])
    {
        assert!(is_close_on_exec(&fd));
        File::from(fd).write_all(text.as_bytes()).expect("written");
    }
    say("done");
}

#[tokio::test]
async fn exactly_as_many_as_the_limit_are_taken() {
    let (a, b) = seqpacket::pair().expect("a pair");
    for limit in [1, 2, 3, DEFAULT_MAX_FDS, 17, MAX_FDS] {
        a.send_with_fds(b"fits", &nulls(limit)).await.expect("sent");
        let message = deadline(b.recv_with_fds(limit))
            .await
            .expect("it fits")
            .expect("one");
        assert_eq!(message.1.len(), limit);
        assert!(message.1.iter().all(is_close_on_exec));
        if limit < MAX_FDS {
            // One more, for which the padding of the kernel's answer would have room.
            a.send_with_fds(b"one too many", &nulls(limit + 1))
                .await
                .expect("sent");
            let error = deadline(b.recv_with_fds(limit))
                .await
                .expect_err("one too many");
            let wanted = FrameError::DescriptorsTruncated {
                taken: limit,
                max: limit,
            };
            assert_eq!(message_error(&error), wanted);
            assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        }
    }
    let error = a
        .send_with_fds(b"x", &nulls(MAX_FDS + 1))
        .await
        .expect_err("too many");
    let wanted = FrameError::TooManyDescriptors {
        count: MAX_FDS + 1,
        max: MAX_FDS,
    };
    assert_eq!(message_error(&error), wanted);
    let error = a
        .send_with_fds(b"", &nulls(1))
        .await
        .expect_err("no message");
    assert_eq!(message_error(&error), FrameError::Empty);
    let error = deadline(b.recv_with_fds(MAX_FDS + 1))
        .await
        .expect_err("too many");
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    assert!(b.try_recv().is_err(), "nothing else was sent");
}

#[tokio::test]
async fn a_flood_of_descriptors_is_refused_without_a_leak() {
    Actor::spawn("fd_passing::role_flooded").succeed().await;
}

/// A process of its own, so that nobody else opens descriptors while they are counted.
#[test]
fn role_flooded() {
    if !is_peer("fd_passing::role_flooded") {
        return;
    }
    runtime().block_on(async {
        let (a, b) = seqpacket::pair().expect("a pair");
        let (s, t) = UnixStream::pair().expect("a pair");
        let many = nulls(MAX_FDS);
        let before = open_descriptors();
        for _ in 0..50 {
            // More than are taken, than none are taken, with a message that does not fit, and with
            // a message that nobody receives.
            a.send_with_fds(b"flood", &many).await.expect("sent");
            let error = deadline(b.recv_with_fds(16)).await.expect_err("too many");
            let wanted = FrameError::DescriptorsTruncated { taken: 16, max: 16 };
            assert_eq!(message_error(&error), wanted);

            a.send_with_fds(b"flood", &many[..1]).await.expect("sent");
            let error = deadline(b.recv()).await.expect_err("none are taken");
            let wanted = FrameError::DescriptorsTruncated { taken: 0, max: 0 };
            assert_eq!(message_error(&error), wanted);

            let large = vec![0; b.max_message()];
            a.send_with_fds(&large, &many[..9]).await.expect("sent");
            let error = deadline(b.recv()).await.expect_err("none fits");
            assert!(FrameError::of(&error).is_some());

            a.send(b"next").await.expect("sent");
            let message = deadline(b.recv()).await.expect("received");
            assert_eq!(message.as_deref(), Some(&b"next"[..]));

            unix::send_with_fds(&s, b"flood", &many)
                .await
                .expect("sent");
            let error = deadline(unix::recv_with_fds(&t, &mut [0; 9], 16)).await;
            let wanted = FrameError::DescriptorsTruncated { taken: 16, max: 16 };
            assert_eq!(message_error(&error.expect_err("too many")), wanted);
            assert_eq!(open_descriptors(), before);
        }
        a.send_with_fds(b"flood", &many).await.expect("sent");
        drop((a, b));
        assert_eq!(open_descriptors(), before - 2);
    });
}

#[tokio::test]
async fn descriptors_beyond_the_limit_are_closed_and_counted() {
    Actor::spawn("fd_passing::role_at_limit").succeed().await;
}

#[test]
fn role_at_limit() {
    if !is_peer("fd_passing::role_at_limit") {
        return;
    }
    runtime().block_on(async {
        let (a, b) = seqpacket::pair().expect("a pair");
        a.send_with_fds(b"eight", &nulls(8)).await.expect("sent");
        let before = open_descriptors();
        // Room for three.
        let highest = std::fs::read_dir("/proc/self/fd").expect("/proc is mounted");
        let highest = highest.filter_map(|it| it.ok()?.file_name().to_str()?.parse::<u64>().ok());
        let limit = highest.max().expect("some are open").max(32) + 4;
        let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("it has a limit");
        setrlimit(Resource::RLIMIT_NOFILE, limit, hard).expect("it can be lowered");
        let mut held = Vec::new();
        while let Ok(file) = File::open("/dev/null") {
            held.push(file);
        }
        held.truncate(held.len() - 3);
        let held_before = held.len();
        let error = deadline(b.recv_with_fds(16)).await.expect_err("no room");
        let wanted = FrameError::DescriptorsTruncated { taken: 3, max: 16 };
        assert_eq!(message_error(&error), wanted);
        assert!(error.to_string().contains("RLIMIT_NOFILE"), "{error}");
        let free: Vec<_> = std::iter::from_fn(|| File::open("/dev/null").ok()).collect();
        assert_eq!(free.len(), 3, "those that came are closed");
        drop((held, free));
        assert!(held_before > 0);
        assert_eq!(open_descriptors(), before);
    });
}

#[tokio::test]
async fn on_a_stream_they_come_with_their_first_byte() {
    let (mut a, b) = UnixStream::pair().expect("a pair");
    let file = tempfile::tempfile().expect("a file");
    let inode = file.metadata().expect("it is open").ino();
    a.write_all(b"before").await.expect("written");
    let sent = unix::send_with_fds(&a, b"frame", &[file])
        .await
        .expect("sent");
    assert_eq!(sent, 5);
    a.write_all(b"after").await.expect("written");

    // Not before that byte.
    let mut buf = [0; 64];
    let (n, fds) = deadline(unix::recv_with_fds(&b, &mut buf[..3], 1))
        .await
        .expect("received");
    assert_eq!((&buf[..n], fds.len()), (&b"bef"[..], 0));
    // With it, and with nothing of what was sent later.
    let (n, fds) = deadline(unix::recv_with_fds(&b, &mut buf, 1))
        .await
        .expect("received");
    assert_eq!(&buf[..n], b"oreframe");
    assert_eq!(fds.len(), 1);
    assert!(is_close_on_exec(&fds[0]));
    let arrived = File::from(fds.into_iter().next().expect("one"));
    assert_eq!(arrived.metadata().expect("it is open").ino(), inode);
    let (n, fds) = deadline(unix::recv_with_fds(&b, &mut buf, 1))
        .await
        .expect("received");
    assert_eq!((&buf[..n], fds.len()), (&b"after"[..], 0));

    let error = unix::send_with_fds(&a, b"", &[null()])
        .await
        .expect_err("no byte");
    assert_eq!(message_error(&error), FrameError::Empty);
    let error = deadline(unix::recv_with_fds(&b, &mut buf, MAX_FDS + 1)).await;
    assert_eq!(
        error.expect_err("too many").kind(),
        io::ErrorKind::InvalidInput
    );
}

#[tokio::test]
async fn a_full_stream_makes_the_sender_wait() {
    let (a, b) = UnixStream::pair().expect("a pair");
    let mut filled = 0;
    while let Ok(n) = a.try_write(&[0; 4096]) {
        filled += n;
    }
    let mut dropped =
        tokio_test::task::spawn(async { unix::send_with_fds(&a, b"dropped", &[null()]).await });
    assert_pending!(dropped.poll());
    drop(dropped);
    let mut sending =
        tokio_test::task::spawn(async { unix::send_with_fds(&a, b"!", &[null()]).await });
    assert_pending!(sending.poll());
    let mut buf = vec![0; 65_536];
    while filled > 0 {
        let (n, fds) = deadline(unix::recv_with_fds(&b, &mut buf, 1))
            .await
            .expect("received");
        assert!(fds.is_empty());
        filled -= n;
    }
    assert_eq!(deadline(sending).await.expect("there is room"), 1);
    let (n, fds) = deadline(unix::recv_with_fds(&b, &mut buf, 1))
        .await
        .expect("received");
    assert_eq!((&buf[..n], fds.len()), (&b"!"[..], 1));
}

#[tokio::test]
async fn a_dropped_receive_loses_neither_message_nor_descriptors() {
    let (a, b) = seqpacket::pair().expect("a pair");
    let (s, t) = UnixStream::pair().expect("a pair");
    for _ in 0..20 {
        let mut dropped = tokio_test::task::spawn(b.recv_with_fds(1));
        assert_pending!(dropped.poll());
        a.send_with_fds(b"x", &[null()]).await.expect("sent");
        drop(dropped);
        let message = deadline(b.recv_with_fds(1))
            .await
            .expect("received")
            .expect("one");
        assert_eq!((&message.0[..], message.1.len()), (&b"x"[..], 1));

        let mut buf = [0; 4];
        let mut dropped = tokio_test::task::spawn(unix::recv_with_fds(&t, &mut buf, 1));
        assert_pending!(dropped.poll());
        unix::send_with_fds(&s, b"x", &[null()])
            .await
            .expect("sent");
        drop(dropped);
        let (n, fds) = deadline(unix::recv_with_fds(&t, &mut buf, 1))
            .await
            .expect("received");
        assert_eq!((n, fds.len()), (1, 1));
    }
}

#[tokio::test]
async fn descriptors_of_several_control_messages_are_all_taken() {
    // The kernel joins them into one, whatever a foreign sender does.
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().expect("a pair");
    ours.set_nonblocking(true).expect("an option");
    let ours = UnixStream::from_std(ours).expect("registered");
    let (one, two) = (null(), nulls(2));
    let two: Vec<_> = two.iter().map(AsRawFd::as_raw_fd).collect();
    let control = [
        ControlMessage::ScmRights(&[one.as_raw_fd()]),
        ControlMessage::ScmRights(&two),
    ];
    let bytes = [IoSlice::new(b"x")];
    let sent = sendmsg::<()>(
        theirs.as_raw_fd(),
        &bytes,
        &control,
        MsgFlags::empty(),
        None,
    );
    assert_eq!(sent, Ok(1));
    let (n, fds) = deadline(unix::recv_with_fds(&ours, &mut [0; 4], 16))
        .await
        .expect("received");
    assert_eq!((n, fds.len()), (1, 3));
}
