use std::fmt::{self, Debug, Formatter};

use sync_wrapper::SyncWrapper;

/// Settles a message with its transport, or gives it back.
///
/// A transport that can deliver a message again attaches a receipt to it. Call
/// [`settle`](Self::settle) once the message is dealt with. Dropping the receipt, also with its
/// [`Message`](super::Message), gives the message back: it is delivered again, to this process or
/// to another one. Messages of pipes, FIFOs, queues and sockets have no receipt.
///
/// Who settles:
///
/// | the message goes to | it is settled when |
/// |---|---|
/// | a [`MessageSender`](super::MessageSender), as in a [`Relay`](crate::relay::Relay) | a flush of the sender has succeeded; by `nats:`, as soon as it is stored |
/// | a [`Receiver`](crate::Receiver), or the stream of [`into_frames`](super::MessageReceiver::into_frames) | the next item is asked for |
/// | a [`Receiver`](crate::Receiver) of [`deliveries`](super::MessageReceiver::deliveries) | [`Delivery::settle`](super::Delivery::settle) is called |
/// | a [`Connection`](super::Connection) of two one-way ends | the next message is asked for |
/// | your code, from the stream of a [`MessageReceiver`](super::MessageReceiver) | you call [`settle`](Self::settle) |
///
/// # Examples
///
/// ```
/// use aqueduct::connect::{Message, MessageReceiver, Receipt};
/// use futures_util::{StreamExt, stream};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let receipt = Receipt::new(|settled| println!("settled: {settled}"));
/// let messages = stream::iter([Ok(Message::new("job").with_receipt(receipt))]);
/// let mut incoming = MessageReceiver::from_messages(messages);
///
/// while let Some(mut message) = incoming.next().await.transpose()? {
///     let receipt = message.take_receipt();
///     println!("{:?} is done", message.body());
///     if let Some(receipt) = receipt {
///         receipt.settle();
///     }
/// }
/// # Ok(()) }
/// ```
#[must_use = "dropping it gives the message back"]
pub struct Receipt(SyncWrapper<Option<Done>>);

type Done = Box<dyn FnOnce(bool) + Send>;

impl Receipt {
    /// Creates a receipt for a message of your own transport.
    ///
    /// `done` is called once: with `true` when the message is settled, with `false` when it is
    /// given back. It must not block.
    pub fn new(done: impl FnOnce(bool) + Send + 'static) -> Self {
        Self(SyncWrapper::new(Some(Box::new(done))))
    }

    /// Settles the message: it is not delivered again.
    ///
    /// The transport passes this on in the background. If this process or the transport fails
    /// before, the message is delivered again.
    pub fn settle(mut self) {
        self.done(true);
    }

    fn done(&mut self, settled: bool) {
        if let Some(done) = self.0.get_mut().take() {
            done(settled);
        }
    }
}

impl Drop for Receipt {
    fn drop(&mut self) {
        self.done(false);
    }
}

impl Debug for Receipt {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receipt").finish_non_exhaustive()
    }
}

/// The receipt of the last item of a stream. It is settled when the next item is asked for.
#[derive(Default)]
pub(crate) struct Last(Option<Receipt>);

impl Last {
    /// Settles the last item: the next one is asked for.
    #[inline]
    pub(super) fn settle(&mut self) {
        if let Some(receipt) = self.0.take() {
            receipt.settle();
        }
    }

    /// Keeps the receipt of the item that is delivered now.
    #[inline]
    pub(super) fn keep(&mut self, message: &mut super::Message) {
        self.0 = message.take_receipt();
    }

    /// Whether an item was delivered that is not settled.
    pub(super) fn is_open(&self) -> bool {
        self.0.is_some()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;
    use crate::connect::Message;

    #[test]
    fn a_receipt_is_settled_or_given_back_once() {
        let (told, outcomes) = mpsc::channel();
        let receipt = move || {
            let told = told.clone();
            Receipt::new(move |settled| told.send(settled).unwrap())
        };
        receipt().settle();
        drop(receipt());
        drop(Message::new("dropped").with_receipt(receipt()));
        let mut message = Message::new("taken").with_receipt(receipt());
        let copy = message.clone();
        assert_eq!(copy, message);
        drop(copy);
        message.take_receipt().unwrap().settle();
        assert!(message.take_receipt().is_none());
        drop(receipt);
        assert_eq!(
            outcomes.iter().collect::<Vec<_>>(),
            [true, false, false, true]
        );
    }
}
