use std::io;
use std::time::Duration;

use thiserror::Error;

/// What must be the same on both sides.
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
    /// The word for it in a verdict.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Version => "version",
            Self::Codec => "codec",
            Self::Messages => "messages",
        }
    }
}

/// Why two peers do not go on.
///
/// It turns into an [`io::Error`] that carries it; [`Error::of`] finds it there.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// Both sides speak the handshake but not the same language. Both get this error.
    #[error("the {} on the two sides do not match: here {ours:?}, there {theirs:?}", what.word())]
    Mismatch {
        /// What differs.
        what: What,
        /// Our value.
        ours: String,
        /// The other side's.
        theirs: String,
    },
    /// What came is no handshake: the peer does none, or uses another framing.
    #[error(
        "the peer does not speak the handshake{}: do both sides use it, with the same framing?",
        sent(got)
    )]
    NotSpoken {
        /// How what it sent begins, made printable; empty where nothing could be made of it.
        got: String,
        /// What is wrong with it.
        #[source]
        source: io::Error,
    },
    /// The peer closed before it had said all of its part.
    #[error("the peer closed the connection during the handshake: does it use one?")]
    Closed,
    /// The peer did not say its part in time.
    #[error("the peer did not complete the handshake within {after:?}: does it use one?")]
    TimedOut {
        /// How long it had.
        after: Duration,
    },
    /// A name that was given for this side cannot be sent.
    #[error("this side cannot say hello")]
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
    /// The handshake's error inside an [`io::Error`], if that is what it carries.
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
