//! [`Backoff`]: growing pauses with jitter; [`Retry`]: attempts with such pauses up to a deadline.

use std::future::Future;
use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use tokio::time::Instant;

use super::timer::{sleep_until, timeout};

/// A name that no other process has, nor a later one of this program: 32 digits.
pub(crate) fn random_name() -> String {
    // The keys are random for each thread, and the keys of each differ.
    let random = || RandomState::new().hash_one(std::process::id());
    format!("{:016x}{:016x}", random(), random())
}

/// Pauses between attempts: each twice as long as the one before, up to the longest, and each
/// shortened at random by up to a half, so that clients of one server do not return all at once.
#[derive(Clone, Debug)]
pub(crate) struct Backoff {
    first: Duration,
    longest: Duration,
    next: Duration,
}

impl Backoff {
    pub(crate) const fn new(first: Duration, longest: Duration) -> Self {
        Self {
            first,
            longest,
            next: first,
        }
    }

    /// Returns the next pause.
    pub(crate) fn pause(&mut self) -> Duration {
        let pause = self.next.min(self.longest);
        self.next = pause.saturating_mul(2);
        // The keys are random for each thread and differ from one call to the next.
        let random = RandomState::new().hash_one(()) >> 32;
        let random = u32::try_from(random).unwrap_or(0);
        pause.mul_f64(1.0 - f64::from(random) / f64::from(u32::MAX) / 2.0)
    }

    /// Starts again with the first pause.
    pub(crate) fn reset(&mut self) {
        self.next = self.first;
    }
}

/// The time limit of a series of attempts, and the pauses between them.
#[derive(Debug)]
pub(crate) struct Retry {
    start: Instant,
    deadline: Option<Instant>,
    backoff: Backoff,
}

impl Retry {
    /// Attempts until `limit` is over; without a limit for ever.
    pub(crate) fn new(limit: Option<Duration>, backoff: Backoff) -> Self {
        let start = Instant::now();
        Self {
            start,
            // A time beyond the range of the clock never ends.
            deadline: limit.and_then(|limit| start.checked_add(limit)),
            backoff,
        }
    }

    /// The time since the first attempt.
    pub(crate) fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    /// The time until the deadline.
    #[cfg(feature = "nats")]
    pub(crate) fn left(&self) -> Option<Duration> {
        let deadline = self.deadline?;
        Some(deadline.saturating_duration_since(Instant::now()))
    }

    /// Pauses before the next attempt; `false` when the time is up.
    pub(crate) async fn pause(&mut self) -> bool {
        let now = Instant::now();
        let wake = now + self.backoff.pause();
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

    /// Runs `attempt` for at most a fair share of the remaining time, with `others` still to
    /// follow; `None` when that share is over.
    pub(crate) async fn share<F: Future>(&self, others: usize, attempt: F) -> Option<F::Output> {
        let Some(deadline) = self.deadline else {
            return Some(attempt.await);
        };
        let now = Instant::now();
        let parts = u32::try_from(others).unwrap_or(u32::MAX).saturating_add(1);
        let share = deadline.saturating_duration_since(now) / parts;
        timeout(share, attempt).await.ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn pauses_double_less_jitter_and_restart_after_reset() {
        let mut backoff = Backoff::new(ms(10), ms(45));
        for _ in 0..2 {
            for most in [10, 20, 40, 45, 45].map(ms) {
                let pause = backoff.pause();
                assert!((most / 2..=most).contains(&pause), "{pause:?} of {most:?}");
            }
            backoff.reset();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_last_attempt_is_right_at_the_deadline() {
        let mut retry = Retry::new(Some(ms(100)), Backoff::new(ms(10), ms(40)));
        let mut last = 0;
        while retry.pause().await {
            last = retry.elapsed().as_millis();
        }
        assert_eq!(last, 100);
    }

    #[tokio::test(start_paused = true)]
    async fn an_attempt_that_hangs_leaves_time_for_the_others() {
        let retry = Retry::new(Some(ms(9000)), Backoff::new(ms(0), ms(0)));
        let hang = std::future::pending::<()>();
        assert!(retry.share(2, hang).await.is_none());
        assert_eq!(retry.elapsed().as_secs(), 3);
        assert_eq!(retry.share(1, async { 7 }).await, Some(7));
    }
}
