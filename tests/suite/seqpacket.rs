//! `SOCK_SEQPACKET`: fact 73, boundaries, ends, full buffers and cancellation.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Duration;

use aqueduct::unix::seqpacket::{self, Receiver, Sender, Socket};
use aqueduct::unix::{BindOptions, ConnectOptions, MessageError};
use bytes::Bytes;
use futures_util::stream::FusedStream;
use futures_util::{SinkExt, StreamExt};
use socket2::{Domain, Type};
use tokio_test::{assert_pending, assert_ready, assert_ready_ok};

use crate::actor::{Actor, runtime, say, told};
use crate::support::{deadline, is_peer};

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

fn message_error(result: io::Result<impl std::fmt::Debug>) -> MessageError {
    let error = result.expect_err("it is refused");
    MessageError::of(&error).unwrap_or_else(|| panic!("{error:?}"))
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
async fn the_largest_message_goes_through_and_one_byte_more_is_refused_with_both_numbers() {
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
        MessageError::TooLarge {
            len: 1001,
            limit: 1000
        }
    );
    assert!(client.try_recv().is_err(), "nothing was sent");

    // Fact 73: the receiver's limit is lower, and nothing is cut off in silence.
    client
        .send(&[3; 1001])
        .await
        .expect("the sender's limit allows it");
    client.send(b"next").await.expect("sent");
    let refused = message_error(deadline(server.recv()).await);
    assert_eq!(
        refused,
        MessageError::Truncated {
            len: 1001,
            limit: 1000
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
    assert!(huge.expect("connected").max_message() <= seqpacket::DEFAULT_MAX_MESSAGE);
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
        MessageError::TooLarge {
            len: limit + 1,
            limit
        }
    );
    a.send(&vec![7; limit]).await.expect("it fits");
}

#[tokio::test]
async fn recv_into_takes_the_buffer_as_the_limit() {
    let (a, b) = pair();
    let mut buf = [0; 4];
    a.send(b"four").await.expect("sent");
    assert_eq!(deadline(b.recv_into(&mut buf)).await.expect("it fits"), 4);
    assert_eq!(&buf, b"four");
    a.send(b"fiver").await.expect("sent");
    let refused = message_error(deadline(b.recv_into(&mut buf)).await);
    assert_eq!(refused, MessageError::Truncated { len: 5, limit: 4 });
    let error = deadline(b.recv_into(&mut []))
        .await
        .expect_err("no room at all");
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    drop(a);
    assert_eq!(deadline(b.recv_into(&mut buf)).await.expect("the end"), 0);
}

// Fact 73.
#[tokio::test]
async fn an_empty_message_is_not_sent_and_a_foreign_one_reads_as_the_end() {
    let (a, b) = pair();
    assert_eq!(message_error(a.send(b"").await), MessageError::Empty);
    assert_eq!(message_error(a.try_send(b"")), MessageError::Empty);
    assert!(b.try_recv().is_err(), "nothing was sent");
    let (mut sink, _) = a.into_split();
    assert_eq!(
        message_error(sink.send(Bytes::new()).await),
        MessageError::Empty
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
async fn what_was_sent_arrives_before_the_end_and_a_half_closed_peer_can_still_answer() {
    let (a, b) = pair();
    a.send(b"last words").await.expect("sent");
    a.shutdown_write().expect("shut down");
    assert_eq!(next(&b).await.as_deref(), Some(&b"last words"[..]));
    for _ in 0..3 {
        assert_eq!(next(&b).await, None);
    }
    b.send(b"answer").await.expect("sent");
    assert_eq!(next(&a).await.as_deref(), Some(&b"answer"[..]));
    let error = a.send(b"more").await.expect_err("shut down");
    assert_eq!(error.raw_os_error(), Some(libc::EPIPE));

    drop(b);
    assert_eq!(next(&a).await, None);
}

#[tokio::test]
async fn a_peer_that_left_messages_unread_resets_and_one_that_drains_does_not() {
    for drain in [false, true] {
        let (a, b) = pair();
        a.send(b"unread").await.expect("sent");
        a.send(b"unread").await.expect("sent");
        b.send(b"reply").await.expect("sent");
        let closing = tokio::spawn(async move {
            if drain {
                b.close(Duration::from_secs(20)).await
            } else {
                drop(b);
                Ok(0)
            }
        });
        if drain {
            assert_eq!(next(&a).await.as_deref(), Some(&b"reply"[..]));
            assert_eq!(next(&a).await, None);
            drop(a);
            assert_eq!(
                deadline(closing).await.expect("no panic").expect("closed"),
                2
            );
        } else {
            deadline(closing).await.expect("no panic").expect("dropped");
            assert_eq!(next(&a).await.as_deref(), Some(&b"reply"[..]));
            let error = deadline(a.recv()).await.expect_err("it is no orderly end");
            assert_eq!(error.raw_os_error(), Some(libc::ECONNRESET));
            assert_eq!(next(&a).await, None, "it is told once");
            let error = a.send(b"more").await.expect_err("it is gone");
            assert_eq!(error.raw_os_error(), Some(libc::EPIPE));
        }
    }
    let (_a, b) = pair();
    let error = deadline(b.close(Duration::from_millis(20)))
        .await
        .expect_err("a stays");
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
}

/// The kernel tells of a reset before the messages that still lie in the socket: a stream, which ends
/// at an error, lost them.
#[tokio::test]
async fn what_was_sent_before_a_reset_arrives_before_it() {
    let (a, b) = pair();
    a.send(b"unread").await.expect("sent");
    for i in 0..3_u8 {
        b.send(&[i]).await.expect("sent");
    }
    drop(b);
    let mut buf = [0; 4];
    assert_eq!(deadline(a.recv_into(&mut buf)).await.expect("one"), 1);
    assert_eq!(a.try_recv().expect("one").as_deref(), Some(&[1][..]));
    let (_sender, mut stream) = a.into_split();
    let item = deadline(stream.next()).await.expect("no end yet");
    assert_eq!(item.expect("one")[..], [2]);
    let error = deadline(stream.next()).await.expect("no end yet");
    let errno = error.expect_err("it is no orderly end").raw_os_error();
    assert_eq!(errno, Some(libc::ECONNRESET));
    assert!(deadline(stream.next()).await.is_none());
}

#[tokio::test]
async fn what_a_killed_process_had_sent_arrives_and_then_the_end() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("socket");
    let mut listener = seqpacket::bind(&path).expect("bound");
    let mut actor = Actor::spawn("seqpacket::role_sender");
    actor.tell(path.to_str().expect("it is text"));
    let server = deadline(listener.next())
        .await
        .expect("one more")
        .expect("accepted");
    assert_eq!(
        server.peer_credentials().expect("known").pid,
        Some(actor.peer.0.id() as i32)
    );
    assert_eq!(actor.hear().await, "sent");
    actor.peer.kill();
    for i in 0..10_u8 {
        assert_eq!(next(&server).await.as_deref(), Some(&[i; 100][..]));
    }
    assert_eq!(next(&server).await, None);
}

#[test]
fn role_sender() {
    if !is_peer("seqpacket::role_sender") {
        return;
    }
    let path = told().expect("a path");
    let runtime = runtime();
    let _socket = runtime.block_on(async {
        let socket = seqpacket::connect(path).await.expect("connected");
        for i in 0..10_u8 {
            socket.send(&[i; 100]).await.expect("sent");
        }
        socket
    });
    say("sent");
    told();
}

#[tokio::test]
async fn a_full_buffer_makes_the_sender_wait_and_a_dropped_send_has_sent_nothing() {
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

#[tokio::test]
async fn the_halves_are_a_sink_and_a_stream_with_back_pressure() {
    let (a, b) = pair();
    let (mut sink, _a) = a.into_split();
    let (_b, mut stream) = b.into_split();
    let sending = tokio::spawn(async move {
        for i in 0..20_000_u32 {
            let mut message = vec![0; 100];
            message[..4].copy_from_slice(&i.to_be_bytes());
            sink.feed(message.into()).await.expect("sent");
        }
        sink.close().await.expect("closed");
        let error = sink
            .send(Bytes::from_static(b"late"))
            .await
            .expect_err("closed");
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    });
    let mut count = 0_u32;
    while let Some(message) = deadline(stream.next()).await {
        let message = message.expect("received");
        assert_eq!(message[..4], count.to_be_bytes());
        count += 1;
    }
    assert_eq!(count, 20_000);
    assert!(stream.is_terminated());
    assert!(deadline(stream.next()).await.is_none());
    deadline(sending).await.expect("no panic");
}

#[tokio::test]
async fn one_message_waits_in_a_sink_whose_buffer_is_full_and_flush_sends_it() {
    let (a, b) = pair();
    let filled = fill(&a, &[1; 1000]);
    let (mut sink, _a) = a.into_split();
    {
        let mut feeding = tokio_test::task::spawn(sink.feed(Bytes::from(vec![2; 1000])));
        assert_ready_ok!(feeding.poll());
    }
    {
        let mut flushing = tokio_test::task::spawn(sink.flush());
        assert_pending!(flushing.poll());
    }
    {
        // Dropped before it was accepted: it is not sent.
        let mut feeding = tokio_test::task::spawn(sink.feed(Bytes::from(vec![9; 1000])));
        assert_pending!(feeding.poll());
    }
    for _ in 0..filled {
        assert_eq!(next(&b).await.expect("one more")[0], 1);
    }
    assert!(b.try_recv().is_err(), "it still waits");
    deadline(sink.flush()).await.expect("there is room");
    assert_eq!(next(&b).await.expect("one more")[0], 2);
    // Dropping it ends the direction, although the other half lives.
    drop(sink);
    assert_eq!(next(&b).await, None);
}

/// tarpc and others flush until there is room: a sink that had none for want of budget, and yet was
/// flushed at once, made them spin for ever.
#[tokio::test]
async fn a_sink_without_budget_is_not_ready_to_flush_either() {
    let (a, b) = pair();
    let (mut sink, _stream) = a.into_split();
    let until_spent = std::future::poll_fn(|cx| {
        // More than any budget.
        for _ in 0..1000 {
            if sink.poll_ready_unpin(cx).is_pending() {
                return Poll::Ready(sink.poll_flush_unpin(cx).is_pending());
            }
            sink.start_send_unpin(Bytes::from_static(b"x"))
                .expect("there is room");
            b.try_recv().expect("it is there");
        }
        panic!("the budget has no end");
    });
    assert!(until_spent.await);
}

#[tokio::test]
async fn a_message_too_large_is_one_error_of_the_stream_and_the_end_is_final() {
    let (ours, theirs) = half();
    let (_sender, mut stream) = ours.into_split();
    let large = vec![0; seqpacket::DEFAULT_MAX_MESSAGE + 1];
    theirs.set_send_buffer_size(large.len()).expect("an option");
    if theirs.send(&large).is_err() {
        eprintln!("skipped: net.core.wmem_max allows no message that large");
        return;
    }
    theirs.send(b"next").expect("sent");
    let refused = message_error(deadline(stream.next()).await.expect("an error"));
    let limit = seqpacket::DEFAULT_MAX_MESSAGE;
    assert_eq!(
        refused,
        MessageError::Truncated {
            len: limit + 1,
            limit
        }
    );
    let message = deadline(stream.next())
        .await
        .expect("one more")
        .expect("received");
    assert_eq!(&message[..], b"next");
    drop(theirs);
    assert!(deadline(stream.next()).await.is_none());
    assert!(deadline(stream.next()).await.is_none());
}

// Finding 2: a loop on a descriptor that is always ready must not starve the others.
#[tokio::test]
async fn a_stream_that_never_runs_dry_lets_other_tasks_run() {
    let (ours, theirs) = half();
    theirs.set_nonblocking(false).expect("an option");
    let stop = Arc::new(AtomicBool::new(false));
    let flood =
        {
            let stop = Arc::clone(&stop);
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) && theirs.send(&[0; 16]).is_ok() {}
            })
        };
    let other = {
        let stop = Arc::clone(&stop);
        tokio::spawn(async move {
            for _ in 0..100 {
                tokio::task::yield_now().await;
            }
            stop.store(true, Ordering::Relaxed);
        })
    };
    // With no turn for the other task this would go on for ever.
    deadline(async { while ours.recv().await.expect("received").is_some() {} }).await;
    deadline(other).await.expect("no panic");
    flood.join().expect("no panic");

    let (a, b) = pair();
    let turns = Arc::new(AtomicBool::new(false));
    let other = {
        let turns = Arc::clone(&turns);
        tokio::spawn(async move { turns.store(true, Ordering::Relaxed) })
    };
    let mut sent = 0_u32;
    while !turns.load(Ordering::Relaxed) {
        a.send(b"x").await.expect("sent");
        b.try_recv().expect("received");
        sent += 1;
        assert!(sent < 100_000, "the other task has no turn");
    }
    other.await.expect("no panic");
}

// Lesson of the measurements: a socket registered for writing is woken by its own messages' being
// read. So there is a second registration, and descriptor, only after a send had to wait.
#[tokio::test]
async fn the_descriptor_is_registered_for_writing_only_when_a_send_has_to_wait() {
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
async fn it_gives_its_descriptor_back_and_takes_over_only_a_connected_one() {
    let (a, b) = pair();
    let fd = a.into_owned_fd().expect("it is ours");
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
    assert!(!listener.owns_path());
    let mut accepting = tokio_test::task::spawn(listener.accept());
    assert_pending!(accepting.poll());
    let client = seqpacket::connect(dir.path().join("socket"))
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
    let mut listener = seqpacket::bind(&path).expect("bound");
    for i in 0..20_u8 {
        let mut accepting = tokio_test::task::spawn(listener.accept());
        assert_pending!(accepting.poll());
        let client = seqpacket::connect(&path).await.expect("connected");
        client.send(&[i]).await.expect("sent");
        drop(accepting);
        let server = deadline(listener.accept()).await.expect("accepted");
        assert_eq!(next(&server).await.as_deref(), Some(&[i][..]));

        let mut coming = tokio_test::task::spawn(listener.next());
        assert_pending!(coming.poll());
        let client = seqpacket::connect(&path).await.expect("connected");
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
fn a_socket_that_outlives_its_runtime_reports_it_and_does_not_hang() {
    let first = runtime();
    let (a, _b) = first.block_on(async { pair() });
    drop(first);
    let second = runtime();
    let received = second.block_on(deadline(a.recv()));
    assert!(received.is_err(), "{received:?}");
    let mut receiving = tokio_test::task::spawn(a.recv());
    assert!(assert_ready!(receiving.poll()).is_err());
}
