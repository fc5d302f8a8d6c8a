use std::io;
use std::time::Duration;

use thiserror::Error;

/// How long a peer may take until its first message begins, unless said otherwise: 10 s.
pub const DEFAULT_FIRST: Duration = Duration::from_secs(10);

/// How long a peer may take for a message that it has begun, unless said otherwise: 30 s.
pub const DEFAULT_MESSAGE: Duration = Duration::from_secs(30);

/// How long a peer may be silent between two messages, unless said otherwise: 5 minutes.
pub const DEFAULT_IDLE: Duration = Duration::from_secs(300);

/// How long a peer may take to accept what is sent to it, unless said otherwise: 30 s.
pub const DEFAULT_SEND: Duration = Duration::from_secs(30);

/// How long a peer may take, each limit on its own; `None` is for ever.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use aqueduct::serve::Timeouts;
///
/// // A service whose clients stay for days.
/// let timeouts = Timeouts::new().idle(None).message(Duration::from_secs(5));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "it does nothing until given to options or to a stream"]
pub struct Timeouts {
    first: Option<Duration>,
    message: Option<Duration>,
    idle: Option<Duration>,
    send: Option<Duration>,
}

impl Timeouts {
    /// The defaults: [`DEFAULT_FIRST`], [`DEFAULT_MESSAGE`], [`DEFAULT_IDLE`], [`DEFAULT_SEND`].
    pub fn new() -> Self {
        Self {
            first: Some(DEFAULT_FIRST),
            message: Some(DEFAULT_MESSAGE),
            idle: Some(DEFAULT_IDLE),
            send: Some(DEFAULT_SEND),
        }
    }

    /// No limits: for peers that are trusted.
    pub fn none() -> Self {
        Self {
            first: None,
            message: None,
            idle: None,
            send: None,
        }
    }

    /// Sets the time until the first message begins (on a message transport: is there).
    pub fn first(mut self, limit: impl Into<Option<Duration>>) -> Self {
        self.first = limit.into();
        self
    }

    /// Sets the time from the first byte of a message to its last. Message transports have none.
    pub fn message(mut self, limit: impl Into<Option<Duration>>) -> Self {
        self.message = limit.into();
        self
    }

    /// Sets the time from one message to the beginning of the next.
    pub fn idle(mut self, limit: impl Into<Option<Duration>>) -> Self {
        self.idle = limit.into();
        self
    }

    /// Sets the time that one wait for the peer to take data may last: of one flush, or of one send
    /// into a full buffer.
    pub fn send(mut self, limit: impl Into<Option<Duration>>) -> Self {
        self.send = limit.into();
        self
    }

    /// The time allowed by one of the limits.
    pub fn get(&self, limit: Limit) -> Option<Duration> {
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
        Self::new()
    }
}

/// One of the limits of [`Timeouts`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Limit {
    /// No message came at all.
    First,
    /// A message began and did not become whole.
    Message,
    /// No further message came.
    Idle,
    /// What was sent was not taken.
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

/// A peer took longer than a limit allows.
///
/// It travels inside an [`io::Error`] of kind [`TimedOut`](io::ErrorKind::TimedOut);
/// [`TimedOut::of`] finds it there.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("the peer {} within {after:?}: it hangs, or the limit is too short for it", limit.what())]
#[non_exhaustive]
pub struct TimedOut {
    /// Which limit.
    pub limit: Limit,
    /// Its value.
    pub after: Duration,
}

impl TimedOut {
    pub(super) fn new(limit: Limit, after: Duration) -> Self {
        Self { limit, after }
    }

    /// The limit that was exceeded, if that is what this error is about.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use aqueduct::frame::{FramedRead, Framing};
    /// use aqueduct::serve::{Limit, TimedOut, TimedStream, Timeouts};
    /// use futures_util::StreamExt;
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> std::io::Result<()> {
    /// let (_silent, io) = tokio::io::duplex(64);
    /// let frames = FramedRead::new(io, Framing::length());
    /// let timeouts = Timeouts::new().first(Duration::from_millis(1));
    /// let mut frames = TimedStream::framed(frames, timeouts);
    /// if let Some(Err(error)) = frames.next().await {
    ///     assert_eq!(TimedOut::of(&error).map(|it| it.limit), Some(Limit::First));
    /// }
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
