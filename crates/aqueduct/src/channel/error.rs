//! [`Error`]: the error of a typed message.

use std::io;
use std::time::Duration;

use crate::codec::BoxError;

/// The error of a typed [`Sender`](crate::Sender), [`Receiver`](crate::Receiver) or
/// [`Channel`](crate::channel::Channel).
///
/// [`Encode`](Self::Encode) and [`Decode`](Self::Decode) cost one message: the channel goes on with
/// the next. After [`Io`](Self::Io) a receiver has ended; whether a sender can go on depends on its
/// transport.
///
/// [`Display`](std::fmt::Display) describes this level only and
/// [`source`](std::error::Error::source) is the cause. `anyhow` prints both with `{:#}`. Conversion
/// into [`io::Error`] keeps the kind and the errno.
///
/// # Examples
///
/// ```
/// use aqueduct::codec::Text;
/// use aqueduct::frame::{FramedRead, Framing};
/// use aqueduct::{Error, Receiver};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Error> {
/// let wire = &b"\xff\nhello\n"[..]; // The first line is not UTF-8.
/// let mut lines: Receiver<String> = FramedRead::new(wire, Framing::lines()).typed(Text);
/// while let Some(line) = lines.recv().await {
///     match line {
///         Ok(line) => assert_eq!(line, "hello"),
///         Err(error @ Error::Decode { .. }) => eprintln!("skipped: {error}"),
///         Err(error) => return Err(error),
///     }
/// }
/// # Ok(()) }
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The transport or the framing below the channel failed.
    #[error("the transport failed")]
    Io(#[from] io::Error),

    /// The codec cannot serialise the item. Nothing of it was sent.
    #[error("cannot encode a `{type_name}` as {codec}; nothing was sent")]
    Encode {
        /// The name of the codec.
        codec: &'static str,
        /// The type of the item.
        type_name: &'static str,
        /// The codec's error.
        source: BoxError,
    },

    /// A whole frame arrived, but its body does not parse. The next frame can be read.
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
        /// The codec's error.
        source: BoxError,
    },

    /// The sender was already closed by this side.
    #[error("cannot send: this sender was closed; open a new one to send more")]
    Closed,

    /// The peer did not take everything in time. The rest is still queued.
    #[error(
        "the peer did not take all queued messages within {after:?}; \
         close again to wait longer, or drop the sender to discard them"
    )]
    TimedOut {
        /// How long the call waited.
        after: Duration,
    },
}

impl Error {
    /// Returns the kind that the conversion into [`io::Error`] has.
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

    /// Returns the errno, if the system gave one.
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
