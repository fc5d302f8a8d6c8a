use bytes::Bytes;

/// One message, and what its mechanism tells of it.
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
}

impl Message {
    /// A message with this body, and nothing else said of it.
    pub fn new(body: impl Into<Bytes>) -> Self {
        Self {
            body: body.into(),
            priority: None,
        }
    }

    /// Sets the priority. Only queues have one; everywhere else it is ignored.
    #[must_use]
    pub fn with_priority(mut self, priority: u32) -> Self {
        self.priority = Some(priority);
        self
    }

    /// The bytes of the message.
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// The priority: of a received message, if it comes from a queue.
    pub fn priority(&self) -> Option<u32> {
        self.priority
    }

    /// The bytes of the message.
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
