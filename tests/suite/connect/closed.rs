//! `Connection::closed`: waits for the end of both directions.

use futures_util::{SinkExt, StreamExt};
use tokio_test::{assert_pending, task};

use super::{SOCKETS, dir};
use crate::conformance::links::{Sockets, endpoint};
use crate::support::deadline;

#[tokio::test]
async fn closed_waits_for_the_end_of_both_directions() {
    for scheme in SOCKETS {
        let dir = dir();
        let mut listener = Sockets::new(scheme).address(&dir).bind().await.unwrap();
        let address = listener.local_endpoint().clone();
        let mut client = address.connect().await.unwrap();
        let server = deadline(listener.accept()).await.unwrap().unwrap();
        let mut closed = task::spawn(client.closed());
        let (mut outgoing, mut incoming) = client.into_split();
        let (mut replies, mut requests) = server.into_split();
        assert_pending!(closed.poll());
        replies.close().await.unwrap();
        assert!(deadline(incoming.next()).await.is_none());
        outgoing.send("still received".into()).await.unwrap();
        let message = deadline(requests.next()).await.unwrap().unwrap();
        assert_eq!(message.body(), "still received");
        assert_pending!(closed.poll(), "{scheme}");
        outgoing.close().await.unwrap();
        assert!(deadline(requests.next()).await.is_none());
        deadline(closed).await;
    }
}

#[tokio::test]
async fn closed_never_completes_without_a_connected_socket() {
    let dir = dir();
    let mut cat = endpoint("exec:cat".into()).connect().await.unwrap();
    let mut closed = task::spawn(cat.closed());
    let mut child = cat.take_child().unwrap();
    drop(cat);
    deadline(child.wait()).await.unwrap();
    assert_pending!(closed.poll());
    for scheme in ["unixgram", "udp"] {
        let listener = Sockets::new(scheme).address(&dir).bind().await.unwrap();
        let mut client = listener.local_endpoint().connect().await.unwrap();
        let mut closed = task::spawn(client.closed());
        drop(listener);
        let (mut outgoing, _incoming) = client.into_split();
        deadline(outgoing.send("nobody".into())).await.unwrap_err();
        assert_pending!(closed.poll(), "{scheme}");
    }
}
