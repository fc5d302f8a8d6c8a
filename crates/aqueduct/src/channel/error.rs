//! [`Error`]: what can go wrong with a typed message.

use std::io;
use std::time::Duration;

use crate::codec::BoxError;

/// What went wrong with a typed message, in a [`Sender`](crate::Sender),
/// [`Receiver`](crate::Receiver) or [`Channel`](crate::channel::Channel).
///
/// An [`Encode`](Self::Encode) or [`Decode`](Self::Decode) error costs one message: the channel
/// goes on with the next. After an [`Io`](Self::Io) error a receiver has ended; whether a sender
/// can go on depends on its transport. [`Display`](std::fmt::Display) describes this level only,
/// [`source`](std::error::Error::source) has the cause; both in one line is what `anyhow` prints with
/// `{:#}`.
///
/// It converts into [`io::Error`] and keeps the kind, and for `Io` the error itself, so the OS
/// error code stays readable.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The transport or the framing below the channel failed.
    #[error("the transport failed")]
    Io(#[from] io::Error),

    /// The codec refused to serialise the item. Nothing of it was sent.
    #[error("cannot encode a `{type_name}` as {codec}; nothing was sent")]
    Encode {
        /// The name of the codec.
        codec: &'static str,
        /// The type of the item.
        type_name: &'static str,
        /// What the codec said.
        source: BoxError,
    },

    /// A whole frame came, but its body is no valid item. The next frame can be read.
    #[error(
        "cannot decode a frame of {len} bytes as {codec} into a `{type_name}`; \
         do both sides use the same codec and the same type?"
    )]
    Decode {
        /// The name of the codec.
        codec: &'static str,
        /// The type that was expected.
        type_name: &'static str,
        /// The size of the frame's body in bytes.
        len: usize,
        /// What the codec said.
        source: BoxError,
    },

    /// The sender was closed before, by this side.
    #[error("this sender was closed; open a new one to send more")]
    Closed,

    /// The other side did not take everything in time. The rest is still queued.
    #[error(
        "the other side did not take all queued messages within {after:?}; \
         close again to wait longer, drop the sender to give them up"
    )]
    TimedOut {
        /// How long the call waited.
        after: Duration,
    },
}

impl Error {
    /// The [`io::ErrorKind`] that fits best; the one which the conversion into [`io::Error`] has.
    #[must_use]
    pub fn kind(&self) -> io::ErrorKind {
        match self {
            Self::Io(e) => e.kind(),
            Self::Encode { .. } => io::ErrorKind::InvalidInput,
            Self::Decode { .. } => io::ErrorKind::InvalidData,
            Self::Closed => io::ErrorKind::BrokenPipe,
            Self::TimedOut { .. } => io::ErrorKind::TimedOut,
        }
    }

    /// The OS error code, where the system gave one.
    #[must_use]
    pub fn raw_os_error(&self) -> Option<i32> {
        match self {
            Self::Io(e) => e.raw_os_error(),
            _ => None,
        }
    }
}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        match error {
            Error::Io(e) => e,
            other => Self::new(other.kind(), other),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error as _;

    use super::*;

    #[test]
    fn an_os_error_survives_the_way_up_and_down() {
        let error = Error::from(io::Error::from_raw_os_error(libc::EPIPE));
        assert_eq!(error.raw_os_error(), Some(libc::EPIPE));
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
        assert_eq!(io::Error::from(error).raw_os_error(), Some(libc::EPIPE));
    }

    #[test]
    fn a_decode_error_keeps_its_facts_inside_an_io_error() {
        let error = Error::Decode {
            codec: "json",
            type_name: "u8",
            len: 3,
            source: "not a number".into(),
        };
        let error = io::Error::from(error);
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        let inner = error.get_ref().and_then(|e| e.downcast_ref::<Error>());
        assert!(matches!(inner, Some(Error::Decode { len: 3, .. })));
    }

    #[test]
    fn display_tells_this_level_and_source_the_rest() {
        let error = Error::Encode {
            codec: "json",
            type_name: "Job",
            source: "no such thing".into(),
        };
        assert!(error.to_string().contains("`Job` as json"));
        assert!(!error.to_string().contains("no such thing"));
        assert_eq!(error.source().unwrap().to_string(), "no such thing");
    }
}
