//! `udp:`: ports, peers, and what the network reports.

use std::net::UdpSocket as StdUdp;

use aqueduct::connect::{Connection, MessageReceiver, Options, Peer, Reconnect};
use aqueduct::frame::FrameError;
use aqueduct::{Endpoint, OpenErrorKind};
use futures_util::{FutureExt, SinkExt, StreamExt};
use tokio::net::UdpSocket;

use super::{endpoint, next};
use crate::support::deadline;

/// A port that nobody has, for a moment at least.
fn nobody() -> Endpoint {
    let free = StdUdp::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    endpoint(format!("udp://{free}"))
}

#[tokio::test]
async fn the_bound_port_is_told_and_messages_name_their_sender() {
    let listener = endpoint("udp://localhost:0".into()).bind().await.unwrap();
    let to = listener.local_endpoint().clone();
    assert!(!to.to_string().ends_with(":0"), "{to}");
    let mut incoming = listener.into_receiver();
    let sender = StdUdp::bind(match to.to_string().contains('[') {
        true => "[::1]:0",
        false => "127.0.0.1:0",
    })
    .unwrap();
    sender
        .send_to(b"hi", to.to_string().strip_prefix("udp://").unwrap())
        .unwrap();
    let message = next(&mut incoming).await;
    let expected = Peer::Address(sender.local_addr().unwrap());
    assert_eq!(message.peer(), Some(&expected));
}

#[tokio::test]
async fn a_port_in_use_is_refused_with_the_cure() {
    let taken = StdUdp::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let _taken = StdUdp::bind("127.0.0.1:0").unwrap();
    let held = StdUdp::bind(taken);
    let _held = held.unwrap_or_else(|_| StdUdp::bind("127.0.0.1:0").unwrap());
    let at = _held.local_addr().unwrap();
    let error = endpoint(format!("udp://{at}")).bind().await.unwrap_err();
    assert_eq!(error.kind(), &OpenErrorKind::InUse);
    assert!(
        error.to_string().starts_with("cannot bind udp://"),
        "{error}"
    );
}

#[tokio::test]
async fn a_port_is_free_again_at_once() {
    let listener = endpoint("udp://127.0.0.1:0".into()).bind().await.unwrap();
    let address = listener.local_endpoint().clone();
    let mut outgoing = address.open_sender().await.unwrap();
    deadline(outgoing.send("unread".into())).await.unwrap();
    drop(listener);
    let mut incoming = address.open_receiver().await.unwrap();
    deadline(outgoing.send("hi".into())).await.unwrap();
    assert_eq!(next(&mut incoming).await.body(), "hi");
}

#[tokio::test]
async fn nobody_at_the_port_is_reported_where_the_network_says_so() {
    let mut outgoing = nobody().open_sender().await.unwrap();
    // On this machine the answer is there before the call has returned.
    let error = deadline(outgoing.send("hi".into())).await.unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::ECONNREFUSED));
}

#[tokio::test]
async fn a_sender_goes_on_when_its_receiver_comes() {
    let address = nobody();
    let mut outgoing = address.open_sender().await.unwrap();
    deadline(outgoing.send("lost".into())).await.unwrap_err();
    let mut incoming = address.open_receiver().await.unwrap();
    deadline(outgoing.send("found".into())).await.unwrap();
    assert_eq!(next(&mut incoming).await.body(), "found");
    drop(incoming);
    let mut options = Options::new();
    options.reconnect(Reconnect::new());
    let mut lasting = options.open_sender(&address).await.unwrap();
    let mut sent = tokio_test::task::spawn(lasting.send("lasting".into()));
    let _ = sent.poll();
    let mut incoming = address.open_receiver().await.unwrap();
    let received = async {
        let message = next(&mut incoming).await;
        assert_eq!(message.body(), "lasting");
    };
    let (sent, ()) = deadline(async { tokio::join!(sent, received) }).await;
    sent.unwrap();
}

#[tokio::test]
async fn the_largest_datagram_has_65_507_bytes() {
    let listener = endpoint("udp://127.0.0.1:0".into()).bind().await.unwrap();
    let to = listener.local_endpoint().clone();
    let mut incoming = listener.into_receiver();
    let mut outgoing = to.open_sender().await.unwrap();
    let largest = bytes::Bytes::from(vec![7; 65_507]);
    deadline(outgoing.send(largest.clone().into()))
        .await
        .unwrap();
    assert_eq!(next(&mut incoming).await.body(), &largest);
    let over = bytes::Bytes::from(vec![7; 65_508]);
    let error = deadline(outgoing.send(over.into())).await.unwrap_err();
    assert!(matches!(
        FrameError::of(&error),
        Some(FrameError::TooLarge {
            len: 65_508,
            max: 65_507
        })
    ));
}

#[tokio::test]
async fn a_full_receiver_loses_datagrams_and_no_sender_waits() {
    let listener = endpoint("udp://127.0.0.1:0".into()).bind().await.unwrap();
    let to = listener.local_endpoint().clone();
    let mut incoming = listener.into_receiver();
    let mut outgoing = to.open_sender().await.unwrap();
    // More than any receive buffer holds (net.core.rmem_max).
    let sent = 2_000;
    for i in 0..sent {
        let mut body = vec![0; 60_000];
        body[..4].copy_from_slice(&u32::to_be_bytes(i));
        let message = bytes::Bytes::from(body);
        deadline(outgoing.send(message.into())).await.unwrap();
    }
    let mut received = 0;
    while let Some(Some(message)) = incoming.next().now_or_never() {
        assert_eq!(message.unwrap().body().len(), 60_000);
        received += 1;
    }
    assert!((1..sent).contains(&received), "{received}");
}

#[tokio::test]
async fn a_dropped_receive_has_taken_nothing() {
    let listener = endpoint("udp://127.0.0.1:0".into()).bind().await.unwrap();
    let to = listener.local_endpoint().clone();
    let mut incoming = listener.into_receiver();
    let mut outgoing = to.open_sender().await.unwrap();
    for body in ["one", "two", "three"] {
        // Woken and dropped before it is polled again.
        let mut waiting = tokio_test::task::spawn(incoming.next());
        tokio_test::assert_pending!(waiting.poll());
        deadline(outgoing.send(body.into())).await.unwrap();
        deadline(async {
            while !waiting.is_woken() {
                tokio::task::yield_now().await;
            }
        })
        .await;
        drop(waiting);
        assert_eq!(next(&mut incoming).await.body(), body);
    }
}

#[tokio::test]
async fn sockets_of_tokio_become_ends() {
    let there = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let here = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    here.connect(there.local_addr().unwrap()).await.unwrap();
    let mut incoming = MessageReceiver::try_from(there).unwrap();
    let (mut outgoing, _) = Connection::try_from(here).unwrap().into_split();
    deadline(outgoing.send("hello".into())).await.unwrap();
    assert_eq!(next(&mut incoming).await.body(), "hello");
    incoming.stop();
    assert!(deadline(incoming.next()).await.is_none());
}

#[test]
fn an_address_has_a_host_a_port_and_no_options() {
    let parse = |it: &str| it.parse::<Endpoint>();
    assert_eq!(parse("udp:[::1]:53").unwrap().to_string(), "udp://[::1]:53");
    for (wrong, said) in [
        ("udp://localhost", "the port is missing"),
        ("udp://:53", "the host is missing"),
        ("udp://h:1?frame=lines", "udp takes none"),
        ("udp://h:1?nodelay=true", "udp takes none"),
        ("upd://h:1", "did you mean \"udp\"?"),
    ] {
        let error = parse(wrong).unwrap_err().to_string();
        assert!(error.contains(said), "{error}");
    }
}

#[tokio::test]
async fn a_stopped_receiver_ends_although_its_senders_go_on() {
    let listener = endpoint("udp://127.0.0.1:0".into()).bind().await.unwrap();
    let to = listener.local_endpoint().to_string();
    let to = to.strip_prefix("udp://").unwrap().to_owned();
    let mut incoming = listener.into_receiver();
    let sender = StdUdp::bind("127.0.0.1:0").unwrap();
    sender.send_to(b"first", &to).unwrap();
    incoming.stop();
    // Each that is taken is followed by another, so the queue never empties.
    let mut received = 0;
    while let Some(message) = deadline(incoming.next()).await {
        message.unwrap();
        received += 1;
        assert!(received < 100_000);
        sender.send_to(b"next", &to).unwrap();
    }
}
