//! What the options say of waiting for a queue.

use std::time::Duration;

use aqueduct::connect::{Message, Options};
use aqueduct::{Endpoint, OpenError, OpenErrorKind, mq};
use futures_util::{SinkExt, StreamExt};
use tokio_test::assert_pending;
use tokio_test::task::spawn;

use crate::mq::QueueName;
use crate::support::deadline;

fn queue(name: &QueueName) -> Endpoint {
    // The other driver's thread wakes the first one who waits when it has begun.
    let options = "capacity=1&max-message=8&driver=asyncfd";
    format!("mq:{}?{options}", name.0).parse().unwrap()
}

#[tokio::test]
async fn in_latency_mode_a_wait_tries_again_before_it_sleeps() {
    let name = QueueName::new();
    for (limit, tries) in [(Duration::from_secs(60), true), (Duration::ZERO, false)] {
        let mut options = Options::new();
        let mut incoming = options
            .poll_for(limit)
            .open_receiver(&queue(&name))
            .await
            .unwrap();
        let mut outgoing = options.open_sender(&queue(&name)).await.unwrap();
        {
            let mut next = spawn(incoming.next());
            assert_pending!(next.poll());
            // It has its next turn after the other tasks.
            assert_eq!(next.is_woken(), tries, "{limit:?}");
        }
        outgoing.send(Message::new("full")).await.unwrap();
        {
            let mut send = spawn(outgoing.send(Message::new("x")));
            assert_pending!(send.poll());
            assert_eq!(send.is_woken(), tries, "{limit:?}");
        }
        assert_eq!(incoming.next().await.unwrap().unwrap().body(), "full");
        outgoing.flush().await.unwrap();
        assert_eq!(incoming.next().await.unwrap().unwrap().body(), "x");
    }
}

#[tokio::test]
async fn a_removed_queue_is_an_error_if_its_name_is_watched() {
    let name = QueueName::new();
    let mut options = Options::new();
    options.watch_name(Some(Duration::from_millis(10)));
    let mut incoming = options.open_receiver(&queue(&name)).await.unwrap();
    let mut outgoing = options.open_sender(&queue(&name)).await.unwrap();
    outgoing.send(Message::new("full")).await.unwrap();
    mq::unlink(&name.0).unwrap();
    let replaced = |error: &std::io::Error| {
        assert!(
            matches!(
                OpenError::of(error).map(OpenError::kind),
                Some(OpenErrorKind::Replaced)
            ),
            "{error:?}"
        );
    };
    replaced(
        &deadline(outgoing.send(Message::new("x")))
            .await
            .unwrap_err(),
    );
    assert_eq!(incoming.next().await.unwrap().unwrap().body(), "full");
    replaced(&deadline(incoming.next()).await.unwrap().unwrap_err());
}
