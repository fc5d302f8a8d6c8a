//! [`Conduct`]: what a service observes of its client.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::connect::timeouts::TimedOut;

/// The observations of the streams and sinks of one connection.
#[derive(Clone, Debug, Default)]
pub(super) struct Conduct {
    seen: Arc<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    receiving: AtomicBool,
    timed_out: AtomicBool,
}

impl Conduct {
    /// Whether an unfinished message has begun.
    pub(super) fn is_receiving(&self) -> bool {
        self.seen.receiving.load(Ordering::Relaxed)
    }

    pub(super) fn set_receiving(&self, receiving: bool) {
        self.seen.receiving.store(receiving, Ordering::Relaxed);
    }

    /// Whether a limit was exceeded.
    pub(super) fn is_timed_out(&self) -> bool {
        self.seen.timed_out.load(Ordering::Relaxed)
    }

    pub(super) fn set_timed_out(&self, error: &io::Error) {
        if let Some(timed_out) = TimedOut::of(error) {
            tracing::debug!(limit = ?timed_out.limit, after = ?timed_out.after, "the peer is too slow");
            self.seen.timed_out.store(true, Ordering::Relaxed);
        }
    }
}
