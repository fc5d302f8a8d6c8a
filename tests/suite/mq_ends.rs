//! Message queues as streams and sinks: what a sink holds, and the end of a conversation.

use std::sync::Arc;

use aqueduct::connect::{MessageReceiver, MessageSender};
use aqueduct::frame::FrameError;
use aqueduct::mq::{Driver, OpenOptions, Queue};
use aqueduct::{OpenError, OpenErrorKind};
use bytes::Bytes;
use futures_util::{FutureExt, SinkExt, StreamExt};
use tokio_test::task::spawn;
use tokio_test::{assert_pending, assert_ready};

use crate::mq::{QueueName, message, over_both_drivers, sink, stream};

over_both_drivers!(
    a_failed_send_does_not_stay,
    an_oversized_message_is_refused_at_once,
    a_full_queue_holds_one_message_back,
    closing_marks_the_end_after_everything,
    several_senders_and_receivers_can_agree_on_an_end,
    the_end_cannot_be_mistaken_for_a_message,
    a_dropped_sender_marks_the_end,
);

/// The queue once more, as an end that marks the end or ends at the mark.
fn marking(name: &QueueName, driver: Driver) -> Arc<Queue> {
    let mut options = OpenOptions::new();
    options.driver(driver).end_marker(true);
    Arc::new(options.open(&name.0).unwrap())
}

/// tokio#7648: after a failed send `UdpFramed` fails with it at every later one.
async fn a_failed_send_does_not_stay(driver: Driver) {
    let name = QueueName::new();
    let queue = Arc::new(name.create(driver, 2, 32));
    let mut sender = MessageSender::try_from(Arc::clone(&queue)).unwrap();
    for _ in 0..2 {
        let error = sender.send(message(40_000, "x")).await.unwrap_err();
        let (asked, max) = (40_000, 32_767);
        let refusal = FrameError::Priority { asked, max };
        assert_eq!(FrameError::of(&error), Some(&refusal));
    }
    sender.send(message(1, "fine")).await.unwrap();
    assert_eq!(queue.recv().await.unwrap(), message(1, "fine"));
    // In a wait, too: it fails for want of a runtime, and then it does not.
    let (first, second) = (queue.send(0, b"1"), queue.send(0, b"2"));
    first.await.unwrap();
    second.await.unwrap();
    let fail = std::thread::spawn(move || {
        let failed = sender.send(message(0, "lost")).now_or_never();
        let error = failed.expect("it cannot wait").unwrap_err();
        let found = OpenError::of(&error).map(OpenError::kind);
        assert_eq!(found, Some(&OpenErrorKind::NoRuntime), "{error:?}");
        sender
    });
    let mut sender = tokio::task::spawn_blocking(|| fail.join().unwrap())
        .await
        .unwrap();
    assert_eq!(queue.drain().unwrap(), 2);
    sender.send(message(0, "again")).await.unwrap();
    assert_eq!(queue.recv().await.unwrap(), message(0, "again"));
}

async fn an_oversized_message_is_refused_at_once(driver: Driver) {
    let name = QueueName::new();
    let queue = Arc::new(name.create(driver, 2, 8));
    let mut sink = sink(&queue);
    let error = sink.feed("nine byte".into()).await.unwrap_err();
    let refusal = FrameError::TooLarge { len: 9, max: 8 };
    assert_eq!(FrameError::of(&error), Some(&refusal));
    sink.send("8 bytes!".into()).await.unwrap();
    assert_eq!(queue.drain().unwrap(), 1);
}

/// What a sink has taken it sends, whole, whatever happens to the future that gave it.
async fn a_full_queue_holds_one_message_back(driver: Driver) {
    let name = QueueName::new();
    let queue = Arc::new(name.create(driver, 1, 8));
    let mut sink = sink(&queue);
    sink.feed("1".into()).await.unwrap();
    // Sent at once: there was room, and nobody flushed.
    assert_eq!(queue.attributes().unwrap().messages, 1);
    sink.feed("2".into()).now_or_never().unwrap().unwrap();
    assert!(sink.feed("never".into()).now_or_never().is_none());
    assert!(sink.flush().now_or_never().is_none());
    // One that does not ask for room first is refused, and takes nobody's place.
    let error = sink.start_send_unpin("never".into()).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);

    for expected in ["1", "2"] {
        assert_eq!(queue.recv().await.unwrap().into_body(), expected);
        sink.flush().await.unwrap();
    }
    sink.close().await.unwrap();
    let error = sink.feed("4".into()).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::BrokenPipe);
    assert_eq!(queue.attributes().unwrap().messages, 0);
}

/// The end is of the lowest priority, so it comes after all that the sender has sent.
async fn closing_marks_the_end_after_everything(driver: Driver) {
    let name = QueueName::new();
    let queue = Arc::new(name.create(driver, 2, 8));
    let marking = marking(&name, driver);
    let (mut sender, mut receiver) = (sink(&marking), stream(&marking));
    sender.send("low".into()).await.unwrap();
    queue.send(9, b"high").await.unwrap();
    // The queue is full: closing waits, and may be cancelled and tried again.
    let mut close = spawn(sender.close());
    assert_pending!(close.poll());
    drop(close);
    let error = sender.feed("late".into()).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::BrokenPipe);
    assert_eq!(receiver.next().await.unwrap().unwrap(), "high");
    sender.close().await.unwrap();
    sender.close().await.unwrap();
    assert_eq!(receiver.next().await.unwrap().unwrap(), "low");
    assert!(receiver.next().await.is_none());
    // Fused, and one end only was sent.
    queue.send(0, b"later").await.unwrap();
    assert!(receiver.next().await.is_none());
    assert_eq!(queue.recv().await.unwrap().into_body(), "later");
    assert_eq!(queue.attributes().unwrap().messages, 0);
}

/// As the module's page says: each sender sends an end for each receiver, which counts them.
async fn several_senders_and_receivers_can_agree_on_an_end(driver: Driver) {
    const EACH: u32 = 300;
    let name = QueueName::new();
    let made = name.create(driver, 4, 8);
    let mut receivers = tokio::task::JoinSet::new();
    for _ in 0..3 {
        let queue = name.open(driver);
        receivers.spawn(async move {
            let (mut got, mut ends) = (Vec::new(), 0);
            while ends < 2 {
                match queue.recv().await.unwrap().into_body() {
                    body if body.is_empty() => ends += 1,
                    body => got.push(body),
                }
            }
            got
        });
    }
    let mut senders = tokio::task::JoinSet::new();
    for from in 0..2 {
        let queue = name.open(driver);
        senders.spawn(async move {
            for i in 0..EACH {
                let body = (from * EACH + i).to_le_bytes();
                queue.send(0, &body).await.unwrap();
            }
            for _ in 0..3 {
                queue.send(0, b"").await.unwrap();
            }
        });
    }
    senders.join_all().await;
    let mut got: Vec<_> = receivers.join_all().await.concat();
    got.sort_by_key(|it| u32::from_le_bytes(it[..].try_into().unwrap()));
    let all: Vec<_> = (0..2 * EACH)
        .map(|it| Bytes::copy_from_slice(&it.to_le_bytes()))
        .collect();
    assert_eq!(got, all);
    let left = made.attributes().unwrap().messages;
    assert_eq!(left, 0, "no end is left over");
}

/// A sender that marks the end refuses to send what would look like it.
async fn the_end_cannot_be_mistaken_for_a_message(driver: Driver) {
    let name = QueueName::new();
    let queue = Arc::new(name.create(driver, 4, 8));
    let mut sender = sink(&marking(&name, driver));
    let error = sender.send(Bytes::new()).await.unwrap_err();
    assert_eq!(FrameError::of(&error), Some(&FrameError::Empty));
    assert_eq!(queue.attributes().unwrap().messages, 0);
    // Without the agreement it is a message.
    let mut plain = spawn(stream(&queue));
    sender.close().await.unwrap();
    assert_eq!(assert_ready!(plain.poll_next()).unwrap().unwrap(), "");
}

async fn a_dropped_sender_marks_the_end(driver: Driver) {
    let name = QueueName::new();
    let _made = name.create(driver, 4, 8);
    let marking = marking(&name, driver);
    let mut receiver = MessageReceiver::try_from(Arc::clone(&marking)).unwrap();
    let mut sender = sink(&marking);
    sender.send("last".into()).await.unwrap();
    drop(sender);
    let last = receiver.next().await.unwrap().unwrap();
    assert_eq!(last, message(0, "last"));
    assert!(receiver.next().await.is_none());
}
