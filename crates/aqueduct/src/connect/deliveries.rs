use bytes::Bytes;

use super::beside::{self, Part, Reads};
use super::{Message, MessageReceiver, Receipt};
use crate::channel::Receiver;
use crate::codec::{BoxError, Decode};

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
        beside::receive::<_, _, Option<Receipt>>(self, codec)
    }
}

impl Part for Option<Receipt> {
    fn take(message: &mut Message) -> Self {
        message.take_receipt()
    }

    fn unparsed(self) {
        if let Some(receipt) = self {
            receipt.settle();
        }
    }
}

impl<T, C: Decode<T>> Decode<Delivery<T>> for Reads<C, Option<Receipt>> {
    fn decode(&self, body: Bytes) -> Result<Delivery<T>, BoxError> {
        let (item, receipt) = self.parse(body)?;
        Ok(Delivery { item, receipt })
    }
}
