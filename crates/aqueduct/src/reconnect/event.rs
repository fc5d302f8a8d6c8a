use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::Error;

/// What happens to a reconnecting end.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// A connection was made.
    #[non_exhaustive]
    Connected {
        /// How many attempts in a row had failed before.
        failed: u32,
    },
    /// The connection broke, or the peer ended it
    /// ([`UnexpectedEof`](io::ErrorKind::UnexpectedEof)).
    #[non_exhaustive]
    Lost {
        /// Why.
        error: Arc<io::Error>,
        /// How many frames had been given to it and flushed: they were with the system.
        flushed: u64,
        /// How many more had been given to it and not been flushed.
        unflushed: u64,
    },
    /// More than [`MAX_UNREAD`](super::MAX_UNREAD) connections broke while nobody took from the
    /// stream: what the oldest of them had received is dropped.
    Unread,
    /// An attempt to connect failed, and there will be another one.
    #[non_exhaustive]
    Retrying {
        /// Why it failed.
        error: Arc<io::Error>,
        /// How many attempts in a row have failed.
        failed: u32,
        /// How long until the next one.
        pause: Duration,
    },
    /// There will be no more attempts.
    GaveUp(Error),
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connected { failed: 0 } => write!(f, "connected"),
            Self::Connected { failed } => write!(f, "connected after {failed} failed attempts"),
            Self::Lost {
                error,
                flushed,
                unflushed,
            } => write!(
                f,
                "connection lost: {error}; of the frames given to it {flushed} were flushed, \
                 {unflushed} were not"
            ),
            Self::Unread => write!(
                f,
                "frames received on a connection that broke were dropped: nobody takes from the stream"
            ),
            Self::Retrying {
                error,
                failed,
                pause,
            } => write!(
                f,
                "attempt {failed} to connect failed: {error}; the next one in {pause:?}"
            ),
            Self::GaveUp(error) => error.fmt(f),
        }
    }
}

impl Event {
    /// Says it through `tracing`.
    pub(super) fn trace(&self) {
        match self {
            Self::Connected { failed } => {
                tracing::info!(target: "aqueduct::reconnect", failed, "connected");
            }
            Self::Lost {
                error,
                flushed,
                unflushed,
            } => {
                tracing::info!(
                    target: "aqueduct::reconnect", %error, flushed, unflushed, "connection lost"
                );
            }
            Self::Unread => tracing::warn!(target: "aqueduct::reconnect", "{self}"),
            Self::Retrying {
                error,
                failed,
                pause,
            } => {
                tracing::debug!(
                    target: "aqueduct::reconnect", %error, failed, ?pause, "will connect again"
                );
            }
            Self::GaveUp(error) => {
                tracing::warn!(target: "aqueduct::reconnect", %error, "gave up");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_event_is_told_in_words() {
        let refused = || Arc::new(io::Error::from_raw_os_error(libc::ECONNREFUSED));
        let lost = Event::Lost {
            error: refused(),
            flushed: 3,
            unflushed: 2,
        };
        let retrying = Event::Retrying {
            error: refused(),
            failed: 4,
            pause: Duration::from_millis(7),
        };
        for (event, words) in [
            (Event::Connected { failed: 0 }, "connected"),
            (Event::Connected { failed: 2 }, "after 2 failed attempts"),
            (
                lost,
                "refused (os error 111); of the frames given to it 3 were flushed, 2 were not",
            ),
            (Event::Unread, "nobody takes from the stream"),
            (
                retrying,
                "attempt 4 to connect failed: Connection refused (os error 111); the next one in 7ms",
            ),
            (Event::GaveUp(Error::Closed), "make a new one to send more"),
        ] {
            let said = event.to_string();
            assert!(said.ends_with(words), "{said}");
        }
    }
}
