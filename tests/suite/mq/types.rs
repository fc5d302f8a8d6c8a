//! What the types are good for.

use aqueduct::codec::Text;
use aqueduct::connect::Prioritized;
use aqueduct::frame::FrameError;
use aqueduct::mq::{Driver, OpenOptions, Queue};

use super::{QueueName, message};
use crate::support::deadline;

/// The types can be used where they must.
#[test]
fn types_are_send_and_sync() {
    fn both<T: Send + Sync + std::fmt::Debug>() {}
    both::<Queue>();
    both::<OpenOptions>();
}

/// A driver has one spelling, in configuration as in addresses.
#[test]
fn a_driver_is_spelled_as_in_an_address() {
    for driver in [Driver::Pool, Driver::AsyncFd] {
        let address = format!("mq:/jobs?driver={driver}");
        let endpoint: aqueduct::Endpoint = address.parse().unwrap();
        assert_eq!(endpoint.to_string(), address);
        assert_eq!(driver.to_string().parse::<Driver>().unwrap(), driver);
    }
    let error = "async-fd".parse::<Driver>().unwrap_err().to_string();
    assert!(error.contains("pool or asyncfd"), "{error}");
}

/// Two queues make a channel; at the waist each end is a stream or sink of bytes.
#[tokio::test]
async fn ends_meet_the_waist() {
    use futures_util::{SinkExt, StreamExt};

    deadline(async {
        let (there, back) = (QueueName::new(), QueueName::new());
        let (_a, _b) = (
            there.create(Driver::Pool, 2, 64),
            back.create(Driver::AsyncFd, 2, 64),
        );
        let options = OpenOptions::new();
        let mut near = (
            options.open_sender(&there.0).unwrap().into_frames(),
            options.open_receiver(&back.0).unwrap(),
        );
        let mut far = (
            options.open_sender(&back.0).unwrap(),
            options.open_receiver(&there.0).unwrap().into_frames(),
        );
        near.0.send("question".into()).await.unwrap();
        assert_eq!(far.1.next().await.unwrap().unwrap(), "question");
        far.0.send(message(4, "")).await.unwrap();
        assert_eq!(near.1.next().await.unwrap().unwrap(), message(4, ""));
    })
    .await;
}

/// A typed end sends each item with its priority, alone or in bursts, and its codec sees no more than
/// the item.
#[tokio::test]
async fn typed_ends_carry_priorities() {
    deadline(async {
        let name = QueueName::new();
        let _made = name.create(Driver::Pool, 4, 8);
        let options = OpenOptions::new();
        let mut tx = options.open_sender(&name.0).unwrap().prioritized(Text);
        let mut rx = options
            .open_receiver(&name.0)
            .unwrap()
            .prioritized::<String>(Text);
        for (priority, item) in [(1, "low"), (32_767, "first"), (9, "8 bytes!"), (1, "")] {
            tx.send(Prioritized { priority, item }).await.unwrap();
        }
        for (priority, item) in [(32_767, "first"), (9, "8 bytes!"), (1, "low"), (1, "")] {
            let expected = Prioritized {
                priority,
                item: item.to_owned(),
            };
            assert_eq!(rx.recv().await.unwrap().unwrap(), expected);
        }
        let error = tx
            .send(Prioritized {
                priority: 32_768,
                item: "",
            })
            .await
            .unwrap_err();
        let aqueduct::Error::Io(error) = error else {
            panic!("{error:?}");
        };
        let (asked, max) = (32_768, 32_767);
        let refusal = FrameError::Priority { asked, max };
        assert_eq!(FrameError::of(&error), Some(&refusal));
        let mut tx = tx.coalesced();
        for priority in [2, 3] {
            tx.send(Prioritized {
                priority,
                item: "burst",
            })
            .await
            .unwrap();
        }
        tx.flush().await.unwrap();
        for priority in [3, 2] {
            assert_eq!(rx.recv().await.unwrap().unwrap().priority, priority);
        }
    })
    .await;
}
