//! Messages that are delivered until they are settled, over a store within this process.

use std::collections::BTreeMap;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use aqueduct::connect::{Connection, Message, MessageReceiver, MessageSender, Receipt};
use aqueduct_conformance::settlement::{self, Store};
use bytes::Bytes;
use futures_util::{Sink, SinkExt, Stream, StreamExt, stream};

use crate::support::deadline;

/// Messages by their number. One that is taken out is put back unless it is settled.
#[derive(Clone, Default)]
struct Bag(Arc<Mutex<BTreeMap<usize, Bytes>>>);

impl Bag {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<usize, Bytes>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sink<Bytes> for Bag {
    type Error = io::Error;

    fn poll_ready(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn start_send(self: Pin<&mut Self>, body: Bytes) -> io::Result<()> {
        let mut bag = self.lock();
        let number = bag.last_key_value().map_or(0, |(last, _)| last + 1);
        bag.insert(number, body);
        Ok(())
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl Stream for Bag {
    type Item = io::Result<Message>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Some((number, body)) = self.lock().pop_first() else {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        };
        let (bag, copy) = (self.clone(), body.clone());
        let receipt = Receipt::new(move |settled| {
            if !settled {
                bag.lock().insert(number, copy);
            }
        });
        Poll::Ready(Some(Ok(Message::new(body).with_receipt(receipt))))
    }
}

impl Store for Bag {
    async fn sender(&self) -> MessageSender {
        Connection::from_frames(self.clone(), stream::pending(), 64).into_sender()
    }

    async fn receiver(&self) -> MessageReceiver {
        MessageReceiver::from_messages(self.clone())
    }
}

#[tokio::test]
async fn settled_messages_do_not_come_again() {
    settlement::settled_or_given_back(&Bag::default()).await;
}

#[tokio::test]
async fn a_typed_receiver_settles_an_item_with_the_next() {
    settlement::typed_receivers(&Bag::default()).await;
}

#[tokio::test]
async fn deliveries_are_settled_in_any_order() {
    settlement::deliveries(&Bag::default()).await;
}

#[tokio::test]
async fn a_dropped_relay_gives_back_what_was_not_flushed() {
    settlement::dropped_relays(&Bag::default()).await;
}

#[tokio::test]
async fn a_refused_message_is_given_back() {
    let bag = Bag::default();
    bag.lock().insert(0, "a line\nand another".into());
    let mut incoming = MessageReceiver::from_messages(bag.clone());
    let message = deadline(incoming.next()).await.unwrap().unwrap();
    let (here, _there) = tokio::io::duplex(64);
    let lines = aqueduct::frame::Framing::lines();
    let mut sender = Connection::from_io(here, lines).into_sender();
    sender.feed(message).await.unwrap_err();
    assert_eq!(bag.lock().len(), 1);
}

#[tokio::test]
async fn a_body_that_does_not_parse_is_settled() {
    let bag = Bag::default();
    bag.lock().insert(0, b"\xff".as_slice().into());
    bag.lock().insert(1, "text".into());
    let incoming = MessageReceiver::from_messages(bag.clone());
    let mut items = incoming.deliveries::<String>(aqueduct::codec::Text);
    deadline(items.recv()).await.unwrap().unwrap_err();
    let item = deadline(items.recv()).await.unwrap().unwrap();
    assert_eq!(bag.lock().len(), 0);
    assert_eq!(item.item, "text");
    drop(item);
    assert_eq!(bag.lock().len(), 1);
}
