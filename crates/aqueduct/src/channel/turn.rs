use std::task::{Context, Poll, ready};

use tokio::task::coop;

/// Counts items against the task's cooperative budget, as Tokio's channels do.
///
/// A transport counts its reads and writes, of which each can move thousands of small items: a task that
/// handles them would not let others run before it had handled half a million. So some items count too.
#[derive(Debug, Default)]
pub(super) struct Turn {
    uncounted: u8,
}

/// Every eighth item counts: in one turn, a task moves a thousand of them at most.
const COUNTED: u8 = 8;

impl Turn {
    /// Pending where the task has had its turn; it is woken for the next one.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.uncounted >= COUNTED {
            ready!(coop::poll_proceed(cx)).made_progress();
            self.uncounted = 0;
        }
        Poll::Ready(())
    }

    /// Whether a new round of items begins.
    pub(super) fn is_counted(&self) -> bool {
        self.uncounted == 0
    }

    /// Takes note of one item.
    pub(super) fn moved(&mut self) {
        self.uncounted = self.uncounted.saturating_add(1);
    }
}
