//! [`MessageError`]: what is wrong with one message.

use std::io;

use super::MAX_FDS;

/// What is wrong with one message, or with the descriptors that go with it.
///
/// It travels inside an [`io::Error`], `InvalidInput` for what was to be sent and `InvalidData` for
/// what was received: `error.get_ref().and_then(|e| e.downcast_ref::<MessageError>())`, or
/// [`MessageError::of`]. It concerns that message alone: the socket goes on with the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MessageError {
    /// An empty message was to be sent. The receiver could not tell it from the end of the stream.
    #[error("an empty message cannot be sent, since it reads like the end of the stream")]
    Empty,

    /// The message is larger than can be sent. Nothing was sent.
    #[error(
        "a message of {len} bytes is too large, the limit being {limit}; raise max_message, and net.core.wmem_max where the kernel's limit is lower"
    )]
    TooLarge {
        /// Its length.
        len: usize,
        /// The largest that can be sent.
        limit: usize,
    },

    /// The peer sent a message larger than the limit. The message is lost.
    #[error(
        "a message of {len} bytes came where the limit is {limit}; raise max_message, or let the sender send less"
    )]
    Truncated {
        /// Its length.
        len: usize,
        /// The largest that is taken.
        limit: usize,
    },

    /// More descriptors were to be sent than the kernel passes at once. Nothing was sent.
    #[error("{count} descriptors cannot go with one message, at most {MAX_FDS} can; send several")]
    TooManyDescriptors {
        /// How many there were.
        count: usize,
    },

    /// The peer sent more descriptors than are taken, or this process could not open as many as
    /// it takes. All were closed, and the message is lost.
    #[error(
        "more descriptors came than could be taken ({taken} of at most {limit}), and all were closed; raise the limit, or this process's RLIMIT_NOFILE if that is lower"
    )]
    DescriptorsTruncated {
        /// How many could be opened.
        taken: usize,
        /// How many are taken at most.
        limit: usize,
    },
}

impl MessageError {
    /// The message error inside `error`, if there is one.
    pub fn of(error: &io::Error) -> Option<Self> {
        error.get_ref()?.downcast_ref::<Self>().copied()
    }
}

impl From<MessageError> for io::Error {
    fn from(error: MessageError) -> Self {
        let kind = match error {
            MessageError::Truncated { .. } | MessageError::DescriptorsTruncated { .. } => {
                io::ErrorKind::InvalidData
            }
            _ => io::ErrorKind::InvalidInput,
        };
        Self::new(kind, error)
    }
}
