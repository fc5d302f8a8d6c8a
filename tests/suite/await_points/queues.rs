use std::io;
use std::sync::Arc;

use aqueduct::connect::{Message, MessageReceiver, MessageSender};
use aqueduct::mq::{Driver, Queue};
use aqueduct_conformance::every_point;
use futures_util::{SinkExt, StreamExt};

use super::NEVER;
use crate::mq::{QueueName, body, message, over_both_drivers};

over_both_drivers!(receiving, sending);

/// What is there, without waiting.
fn drain(queue: &Queue) -> Vec<Message> {
    let mut messages = Vec::new();
    loop {
        match queue.try_recv() {
            Ok(message) => messages.push(message),
            Err(e) => {
                assert_eq!(e.kind(), io::ErrorKind::WouldBlock);
                return messages;
            }
        }
    }
}

/// A receiver of an empty queue, and a sender that has sent nothing yet.
fn empty<R>(driver: Driver, receiver: impl FnOnce(Queue) -> R) -> (R, (Queue, usize, QueueName)) {
    let name = QueueName::new();
    let receiving = name.create(driver, 2, 8);
    let sending = name.open(driver);
    (receiver(receiving), (sending, 0, name))
}

/// Sends one message, once.
fn send(queue: &Queue, sent: &mut usize) {
    if *sent == 0 {
        queue.try_send(3, b"one").expect("there is room");
        *sent += 1;
    }
}

/// The message was received by whom was not dropped, and else is still there, once.
fn received(queue: &Queue, sent: usize, output: Option<Message>) {
    let all: Vec<_> = output.into_iter().chain(drain(queue)).collect();
    let expected = vec![message(3, "one"); sent];
    assert_eq!(all, expected);
}

async fn receiving(driver: Driver) {
    every_point(
        &format!("mq::Queue::recv, {driver}"),
        async || empty(driver, |it| it),
        async |queue: &mut Queue| queue.recv().await,
        async |(queue, sent, _)| send(queue, sent),
        async |queue, (_, sent, _), output| {
            received(&queue, sent, output.map(|it| it.expect("it comes")));
        },
    )
    .await;
    every_point(
        &format!("mq::Queue::recv_timeout, {driver}"),
        async || empty(driver, |it| it),
        async |queue: &mut Queue| queue.recv_timeout(NEVER).await,
        async |(queue, sent, _)| send(queue, sent),
        async |queue, (_, sent, _), output| {
            received(&queue, sent, output.map(|it| it.expect("it comes")));
        },
    )
    .await;
    every_point(
        &format!("MessageReceiver::next, queue, {driver}"),
        async || empty(driver, receiver),
        async |queue: &mut MessageReceiver| queue.next().await,
        async |(queue, sent, _)| send(queue, sent),
        async |_, (queue, sent, _), output| {
            let came = output.map(|it| it.expect("no end").expect("it comes"));
            received(&queue, sent, came);
        },
    )
    .await;
}

fn receiver(queue: Queue) -> MessageReceiver {
    let queue = Arc::new(queue);
    queue.try_into().expect("it can be read")
}

fn sender(queue: Queue) -> MessageSender {
    let queue = Arc::new(queue);
    queue.try_into().expect("it can be written")
}

/// A sender to a full queue, and a receiver that has received nothing yet.
fn full<S>(driver: Driver, sender: impl FnOnce(Queue) -> S) -> (S, (Queue, usize, QueueName)) {
    let name = QueueName::new();
    let queue = name.create(driver, 1, 8);
    queue.try_send(0, b"full").expect("there is room");
    (sender(queue), (name.open(driver), 0, name))
}

/// Makes room for one, once.
fn take(queue: &Queue, taken: &mut usize) {
    if *taken == 0 {
        assert_eq!(queue.try_recv().expect("it is full"), body("full"));
        *taken += 1;
    }
}

/// Of a sender that was dropped nothing is there; of one that was not, its message is, once.
fn sent(queue: &Queue, mut taken: usize, output: Option<io::Result<()>>) {
    take(queue, &mut taken);
    let expected = match output {
        Some(done) => {
            done.expect("it is sent");
            vec![message(5, "item")]
        }
        None => vec![],
    };
    assert_eq!(drain(queue), expected);
}

async fn sending(driver: Driver) {
    every_point(
        &format!("mq::Queue::send, {driver}"),
        async || full(driver, |it| it),
        async |queue: &mut Queue| queue.send(5, b"item").await,
        async |(queue, taken, _)| take(queue, taken),
        async |_, (queue, taken, _), output| sent(&queue, taken, output),
    )
    .await;
    every_point(
        &format!("mq::Queue::send_timeout, {driver}"),
        async || full(driver, |it| it),
        async |queue: &mut Queue| queue.send_timeout(5, b"item", NEVER).await,
        async |(queue, taken, _)| take(queue, taken),
        async |_, (queue, taken, _), output| sent(&queue, taken, output),
    )
    .await;
    // What a sink has taken and not sent goes with the sink.
    every_point(
        &format!("MessageSender::send, queue, {driver}"),
        async || full(driver, sender),
        async |sink: &mut MessageSender| sink.send(message(0, "item")).await,
        async |(queue, taken, _)| take(queue, taken),
        async |sink, (queue, mut taken, _), output| {
            drop(sink);
            take(&queue, &mut taken);
            let expected = output.map(|it| it.map(|()| body("item")).expect("it is sent"));
            assert_eq!(drain(&queue), Vec::from_iter(expected));
        },
    )
    .await;
}
