use std::io;

use aqueduct::connect::Message;
use aqueduct::mq::{self, Driver, OpenOptions, Queue};
use proptest::prelude::*;

use super::{Open, config, done, dropped, killed, waits};
use crate::mq::QueueName;

const CAPACITY: usize = 3;

#[derive(Clone, Debug)]
enum Op {
    Send(u32),
    TrySend(u32),
    DropSend(u32),
    Receive,
    TryReceive,
    DropReceive,
    /// Closes it and opens it again.
    Reopen,
    /// Unlinks it and makes another one of that name.
    Replace,
    KilledSender(u32),
    KilledReceiver,
}

fn op() -> impl Strategy<Value = Op> {
    let priority = || prop_oneof![Just(0_u32), Just(1), Just(7), Just(32_767)];
    prop_oneof![
        6 => priority().prop_map(Op::Send),
        3 => priority().prop_map(Op::TrySend),
        4 => priority().prop_map(Op::DropSend),
        6 => Just(Op::Receive),
        3 => Just(Op::TryReceive),
        4 => Just(Op::DropReceive),
        2 => Just(Op::Reopen),
        1 => Just(Op::Replace),
        1 => priority().prop_map(Op::KilledSender),
        1 => Just(Op::KilledReceiver),
    ]
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn a_queue_of_the_pool_driver_is_a_list_by_priority(ops in proptest::collection::vec(op(), 1..60)) {
        aqueduct_conformance::run(play(Driver::Pool, ops));
    }

    #[test]
    fn a_queue_of_the_asyncfd_driver_is_a_list_by_priority(ops in proptest::collection::vec(op(), 1..60)) {
        aqueduct_conformance::run(play(Driver::AsyncFd, ops));
    }
}

/// What a queue is.
#[derive(Debug, Default)]
struct Model(Vec<Message>);

impl Model {
    fn is_full(&self) -> bool {
        self.0.len() == CAPACITY
    }

    fn take(&mut self) -> Option<Message> {
        let highest = self.0.iter().map(|it| it.priority().unwrap()).max()?;
        let first = self
            .0
            .iter()
            .position(|it| it.priority().unwrap() == highest)?;
        Some(self.0.remove(first))
    }
}

fn would_block<T: std::fmt::Debug>(result: io::Result<T>) {
    let error = result.expect_err("it cannot be done now");
    assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
}

async fn play(driver: Driver, ops: Vec<Op>) {
    let name = QueueName::new();
    let make = || name.create(driver, CAPACITY, 16);
    let (mut queue, mut model) = (make(), Model::default());
    for (number, op) in ops.into_iter().enumerate() {
        let body = |priority| crate::mq::message(priority, number.to_string());
        match op {
            Op::Send(priority) => {
                let message = body(priority);
                let send = queue.send(priority, message.body());
                if model.is_full() {
                    waits(send).await;
                } else {
                    done(send).await.expect("there is room");
                    model.0.push(message);
                }
            }
            Op::TrySend(priority) => {
                let message = body(priority);
                let sent = queue.try_send(priority, message.body());
                if model.is_full() {
                    would_block(sent);
                } else {
                    sent.expect("there is room");
                    model.0.push(message);
                }
            }
            Op::DropSend(priority) => {
                let message = body(priority);
                if let Some(sent) = dropped(queue.send(priority, message.body())).await {
                    sent.expect("it is sent");
                    assert!(!model.is_full());
                    model.0.push(message);
                }
            }
            Op::Receive => match model.take() {
                Some(message) => assert_eq!(done(queue.recv()).await.expect("it is"), message),
                None => waits(queue.recv()).await,
            },
            Op::TryReceive => match model.take() {
                Some(message) => assert_eq!(queue.try_recv().expect("it is there"), message),
                None => would_block(queue.try_recv()),
            },
            Op::DropReceive => {
                if let Some(came) = dropped(queue.recv()).await {
                    assert_eq!(Some(came.expect("it is received")), model.take());
                }
            }
            Op::Reopen => {
                drop(queue);
                queue = name.open(driver);
            }
            Op::Replace => {
                mq::unlink(&name.0).expect("it is ours");
                // The old one works on for who has it open.
                match model.take() {
                    Some(message) => assert_eq!(queue.try_recv().expect("it is there"), message),
                    None => would_block(queue.try_recv()),
                }
                (queue, model) = (make(), Model::default());
            }
            Op::KilledSender(priority) => {
                let message = body(priority);
                let text = std::str::from_utf8(message.body()).expect("it is a number");
                let said = killed(&format!("queue send {priority} {text}"), &name.0);
                if model.is_full() {
                    assert_eq!(said, "full");
                } else {
                    assert_eq!(said, "sent");
                    model.0.push(message);
                }
            }
            Op::KilledReceiver => {
                let said = killed("queue receive", &name.0);
                let expected = model.take().map_or_else(|| "empty".to_owned(), shown);
                assert_eq!(said, expected);
            }
        }
        let depth = queue.attributes().expect("it is open").messages;
        assert_eq!(depth, model.0.len());
    }
}

fn shown(message: Message) -> String {
    format!("{} {:?}", message.priority().unwrap(), message.into_body())
}

pub(super) async fn peer(what: &str, name: &str) -> (String, Open) {
    let queue: Queue = OpenOptions::new().open(name).expect("it is there");
    let words: Vec<_> = what.split(' ').collect();
    let said = match words[..] {
        ["send", priority, body] => {
            let priority = priority.parse().expect("a number");
            match queue.try_send(priority, body.as_bytes()) {
                Ok(()) => "sent".to_owned(),
                Err(_) => "full".to_owned(),
            }
        }
        _ => queue.try_recv().map_or_else(|_| "empty".to_owned(), shown),
    };
    (said, Box::new(queue))
}
