//! [`Timeouts`]: the time limits of a peer; [`Timer`]: whether one is exceeded.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use thiserror::Error;
use tokio::time::Instant;

use crate::io::timer::{Sleep, sleep_until};

/// The times that a peer may take before it is given up; `None` is no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Timeouts {
    pub(crate) first: Option<Duration>,
    pub(crate) message: Option<Duration>,
    pub(crate) idle: Option<Duration>,
    pub(crate) send: Option<Duration>,
}

impl Timeouts {
    /// Without any limit.
    pub(crate) const NONE: Self = Self {
        first: None,
        message: None,
        idle: None,
        send: None,
    };

    pub(crate) fn get(&self, limit: Limit) -> Option<Duration> {
        match limit {
            Limit::First => self.first,
            Limit::Message => self.message,
            Limit::Idle => self.idle,
            Limit::Send => self.send,
        }
    }
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            first: Some(Duration::from_secs(10)),
            message: Some(Duration::from_secs(30)),
            idle: Some(Duration::from_secs(300)),
            send: Some(Duration::from_secs(30)),
        }
    }
}

/// A time limit of a service; see [its module](crate::service#limits).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Limit {
    /// No message arrived at all.
    First,
    /// A message began and was not finished.
    Message,
    /// No further message arrived.
    Idle,
    /// Sent data was not taken.
    Send,
}

impl Limit {
    fn what(self) -> &'static str {
        match self {
            Self::First => "sent no first message",
            Self::Message => "did not finish a message it had begun",
            Self::Idle => "sent no further message",
            Self::Send => "did not take what was sent to it",
        }
    }
}

/// The error of a peer that exceeds a time limit.
///
/// It is inside an [`io::Error`] of kind [`TimedOut`](io::ErrorKind::TimedOut); [`TimedOut::of`]
/// finds it there.
///
/// # Examples
///
/// See [`TimedOut::of`].
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("the peer {} within {after:?}: it hangs, or the limit is too short for it", limit.what())]
#[non_exhaustive]
pub struct TimedOut {
    /// The limit that was exceeded.
    pub limit: Limit,
    /// Its value.
    pub after: Duration,
}

impl TimedOut {
    pub(crate) fn new(limit: Limit, after: Duration) -> Self {
        Self { limit, after }
    }

    /// Finds this error inside an [`io::Error`].
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use aqueduct::codec::Text;
    /// use aqueduct::connect::Connection;
    /// use aqueduct::service::{CancellationToken, Context, Limit, Options, TimedOut};
    /// use aqueduct::frame::Framing;
    /// use futures_util::stream;
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (_silent, io) = tokio::net::UnixStream::pair()?;
    /// let one = stream::iter([Ok(Connection::from_io(io, Framing::lines()))]);
    /// let handler = |connection: Connection, cx: Context| async move {
    ///     let mut client = cx.channel::<String, String>(connection, Text);
    ///     match client.recv().await {
    ///         Some(Err(aqueduct::Error::Io(error))) => {
    ///             assert_eq!(TimedOut::of(&error).map(|it| it.limit), Some(Limit::First));
    ///             Ok::<(), aqueduct::Error>(())
    ///         }
    ///         other => panic!("{other:?}"),
    ///     }
    /// };
    /// let mut options = Options::new();
    /// options.first_timeout(Duration::from_millis(1));
    /// let stats = options.serve(one, CancellationToken::new(), handler).await?;
    /// assert_eq!(stats.timed_out, 1);
    /// # Ok(()) }
    /// ```
    pub fn of(error: &io::Error) -> Option<&Self> {
        error.get_ref()?.downcast_ref()
    }
}

impl From<TimedOut> for io::Error {
    fn from(error: TimedOut) -> Self {
        Self::new(io::ErrorKind::TimedOut, error)
    }
}

/// One limit at a time, on one timer for the life of a stream.
///
/// Starting or stopping a limit only records a time. The timer stays as it is, and is moved if it
/// fires too early. So a message costs a look at the clock and no timer.
#[derive(Debug, Default)]
pub(crate) struct Timer {
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
    /// Starts `limit`, unless it is running already. `away` is how long the peer's time has stood still
    /// in all.
    pub(crate) fn run(&mut self, limit: Limit, after: Option<Duration>, away: Duration) {
        if self.limit() == Some(limit) {
            return;
        }
        let start = || Instant::now().checked_sub(away);
        // A time beyond the range of the clock never ends.
        let end = after.and_then(|after| Some((start()?.checked_add(after)?, after)));
        self.running = Some(Running { limit, end });
    }

    /// Stops the running limit.
    pub(crate) fn stop(&mut self) {
        self.running = None;
    }

    /// The running limit.
    pub(crate) fn limit(&self) -> Option<Limit> {
        self.running.as_ref().map(|running| running.limit)
    }

    /// Ready when the running limit is over. `away` is as for [`run`](Self::run).
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>, away: Duration) -> Poll<io::Error> {
        let Some(Running {
            limit,
            end: Some((end, after)),
        }) = self.running
        else {
            return Poll::Pending;
        };
        let end = end + away;
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(sleep_until(end)));
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
            timer.run(Limit::Idle, Some(first * MS), Duration::ZERO);
            let pending =
                tokio_test::task::spawn(poll_fn(|cx| timer.poll(cx, Duration::ZERO))).poll();
            assert!(pending.is_pending());
            timer.stop();
            timer.run(Limit::Message, Some(then * MS), Duration::ZERO);
            let start = Instant::now();
            let error = poll_fn(|cx| timer.poll(cx, Duration::ZERO)).await;
            assert_eq!(start.elapsed(), then * MS);
            let expected = TimedOut::new(Limit::Message, then * MS);
            assert_eq!(TimedOut::of(&error), Some(&expected));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn running_the_same_limit_again_does_not_extend_it() {
        let mut timer = Timer::default();
        let start = Instant::now();
        timer.run(Limit::Idle, Some(10 * MS), Duration::ZERO);
        tokio::time::advance(6 * MS).await;
        timer.run(Limit::Idle, Some(10 * MS), Duration::ZERO);
        poll_fn(|cx| timer.poll(cx, Duration::ZERO)).await;
        assert_eq!(start.elapsed(), 10 * MS);
    }

    #[test]
    fn a_limit_needs_no_runtime() {
        let mut timer = Timer::default();
        timer.run(Limit::Idle, Some(Duration::ZERO), Duration::ZERO);
        let over = poll_fn(|cx| timer.poll(cx, Duration::ZERO));
        let error = tokio_test::assert_ready!(tokio_test::task::spawn(over).poll());
        assert!(TimedOut::of(&error).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn time_away_is_not_the_peers() {
        let mut timer = Timer::default();
        let start = Instant::now();
        timer.run(Limit::Idle, Some(10 * MS), Duration::ZERO);
        tokio::time::advance(8 * MS).await;
        poll_fn(|cx| timer.poll(cx, 7 * MS)).await;
        assert_eq!(start.elapsed(), 17 * MS);
        timer.run(Limit::Idle, Some(10 * MS), 7 * MS);
        poll_fn(|cx| timer.poll(cx, 7 * MS)).await;
        assert_eq!(start.elapsed(), 27 * MS);
    }

    #[tokio::test(start_paused = true)]
    async fn no_limit_and_an_endless_one_never_end() {
        for after in [None, Some(Duration::MAX)] {
            let mut timer = Timer::default();
            timer.run(Limit::Idle, after, Duration::ZERO);
            let mut waiting = tokio_test::task::spawn(poll_fn(|cx| timer.poll(cx, Duration::ZERO)));
            assert!(waiting.poll().is_pending());
            tokio::time::advance(Duration::from_secs(1 << 30)).await;
            assert!(waiting.poll().is_pending());
        }
    }
}
