//! What the types are good for.

use aqueduct::mq::{self, Driver, Error, Message, OpenOptions, Queue};

use super::QueueName;
use crate::support::deadline;

/// The types can be used where they must.
#[test]
fn types_are_send_and_sync() {
    fn both<T: Send + Sync + std::fmt::Debug>() {}
    both::<Queue>();
    both::<mq::Sender>();
    both::<mq::Receiver>();
    both::<mq::Framed<mq::WholeMessage>>();
    both::<Error>();
    both::<OpenOptions>();
}

/// A driver has one spelling, in configuration as in addresses.
#[test]
fn a_driver_is_spelled_as_in_an_address() {
    for driver in [Driver::Pool, Driver::AsyncFd] {
        let address = format!("mq:/jobs?driver={driver}");
        let endpoint: aqueduct::Endpoint = address.parse().unwrap();
        assert_eq!(endpoint.to_string(), address);
        assert_eq!(driver.to_string().parse(), Ok(driver));
    }
    let error = "async-fd".parse::<Driver>().unwrap_err().to_string();
    assert!(error.contains("pool or asyncfd"), "{error}");
}

/// Two queues make a channel; at the waist each end is a stream or sink of bytes.
#[tokio::test]
async fn ends_meet_the_waist() {
    use bytes::Bytes;
    use futures_util::{Sink, SinkExt, Stream, StreamExt};
    use std::io;
    use std::pin::Pin;

    deadline(async {
        let (there, back) = (QueueName::new(), QueueName::new());
        let (_a, _b) = (
            there.create(Driver::Pool, 2, 64),
            back.create(Driver::AsyncFd, 2, 64),
        );
        let options = OpenOptions::new();
        let mut near: (Pin<Box<dyn Sink<Bytes, Error = io::Error> + Send>>, _) = (
            Box::pin(options.open_sender(&there.0).unwrap()),
            options.open_receiver(&back.0).unwrap(),
        );
        let mut far: (_, Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>>) = (
            options
                .open_sender(&back.0)
                .unwrap()
                .with_priority(4)
                .unwrap(),
            Box::pin(options.open_receiver(&there.0).unwrap()),
        );
        near.0.send("question".into()).await.unwrap();
        assert_eq!(far.1.next().await.unwrap().unwrap(), "question");
        far.0.send("".into()).await.unwrap();
        assert_eq!(near.1.recv().await.unwrap().unwrap(), Message::new(4, ""));
    })
    .await;
}
