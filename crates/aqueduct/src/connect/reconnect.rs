//! [`Reconnect`]: how a connection is made again, and the events that report it.

use std::fmt::{self, Debug, Display, Formatter};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use crate::io::backoff::Backoff;

type Observer = dyn Fn(&ReconnectEvent) + Send + Sync;

/// Settings for a connection that reconnects when it breaks or ends.
///
/// Pass them to [`Options::reconnect`](super::Options::reconnect) for an address, or pass a
/// function that connects to [`connect`](Self::connect). Either way the result is a
/// [`Connection`](super::Connection) with the usual ends, messages and typed channels.
///
/// # Delivery
///
/// **At most once, whole, in order.**
///
/// - A message that the system has not wholly taken goes to the next connection. Sending waits
///   while there is none, so backpressure reaches the caller.
/// - A message that the system has taken is never sent again. It may be lost if the connection
///   breaks; [`ReconnectEvent::Lost`] reports how many messages are at risk.
///   - **Unix sockets** (send-only): none, unless the peer is killed or closes with messages
///     unread. Then at most the contents of the socket's buffer (`SO_SNDBUF`, 208 KiB by default).
///   - **TCP** (send-only): none if the peer ends its direction, reads on until this side has ended
///     too, and then closes, as [`MessageReceiver::stop`](super::MessageReceiver::stop) does.
///     Otherwise all messages since the connection was made.
///   - A connection **used in both directions**: all messages that it was given. The replies show
///     which ones arrived.
///   - A custom sink ([`Connection::from_frames`](super::Connection::from_frames)) counts as the
///     system: every message that it was given is at risk.
/// - Received messages arrive in order, those of an earlier connection first. A message that had
///   not wholly arrived is lost. If eight connections break before this side receives, messages of
///   the oldest are dropped and [`ReconnectEvent::Unread`] reports it.
///
/// For a stronger guarantee, number the messages and have the peer acknowledge them.
///
/// # Connecting
///
/// A connection that *ends* counts as broken, since a server that closes may come back. To finish,
/// close the sending half: the receiving half then delivers remaining messages and ends.
///
/// Each attempt follows a [pause](Self::pauses). Pauses grow and are partly random, so the clients
/// of a restarting server do not all return at once. Pauses start again from the first one after a
/// connection that has proved itself: a message was received, it lasted for the longest pause, or
/// it took messages of which none is at risk. In the last case the next attempt has no pause,
/// because the peer handed over to another process.
///
/// Attempts continue indefinitely unless [`attempts`](Self::attempts) or
/// [`give_up_after`](Self::give_up_after) limits them, or an error is permanent
/// ([`retry_if`](Self::retry_if)). Then both halves fail with [`GaveUp`] for good. A send-only end
/// fails once, keeps the messages that it has taken, and tries again with the next call.
///
/// No background task runs: connecting progresses while an end is polled, in a Tokio runtime.
///
/// # Examples
///
/// ```
/// use aqueduct::codec::Text;
/// use aqueduct::connect::{Connection, Reconnect};
/// use aqueduct::frame::Framing;
/// use tokio::net::UnixStream;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("socket");
/// # let listener = tokio::net::UnixListener::bind(&path)?;
/// # let server = tokio::spawn(async move {
/// #     for _ in 0..2 {
/// #         let (stream, _) = listener.accept().await?;
/// #         let (mut read, mut write) = stream.into_split();
/// #         let mut buf = [0; 5];
/// #         tokio::io::AsyncReadExt::read_exact(&mut read, &mut buf).await?;
/// #         tokio::io::AsyncWriteExt::write_all(&mut write, &buf).await?;
/// #     }
/// #     std::io::Result::Ok(())
/// # });
/// let connection = Reconnect::new()
///     .on_event(|event| println!("{event}"))
///     .connect(move || {
///         let path = path.clone();
///         async move {
///             let stream = UnixStream::connect(path).await?;
///             Ok(Connection::from_io(stream, Framing::lines()))
///         }
///     });
/// let mut client = connection.channel::<String, String>(Text);
/// client.send("ping".into()).await?;
/// assert_eq!(client.recv().await.transpose()?.as_deref(), Some("ping"));
/// # client.send("ping".into()).await?;
/// # tokio::select! { _ = client.recv() => {}, _ = server => {} }
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
#[must_use = "it does nothing until it connects"]
pub struct Reconnect {
    pub(super) first_pause: Duration,
    pub(super) longest_pause: Duration,
    pub(super) attempt_timeout: Duration,
    pub(super) attempts: Option<u32>,
    pub(super) give_up_after: Option<Duration>,
    retry_if: Arc<dyn Fn(&io::Error) -> bool + Send + Sync>,
    on_event: Option<Arc<Observer>>,
}

impl Reconnect {
    /// Creates the default settings.
    ///
    /// Pauses grow from 50 ms to 2 s, an attempt takes at most 10 s, and the number of attempts is
    /// not limited.
    pub fn new() -> Self {
        Self {
            first_pause: Duration::from_millis(50),
            longest_pause: Duration::from_secs(2),
            attempt_timeout: Duration::from_secs(10),
            attempts: None,
            give_up_after: None,
            retry_if: Arc::new(may_pass),
            on_event: None,
        }
    }

    /// Sets the first and the longest pause.
    ///
    /// Pauses double in between. Each is shortened at random by up to half.
    pub fn pauses(mut self, first: Duration, longest: Duration) -> Self {
        (self.first_pause, self.longest_pause) = (first, longest);
        self
    }

    /// Sets how long one attempt may take before it counts as failed.
    pub fn attempt_timeout(mut self, limit: Duration) -> Self {
        self.attempt_timeout = limit;
        self
    }

    /// Sets how many attempts in a row may fail before it gives up.
    ///
    /// At least one; `None` is no limit. A connection that is lost before it has proved itself
    /// counts as failed.
    pub fn attempts(mut self, attempts: impl Into<Option<u32>>) -> Self {
        self.attempts = attempts.into();
        self
    }

    /// Sets for how long attempts in a row may fail before it gives up.
    ///
    /// `None` is no limit. The last attempt begins when the time is over. For an address the
    /// default is [`Options::wait`](super::Options::wait).
    pub fn give_up_after(mut self, time: impl Into<Option<Duration>>) -> Self {
        self.give_up_after = time.into();
        self
    }

    /// Sets which errors of an attempt are followed by another attempt.
    ///
    /// By default these are all errors except the kinds
    /// [`InvalidInput`](io::ErrorKind::InvalidInput), [`InvalidData`](io::ErrorKind::InvalidData),
    /// [`Unsupported`](io::ErrorKind::Unsupported) and
    /// [`PermissionDenied`](io::ErrorKind::PermissionDenied), which time does not cure. A
    /// [handshake](crate::handshake) mismatch is `InvalidData`.
    pub fn retry_if(mut self, retry: impl Fn(&io::Error) -> bool + Send + Sync + 'static) -> Self {
        self.retry_if = Arc::new(retry);
        self
    }

    /// Calls `observer` for each event, in order.
    ///
    /// The observer runs inside a poll and under a lock: it must not block or use the same
    /// connection. Send the event to another task through a channel.
    pub fn on_event(mut self, observer: impl Fn(&ReconnectEvent) + Send + Sync + 'static) -> Self {
        self.on_event = Some(Arc::new(observer));
        self
    }

    pub(super) fn backoff(&self) -> Backoff {
        Backoff::new(self.first_pause, self.longest_pause)
    }

    pub(super) fn retries(&self, error: &io::Error) -> bool {
        (self.retry_if)(error)
    }

    /// Reports an event to the observer and the log.
    pub(super) fn tell(&self, address: &str, event: &ReconnectEvent) {
        use ReconnectEvent as Event;
        match event {
            Event::Unread | Event::Lost { at_risk: 1.., .. } => {
                tracing::warn!(target: "aqueduct::connect", address, "{event}");
            }
            _ => tracing::debug!(target: "aqueduct::connect", address, "{event}"),
        }
        if let Some(observer) = &self.on_event {
            observer(event);
        }
    }
}

impl Default for Reconnect {
    fn default() -> Self {
        Self::new()
    }
}

impl Debug for Reconnect {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reconnect")
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
    use io::ErrorKind as Kind;
    !matches!(
        error.kind(),
        Kind::InvalidInput | Kind::InvalidData | Kind::Unsupported | Kind::PermissionDenied
    )
}

/// An event of a connection that [reconnects](Reconnect).
///
/// # Examples
///
/// ```
/// use aqueduct::connect::{Reconnect, ReconnectEvent};
///
/// let policy = Reconnect::new().on_event(|event| match event {
///     ReconnectEvent::Lost { at_risk, .. } if *at_risk > 0 => eprintln!("may have lost {at_risk}"),
///     other => eprintln!("{other}"),
/// });
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum ReconnectEvent {
    /// A connection was made.
    #[non_exhaustive]
    Connected {
        /// How many attempts in a row failed before.
        failed: u32,
    },
    /// The connection broke, or the peer ended it
    /// ([`UnexpectedEof`](io::ErrorKind::UnexpectedEof)).
    #[non_exhaustive]
    Lost {
        /// The cause.
        error: Arc<io::Error>,
        /// How many of the messages sent over it may be lost.
        at_risk: u64,
        /// How many messages it did not take; they go to the next connection.
        again: u64,
    },
    /// Messages that had arrived on the oldest connection were dropped.
    ///
    /// Too many connections broke before this side received.
    Unread,
    /// An attempt to connect failed, and another one follows.
    #[non_exhaustive]
    Retrying {
        /// The cause.
        error: Arc<io::Error>,
        /// How many attempts in a row have failed.
        failed: u32,
        /// The pause before the next one.
        pause: Duration,
    },
    /// No further attempt follows.
    GaveUp(GaveUp),
}

impl Display for ReconnectEvent {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connected { failed: 0 } => write!(f, "connected"),
            Self::Connected { failed } => write!(f, "connected after {failed} failed attempts"),
            Self::Lost {
                error,
                at_risk,
                again,
            } => write!(
                f,
                "connection lost: {error}; {at_risk} messages may be lost, {again} go to the next \
                 connection"
            ),
            Self::Unread => write!(
                f,
                "dropped messages of a broken connection: nobody receives them"
            ),
            Self::Retrying {
                error,
                failed,
                pause,
            } => write!(
                f,
                "attempt {failed} to connect failed: {error}; next attempt in {pause:?}"
            ),
            Self::GaveUp(error) => write!(f, "{error}: {}", error.source),
        }
    }
}

/// The error of a connection that could not be [re-established](Reconnect).
///
/// It is inside an [`io::Error`]; [`GaveUp::of`] finds it there. The kind of that error is
/// [`TimedOut`](io::ErrorKind::TimedOut) after [`Reconnect::give_up_after`], otherwise that of the
/// last attempt.
///
/// # Examples
///
/// ```
/// use aqueduct::connect::{Connection, GaveUp, Reconnect};
/// use futures_util::StreamExt;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let nobody = async || Err::<Connection, _>(std::io::ErrorKind::ConnectionRefused.into());
/// let connection = Reconnect::new().attempts(1).connect(nobody);
/// let Some(Err(error)) = connection.into_receiver().next().await else {
///     unreachable!("nobody is there");
/// };
/// assert_eq!(GaveUp::of(&error).map(|it| it.attempts), Some(1));
/// # }
/// ```
#[derive(Clone, Debug, thiserror::Error)]
#[error("gave up connecting after {attempts} attempts in {elapsed:?}")]
#[non_exhaustive]
pub struct GaveUp {
    /// How many attempts in a row failed.
    pub attempts: u32,
    /// How long they took.
    pub elapsed: Duration,
    /// Why the last one failed.
    pub source: Arc<io::Error>,
    pub(super) kind: io::ErrorKind,
}

impl GaveUp {
    /// Finds this error inside an [`io::Error`].
    pub fn of(error: &io::Error) -> Option<&Self> {
        error.get_ref()?.downcast_ref()
    }
}

impl From<GaveUp> for io::Error {
    fn from(error: GaveUp) -> Self {
        Self::new(error.kind, error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_event_is_told_in_words() {
        let refused = || Arc::new(io::Error::from_raw_os_error(libc::ECONNREFUSED));
        let lost = ReconnectEvent::Lost {
            error: refused(),
            at_risk: 3,
            again: 2,
        };
        let retrying = ReconnectEvent::Retrying {
            error: refused(),
            failed: 4,
            pause: Duration::from_millis(7),
        };
        let gave_up = GaveUp {
            attempts: 2,
            elapsed: Duration::from_secs(1),
            source: refused(),
            kind: io::ErrorKind::TimedOut,
        };
        for (event, words) in [
            (ReconnectEvent::Connected { failed: 0 }, "connected"),
            (
                ReconnectEvent::Connected { failed: 2 },
                "after 2 failed attempts",
            ),
            (
                lost,
                "refused (os error 111); 3 messages may be lost, 2 go to the next connection",
            ),
            (ReconnectEvent::Unread, "nobody receives them"),
            (
                retrying,
                "attempt 4 to connect failed: Connection refused (os error 111); next attempt in 7ms",
            ),
            (
                ReconnectEvent::GaveUp(gave_up),
                "after 2 attempts in 1s: Connection refused (os error 111)",
            ),
        ] {
            let said = event.to_string();
            assert!(said.ends_with(words), "{said}");
        }
    }

    #[test]
    fn permanent_errors_are_not_retried() {
        for errno in [libc::ECONNREFUSED, libc::ENOENT] {
            assert!(may_pass(&io::Error::from_raw_os_error(errno)));
        }
        assert!(!may_pass(&io::Error::from_raw_os_error(libc::EACCES)));
        let mismatch = crate::handshake::Error::Mismatch {
            what: crate::handshake::What::Codec,
            ours: "json".into(),
            theirs: "postcard".into(),
        };
        assert!(!may_pass(&mismatch.into()));
        assert!(may_pass(&crate::handshake::Error::Closed.into()));
    }
}
