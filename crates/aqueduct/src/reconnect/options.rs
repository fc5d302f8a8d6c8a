use std::fmt;
use std::future::Future;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::time::Duration;

use bytes::Bytes;
use futures_core::Stream;
use futures_sink::Sink;

use super::shared::{Connector, Ends};
use super::{Event, Reconnect, half};
use crate::handshake;

/// The first pause before another attempt, unless said otherwise: 100 ms.
pub const DEFAULT_FIRST_PAUSE: Duration = Duration::from_millis(100);

/// The longest pause between two attempts, unless said otherwise: 10 s.
pub const DEFAULT_LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// How long one attempt may take, unless said otherwise: 10 s.
pub const DEFAULT_ATTEMPT_TIMEOUT: Duration = Duration::from_secs(10);

type OnEvent = Box<dyn FnMut(&Event) + Send>;
type RetryIf = Box<dyn Fn(&io::Error) -> bool + Send>;

/// How to connect again and again.
///
/// # Examples
///
/// See [`Reconnect`].
#[must_use = "it does nothing until it connects"]
pub struct Options {
    pub(super) first_pause: Duration,
    pub(super) longest_pause: Duration,
    pub(super) attempt_timeout: Duration,
    pub(super) attempts: Option<u32>,
    pub(super) give_up_after: Option<Duration>,
    pub(super) retry_if: RetryIf,
    pub(super) on_event: Option<OnEvent>,
}

impl Options {
    /// The defaults: [`DEFAULT_FIRST_PAUSE`], [`DEFAULT_LONGEST_PAUSE`],
    /// [`DEFAULT_ATTEMPT_TIMEOUT`], and attempts for ever.
    pub fn new() -> Self {
        Self {
            first_pause: DEFAULT_FIRST_PAUSE,
            longest_pause: DEFAULT_LONGEST_PAUSE,
            attempt_timeout: DEFAULT_ATTEMPT_TIMEOUT,
            attempts: None,
            give_up_after: None,
            retry_if: Box::new(may_pass),
            on_event: None,
        }
    }

    /// Sets the first pause, before it is shortened at random.
    pub fn first_pause(mut self, pause: Duration) -> Self {
        self.first_pause = pause;
        self
    }

    /// Sets the longest pause, before it is shortened at random.
    pub fn longest_pause(mut self, pause: Duration) -> Self {
        self.longest_pause = pause;
        self
    }

    /// Sets how long one attempt may take before it counts as failed.
    pub fn attempt_timeout(mut self, limit: Duration) -> Self {
        self.attempt_timeout = limit;
        self
    }

    /// Sets how many attempts in a row may fail before it gives up: at least one, `None` for any
    /// number. A connection that is lost before it has proved itself counts as failed.
    pub fn attempts(mut self, attempts: impl Into<Option<u32>>) -> Self {
        self.attempts = attempts.into();
        self
    }

    /// Sets for how long attempts in a row may fail before it gives up; `None` for ever. The last
    /// one begins when the time is over.
    pub fn give_up_after(mut self, time: impl Into<Option<Duration>>) -> Self {
        self.give_up_after = time.into();
        self
    }

    /// Sets after which errors of an attempt there is another one.
    ///
    /// By default after all but those that no time will cure: of the kinds
    /// [`InvalidInput`](io::ErrorKind::InvalidInput), [`Unsupported`](io::ErrorKind::Unsupported)
    /// and [`PermissionDenied`](io::ErrorKind::PermissionDenied), and a
    /// [`handshake::Error`] that is [final](handshake::Error::is_final).
    pub fn retry_if(mut self, retry: impl Fn(&io::Error) -> bool + Send + 'static) -> Self {
        self.retry_if = Box::new(retry);
        self
    }

    /// Calls `observer` for each [`Event`], in order.
    ///
    /// It is called within a poll and under a lock: it must not wait, nor use this same end. Send
    /// the event on through a channel.
    pub fn on_event(mut self, observer: impl FnMut(&Event) + Send + 'static) -> Self {
        self.on_event = Some(Box::new(observer));
        self
    }

    /// Makes the end. It connects when it is first used.
    ///
    /// `connect` makes one connection each time it is called, as the two halves of the waist. A
    /// [handshake](crate::handshake) belongs in there too.
    pub fn connect<F, A, S, R>(self, mut connect: F) -> Reconnect
    where
        F: FnMut() -> A + Send + 'static,
        A: Future<Output = io::Result<(S, R)>> + Send + 'static,
        S: Sink<Bytes, Error = io::Error> + Send + 'static,
        R: Stream<Item = io::Result<Bytes>> + Send + 'static,
    {
        let connector: Connector = Box::new(move || {
            let attempt = connect();
            Box::pin(async {
                let (sink, stream) = attempt.await?;
                let ends: Ends = (Box::pin(sink), Box::pin(stream));
                Ok(ends)
            })
        });
        let (sink, stream) = half::pair(self, connector);
        Reconnect { sink, stream }
    }

    /// The pause after this many failures in a row, shortened at random by up to a half.
    pub(super) fn pause(&self, failed: u32) -> Duration {
        let doubled = self
            .first_pause
            .saturating_mul(1 << failed.saturating_sub(1).min(20));
        let pause = doubled.min(self.longest_pause);
        // Its keys are random for each thread and differ from one call to the next.
        let random = RandomState::new().hash_one(()) >> 32;
        let random = u32::try_from(random).unwrap_or(0);
        pause.mul_f64(1.0 - f64::from(random) / f64::from(u32::MAX) / 2.0)
    }
}

impl Default for Options {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("first_pause", &self.first_pause)
            .field("longest_pause", &self.longest_pause)
            .field("attempt_timeout", &self.attempt_timeout)
            .field("attempts", &self.attempts)
            .field("give_up_after", &self.give_up_after)
            .finish_non_exhaustive()
    }
}

/// Whether time may cure this error of an attempt.
fn may_pass(error: &io::Error) -> bool {
    let lasting = matches!(
        error.kind(),
        io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported | io::ErrorKind::PermissionDenied
    );
    !lasting && !handshake::Error::of(error).is_some_and(handshake::Error::is_final)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_and_are_shortened_by_half_at_most() {
        let options = Options::new();
        for (failed, most) in [
            (0, 100),
            (1, 100),
            (2, 200),
            (3, 400),
            (8, 10_000),
            (4000, 10_000),
        ] {
            let most = Duration::from_millis(most);
            let pauses: Vec<_> = (0..100).map(|_| options.pause(failed)).collect();
            assert!(pauses.iter().all(|pause| (most / 2..=most).contains(pause)));
            let first = pauses[0];
            assert!(
                pauses.iter().any(|pause| *pause != first),
                "they are random"
            );
        }
    }

    #[test]
    fn a_longest_pause_without_end_does_not_overflow() {
        let options = Options::new()
            .first_pause(Duration::MAX)
            .longest_pause(Duration::MAX);
        assert!(options.pause(u32::MAX) >= Duration::MAX / 4);
    }

    #[test]
    fn errors_that_last_are_told_from_those_that_pass() {
        assert!(may_pass(&io::Error::from_raw_os_error(libc::ECONNREFUSED)));
        assert!(may_pass(&io::Error::from_raw_os_error(libc::ENOENT)));
        assert!(!may_pass(&io::Error::from_raw_os_error(libc::EACCES)));
        let mismatch = handshake::Error::Mismatch {
            what: handshake::What::Codec,
            ours: "json".into(),
            theirs: "postcard".into(),
        };
        assert!(!may_pass(&mismatch.into()));
        assert!(may_pass(&handshake::Error::Closed.into()));
    }
}
