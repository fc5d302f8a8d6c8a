//! [`FrameError`]: why a frame is refused, or a stream is broken.

use std::fmt;
use std::io;

use thiserror::Error;

/// An error of a frame.
///
/// It is inside an [`io::Error`]; [`FrameError::of`] finds it there.
///
/// # Examples
///
/// ```
/// use aqueduct::bytes::Bytes;
/// use aqueduct::frame::{FrameError, FramedWrite, Framing};
/// use futures_util::SinkExt;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> std::io::Result<()> {
/// let mut frames = FramedWrite::new(Vec::new(), Framing::lines().max_frame(10));
/// let error = frames.send(Bytes::from("far too long a line")).await.unwrap_err();
/// assert_eq!(FrameError::of(&error), Some(&FrameError::TooLarge { len: 19, max: 10 }));
/// frames.send(Bytes::from("short")).await?; // The sink goes on.
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum FrameError {
    /// A frame is larger than the limit of this end.
    ///
    /// At a sender the frame was refused, nothing of it was written, and the sender goes on. At a
    /// receiver the stream has ended. The [`io::Error`] then also says if the size looks like a
    /// wrong framing: text, or the other byte order.
    #[error(
        "frame of {len} bytes is over the limit of {max}: send less at a time or raise the limit at both ends"
    )]
    TooLarge {
        /// Size of the frame in bytes, without header or delimiter.
        len: usize,
        /// The limit in bytes.
        max: usize,
    },
    /// A frame is larger than a length of its framing can express.
    ///
    /// It was refused and nothing of it was written. The sender continues.
    #[error(
        "frame of {len} bytes is over the limit of {max}, the most that a {framing} length can express: send less at a time, or use a wider length such as u32be at both ends"
    )]
    NoRoom {
        /// Size of the frame in bytes, without header.
        len: usize,
        /// The largest size in bytes.
        max: usize,
        /// The name of the framing, as in an address.
        framing: &'static str,
    },
    /// A received message exceeds the limit before its delimiter.
    ///
    /// Its size is not known. The stream has ended.
    #[error(
        "message has no end within the limit of {max} bytes: raise the limit, have the peer send {}, or skip or truncate such messages",
        Delimiter(*.delimiter)
    )]
    Unterminated {
        /// The limit in bytes.
        max: usize,
        /// The byte that would end the message.
        delimiter: u8,
    },
    /// The stream ended inside a frame: its sender was killed, or uses another framing.
    #[error("stream ended inside a frame: received {got} bytes, {}", Lacking(*.missing))]
    Truncated {
        /// How many bytes of the frame arrived, header included.
        got: usize,
        /// How many bytes are missing.
        ///
        /// `None` for a delimited frame, which lacks its delimiter.
        missing: Option<usize>,
    },
    /// The received bytes are not a frame of this framing. The stream has ended.
    #[error("no frame in {framing} framing: {cause}")]
    Malformed {
        /// The name of the framing, as in an address.
        framing: &'static str,
        /// The reason, and what the peer may send instead.
        cause: String,
    },
    /// The body contains the delimiter, so it would arrive as two frames.
    #[error(
        "message contains the delimiter {delimiter:#04x} at byte {at} and would arrive as two: use length framing"
    )]
    ContainsDelimiter {
        /// The delimiting byte.
        delimiter: u8,
        /// Offset of its first occurrence in the body.
        at: usize,
    },
    /// An empty message cannot be sent here.
    ///
    /// The receiver could not distinguish it from the end of the stream.
    #[error("cannot send an empty message: the receiver would take it for the end of the stream")]
    Empty,

    /// The priority is too high for the mechanism. Nothing was sent.
    #[error("priority {asked} is too high: at most {max} is allowed")]
    Priority {
        /// The requested priority.
        asked: u32,
        /// The highest priority.
        max: u32,
    },

    /// There are more descriptors than the kernel passes at once. Nothing was sent.
    #[error(
        "cannot pass {count} descriptors with one message: at most {max} are possible; send several messages"
    )]
    TooManyDescriptors {
        /// How many there were.
        count: usize,
        /// How many are possible.
        max: usize,
    },

    /// The peer sent more descriptors than could be taken.
    ///
    /// There were more than are accepted, or than this process could open.
    ///
    /// All were closed, and the message is lost.
    #[error(
        "received more descriptors than could be taken ({taken} of at most {max}), and closed all; raise the limit, or this process's RLIMIT_NOFILE if that is lower"
    )]
    DescriptorsTruncated {
        /// How many could be opened.
        taken: usize,
        /// How many are accepted at most.
        max: usize,
    },
}

struct Lacking(Option<usize>);

impl fmt::Display for Lacking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(n) => write!(f, "{n} are missing"),
            None => f.write_str("and no delimiter"),
        }
    }
}

struct Delimiter(u8);

impl fmt::Display for Delimiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            b'\n' => f.write_str("newlines"),
            0 => f.write_str("NUL bytes"),
            byte => write!(f, "{byte:#04x}"),
        }
    }
}

/// A frame over the limit, and why it may be.
#[derive(Debug)]
struct Explained {
    error: FrameError,
    len: usize,
    max: usize,
    reason: Reason,
}

#[derive(Debug)]
enum Reason {
    /// The header is text.
    Text(String),
    /// The length in the header in the other byte order.
    Swapped(u64),
}

impl Reason {
    fn of(header: &[u8], swapped: Option<u64>) -> Option<Self> {
        let is_text = |byte: &u8| matches!(byte, b' '..=b'~' | b'\t' | b'\r' | b'\n');
        if header.len() >= 4 && header.iter().all(is_text) {
            return Some(Self::Text(header.escape_ascii().to_string()));
        }
        swapped.map(Self::Swapped)
    }
}

impl fmt::Display for Explained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { len, max, .. } = self;
        write!(f, "frame of {len} bytes is over the limit of {max}")?;
        match &self.reason {
            Reason::Text(text) => write!(
                f,
                ": the first bytes are text (\"{text}\"): does the peer send lines?"
            ),
            Reason::Swapped(len) => {
                write!(f, ": in the other byte order this would be {len} bytes")
            }
        }
    }
}

impl std::error::Error for Explained {}

impl FrameError {
    /// Finds the frame error inside an [`io::Error`].
    ///
    /// # Examples
    ///
    /// ```
    /// use std::io;
    /// use aqueduct::frame::FrameError;
    ///
    /// let error: io::Error = FrameError::TooLarge { len: 2000, max: 1000 }.into();
    /// assert_eq!(FrameError::of(&error), Some(&FrameError::TooLarge { len: 2000, max: 1000 }));
    /// assert_eq!(FrameError::of(&io::Error::from_raw_os_error(32)), None);
    /// ```
    pub fn of(error: &io::Error) -> Option<&Self> {
        let inner = error.get_ref()?;
        match inner.downcast_ref::<Explained>() {
            Some(explained) => Some(&explained.error),
            None => inner.downcast_ref(),
        }
    }

    /// The error of a `header` whose length `len` is over the limit; `swapped` is the length in the
    /// other byte order, if that is within it.
    #[cold]
    pub(super) fn length_over(
        header: &[u8],
        len: u64,
        swapped: Option<u64>,
        max: usize,
    ) -> io::Error {
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        let error = Self::TooLarge { len, max };
        match Reason::of(header, swapped) {
            Some(reason) => {
                let explained = Explained {
                    error,
                    len,
                    max,
                    reason,
                };
                io::Error::new(io::ErrorKind::InvalidData, explained)
            }
            None => error.received(),
        }
    }

    /// The error of a received frame that is too large: the data is at fault, not the caller.
    pub(crate) fn received(self) -> io::Error {
        match self {
            Self::TooLarge { .. } => io::Error::new(io::ErrorKind::InvalidData, self),
            other => other.into(),
        }
    }
}

impl From<FrameError> for io::Error {
    fn from(error: FrameError) -> Self {
        let kind = match error {
            FrameError::Truncated { .. } => io::ErrorKind::UnexpectedEof,
            FrameError::DescriptorsTruncated { .. }
            | FrameError::Unterminated { .. }
            | FrameError::Malformed { .. } => io::ErrorKind::InvalidData,
            FrameError::TooLarge { .. }
            | FrameError::NoRoom { .. }
            | FrameError::ContainsDelimiter { .. }
            | FrameError::Empty
            | FrameError::Priority { .. }
            | FrameError::TooManyDescriptors { .. } => io::ErrorKind::InvalidInput,
        };
        Self::new(kind, error)
    }
}
