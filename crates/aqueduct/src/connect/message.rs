use bytes::Bytes;

use super::peer::Peer;
use super::receipt::Receipt;

/// One message: its body, and what its mechanism adds.
///
/// A clone has no [receipt](Receipt), and two messages are equal whatever their receipts.
///
/// # Examples
///
/// ```
/// use aqueduct::connect::Message;
///
/// let urgent = Message::new("now").with_priority(9);
/// assert_eq!((urgent.body(), urgent.priority()), (&"now".into(), Some(9)));
/// ```
#[derive(Clone, Debug, Default)]
pub struct Message {
    body: Bytes,
    priority: Option<u32>,
    // Boxed, because few messages have any of it.
    extra: Option<Box<Extra>>,
}

#[derive(Debug)]
struct Extra {
    peer: Peer,
    receipt: Option<Receipt>,
    /// The same each time that it is delivered.
    id: Option<Box<str>>,
}

impl Message {
    /// Creates a message with this body and no priority.
    pub fn new(body: impl Into<Bytes>) -> Self {
        Self {
            body: body.into(),
            priority: None,
            extra: None,
        }
    }

    /// Sets the priority, which only queues use.
    #[must_use]
    pub fn with_priority(mut self, priority: u32) -> Self {
        self.priority = Some(priority);
        self
    }

    pub(super) fn with_peer(mut self, peer: Peer) -> Self {
        if peer != Peer::Unknown {
            self.extra().peer = peer;
        }
        self
    }

    /// Attaches the receipt of a message that can be delivered again.
    ///
    /// Your own transport does so. An earlier receipt is dropped.
    #[must_use]
    pub fn with_receipt(mut self, receipt: Receipt) -> Self {
        self.extra().receipt = Some(receipt);
        self
    }

    fn extra(&mut self) -> &mut Extra {
        self.extra
            .get_or_insert_with(|| Box::new(Extra::new(Peer::Unknown)))
    }

    /// Returns the bytes of the message.
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// Returns the priority of a message that was received from a queue.
    pub fn priority(&self) -> Option<u32> {
        self.priority
    }

    /// Returns the sender of a datagram.
    ///
    /// For `unixgram:` it is the process, as reported by the kernel (`SCM_CREDENTIALS`, unix(7)). For
    /// `udp:` it is the source address, which nothing verifies.
    ///
    /// `None` for messages of other mechanisms: their sender is the
    /// [peer](super::Connection::peer) of the connection.
    pub fn peer(&self) -> Option<&Peer> {
        let peer = &self.extra.as_ref()?.peer;
        (*peer != Peer::Unknown).then_some(peer)
    }

    /// Takes the receipt of a message that can be delivered again.
    ///
    /// [`Receipt::settle`] settles the message. Dropping the receipt gives the message back.
    #[inline]
    pub fn take_receipt(&mut self) -> Option<Receipt> {
        self.extra.as_mut()?.receipt.take()
    }

    /// Sets the id, which stays the same each time that the message is delivered.
    pub(crate) fn set_id(&mut self, id: Box<str>) {
        self.extra().id = Some(id);
    }

    pub(crate) fn has_receipt(&self) -> bool {
        self.extra.as_ref().is_some_and(|it| it.receipt.is_some())
    }

    #[cfg(feature = "nats")]
    pub(crate) fn take_id(&mut self) -> Option<Box<str>> {
        self.extra.as_mut()?.id.take()
    }

    /// Returns the bytes of the message. A receipt is dropped.
    pub fn into_body(self) -> Bytes {
        self.body
    }
}

impl Extra {
    fn new(peer: Peer) -> Self {
        Self {
            peer,
            receipt: None,
            id: None,
        }
    }
}

impl Clone for Extra {
    fn clone(&self) -> Self {
        Self::new(self.peer.clone())
    }
}

impl PartialEq for Message {
    fn eq(&self, other: &Self) -> bool {
        self.body == other.body && self.priority == other.priority && self.peer() == other.peer()
    }
}

impl Eq for Message {}

impl From<Bytes> for Message {
    fn from(body: Bytes) -> Self {
        Self::new(body)
    }
}

impl From<&'static str> for Message {
    fn from(body: &'static str) -> Self {
        Self::new(body)
    }
}
