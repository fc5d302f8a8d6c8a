use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::wire::{Failure, Hello, VERSION};

/// An error of a call or a responder.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use aqueduct::call::{Caller, Error, Responder};
/// use aqueduct::codec::Text;
/// use aqueduct::connect::Connection;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (here, there) = Connection::pair();
/// let slow = |_: String| std::future::pending::<String>();
/// tokio::spawn(Responder::new(there, Text).run(slow));
///
/// let caller: Caller<String, String> = Caller::new(here, Text)?.timeout(Duration::from_millis(10));
/// assert!(matches!(caller.call("hello".into()).await, Err(Error::TimedOut { .. })));
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The connection ended before the reply arrived.
    ///
    /// Each open call gets this error, with the same cause. Whether the request was handled is
    /// unknown.
    #[error("the connection ended before the reply{}", Cause(.source))]
    Ended {
        /// The error that ended it; `None` if the peer closed it.
        source: Option<Arc<io::Error>>,
    },
    /// No reply arrived in time. The responder is told, and drops the request.
    #[error("no reply arrived within {after:?}")]
    TimedOut {
        /// The time limit of the call.
        after: Duration,
    },
    /// The request cannot be encoded or is too large. Nothing of it was sent.
    #[error("cannot send the request")]
    Request(#[source] Arc<crate::channel::Error>),
    /// The reply arrived and cannot be decoded.
    #[error("cannot decode the reply: {0}")]
    Reply(String),
    /// The responder cannot decode the request.
    #[error("the responder cannot decode the request: {0}; do both sides use the same type?")]
    Undecodable(String),
    /// The request was handled, but its reply cannot be sent, as too large.
    #[error("the request was handled, but its reply cannot be sent: {0}")]
    Unsendable(String),
    /// The responder stops, and has not begun to handle the request.
    #[error("the responder is stopping and did not handle the request")]
    Stopping,
    /// The responder refused the request for another reason.
    #[error("the responder refused the request: {0}")]
    Refused(String),
    /// The peer speaks another version of the wire format.
    #[error("the peer speaks version {theirs} of the call format, this side version {VERSION}")]
    Version {
        /// The peer's version.
        theirs: u8,
    },
    /// The peer uses another codec.
    #[error("the peer uses the codec {theirs}, this side {ours}")]
    Codec {
        /// The codec of this side.
        ours: String,
        /// The codec of the peer.
        theirs: String,
    },
    /// The peer sent a message that is not part of the call format.
    #[error(
        "the peer is not a {} of calls: it sent \"{got}\"", if *.caller { "responder" } else { "caller" }
    )]
    NotSpoken {
        /// The beginning of the message.
        got: String,
        /// Whether this side is the caller.
        caller: bool,
    },
    /// The framing of the connection cannot carry any byte.
    #[error("calls need a framing that carries any byte, such as `Framing::length()`")]
    Framing,
    /// There is no Tokio runtime.
    #[error("a caller needs a Tokio runtime")]
    NoRuntime,
}

impl Error {
    /// Checks that both sides speak the same format.
    pub(super) fn check(hello: &Hello, codec: &str) -> Result<(), Self> {
        if hello.version != VERSION {
            return Err(Self::Version {
                theirs: hello.version,
            });
        }
        if hello.codec != codec {
            return Err(Self::Codec {
                ours: codec.to_owned(),
                theirs: hello.codec.clone(),
            });
        }
        Ok(())
    }

    pub(super) fn io(error: io::Error) -> Self {
        Self::Ended {
            source: Some(Arc::new(error)),
        }
    }

    pub(super) fn not_spoken(got: &[u8], caller: bool) -> Self {
        Self::NotSpoken {
            got: got.escape_ascii().to_string(),
            caller,
        }
    }

    pub(super) fn of(failure: Failure, after: Option<Duration>) -> Self {
        match failure.code {
            Failure::UNDECODABLE => Self::Undecodable(failure.text),
            Failure::UNSENDABLE => Self::Unsendable(failure.text),
            Failure::LATE => Self::TimedOut {
                after: after.unwrap_or_default(),
            },
            Failure::REPLY => Self::Reply(failure.text),
            Failure::STOPPING => Self::Stopping,
            _ => Self::Refused(failure.text),
        }
    }
}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        let kind = match &error {
            Error::Ended {
                source: Some(source),
            } => source.kind(),
            Error::Ended { source: None } => io::ErrorKind::UnexpectedEof,
            Error::TimedOut { .. } => io::ErrorKind::TimedOut,
            Error::Request(_) | Error::Framing => io::ErrorKind::InvalidInput,
            Error::Stopping => io::ErrorKind::ConnectionAborted,
            Error::NoRuntime | Error::Refused(_) | Error::Unsendable(_) => io::ErrorKind::Other,
            _ => io::ErrorKind::InvalidData,
        };
        Self::new(kind, error)
    }
}

/// The cause, in the same sentence.
struct Cause<'a>(&'a Option<Arc<io::Error>>);

impl fmt::Display for Cause<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(_) => Ok(()),
            None => f.write_str(": the peer closed it"),
        }
    }
}
