use std::io;

use thiserror::Error;

use crate::endpoint::Endpoint;
use crate::fifo;
use crate::mq;

/// Why an endpoint could not be opened.
///
/// Nothing has been sent or received when one of these is returned.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// Endpoints of this scheme cannot be opened this way.
    #[error("{} addresses cannot be {purpose} here: use one of {}", .endpoint.scheme(), .supported.join(", "))]
    Unsupported {
        /// The endpoint asked for.
        endpoint: Endpoint,
        /// What it was to be opened for: `received from` or `sent to`.
        purpose: &'static str,
        /// The schemes that can.
        supported: &'static [&'static str],
    },
    /// No peer came in time.
    #[error("{endpoint}: no {peer} came within {waited:?}: start it, or wait longer")]
    TimedOut {
        /// The endpoint asked for.
        endpoint: Endpoint,
        /// Who was waited for: `reader`.
        peer: &'static str,
        /// How long was waited.
        waited: std::time::Duration,
    },
    /// A FIFO could not be made or opened.
    #[error(transparent)]
    Fifo(fifo::Error),
    /// A queue could not be made or opened.
    #[error(transparent)]
    Mq(mq::Error),
    /// The system could not open it; its errno says why.
    #[error("{endpoint} cannot be opened")]
    Io {
        /// The endpoint asked for.
        endpoint: Endpoint,
        /// What the system said.
        source: io::Error,
    },
}

impl Error {
    /// The errno behind this, if the kernel gave one.
    pub fn raw_os_error(&self) -> Option<i32> {
        match self {
            Self::Unsupported { .. } | Self::TimedOut { .. } => None,
            Self::Fifo(error) => error.raw_os_error(),
            Self::Mq(error) => error.raw_os_error(),
            Self::Io { source, .. } => source.raw_os_error(),
        }
    }

    /// The kind this has as an [`io::Error`].
    pub fn kind(&self) -> io::ErrorKind {
        match self {
            Self::Unsupported { .. } => io::ErrorKind::Unsupported,
            Self::TimedOut { .. } => io::ErrorKind::TimedOut,
            Self::Fifo(error) => error.kind(),
            Self::Mq(error) => error.kind(),
            Self::Io { source, .. } => source.kind(),
        }
    }
}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        Self::new(error.kind(), error)
    }
}
