use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_core::Stream;

use super::{MessageReceiver, Receipt};
use crate::channel::{Receiver, lent};
use crate::codec::{BoxError, Decode, Format};
use crate::frame::{Lend, Lent};

/// An item with the [receipt](Receipt) of its message.
///
/// # Examples
///
/// Jobs run at the same time. Each is settled when it is done, and given back if it fails:
///
/// ```
/// use aqueduct::codec::Text;
/// use aqueduct::connect::{Delivery, Message, MessageReceiver};
/// use aqueduct::Receiver;
/// # use futures_util::stream;
///
/// # async fn work(job: &str) -> Result<(), ()> { Ok(()) }
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), aqueduct::Error> {
/// # let messages = stream::iter([Ok(Message::new("sweep"))]);
/// # let incoming = MessageReceiver::from_messages(messages);
/// let mut jobs: Receiver<Delivery<String>> = incoming.deliveries(Text);
/// while let Some(job) = jobs.recv().await.transpose()? {
///     tokio::spawn(async move {
///         if work(&job.item).await.is_ok() {
///             job.settle();
///         }
///     });
/// }
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Delivery<T> {
    /// The item.
    pub item: T,
    /// The receipt, if the transport has one. Dropping it gives the message back.
    pub receipt: Option<Receipt>,
}

impl<T> Delivery<T> {
    /// [Settles](Receipt::settle) the message, if it has a receipt, and returns the item.
    pub fn settle(self) -> T {
        if let Some(receipt) = self.receipt {
            receipt.settle();
        }
        self.item
    }
}

impl MessageReceiver {
    /// Creates a receiver of items that `codec` parses, each with the [receipt](Receipt) of its
    /// message.
    ///
    /// Use it instead of [`typed`](Self::typed) to work on several items at a time. A body that does
    /// not parse is an error item, and is settled when the next item is asked for.
    pub fn deliveries<T>(self, codec: impl Decode<T> + 'static) -> Receiver<Delivery<T>> {
        let receipt = Arc::new(Aside::default());
        let bodies = Bodies {
            receiver: self,
            receipt: Arc::clone(&receipt),
        };
        lent(bodies, Reads { codec, receipt })
    }
}

/// The receipt of the body that is decoded next.
#[derive(Default)]
struct Aside(Mutex<Option<Receipt>>);

impl Aside {
    fn replace(&self, receipt: Option<Receipt>) -> Option<Receipt> {
        let mut aside = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *aside, receipt)
    }
}

/// The bodies alone. The receipt of the last one is put aside for the codec.
struct Bodies {
    receiver: MessageReceiver,
    receipt: Arc<Aside>,
}

impl Stream for Bodies {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        // That of a body that did not parse.
        if let Some(receipt) = self.receipt.replace(None) {
            receipt.settle();
        }
        let next = ready!(Pin::new(&mut self.receiver).poll_next(cx));
        Poll::Ready(next.map(|received| {
            let mut message = received?;
            self.receipt.replace(message.take_receipt());
            Ok(message.into_body())
        }))
    }
}

impl Lend for Bodies {
    fn poll_lend(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Lent<'_>>>> {
        let body = ready!(Pin::new(self).poll_next(cx));
        Poll::Ready(body.map(|body| body.map(Lent::Kept)))
    }

    fn stop(&mut self) {
        self.receiver.stop();
    }
}

/// Decodes a body and adds the receipt put aside. A typed receiver decodes each body before it asks
/// for the next one.
struct Reads<C> {
    codec: C,
    receipt: Arc<Aside>,
}

impl<C: Format> Format for Reads<C> {
    fn name(&self) -> &'static str {
        self.codec.name()
    }
}

impl<T, C: Decode<T>> Decode<Delivery<T>> for Reads<C> {
    fn decode(&self, body: Bytes) -> Result<Delivery<T>, BoxError> {
        let item = self.codec.decode(body)?;
        let receipt = self.receipt.replace(None);
        Ok(Delivery { item, receipt })
    }
}
