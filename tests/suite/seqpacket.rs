//! `SOCK_SEQPACKET`: boundaries, ends, full buffers and cancellation.

mod ends;
mod halves;

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;

use aqueduct::frame::FrameError;
use aqueduct::unix::seqpacket::{self, Receiver, Sender, Socket};
use aqueduct::unix::{BindOptions, ConnectOptions};
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use socket2::{Domain, Type};
use tokio_test::{assert_pending, assert_ready};

use crate::actor::runtime;
use crate::support::{deadline, woken};

fn pair() -> (Socket, Socket) {
    seqpacket::pair().expect("a pair")
}

async fn next(socket: &Socket) -> Option<Bytes> {
    deadline(socket.recv()).await.expect("received")
}

/// One of ours, and the other end as any program has it.
fn half() -> (Socket, socket2::Socket) {
    let (ours, theirs) =
        socket2::Socket::pair(Domain::UNIX, Type::SEQPACKET, None).expect("a pair");
    let ours = Socket::try_from(OwnedFd::from(ours)).expect("it is connected");
    theirs.set_nonblocking(true).expect("an option");
    (ours, theirs)
}

/// Sends until there is no room, and returns how many went.
fn fill(socket: &Socket, message: &[u8]) -> usize {
    for sent in 0.. {
        match socket.try_send(message) {
            Ok(()) => {}
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return sent,
            Err(e) => panic!("{e}"),
        }
    }
    unreachable!("the buffer has an end")
}

fn message_error(result: io::Result<impl std::fmt::Debug>) -> FrameError {
    let error = result.expect_err("it is refused");
    FrameError::of(&error)
        .cloned()
        .unwrap_or_else(|| panic!("{error:?}"))
}

#[test]
fn a_full_buffer_makes_the_sender_wait_on_any_executor() {
    let runtime = runtime();
    let (a, b) = runtime.block_on(async { pair() });
    let message = [0; 1000];
    let sent = fill(&a, &message);
    let mut sending = tokio_test::task::spawn(a.send(&message));
    assert_pending!(sending.poll());
    runtime.block_on(async {
        for _ in 0..sent {
            assert_eq!(next(&b).await.as_deref(), Some(&message[..]));
        }
        woken(&sending).await;
    });
    assert_ready!(sending.poll()).expect("it is sent");
}

#[test]
fn the_ends_can_be_sent_between_threads_and_shared() {
    fn check<T: Send + Sync + std::fmt::Debug>() {}
    check::<Socket>();
    check::<Sender>();
    check::<Receiver>();
    check::<seqpacket::Listener>();
    check::<aqueduct::unix::Listener>();
    check::<aqueduct::tcp::Listener>();
}

#[tokio::test]
async fn messages_of_every_size_arrive_whole_once_and_in_order() {
    let (a, b) = pair();
    let sizes = (1..300).chain([4095, 4096, 4097, 65_536, 212_960]);
    let sending = tokio::spawn(async move {
        for (i, size) in sizes.enumerate() {
            a.send(&vec![i as u8; size]).await.expect("sent");
        }
    });
    let sizes = (1..300).chain([4095, 4096, 4097, 65_536, 212_960]);
    for (i, size) in sizes.enumerate() {
        let message = next(&b).await.expect("one more");
        assert_eq!(message.len(), size);
        assert!(message.iter().all(|byte| *byte == i as u8));
    }
    assert_eq!(next(&b).await, None);
    deadline(sending).await.expect("no panic");
}

#[tokio::test]
async fn one_byte_more_than_the_largest_message_is_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("socket");
    let listener = BindOptions::new()
        .max_message(1000)
        .bind_seqpacket(&path)
        .expect("bound");
    let client = ConnectOptions::new()
        .max_message(2000)
        .connect_seqpacket(&path)
        .await;
    let client = client.expect("connected");
    let server = deadline(listener.accept()).await.expect("accepted");
    assert_eq!((client.max_message(), server.max_message()), (2000, 1000));

    client.send(&[1; 1000]).await.expect("it fits");
    assert_eq!(next(&server).await.expect("one").len(), 1000);
    let refused = message_error(server.send(&[2; 1001]).await);
    assert_eq!(
        refused,
        FrameError::TooLarge {
            len: 1001,
            max: 1000
        }
    );
    assert!(client.try_recv().is_err(), "nothing was sent");

    // The receiver's limit is lower, and nothing is cut off in silence.
    client
        .send(&[3; 1001])
        .await
        .expect("the sender's limit allows it");
    client.send(b"next").await.expect("sent");
    let refused = message_error(deadline(server.recv()).await);
    assert_eq!(
        refused,
        FrameError::TooLarge {
            len: 1001,
            max: 1000
        }
    );
    assert_eq!(next(&server).await.as_deref(), Some(&b"next"[..]));
}

#[tokio::test]
async fn the_kernels_limit_is_found_and_named_too() {
    let (a, b) = half();
    b.send(b"x").expect("sent");
    // However high the limit is set, `SO_SNDBUF` bounds it.
    let huge = Socket::try_from(b.try_clone().map(OwnedFd::from).expect("a duplicate"));
    assert!(huge.expect("connected").max_message() <= 1024 * 1024);
    let len = a.max_message();
    a.send(&vec![7; len]).await.expect("the largest");

    // Made smaller behind our back.
    let options = socket2::SockRef::from(&a);
    options.set_send_buffer_size(4096).expect("an option");
    let limit = options.send_buffer_size().expect("an option") - 32;
    assert_eq!(
        b.recv(&mut [std::mem::MaybeUninit::uninit(); 16])
            .expect("read"),
        16
    );
    let refused = message_error(a.send(&vec![7; limit + 1]).await);
    assert_eq!(
        refused,
        FrameError::TooLarge {
            len: limit + 1,
            max: limit
        }
    );
    a.send(&vec![7; limit]).await.expect("it fits");
}

#[tokio::test]
async fn an_empty_message_is_refused_and_reads_as_the_end() {
    let (a, b) = pair();
    assert_eq!(message_error(a.send(b"").await), FrameError::Empty);
    assert_eq!(message_error(a.try_send(b"")), FrameError::Empty);
    assert!(b.try_recv().is_err(), "nothing was sent");
    let (mut sink, _) = a.into_split();
    assert_eq!(
        message_error(sink.send(Bytes::new()).await),
        FrameError::Empty
    );
    sink.send(Bytes::from_static(b"x"))
        .await
        .expect("it goes on");
    assert_eq!(next(&b).await.as_deref(), Some(&b"x"[..]));

    let (ours, theirs) = half();
    theirs.send(b"").expect("the kernel takes it");
    assert_eq!(next(&ours).await, None);
}

#[tokio::test]
async fn a_dropped_send_has_sent_nothing() {
    let (a, b) = pair();
    let filled = fill(&a, &[1; 1000]);
    let mut dropped = tokio_test::task::spawn(a.send(&[2; 1000]));
    assert_pending!(dropped.poll());
    drop(dropped);
    let mut sending = tokio_test::task::spawn(a.send(&[3; 1000]));
    assert_pending!(sending.poll());
    for _ in 0..filled {
        assert_eq!(next(&b).await.expect("one more")[0], 1);
    }
    deadline(sending).await.expect("there is room");
    assert_eq!(next(&b).await.expect("one more")[0], 3);
    drop(a);
    assert_eq!(next(&b).await, None);
}

#[tokio::test]
async fn every_task_that_waits_for_room_gets_it() {
    let (a, b) = pair();
    let a = Arc::new(a);
    let filled = fill(&a, &[0; 1000]);
    let tasks: Vec<_> = (1..=20_u8)
        .map(|i| {
            let a = Arc::clone(&a);
            tokio::spawn(async move { a.send(&[i; 1000]).await })
        })
        .collect();
    let mut seen = Vec::new();
    for _ in 0..filled + 20 {
        seen.push(next(&b).await.expect("one more")[0]);
    }
    for task in tasks {
        deadline(task).await.expect("no panic").expect("sent");
    }
    let mut late = seen.split_off(filled);
    late.sort_unstable();
    assert!(late.iter().copied().eq(1..=20));
}

#[tokio::test]
async fn a_receive_dropped_at_any_moment_loses_no_message() {
    let (a, b) = pair();
    for i in 0..100_u8 {
        let mut dropped = tokio_test::task::spawn(b.recv());
        assert_pending!(dropped.poll());
        a.send(&[i]).await.expect("sent");
        drop(dropped);
        assert_eq!(next(&b).await.as_deref(), Some(&[i][..]));
    }
    let (_, mut receiver) = b.into_split();
    for i in 0..100_u8 {
        let mut dropped = tokio_test::task::spawn(receiver.next());
        assert_pending!(dropped.poll());
        a.send(&[i]).await.expect("sent");
        drop(dropped);
        let message = deadline(receiver.next())
            .await
            .expect("one more")
            .expect("received");
        assert_eq!(&message[..], [i]);
    }
}

#[tokio::test]
async fn many_tasks_on_one_socket_share_the_messages_without_loss() {
    let (a, b) = pair();
    let b = Arc::new(b);
    let tasks: Vec<_> = (0..4)
        .map(|_| {
            let b = Arc::clone(&b);
            tokio::spawn(async move {
                let mut taken = Vec::new();
                while let Some(message) = b.recv().await.expect("received") {
                    taken.push(u32::from_be_bytes(
                        message[..].try_into().expect("four bytes"),
                    ));
                }
                taken
            })
        })
        .collect();
    for i in 0..5000_u32 {
        a.send(&i.to_be_bytes()).await.expect("sent");
    }
    drop(a);
    let mut all = Vec::new();
    for task in tasks {
        all.extend(deadline(task).await.expect("no panic"));
    }
    all.sort_unstable();
    assert!(all.into_iter().eq(0..5000));
}

// Lesson of the measurements: a socket registered for writing is woken by its own messages' being
// read. So there is a second registration, and descriptor, only after a send had to wait.
#[tokio::test]
async fn only_a_send_that_waits_registers_for_writing() {
    let (a, b) = pair();
    let inode = |fd: i32| std::fs::read_link(format!("/proc/self/fd/{fd}")).ok();
    let wanted = inode(a.as_fd().as_raw_fd()).expect("it is open");
    let duplicates = || {
        let open = std::fs::read_dir("/proc/self/fd").expect("/proc is mounted");
        let names = open.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        names
            .filter(|fd| inode(*fd).as_ref() == Some(&wanted))
            .count()
    };
    for _ in 0..1000 {
        a.send(b"x").await.expect("sent");
        next(&b).await;
    }
    assert_eq!(duplicates(), 1);
    fill(&a, &[1; 1000]);
    assert_pending!(tokio_test::task::spawn(a.send(&[1; 1000])).poll());
    assert_eq!(duplicates(), 2);
    drop(a);
    assert_eq!(duplicates(), 0);
}

#[tokio::test]
async fn only_a_connected_descriptor_is_taken_over() {
    let (a, b) = pair();
    let fd = a.as_fd().try_clone_to_owned().expect("it is ours");
    drop(a);
    let flags = nix::fcntl::fcntl(&fd, nix::fcntl::FcntlArg::F_GETFD);
    assert_eq!(flags, Ok(libc::FD_CLOEXEC));
    let a = Socket::try_from(fd).expect("it is connected");
    a.send(b"x").await.expect("sent");
    assert_eq!(next(&b).await.as_deref(), Some(&b"x"[..]));

    let dir = tempfile::tempdir().expect("a directory");
    let foreign = socket2::Socket::new(Domain::UNIX, Type::SEQPACKET, None).expect("a socket");
    let path = socket2::SockAddr::unix(dir.path().join("socket")).expect("it fits");
    foreign.bind(&path).expect("bound");
    foreign.listen(1).expect("it listens");
    let duplicate = || OwnedFd::from(foreign.try_clone().expect("a duplicate"));
    let error = Socket::try_from(duplicate()).expect_err("it listens");
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    let listener = seqpacket::Listener::try_from(duplicate()).expect("it listens");
    let mut accepting = tokio_test::task::spawn(listener.accept());
    assert_pending!(accepting.poll());
    let client = ConnectOptions::new()
        .connect_seqpacket(dir.path().join("socket"))
        .await
        .expect("connected");
    let server = deadline(accepting).await.expect("accepted");
    client.send(b"x").await.expect("sent");
    assert_eq!(next(&server).await.as_deref(), Some(&b"x"[..]));

    // One on which the kernel would add the sender's credentials to each message.
    let (ours, theirs) =
        socket2::Socket::pair(Domain::UNIX, Type::SEQPACKET, None).expect("a pair");
    ours.set_passcred(true).expect("an option");
    let ours = Socket::try_from(OwnedFd::from(ours)).expect("it is connected");
    theirs.send(b"x").expect("sent");
    assert_eq!(next(&ours).await.as_deref(), Some(&b"x"[..]));
}

#[tokio::test]
async fn a_dropped_accept_loses_no_connection() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("socket");
    let mut listener = BindOptions::new().bind_seqpacket(&path).expect("bound");
    for i in 0..20_u8 {
        let mut accepting = tokio_test::task::spawn(listener.accept());
        assert_pending!(accepting.poll());
        let client = ConnectOptions::new()
            .connect_seqpacket(&path)
            .await
            .expect("connected");
        client.send(&[i]).await.expect("sent");
        drop(accepting);
        let server = deadline(listener.accept()).await.expect("accepted");
        assert_eq!(next(&server).await.as_deref(), Some(&[i][..]));

        let mut coming = tokio_test::task::spawn(listener.next());
        assert_pending!(coming.poll());
        let client = ConnectOptions::new()
            .connect_seqpacket(&path)
            .await
            .expect("connected");
        client.send(&[i]).await.expect("sent");
        drop(coming);
        let server = deadline(listener.next())
            .await
            .expect("one more")
            .expect("accepted");
        assert_eq!(next(&server).await.as_deref(), Some(&[i][..]));
    }
}

#[test]
fn a_socket_that_outlives_its_runtime_does_not_hang() {
    let first = runtime();
    let (a, _b) = first.block_on(async { pair() });
    drop(first);
    let second = runtime();
    let received = second.block_on(deadline(a.recv()));
    assert!(received.is_err(), "{received:?}");
    let mut receiving = tokio_test::task::spawn(a.recv());
    assert!(assert_ready!(receiving.poll()).is_err());
}
