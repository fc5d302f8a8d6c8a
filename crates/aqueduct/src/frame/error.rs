use std::io;

use thiserror::Error;

/// What can be wrong with a frame.
///
/// It travels inside an [`io::Error`]; [`FrameError::of`] finds it there.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum FrameError {
    /// A frame is larger than the limit of this end.
    ///
    /// At a sender the frame was refused and nothing of it was written; the sender goes on. At a
    /// receiver the stream has ended.
    #[error(
        "frame of {len} bytes is over the limit of {max}: send less at a time or raise the limit at both ends"
    )]
    TooLarge {
        /// Size of the frame in bytes; for a delimited frame, how many came without a delimiter.
        len: usize,
        /// The limit in bytes.
        max: usize,
    },
    /// The stream ended inside a frame: its sender was killed, or uses another framing.
    #[error("stream ended inside a frame: {got} bytes came, {missing}")]
    Truncated {
        /// How many bytes of the frame came, header included.
        got: usize,
        /// What did not come.
        missing: Missing,
    },
    /// The body holds the byte that would end it, so it would arrive as two frames.
    #[error(
        "message holds the delimiter {delimiter:#04x} at byte {at} and would arrive as two: use length framing"
    )]
    ContainsDelimiter {
        /// The delimiting byte.
        delimiter: u8,
        /// Offset of its first occurrence in the body.
        at: usize,
    },
    /// An empty message was to be sent. The receiver could not tell it from the end of the stream.
    #[error("an empty message cannot be sent, since it reads like the end of the stream")]
    Empty,

    /// More descriptors were to be sent than the kernel passes at once. Nothing was sent.
    #[error("{count} descriptors cannot go with one message, at most {max} can; send several")]
    TooManyDescriptors {
        /// How many there were.
        count: usize,
        /// How many can.
        max: usize,
    },

    /// The peer sent more descriptors than are taken, or this process could not open as many as
    /// it takes. All were closed, and the message is lost.
    #[error(
        "more descriptors came than could be taken ({taken} of at most {max}), and all were closed; raise the limit, or this process's RLIMIT_NOFILE if that is lower"
    )]
    DescriptorsTruncated {
        /// How many could be opened.
        taken: usize,
        /// How many are taken at most.
        max: usize,
    },
}

/// What a truncated frame lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Missing {
    /// This many bytes.
    Bytes(usize),
    /// The delimiter of this value.
    Delimiter(u8),
}

impl std::fmt::Display for Missing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Bytes(n) => write!(f, "{n} more were to come"),
            Self::Delimiter(byte) => write!(f, "the delimiter {byte:#04x} did not"),
        }
    }
}

impl FrameError {
    /// The frame error inside an [`io::Error`], if that is what it carries.
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
        error.get_ref()?.downcast_ref()
    }

    /// Received too large a frame: the data is at fault, not a call of ours.
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
            FrameError::DescriptorsTruncated { .. } => io::ErrorKind::InvalidData,
            FrameError::TooLarge { .. }
            | FrameError::ContainsDelimiter { .. }
            | FrameError::Empty
            | FrameError::TooManyDescriptors { .. } => io::ErrorKind::InvalidInput,
        };
        Self::new(kind, error)
    }
}
