//! The cases for a transport whose messages have receipts: each message is delivered until it is
//! settled.

use std::collections::{BTreeSet, VecDeque};
use std::future::poll_fn;
use std::io;
use std::ops::Range;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use aqueduct::codec::Text;
use aqueduct::connect::{Connection, Message, MessageReceiver, MessageSender};
use aqueduct::relay::Relay;
use aqueduct::service::CancellationToken;
use bytes::Bytes;
use futures_core::Stream;
use futures_sink::Sink;

use crate::deadline;

/// A store of messages that can be delivered again. Each case needs an empty one.
pub trait Store {
    /// Opens an end that puts messages in.
    fn sender(&self) -> impl Future<Output = MessageSender>;

    /// Opens an end that takes messages out. At most one is open at a time.
    fn receiver(&self) -> impl Future<Output = MessageReceiver>;
}

async fn fill(store: &impl Store, numbers: Range<usize>) {
    let mut sender = store.sender().await;
    for number in numbers {
        deadline(poll_fn(|cx| Pin::new(&mut sender).poll_ready(cx)))
            .await
            .expect("there is room");
        let message = Message::new(number.to_string());
        Pin::new(&mut sender).start_send(message).expect("it fits");
    }
    deadline(poll_fn(|cx| Pin::new(&mut sender).poll_close(cx)))
        .await
        .expect("it is sent");
}

async fn next(incoming: &mut MessageReceiver) -> Message {
    let next = deadline(poll_fn(|cx| Pin::new(&mut *incoming).poll_next(cx))).await;
    next.expect("the stream goes on").expect("it is whole")
}

/// Takes the rest out, in the order in which it comes, and settles it.
async fn rest(store: &impl Store, count: usize) -> Vec<String> {
    let mut incoming = store.receiver().await;
    let mut rest = Vec::new();
    for _ in 0..count {
        let mut message = next(&mut incoming).await;
        rest.push(text(&message));
        message.take_receipt().expect("it has one").settle();
    }
    finish(incoming).await;
    rest
}

/// Stops the receiver, and receives until it has passed on what is settled and given back.
async fn finish(mut incoming: MessageReceiver) {
    incoming.stop();
    while let Some(message) = deadline(poll_fn(|cx| Pin::new(&mut incoming).poll_next(cx))).await {
        drop(message.expect("it is whole"));
    }
}

fn text(message: &Message) -> String {
    String::from_utf8_lossy(message.body()).into_owned()
}

/// Settled messages are not delivered again; those given back are.
pub async fn settled_or_given_back(store: &impl Store) {
    fill(store, 0..6).await;
    let mut incoming = store.receiver().await;
    let mut receipts = Vec::new();
    for number in 0..6 {
        let mut message = next(&mut incoming).await;
        assert_eq!(text(&message), number.to_string());
        receipts.push(message.take_receipt().expect("it has one"));
    }
    for (number, receipt) in receipts.into_iter().enumerate() {
        if number % 2 == 0 {
            receipt.settle();
        }
    }
    finish(incoming).await;
    let rest: BTreeSet<_> = rest(store, 3).await.into_iter().collect();
    assert_eq!(rest.into_iter().collect::<Vec<_>>(), ["1", "3", "5"]);
}

/// A typed receiver settles an item when the next one is asked for, and the last one not.
pub async fn typed_receivers(store: &impl Store) {
    fill(store, 0..5).await;
    let mut items = store.receiver().await.typed::<String>(Text);
    for number in 0..3 {
        let item = deadline(items.recv()).await.expect("the stream goes on");
        assert_eq!(item.expect("it is whole"), number.to_string());
    }
    let mut batch = Vec::new();
    let taken = deadline(items.recv_many(&mut batch, 5)).await;
    assert_eq!(
        taken, 1,
        "asking for more would settle an item that the caller has not seen"
    );
    drop(items);
    let rest: BTreeSet<_> = rest(store, 2).await.into_iter().collect();
    assert_eq!(rest.into_iter().collect::<Vec<_>>(), ["3", "4"]);
}

/// Items with a receipt are settled in any order, and given back if dropped.
pub async fn deliveries(store: &impl Store) {
    fill(store, 0..4).await;
    let mut items = store.receiver().await.deliveries::<String>(Text);
    let mut taken = Vec::new();
    for _ in 0..4 {
        let item = deadline(items.recv()).await.expect("the stream goes on");
        taken.push(item.expect("it is whole"));
    }
    for number in [3, 0] {
        assert_eq!(taken.remove(number).settle(), number.to_string());
    }
    drop(taken);
    items.stop();
    assert!(deadline(items.recv()).await.is_none());
    let rest: BTreeSet<_> = rest(store, 2).await.into_iter().collect();
    assert_eq!(rest.into_iter().collect::<Vec<_>>(), ["1", "2"]);
}

/// A relay settles what its sending end has flushed. What it had in hand when it was dropped is
/// delivered again: nothing is lost. One that is stopped has settled everything.
pub async fn dropped_relays(store: &impl Store) {
    const MESSAGES: usize = 20;
    fill(store, 0..MESSAGES).await;
    let mut all = BTreeSet::new();
    for most in [3, 11, MESSAGES] {
        let passed = Passed::default();
        let sink = Sieve {
            most,
            given: VecDeque::new(),
            passed: passed.clone(),
        };
        let incoming = store.receiver().await;
        let outgoing = Connection::from_frames(sink, Silent, 64).into_sender();
        let stop = CancellationToken::new();
        let mut relay = Box::pin(Relay::new(incoming, outgoing).run(stop.clone()));
        let full = async {
            // The last one gets what the others have not settled.
            let enough = || {
                let passed = passed.lock();
                let all = all.iter().chain(passed.iter()).collect::<BTreeSet<_>>();
                passed.len() >= most || all.len() == MESSAGES
            };
            while !enough() {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            result = &mut relay => panic!("it has ended: {result:?}"),
            () = deadline(full) => {}
        }
        if most == MESSAGES {
            stop.cancel();
            deadline(relay).await.expect("all is delivered");
        }
        all.extend(passed.lock().drain(..));
    }
    assert_eq!(all.len(), MESSAGES, "each message has passed: {all:?}");
    fill(store, MESSAGES..MESSAGES + 1).await;
    assert_eq!(rest(store, 1).await, [MESSAGES.to_string()]);
}

/// A sink that passes a number of messages, and then waits for ever.
struct Sieve {
    most: usize,
    given: VecDeque<Bytes>,
    passed: Passed,
}

/// What went through.
#[derive(Clone, Default)]
struct Passed(Arc<Mutex<Vec<Bytes>>>);

impl Passed {
    fn lock(&self) -> MutexGuard<'_, Vec<Bytes>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sink<Bytes> for Sieve {
    type Error = io::Error;

    fn poll_ready(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn start_send(mut self: Pin<&mut Self>, body: Bytes) -> io::Result<()> {
        self.given.push_back(body);
        Ok(())
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self {
            most,
            given,
            passed,
        } = &mut *self;
        let mut passed = passed.lock();
        while passed.len() < *most
            && let Some(body) = given.pop_front()
        {
            passed.push(body);
        }
        if given.is_empty() {
            return Poll::Ready(Ok(()));
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_flush(cx)
    }
}

/// Sends nothing.
struct Silent;

impl Stream for Silent {
    type Item = io::Result<Bytes>;

    fn poll_next(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Poll::Pending
    }
}
