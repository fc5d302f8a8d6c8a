//! [`Backlog`]: what was delivered before and not settled. It comes before newer messages.

use std::collections::BTreeMap;
use std::future::pending;
use std::time::Duration;

use tokio::time::Instant;

use crate::connect::Message;
use crate::io::timer::sleep_until;

/// How much longer than `ack-wait` the server may take to deliver them again.
const SLACK: Duration = Duration::from_secs(2);

/// Messages that the server has delivered to a connection or process that is gone, in the order of the
/// stream. The server delivers them again only once `ack-wait` has passed, and newer ones meanwhile:
/// these are kept back.
#[derive(Default)]
pub(super) struct Backlog {
    /// The last that was delivered before.
    last: u64,
    /// How many are still to come.
    missing: usize,
    /// Whether the last message that came was one of them: the server delivers them now.
    flows: bool,
    /// When they are waited for no longer.
    until: Option<Instant>,
    kept: BTreeMap<u64, Message>,
}

impl Backlog {
    /// Waits for `count` messages up to number `last`.
    pub(super) fn expect(&mut self, last: u64, count: usize, ack_wait: Duration) {
        (self.last, self.missing, self.flows) = (last, count, false);
        self.until = (count > 0).then(|| Instant::now() + ack_wait + SLACK);
    }

    /// How many messages to ask for while some are missing. Until the server delivers them, a request gets
    /// newer messages, which have to be kept: so it is for one.
    pub(super) fn wanted(&self) -> usize {
        match self.flows {
            true => self.missing,
            false => self.missing.min(1),
        }
    }

    pub(super) fn ask_for_one(&mut self) {
        self.flows = false;
    }

    pub(super) fn is_awaited(&self) -> bool {
        self.missing > 0
    }

    /// A message has come: whether it was one of those is known by its number.
    pub(super) fn came(&mut self, sequence: u64) {
        self.flows = sequence <= self.last;
        if self.flows {
            self.missing = self.missing.saturating_sub(1);
        }
    }

    /// Completes once the rest is waited for no longer.
    pub(super) async fn too_late(&self) {
        match self.until {
            Some(until) if self.missing > 0 => sleep_until(until).await,
            _ => pending().await,
        }
    }

    /// The rest does not come: another process works on it, or it was deleted.
    pub(super) fn give_up(&mut self) {
        self.missing = 0;
    }

    pub(super) fn keep(&mut self, sequence: u64, message: Message) {
        self.kept.insert(sequence, message);
    }

    /// Whether a message is kept that can be passed on.
    pub(super) fn is_ready(&self) -> bool {
        self.missing == 0 && !self.kept.is_empty()
    }

    /// Takes the first of them.
    pub(super) fn pop(&mut self) -> Option<(u64, Message)> {
        self.kept.pop_first()
    }
}
