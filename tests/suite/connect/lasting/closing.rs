//! The end of it: whether the peer has read all.

use std::io::{ErrorKind, Read};
use std::os::unix::net::{UnixListener as StdListener, UnixStream as StdStream};
use std::time::Duration;

use aqueduct::Endpoint;
use aqueduct::connect::MessageSender;
use aqueduct::frame::Framing;
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, SinkExt, StreamExt};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::time::Instant;
use tokio_test::assert_pending;
use tokio_test::task::Spawn;

use super::reconnecting;
use crate::connect::dir;
use crate::support::{DEADLINE, Log, deadline};

/// An end that is being closed, and its peer, a plain socket that has read nothing.
async fn parting(address: &Endpoint, listener: &StdListener) -> (Closing, StdStream) {
    let outgoing = deadline(reconnecting(Framing::lines()).open_sender(address)).await;
    let mut outgoing = outgoing.expect("it is opened");
    let (peer, _) = listener.accept().expect("it has connected");
    let sent = outgoing.send("unread".into()).await;
    sent.expect("there is room");
    let closing = async move {
        let closed = outgoing.close().await;
        (closed, outgoing)
    };
    let mut closing = tokio_test::task::spawn(closing.boxed());
    assert_pending!(closing.poll());
    (closing, peer)
}

type Closing = Spawn<BoxFuture<'static, (std::io::Result<()>, MessageSender)>>;

fn plain(dir: &TempDir) -> (Endpoint, StdListener) {
    let path = dir.path().join("plain");
    let listener = StdListener::bind(&path).expect("it is bound");
    let address = format!("unix:{}", path.display());
    (address.parse().expect("it is one"), listener)
}

#[tokio::test]
async fn an_end_that_has_begun_to_close_takes_nothing_more() {
    let dir = dir();
    let (address, listener) = plain(&dir);
    let outgoing = deadline(reconnecting(Framing::lines()).open_sender(&address)).await;
    let mut outgoing = outgoing.expect("it is opened");
    let (mut peer, _) = listener.accept().expect("it has connected");
    outgoing.send("one".into()).await.expect("there is room");
    let mut closing = tokio_test::task::spawn(outgoing.close());
    assert_pending!(closing.poll());
    drop(closing);
    let error = outgoing.start_send_unpin("late".into()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::BrokenPipe);
    let error = deadline(outgoing.send("late".into())).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::BrokenPipe);
    peer.set_read_timeout(Some(DEADLINE)).expect("an option");
    let mut read = String::new();
    peer.read_to_string(&mut read).expect("it is read");
    assert_eq!(read, "one\n");
    drop(peer);
    deadline(outgoing.close()).await.expect("all was read");
    deadline(outgoing.close()).await.expect("it is closed");
    let error = outgoing.start_send_unpin("late".into()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::BrokenPipe);
}

#[tokio::test]
async fn closing_reports_a_peer_that_left_messages_unread() {
    let dir = dir();
    let (address, listener) = plain(&dir);
    let (closing, peer) = parting(&address, &listener).await;
    drop(peer);
    let (closed, mut outgoing) = deadline(closing).await;
    let error = closed.expect_err("it was not read");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    assert_eq!(outgoing.broken_connections(), 1);
    deadline(outgoing.close()).await.expect("it is over");
}

#[tokio::test(start_paused = true)]
async fn closing_does_not_wait_for_ever_for_the_peers_end() {
    let (log, _recording) = Log::start();
    let dir = dir();
    let (address, listener) = plain(&dir);
    let (closing, _peer) = parting(&address, &listener).await;
    let begun = Instant::now();
    let (closed, outgoing) = deadline(closing).await;
    closed.expect("all was sent");
    assert!(begun.elapsed() >= Duration::from_secs(10));
    assert_eq!(outgoing.broken_connections(), 0);
    log.until("the peer did not confirm reading it").await;
}

/// Nothing is lost with a connection that nothing was given to, however it ends.
#[tokio::test]
async fn an_unused_connection_that_is_reset_closes_in_order() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let at = listener.local_addr().expect("it is bound");
    let address: Endpoint = format!("tcp://{at}").parse().expect("it is one");
    let outgoing = deadline(reconnecting(Framing::lines()).open_sender(&address)).await;
    let mut outgoing = outgoing.expect("it is opened");
    let (peer, _) = listener.accept().expect("it has connected");
    let mut closing = tokio_test::task::spawn(outgoing.close());
    assert_pending!(closing.poll());
    // A reset in place of an end.
    let peer = socket2::Socket::from(peer);
    peer.set_linger(Some(Duration::ZERO)).expect("an option");
    drop(peer);
    deadline(closing).await.expect("nothing was lost");
    assert_eq!(outgoing.broken_connections(), 0);
}

/// Over TCP a receiver that stops waits for the peer's end, and ending the other direction is what
/// asks for it.
#[tokio::test]
async fn a_dropped_sender_lets_a_stopped_receiver_end() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let at = listener.local_addr().expect("it has one");
    let address: Endpoint = format!("tcp://{at}").parse().expect("it is one");
    let options = reconnecting(Framing::lines());
    let connection = deadline(options.connect(&address))
        .await
        .expect("connected");
    let (mut peer, _) = deadline(listener.accept()).await.expect("accepted");
    let (sender, mut receiver) = connection.into_split();
    peer.write_all(b"one\n").await.expect("there is room");
    let one = deadline(receiver.next()).await.expect("it is up");
    assert_eq!(one.expect("it is whole").body(), "one");
    receiver.stop();
    let mut receiving = tokio_test::task::spawn(receiver.next());
    assert_pending!(receiving.poll());
    drop(sender);
    assert!(receiving.is_woken());
    assert_pending!(receiving.poll());
    let read = deadline(peer.read_u8()).await;
    assert_eq!(read.unwrap_err().kind(), ErrorKind::UnexpectedEof);
    drop(peer);
    assert!(deadline(receiving).await.is_none());
}
