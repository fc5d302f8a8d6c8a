//! [`Retry`]: pauses that grow between attempts, up to a deadline.

use std::future::Future;
use std::time::Duration;

use tokio::time::{Instant, sleep_until, timeout_at};

/// Time for a series of attempts: when it ends, and how long to pause before the next one.
#[derive(Debug)]
pub(crate) struct Retry {
    start: Instant,
    deadline: Option<Instant>,
    pause: Duration,
    longest: Duration,
}

impl Retry {
    /// Attempts until `limit` is over (for ever with none), pausing `first`, then twice as long
    /// each time, never longer than `longest`.
    pub(crate) fn new(limit: Option<Duration>, first: Duration, longest: Duration) -> Self {
        let start = Instant::now();
        Self {
            start,
            // A time beyond what the clock can count is for ever.
            deadline: limit.and_then(|limit| start.checked_add(limit)),
            pause: first,
            longest,
        }
    }

    /// How long it has been.
    pub(crate) fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    /// Pauses before the next attempt; `false` when the time is up.
    pub(crate) async fn pause(&mut self) -> bool {
        let now = Instant::now();
        let wake = now + self.pause;
        self.pause = self.pause.saturating_mul(2).min(self.longest);
        match self.deadline {
            Some(deadline) if now >= deadline => false,
            // One last attempt right at the deadline.
            Some(deadline) => {
                sleep_until(wake.min(deadline)).await;
                true
            }
            None => {
                sleep_until(wake).await;
                true
            }
        }
    }

    /// Runs `attempt` for at most a fair share of what is left, with `others` still to come after
    /// it; `None` when that is over.
    pub(crate) async fn share<F: Future>(&self, others: usize, attempt: F) -> Option<F::Output> {
        let Some(deadline) = self.deadline else {
            return Some(attempt.await);
        };
        let now = Instant::now();
        let parts = u32::try_from(others).unwrap_or(u32::MAX).saturating_add(1);
        let share = deadline.saturating_duration_since(now) / parts;
        timeout_at(now + share, attempt).await.ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn pauses_double_up_to_the_longest_and_stop_at_the_deadline() {
        let ms = Duration::from_millis;
        let mut retry = Retry::new(Some(ms(100)), ms(10), ms(40));
        let mut at = Vec::new();
        while retry.pause().await {
            at.push(retry.elapsed().as_millis());
        }
        assert_eq!(at, [10, 30, 70, 100]);
    }

    #[tokio::test(start_paused = true)]
    async fn one_attempt_that_hangs_leaves_time_for_the_others() {
        let retry = Retry::new(Some(Duration::from_secs(9)), Duration::ZERO, Duration::ZERO);
        let hang = std::future::pending::<()>();
        assert!(retry.share(2, hang).await.is_none());
        assert_eq!(retry.elapsed().as_secs(), 3);
        assert_eq!(retry.share(1, async { 7 }).await, Some(7));
    }
}
