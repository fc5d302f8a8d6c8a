//! Every operation, dropped at every point where it waits.

use std::task::Poll;
use std::time::Duration;

use aqueduct::Error;
use bytes::Bytes;
use tokio_test::task;

use super::{Frames, Pair, fill_within, message, next, until};
use crate::every_point::{MOMENTS, Moment, drop_at, spend_budget};
use crate::place::Transport;
use crate::{DEADLINE, deadline};

/// The most points that one operation is dropped at; none of ours has as many.
const MOST: usize = 200;

/// Drops each operation at every point where it waits; every message still arrives.
///
/// The operations are `recv`, `recv_many`, `reserve`, `feed`, `send`, `flush`, `close` and
/// `close_timeout`. Messages arrive whole, once and in order. Prints the number of points.
pub async fn await_points(transport: &impl Transport) {
    let mut counts = vec![
        ("recv", receiving(transport, one).await),
        ("recv_many", receiving(transport, many).await),
    ];
    for (name, operation) in OPERATIONS {
        counts.push((name, waiting(transport, operation).await));
    }
    let test = std::thread::current().name().unwrap_or_default().to_owned();
    println!("{test}: await points tried: {counts:?}");
    for (name, points) in counts {
        assert!(points > 0, "{name} never waits: this tested nothing");
    }
}

type Item = Option<Result<Bytes, Error>>;

async fn one(channel: &mut Frames) -> Item {
    channel.recv().await
}

/// What it has taken when it is dropped is lost with its buffer, and so would be missed.
async fn many(channel: &mut Frames) -> Item {
    let mut items = Vec::new();
    let taken = channel.split_mut().1.recv_many(&mut items, 10).await;
    assert_eq!(taken, items.len());
    assert!(taken < 2, "one was sent");
    items.pop()
}

/// `receive`, while a small and a large message come in pieces.
async fn receiving(
    transport: &impl Transport,
    receive: impl AsyncFn(&mut Frames) -> Item,
) -> usize {
    let large = transport.promises().limit(300_000).min(300_000);
    let Pair { here, there, _kept } = &mut Pair::open(transport).await;
    let mut points = 0;
    for nth in 1..MOST {
        let before = points;
        for (size, moment) in [10, large]
            .into_iter()
            .flat_map(|it| MOMENTS.map(|at| (it, at)))
        {
            let item = message(nth, size);
            let mut to_send = Some(item.clone());
            let step = async || {
                if let Some(item) = to_send.take() {
                    until(here.feed(item)).await.expect("it is sent");
                }
                let _ = task::spawn(here.flush()).poll();
            };
            let mut came = drop_at((nth, moment), receive(there), step).await;
            let rest = async {
                if let Some(item) = to_send.take() {
                    here.feed(item).await?;
                }
                here.flush().await
            };
            if came.is_none() {
                points += usize::from(moment == Moment::Asleep);
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
    // Pending, but where a wait has begun before, which costs nothing more.
    let polled = task::spawn(receive(there)).poll();
    let came = match polled {
        Poll::Ready(item) => item.expect("it goes on").expect("it is whole"),
        Poll::Pending => {
            points += 1;
            next(there).await
        }
    };
    assert!(came == message(0, 10), "a message is wrong");
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
    CloseTimeout,
}

const OPERATIONS: [(&str, Operation); 6] = [
    ("reserve", Operation::Reserve),
    ("feed", Operation::Feed),
    ("send", Operation::Send),
    ("flush", Operation::Flush),
    ("close", Operation::Close),
    ("close_timeout", Operation::CloseTimeout),
];

impl Operation {
    async fn perform(self, channel: &mut Frames, item: Bytes) -> Result<(), Error> {
        match self {
            Self::Reserve => channel.split_mut().0.reserve().await?.send(item),
            Self::Feed => channel.feed(item).await,
            Self::Send => channel.send(item).await,
            Self::Flush => channel.flush().await,
            Self::Close => channel.close().await,
            Self::CloseTimeout => channel.split_mut().0.close_timeout(DEADLINE).await,
        }
    }

    fn closes(self) -> bool {
        matches!(self, Self::Close | Self::CloseTimeout)
    }

    /// How often the item may arrive.
    fn arrives(self, done: bool) -> std::ops::RangeInclusive<usize> {
        match self {
            Self::Flush | Self::Close | Self::CloseTimeout => 0..=0,
            _ if done => 1..=1,
            // What is documented: dropped while it waits for the flush, the item is on its way.
            Self::Send => 0..=1,
            Self::Reserve | Self::Feed => 0..=0,
        }
    }
}

/// An operation that waits for room, while the other side takes one message after the other.
async fn waiting(transport: &impl Transport, operation: Operation) -> usize {
    for nth in 1..MOST {
        for moment in MOMENTS {
            if dropped(transport, operation, (nth, moment)).await {
                return nth - 1;
            }
        }
    }
    panic!("{operation:?} waits more than {MOST} times");
}

/// The same, dropped at one of its points; whether it was done before.
async fn dropped(transport: &impl Transport, operation: Operation, at: (usize, Moment)) -> bool {
    let size = transport.promises().limit(4900).min(4900);
    let (item, last) = (Bytes::from_static(b"item"), Bytes::from_static(b"last"));
    let Pair { here, there, _kept } = &mut Pair::open(transport).await;
    // Were it too short, an operation would wait less often: only the first try has to wait.
    let moment = Duration::from_millis(if at.0 == 1 { 50 } else { 5 });
    let sent = fill_within(here, size, moment).await;
    let mut came = Vec::new();
    let step = async || {
        if let Poll::Ready(item) = task::spawn(there.recv()).poll() {
            came.push(item.expect("it goes on").expect("it is whole"));
        }
    };
    let done = drop_at(at, operation.perform(here, item.clone()), step).await;
    if let Some(done) = &done {
        assert!(done.is_ok(), "{done:?}");
    }
    let finish = async {
        if operation.closes() {
            here.close().await
        } else {
            here.send(last.clone()).await
        }
    };
    let take = async {
        let all = sent + usize::from(!operation.closes());
        // The item may be one more.
        while came.len() < all || !operation.closes() && came.last() != Some(&last) {
            let item = there.recv().await;
            came.push(item.expect("it goes on").expect("it is whole"));
        }
    };
    let (finished, ()) = deadline(async { tokio::join!(finish, take) }).await;
    finished.expect("it is sent");
    if operation.closes() {
        super::ended(transport, there).await;
    } else {
        assert_eq!(came.pop(), Some(last.clone()));
    }
    let items = came.iter().skip(sent).filter(|it| **it == item).count();
    assert_eq!(came.len(), sent + items, "{operation:?} loses or doubles");
    assert!(
        operation.arrives(done.is_some()).contains(&items),
        "{operation:?} dropped at {at:?}: the item came {items} times"
    );
    for (number, it) in came[..sent].iter().enumerate() {
        assert!(*it == message(number, size), "message {number} is wrong");
    }
    done.is_some()
}
