use std::io;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;

/// What a reconnecting end reports.
///
/// It travels inside an [`io::Error`]; [`Error::of`] finds it there.
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// The connection broke before what had been sent was flushed. The sink goes on with the next
    /// connection.
    #[error("the connection broke with {frames} frames not flushed: they may be lost")]
    Unflushed {
        /// How many.
        frames: u64,
        /// Why it broke.
        source: Arc<io::Error>,
    },
    /// No connection could be made, and no more attempt will be.
    #[error("gave up connecting after {attempts} attempts in {elapsed:?}")]
    GaveUp {
        /// How many attempts in a row failed.
        attempts: u32,
        /// How long they took.
        elapsed: Duration,
        /// Why the last one failed.
        source: Arc<io::Error>,
    },
    /// The sink was closed by this side.
    #[error("this end was closed; make a new one to send more")]
    Closed,
}

impl Error {
    /// The error inside an [`io::Error`], if that is what it carries.
    pub fn of(error: &io::Error) -> Option<&Self> {
        error.get_ref()?.downcast_ref()
    }

    /// The errno of the connection.
    pub fn raw_os_error(&self) -> Option<i32> {
        match self {
            Self::Unflushed { source, .. } | Self::GaveUp { source, .. } => source.raw_os_error(),
            Self::Closed => None,
        }
    }
}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        let kind = match &error {
            Error::Unflushed { source, .. } | Error::GaveUp { source, .. } => source.kind(),
            Error::Closed => io::ErrorKind::BrokenPipe,
        };
        Self::new(kind, error)
    }
}
