//! Every operation, dropped at every point where it waits.

use std::future::Future;
use std::task::Poll;

use aqueduct::Error;
use bytes::Bytes;
use tokio::task::{coop, yield_now};
use tokio_test::task;

use super::{Frames, Pair, fill, message, next, until};
use crate::deadline;
use crate::place::Transport;

/// The most points that one operation is dropped at; none of ours has as many.
const MOST: usize = 200;

/// Drops `future` where it waits for the `nth` time, with `step` for the other side in between.
/// Gives its output if it does not wait as often.
///
/// A point is a poll that has nothing to give though the task was woken (or is the first). Without
/// a budget there is one more, before everything.
async fn drop_at<F: Future>(
    nth: usize,
    future: F,
    mut step: impl AsyncFnMut(),
) -> Option<F::Output> {
    let mut future = task::spawn(future);
    let mut waits = 0;
    let run = async {
        loop {
            if let Poll::Ready(output) = future.poll() {
                return Some(output);
            }
            waits += 1;
            if waits == nth {
                return None;
            }
            while !future.is_woken() {
                step().await;
                yield_now().await;
            }
        }
    };
    deadline(run).await
}

/// Leaves this task without a budget for its next operation.
async fn spend_budget() {
    yield_now().await;
    while coop::has_budget_remaining() {
        coop::consume_budget().await;
    }
}

/// Drops `recv`, `reserve`, `feed`, `send`, `flush` and `close` at every point where they wait,
/// one after the other, and checks after each that every message arrives, whole, once and in order.
/// Prints how many points that were.
pub async fn await_points(transport: &impl Transport) {
    let mut counts = vec![("recv", recv(transport).await)];
    for (name, operation) in OPERATIONS {
        counts.push((name, waiting(transport, operation).await));
    }
    let test = std::thread::current().name().unwrap_or_default().to_owned();
    println!("{test}: await points tried: {counts:?}");
    for (name, points) in counts {
        assert!(points > 0, "{name} never waits: this tested nothing");
    }
}

/// `recv`, while a small and a large message come in pieces.
async fn recv(transport: &impl Transport) -> usize {
    let large = transport.promises().limit(300_000).min(300_000);
    let Pair { here, there, _kept } = &mut Pair::open(transport).await;
    let mut points = 0;
    for nth in 1..MOST {
        let before = points;
        for size in [10, large] {
            let item = message(nth, size);
            let mut to_send = Some(item.clone());
            let step = async || {
                if let Some(item) = to_send.take() {
                    until(here.feed(item)).await.expect("it is sent");
                }
                let _ = task::spawn(here.flush()).poll();
            };
            let mut came = drop_at(nth, there.recv(), step).await;
            let rest = async {
                if let Some(item) = to_send.take() {
                    here.feed(item).await?;
                }
                here.flush().await
            };
            if came.is_none() {
                points += 1;
                let (sent, item) = deadline(async { tokio::join!(rest, there.recv()) }).await;
                sent.expect("it is sent");
                came = Some(item);
            } else {
                deadline(rest).await.expect("it is sent");
            }
            let came = came.flatten().expect("it goes on").expect("it is whole");
            assert!(came == item, "a message is wrong");
        }
        if points == before {
            break;
        }
    }
    // Once more without a budget, with a message there.
    deadline(here.send(message(0, 10)))
        .await
        .expect("it is sent");
    spend_budget().await;
    points += usize::from(task::spawn(there.recv()).poll().is_pending());
    let nothing = task::spawn(there.recv()).poll();
    if let Poll::Ready(item) = nothing {
        item.expect("it goes on").expect("it is whole");
    } else {
        next(there).await;
    }
    points
}

/// What waits for room.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Operation {
    Reserve,
    Feed,
    Send,
    Flush,
    Close,
}

const OPERATIONS: [(&str, Operation); 5] = [
    ("reserve", Operation::Reserve),
    ("feed", Operation::Feed),
    ("send", Operation::Send),
    ("flush", Operation::Flush),
    ("close", Operation::Close),
];

impl Operation {
    async fn perform(self, channel: &mut Frames, item: Bytes) -> Result<(), Error> {
        match self {
            Self::Reserve => channel.reserve().await?.send(item),
            Self::Feed => channel.feed(item).await,
            Self::Send => channel.send(item).await,
            Self::Flush => channel.flush().await,
            Self::Close => channel.close().await,
        }
    }

    /// How often the item may arrive.
    fn arrives(self, done: bool) -> std::ops::RangeInclusive<usize> {
        match self {
            Self::Flush | Self::Close => 0..=0,
            _ if done => 1..=1,
            // What is documented: dropped while it waits for the flush, the item is on its way.
            Self::Send => 0..=1,
            Self::Reserve | Self::Feed => 0..=0,
        }
    }
}

/// An operation that waits for room, while the other side takes one message after the other.
async fn waiting(transport: &impl Transport, operation: Operation) -> usize {
    let size = transport.promises().limit(4900).min(4900);
    let (item, last) = (Bytes::from_static(b"item"), Bytes::from_static(b"last"));
    for nth in 1..MOST {
        let Pair { here, there, _kept } = &mut Pair::open(transport).await;
        let sent = fill(here, size).await;
        let mut came = Vec::new();
        let step = async || {
            if let Poll::Ready(item) = task::spawn(there.recv()).poll() {
                came.push(item.expect("it goes on").expect("it is whole"));
            }
        };
        let done = drop_at(nth, operation.perform(here, item.clone()), step).await;
        if let Some(done) = &done {
            assert!(done.is_ok(), "{done:?}");
        }
        let finish = async {
            if operation == Operation::Close {
                here.close().await
            } else {
                here.send(last.clone()).await
            }
        };
        let take = async {
            let all = sent + usize::from(operation != Operation::Close);
            // The item may be one more.
            while came.len() < all || operation != Operation::Close && came.last() != Some(&last) {
                let item = there.recv().await;
                came.push(item.expect("it goes on").expect("it is whole"));
            }
        };
        let (finished, ()) = deadline(async { tokio::join!(finish, take) }).await;
        finished.expect("it is sent");
        if operation == Operation::Close {
            super::ended(transport, there).await;
        } else {
            assert_eq!(came.pop(), Some(last.clone()));
        }
        let items = came.iter().skip(sent).filter(|it| **it == item).count();
        assert_eq!(came.len(), sent + items, "{operation:?} loses or doubles");
        assert!(
            operation.arrives(done.is_some()).contains(&items),
            "{operation:?} dropped at point {nth}: the item came {items} times"
        );
        for (number, it) in came[..sent].iter().enumerate() {
            assert!(*it == message(number, size), "message {number} is wrong");
        }
        if done.is_some() {
            return nth - 1;
        }
    }
    panic!("{operation:?} waits more than {MOST} times");
}
