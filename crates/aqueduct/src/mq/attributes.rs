//! [`Attributes`]: what a queue can hold, and does.

use std::fmt;

/// A queue's attributes, as `mq_getattr(3)` gives them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Attributes {
    /// How many messages it holds before senders wait.
    pub capacity: usize,
    /// The size of its largest message.
    pub max_message: usize,
    /// How many messages are in it now.
    pub messages: usize,
}

impl From<posixmq::Attributes> for Attributes {
    fn from(from: posixmq::Attributes) -> Self {
        Self {
            capacity: from.capacity,
            max_message: from.max_msg_len,
            messages: from.current_messages,
        }
    }
}

/// An existing queue's attributes are not what was asked for when it was opened.
///
/// Linux ignores the attributes asked for where the queue exists already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct AttributeMismatch {
    /// The capacity asked for, if any was.
    pub asked_capacity: Option<usize>,
    /// The size of the largest message asked for, if any was.
    pub asked_max_message: Option<usize>,
    /// The queue's capacity.
    pub capacity: usize,
    /// The queue's largest message.
    pub max_message: usize,
}

impl fmt::Display for AttributeMismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            capacity,
            max_message,
            ..
        } = self;
        write!(
            f,
            "holds {capacity} messages of up to {max_message} bytes, not"
        )?;
        if let Some(asked) = self.asked_capacity {
            write!(f, " {asked} messages")?;
        }
        if let Some(asked) = self.asked_max_message {
            write!(f, " of up to {asked} bytes")?;
        }
        Ok(())
    }
}
