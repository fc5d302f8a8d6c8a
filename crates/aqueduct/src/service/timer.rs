use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::Instant;

use super::{Limit, TimedOut};
use crate::io::timer::{Sleep, sleep_until};

/// One limit at a time, on one timer for the life of a stream.
///
/// Starting or stopping a limit only records a time. The timer stays as it is, and is moved if it
/// fires too early. So a message costs a look at the clock and no timer.
#[derive(Debug, Default)]
pub(super) struct Timer {
    running: Option<Running>,
    sleep: Option<Pin<Box<Sleep>>>,
}

#[derive(Debug)]
struct Running {
    limit: Limit,
    /// Without one the limit never ends.
    end: Option<(Instant, Duration)>,
}

impl Timer {
    /// Starts `limit`, unless it is running already.
    pub(super) fn run(&mut self, limit: Limit, after: Option<Duration>) {
        if self.limit() == Some(limit) {
            return;
        }
        // A time beyond the range of the clock never ends.
        let end = after.and_then(|after| Some((Instant::now().checked_add(after)?, after)));
        self.running = Some(Running { limit, end });
    }

    /// Stops the running limit.
    pub(super) fn stop(&mut self) {
        self.running = None;
    }

    /// The running limit.
    pub(super) fn limit(&self) -> Option<Limit> {
        self.running.as_ref().map(|running| running.limit)
    }

    /// Ready when the running limit is over.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        let Some(Running {
            limit,
            end: Some((end, after)),
        }) = self.running
        else {
            return Poll::Pending;
        };
        let sleep = match &mut self.sleep {
            Some(sleep) => sleep,
            None => {
                if let Err(e) = Handle::try_current() {
                    return Poll::Ready(io::Error::other(e));
                }
                self.sleep.insert(Box::pin(sleep_until(end)))
            }
        };
        if sleep.deadline() > end {
            sleep.as_mut().reset(end);
        }
        loop {
            ready!(sleep.as_mut().poll(cx));
            if sleep.deadline() >= end {
                self.running = None;
                return Poll::Ready(TimedOut::new(limit, after).into());
            }
            sleep.as_mut().reset(end);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[tokio::test(start_paused = true)]
    async fn a_limit_ends_on_time_after_longer_and_shorter_ones() {
        let mut timer = Timer::default();
        for (first, then) in [(100, 10), (10, 100)] {
            timer.run(Limit::Idle, Some(first * MS));
            let pending = tokio_test::task::spawn(poll_fn(|cx| timer.poll(cx))).poll();
            assert!(pending.is_pending());
            timer.stop();
            timer.run(Limit::Message, Some(then * MS));
            let start = Instant::now();
            let error = poll_fn(|cx| timer.poll(cx)).await;
            assert_eq!(start.elapsed(), then * MS);
            let expected = TimedOut::new(Limit::Message, then * MS);
            assert_eq!(TimedOut::of(&error), Some(&expected));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn running_the_same_limit_again_does_not_extend_it() {
        let mut timer = Timer::default();
        let start = Instant::now();
        timer.run(Limit::Idle, Some(10 * MS));
        tokio::time::advance(6 * MS).await;
        timer.run(Limit::Idle, Some(10 * MS));
        poll_fn(|cx| timer.poll(cx)).await;
        assert_eq!(start.elapsed(), 10 * MS);
    }

    #[test]
    fn outside_a_runtime_it_is_an_error_and_no_panic() {
        let mut timer = Timer::default();
        timer.run(Limit::Idle, Some(MS));
        let error =
            tokio_test::assert_ready!(tokio_test::task::spawn(poll_fn(|cx| timer.poll(cx))).poll());
        assert!(TimedOut::of(&error).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn no_limit_and_an_endless_one_never_end() {
        for after in [None, Some(Duration::MAX)] {
            let mut timer = Timer::default();
            timer.run(Limit::Idle, after);
            let mut waiting = tokio_test::task::spawn(poll_fn(|cx| timer.poll(cx)));
            assert!(waiting.poll().is_pending());
            tokio::time::advance(Duration::from_secs(1 << 30)).await;
            assert!(waiting.poll().is_pending());
        }
    }
}
