use std::io;
use std::time::Duration;

use thiserror::Error;

/// The times that a peer may take before it is given up; `None` is no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Timeouts {
    pub(super) first: Option<Duration>,
    pub(super) message: Option<Duration>,
    pub(super) idle: Option<Duration>,
    pub(super) send: Option<Duration>,
}

impl Timeouts {
    /// Without any limit.
    #[cfg(test)]
    pub(super) fn none() -> Self {
        Self {
            first: None,
            message: None,
            idle: None,
            send: None,
        }
    }

    pub(super) fn get(&self, limit: Limit) -> Option<Duration> {
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

/// A time limit of a service; see the [module](super#limits).
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
    pub(super) fn new(limit: Limit, after: Duration) -> Self {
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
