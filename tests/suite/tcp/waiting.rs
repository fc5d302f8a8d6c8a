//! Waits: for a server, for room in its backlog, for descriptors; and waits that are dropped.

use std::net::{SocketAddr, TcpStream as StdStream};
use std::time::Duration;

use aqueduct::OpenErrorKind as Kind;
use aqueduct::tcp::{self, ConnectOptions};
use futures_util::StreamExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_test::assert_pending;

use super::quiet_port;
use crate::actor::{Actor, runtime, say};
use crate::support::{deadline, is_peer};

#[tokio::test]
async fn a_full_backlog_is_a_timeout_that_says_so_and_not_a_refusal() {
    let listener = tokio::net::TcpSocket::new_v4().expect("a socket");
    let anywhere = "127.0.0.1:0".parse().expect("an address");
    listener.bind(anywhere).expect("a port");
    let listener = listener.listen(1).expect("it listens");
    let at = listener.local_addr().expect("bound");
    let mut options = ConnectOptions::new();
    options.wait(Duration::from_millis(300));
    let mut connected = Vec::new();
    let error = loop {
        match deadline(options.connect(at)).await {
            Ok(stream) => connected.push(stream),
            Err(error) => break error,
        }
        assert!(connected.len() < 16, "the backlog never fills");
    };
    assert!(matches!(error.kind(), Kind::TimedOut { .. }), "{error}");
    assert!(error.to_string().contains("backlog"), "{error}");
    assert!(error.to_string().contains(&at.to_string()), "{error}");
}

#[tokio::test]
async fn without_descriptors_the_listener_waits_and_takes_no_core() {
    let mut actor = Actor::spawn("tcp::waiting::role_full");
    let at: SocketAddr = actor.hear().await.parse().expect("an address");
    let mut client = deadline(tcp::connect(at))
        .await
        .expect("the backlog takes it");
    actor.tell("measure");
    let used: u64 = actor.hear().await.parse().expect("microseconds");
    assert!(used < 50_000, "{used} us of CPU in half a second");
    actor.tell("free");
    assert_eq!(actor.hear().await, "accepted");
    assert_eq!(deadline(client.read_u8()).await.expect("served"), b'!');
    actor.succeed().await;
}

#[test]
fn role_full() {
    if !is_peer("tcp::waiting::role_full") {
        return;
    }
    let runtime = runtime();
    let mut listener = runtime.block_on(tcp::bind(":0")).expect("a port");
    say(listener.local_addr().expect("bound"));
    let held = crate::actor::take_all_descriptors();
    let accepted = runtime.spawn(async move {
        let mut stream = listener.next().await.expect("one more").expect("accepted");
        stream.write_all(b"!").await.expect("the client lives");
        stream
    });
    crate::actor::measure_then_free(held);
    let stream = runtime.block_on(accepted).expect("no panic");
    say("accepted");
    crate::actor::told();
    drop(stream);
}

#[tokio::test]
async fn connect_waits_for_a_server_that_comes_later_if_asked_to() {
    let (reserved, at) = quiet_port();
    let error = tcp::connect(at).await.expect_err("nobody listens");
    assert_eq!(error.kind(), &Kind::Refused, "{error}");
    assert_eq!(error.raw_os_error(), Some(libc::ECONNREFUSED));

    let mut options = ConnectOptions::new();
    options.wait(None);
    let mut connecting = Box::pin(options.connect(at));
    let early = tokio::time::timeout(Duration::from_millis(30), &mut connecting).await;
    assert!(early.is_err(), "it goes on");
    reserved.listen(1).expect("it can listen");
    deadline(connecting).await.expect("connected in the end");

    drop(reserved);
    // A process that another test is just starting may have a duplicate.
    while StdStream::connect(at).is_ok() {
        tokio::task::yield_now().await;
    }
    let start = std::time::Instant::now();
    options.wait(Duration::from_millis(60));
    let error = deadline(options.connect(at))
        .await
        .expect_err("nobody listens");
    assert!(start.elapsed() >= Duration::from_millis(60));
    assert!(matches!(error.kind(), Kind::TimedOut { .. }), "{error}");
    assert_eq!(error.raw_os_error(), Some(libc::ECONNREFUSED), "{error:?}");
}

#[tokio::test]
async fn a_dropped_accept_loses_no_connection() {
    let mut listener = tcp::bind(":0").await.expect("a port");
    let at = listener.local_addr().expect("bound");
    for _ in 0..20 {
        let mut accepting = tokio_test::task::spawn(listener.accept());
        assert_pending!(accepting.poll());
        let client = StdStream::connect(at).expect("connected");
        // Woken or not, it goes before it is polled again.
        drop(accepting);
        let (server, peer) = deadline(listener.accept()).await.expect("accepted");
        assert_eq!(client.local_addr().ok(), Some(peer));
        drop(server);

        let mut next = tokio_test::task::spawn(listener.next());
        assert_pending!(next.poll());
        let client = StdStream::connect(at).expect("connected");
        drop(next);
        let server = deadline(listener.next())
            .await
            .expect("one more")
            .expect("accepted");
        assert_eq!(client.local_addr().ok(), server.peer_addr().ok());
    }
}

#[tokio::test]
async fn a_dropped_connect_leaves_no_connection_behind() {
    let listener = tcp::bind(":0").await.expect("a port");
    let at = listener.local_addr().expect("bound");
    for polls in 0..4 {
        let mut connecting = tokio_test::task::spawn(tcp::connect(at));
        for _ in 0..polls {
            if connecting.poll().is_ready() {
                break;
            }
            tokio::task::yield_now().await;
        }
        drop(connecting);
        let client = tcp::connect(at).await.expect("connected");
        loop {
            let (mut server, peer) = deadline(listener.accept()).await.expect("accepted");
            if client.local_addr().ok() == Some(peer) {
                break;
            }
            let end = deadline(server.read(&mut [0])).await;
            assert!(matches!(end, Ok(0) | Err(_)), "an abandoned one is closed");
        }
    }
}

/// A client that tries again for as long as it may does not try what no waiting mends.
#[tokio::test]
async fn what_no_waiting_mends_is_not_tried_again() {
    let mut options = ConnectOptions::new();
    options.wait(None);
    // A host of this link, without saying which link.
    let error = deadline(options.connect("[fe80::1]:9")).await;
    let error = error.expect_err("no scope");
    assert!(error.raw_os_error().is_some(), "{error:?}");
    let error = deadline(options.connect("[::1:9")).await;
    let error = error.expect_err("it is no address");
    assert_eq!(error.kind(), &Kind::InvalidName, "{error:?}");
}
