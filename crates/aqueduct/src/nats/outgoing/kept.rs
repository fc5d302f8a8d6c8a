//! [`Kept`]: a message that is not acknowledged, and [`Ids`] for those that have none.

use bytes::Bytes;

use crate::connect::Receipt;
use crate::io::backoff::random_name;

/// The ids of messages that have none: a random prefix, and a number.
pub(super) struct Ids {
    prefix: String,
    next: u64,
}

/// The longest id: `created:stream:sequence` of a stream may be longer than ours.
pub(super) const LONGEST_ID: usize = 320;

impl Ids {
    pub(super) fn new() -> Self {
        let prefix = random_name();
        Self { prefix, next: 0 }
    }

    pub(super) fn next(&mut self) -> Box<str> {
        self.next += 1;
        format!("{}:{}", self.prefix, self.next).into()
    }
}

/// A message that is not acknowledged.
pub(super) struct Kept {
    pub(super) number: u64,
    pub(super) id: Option<Box<str>>,
    pub(super) body: Bytes,
    pub(super) receipt: Option<Receipt>,
    pub(super) state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Sent,
    Stored,
    /// There was no room for it.
    Refused,
}
