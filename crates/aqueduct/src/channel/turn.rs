use std::task::{Context, Poll, ready};

use tokio::task::coop;

/// Counts items against the task's cooperative budget, as Tokio's channels do.
///
/// A transport counts its reads and writes, but each can move thousands of small items. A task
/// could handle half a million of them before others run. So some items count too.
#[derive(Debug, Default)]
pub(super) struct Turn {
    /// Items until one counts.
    left: u8,
}

/// Every eighth item counts: in one turn, a task moves at most a thousand of them.
const COUNTED: u8 = 8;

impl Turn {
    /// Pending if the task has had its turn; it is woken for the next one.
    #[inline]
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.is_due() {
            return self.poll_counted(cx);
        }
        Poll::Ready(())
    }

    /// Whether the next item counts.
    #[inline]
    pub(super) fn is_due(&self) -> bool {
        self.left == 0
    }

    #[inline(never)]
    fn poll_counted(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        ready!(coop::poll_proceed(cx)).made_progress();
        self.left = COUNTED;
        Poll::Ready(())
    }

    /// Counts one item.
    #[inline]
    pub(super) fn moved(&mut self) {
        self.left = self.left.saturating_sub(1);
    }
}
