use std::io;
use std::time::Duration;

use thiserror::Error;

/// A property that must be the same on both sides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum What {
    /// The version of the handshake.
    Version,
    /// The codec.
    Codec,
    /// The messages: the name that the user gave.
    Messages,
}

impl What {
    /// Its word in a verdict.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Version => "version",
            Self::Codec => "codec",
            Self::Messages => "messages",
        }
    }
}

/// An error of a handshake.
///
/// It converts into an [`io::Error`] that carries it; [`Error::of`] finds it there.
///
/// # Examples
///
/// ```
/// use aqueduct::codec::Text;
/// use aqueduct::connect::Connection;
/// use aqueduct::handshake::{Error, Handshake};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (here, there) = Connection::pair();
/// drop(there);
/// let chat = Handshake::new("chat/2");
/// match chat.channel::<String, String>(here, Text).await {
///     Err(Error::Mismatch { ours, theirs, .. }) => println!("{ours} here, {theirs} there"),
///     Err(error) => println!("{error}"),
///     Ok(_) => unreachable!("there is no peer"),
/// }
/// # Ok(()) }
/// ```
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// Both sides use the handshake but differ. Both get this error.
    #[error("the {} on the two sides do not match: here {ours:?}, there {theirs:?}", what.word())]
    Mismatch {
        /// The property that differs.
        what: What,
        /// The value of this side.
        ours: String,
        /// The value of the other side.
        theirs: String,
    },
    /// The peer did not send a handshake: it uses none, or another framing.
    #[error(
        "the peer does not speak the handshake{}: do both sides use it, with the same framing?",
        sent(got)
    )]
    NotSpoken {
        /// The beginning of what it sent, made printable; empty if nothing is legible.
        got: String,
        /// What is wrong with it.
        #[source]
        source: io::Error,
    },
    /// The peer closed the connection before it had completed the handshake.
    #[error("the peer closed the connection during the handshake: does it use one?")]
    Closed,
    /// The peer did not complete the handshake in time.
    #[error("the peer did not complete the handshake within {after:?}: does it use one?")]
    TimedOut {
        /// How long it had.
        after: Duration,
    },
    /// A name that was given for this side is not valid.
    #[error("cannot start the handshake: a name of this side is not valid")]
    BadName(#[source] io::Error),
    /// The transport failed.
    #[error("the transport failed during the handshake")]
    Io(#[from] io::Error),
}

fn sent(got: &str) -> String {
    if got.is_empty() {
        String::new()
    } else {
        format!(" (it sent \"{got}\")")
    }
}

impl Error {
    /// Finds this error inside an [`io::Error`].
    pub fn of(error: &io::Error) -> Option<&Self> {
        error.get_ref()?.downcast_ref()
    }
}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        let kind = match &error {
            Error::Mismatch { .. } | Error::NotSpoken { .. } => io::ErrorKind::InvalidData,
            Error::Closed => io::ErrorKind::UnexpectedEof,
            Error::TimedOut { .. } => io::ErrorKind::TimedOut,
            Error::BadName(_) => io::ErrorKind::InvalidInput,
            Error::Io(error) => error.kind(),
        };
        match error {
            Error::Io(error) => error,
            error => Self::new(kind, error),
        }
    }
}
