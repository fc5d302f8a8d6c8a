//! [`Message`]: what a queue holds.

use bytes::Bytes;

/// The urgency of a message: higher ones are received first, equal ones in the order they were
/// sent.
///
/// From 0 to [`MAX_PRIORITY`].
pub type Priority = u32;

/// The highest priority Linux takes: one less than `MQ_PRIO_MAX`, 32,768
/// ([`mq_overview(7)`](https://man7.org/linux/man-pages/man7/mq_overview.7.html)).
pub const MAX_PRIORITY: Priority = 32_767;

/// One message as it was received.
///
/// An empty body is a message like any other, not an end of stream: a queue has none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Message {
    /// The priority it was sent with.
    pub priority: Priority,
    /// The bytes, exactly as they were sent.
    pub body: Bytes,
}

impl Message {
    /// A message with this priority and body.
    pub fn new(priority: Priority, body: impl Into<Bytes>) -> Self {
        let body = body.into();
        Self { priority, body }
    }
}
