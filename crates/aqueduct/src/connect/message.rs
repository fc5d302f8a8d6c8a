use bytes::Bytes;

use super::peer::Peer;

/// One message: its body, and what its mechanism adds.
///
/// # Examples
///
/// ```
/// use aqueduct::connect::Message;
///
/// let urgent = Message::new("now").with_priority(9);
/// assert_eq!((urgent.body(), urgent.priority()), (&"now".into(), Some(9)));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    body: Bytes,
    priority: Option<u32>,
    // Boxed, because few messages have one.
    peer: Option<Box<Peer>>,
}

impl Message {
    /// Creates a message with this body and no priority.
    pub fn new(body: impl Into<Bytes>) -> Self {
        Self {
            body: body.into(),
            priority: None,
            peer: None,
        }
    }

    /// Sets the priority, which only queues use.
    #[must_use]
    pub fn with_priority(mut self, priority: u32) -> Self {
        self.priority = Some(priority);
        self
    }

    pub(super) fn with_peer(mut self, peer: Peer) -> Self {
        self.peer = (peer != Peer::Unknown).then(|| Box::new(peer));
        self
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
        self.peer.as_deref()
    }

    /// Returns the bytes of the message.
    pub fn into_body(self) -> Bytes {
        self.body
    }
}

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
