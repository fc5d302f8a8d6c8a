//! What comes before the end, and how it comes.

use std::os::fd::AsRawFd;

use aqueduct::unix::{self};
use futures_util::{SinkExt, StreamExt};

use super::{next, pair};
use crate::actor::{Actor, runtime, say, told};
use crate::support::{deadline, is_peer};

#[tokio::test]
async fn a_half_closed_peer_can_still_answer() {
    let (a, b) = pair();
    a.send(b"last words").await.expect("sent");
    let write = std::net::Shutdown::Write;
    socket2::SockRef::from(&a)
        .shutdown(write)
        .expect("shut down");
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
async fn a_peer_that_left_messages_unread_resets() {
    for drain in [false, true] {
        let (a, b) = pair();
        a.send(b"unread").await.expect("sent");
        a.send(b"unread").await.expect("sent");
        b.send(b"reply").await.expect("sent");
        let closing = tokio::spawn(async move {
            if drain {
                let (mut sender, receiver) = b.into_split();
                sender.close().await.expect("ended");
                receiver.count().await
            } else {
                drop(b);
                0
            }
        });
        if drain {
            assert_eq!(next(&a).await.as_deref(), Some(&b"reply"[..]));
            assert_eq!(next(&a).await, None);
            drop(a);
            assert_eq!(deadline(closing).await.expect("no panic"), 2);
        } else {
            deadline(closing).await.expect("no panic");
            assert_eq!(next(&a).await.as_deref(), Some(&b"reply"[..]));
            let error = deadline(a.recv()).await.expect_err("it is no orderly end");
            assert_eq!(error.raw_os_error(), Some(libc::ECONNRESET));
            assert_eq!(next(&a).await, None, "it is told once");
            let error = a.send(b"more").await.expect_err("it is gone");
            assert_eq!(error.raw_os_error(), Some(libc::EPIPE));
        }
    }
}

/// The kernel tells of a reset once, and told the sender in place of the receiver.
#[tokio::test]
async fn sending_after_a_reset_is_a_broken_pipe() {
    let (a, b) = pair();
    a.send(b"unread").await.expect("sent");
    drop(b);
    for _ in 0..2 {
        let error = a.send(b"more").await.expect_err("it is gone");
        assert_eq!(error.raw_os_error(), Some(libc::EPIPE));
    }
    let error = deadline(a.recv()).await.expect_err("it is no orderly end");
    assert_eq!(error.raw_os_error(), Some(libc::ECONNRESET));
    assert_eq!(next(&a).await, None);
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
    assert_eq!(next(&a).await.as_deref(), Some(&[0][..]));
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
    let mut listener = unix::BindOptions::new()
        .bind_seqpacket(&path)
        .expect("bound");
    let mut actor = Actor::spawn("seqpacket::ends::role_sender");
    actor.tell(path.to_str().expect("it is text"));
    let server = deadline(listener.next())
        .await
        .expect("one more")
        .expect("accepted");
    assert_eq!(
        unix::peer_credentials(&server).expect("known").pid,
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
    if !is_peer("seqpacket::ends::role_sender") {
        return;
    }
    let path = told().expect("a path");
    let runtime = runtime();
    let _socket = runtime.block_on(async {
        let socket = unix::ConnectOptions::new()
            .connect_seqpacket(path)
            .await
            .expect("connected");
        for i in 0..10_u8 {
            socket.send(&[i; 100]).await.expect("sent");
        }
        socket
    });
    say("sent");
    told();
}

/// The process at the other end, as a descriptor that cannot come to mean another one.
#[tokio::test]
async fn the_peers_process_is_had_as_a_descriptor() {
    let (a, _b) = pair();
    match unix::peer_pidfd(&a).expect("connected") {
        None => println!("SKIPPED: this kernel has no SO_PEERPIDFD"),
        Some(pidfd) => {
            let info = format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd());
            let info = std::fs::read_to_string(info).expect("it is open");
            let pid = format!("Pid:\t{}\n", std::process::id());
            assert!(info.contains(&pid), "{info}");
        }
    }
}
