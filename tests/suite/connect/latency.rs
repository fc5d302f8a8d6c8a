//! Latency mode: whoever receives looks again before going to sleep, where that was asked for.

use std::time::Duration;

use aqueduct::connect::{Message, MessageReceiver, MessageSender, Options};
use aqueduct::frame::Framing;
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use tokio::task::yield_now;
use tokio_test::{assert_pending, task};

use super::{dir, options, unserved};
use crate::support::deadline;

/// A sending end and a receiving one, of every kind of byte stream.
async fn ends(options: &Options) -> Vec<(MessageSender, MessageReceiver)> {
    let dir = dir();
    let mut ends = Vec::new();
    for scheme in ["unix", "tcp"] {
        let address = unserved(scheme, &dir);
        let mut listener = options.bind(&address).await.expect("it is bound");
        let (client, server) = tokio::join!(options.connect(&address), listener.accept());
        let client = client.expect("it is connected");
        let server = server.expect("it comes").expect("it is accepted");
        let (to_server, at_client) = client.into_split();
        let (to_client, at_server) = server.into_split();
        ends.push((to_server, at_server));
        ends.push((to_client, at_client));
    }
    let fifo = format!("fifo:{}", dir.path().join("fifo").display());
    let fifo = fifo.parse().expect("it is an address");
    let incoming = options.open_receiver(&fifo).await.expect("it is opened");
    let outgoing = options.open_sender(&fifo).await.expect("it is opened");
    ends.push((outgoing, incoming));
    let cat = "exec:cat".parse().expect("it is an address");
    let cat = options.connect(&cat).await.expect("it is started");
    ends.push(cat.into_split());
    ends
}

#[tokio::test]
async fn who_asked_for_it_looks_again_and_who_did_not_sleeps() {
    for polls in [true, false] {
        let mut options = options(Framing::length());
        if polls {
            options.poll_for(Duration::from_secs(3600));
        }
        for (mut outgoing, mut incoming) in deadline(ends(&options)).await {
            let mut next = task::spawn(incoming.next());
            assert_pending!(next.poll());
            for _ in 0..10 {
                yield_now().await;
                assert_eq!(next.is_woken(), polls);
                if polls {
                    assert_pending!(next.poll());
                }
            }
            drop(next);
            let later = tokio::spawn(async move {
                tokio::time::sleep(Duration::from_millis(2)).await;
                let message = Message::new(Bytes::from("hello"));
                outgoing.send(message).await.expect("it is sent");
                outgoing
            });
            let message = deadline(incoming.next()).await.expect("it comes");
            assert_eq!(message.expect("it is whole").body(), "hello");
            drop(later.await);
        }
    }
}
