use std::fmt::{self, Display, Formatter};
use std::io;
use std::time::Duration;

use thiserror::Error;

use crate::endpoint::Endpoint;
use crate::fd::Access;
use crate::{child, fifo, mq, tcp, unix};

/// Why an endpoint could not be opened.
///
/// Nothing has been sent or received when one of these is returned.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// The mechanism cannot do what is asked of it, as its
    /// [capabilities](Endpoint::capabilities) say, or the descriptor's kind and access mode.
    #[error("{endpoint} cannot be {asked}: {limit}")]
    Unsupported {
        /// The endpoint asked for.
        endpoint: Endpoint,
        /// What it was to be opened for.
        asked: Asked,
        /// What it lacks.
        limit: Limit,
    },
    /// No peer came in time.
    #[error("{endpoint}: no {peer} came within {waited:?}: start it, or wait longer")]
    TimedOut {
        /// The endpoint asked for.
        endpoint: Endpoint,
        /// Who was waited for: `reader`, `server`.
        peer: &'static str,
        /// How long was waited.
        waited: Duration,
        /// What the last attempt said, where there was one that failed.
        source: Option<io::Error>,
    },
    /// A FIFO could not be made or opened.
    #[error(transparent)]
    Fifo(fifo::Error),
    /// A queue could not be made or opened.
    #[error(transparent)]
    Mq(mq::Error),
    /// A Unix socket could not be bound or connected.
    #[error(transparent)]
    Unix(unix::Error),
    /// A TCP socket could not be bound or connected.
    #[error(transparent)]
    Tcp(tcp::Error),
    /// A program could not be started.
    #[error(transparent)]
    Exec(child::Error),
    /// The descriptor's number cannot be taken over.
    #[error("{endpoint} cannot be taken over: {problem}")]
    Descriptor {
        /// The endpoint asked for.
        endpoint: Endpoint,
        /// What is wrong with the number.
        problem: DescriptorProblem,
    },
    /// The system could not open it; its errno says why.
    #[error("{endpoint} cannot be opened")]
    Io {
        /// The endpoint asked for.
        endpoint: Endpoint,
        /// What the system said.
        source: io::Error,
    },
}

/// What an endpoint was to be opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Asked {
    /// [`Options::connect`](super::Options::connect).
    Connect,
    /// [`Options::bind`](super::Options::bind).
    Bind,
    /// [`Options::open_receiver`](super::Options::open_receiver).
    Receive,
    /// [`Options::open_sender`](super::Options::open_sender).
    Send,
}

impl Display for Asked {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connect => "connected both ways",
            Self::Bind => "served",
            Self::Receive => "received from",
            Self::Send => "sent to",
        })
    }
}

/// Why an endpoint cannot do what was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Limit {
    /// Its direction is [`OneWay`](crate::endpoint::Direction::OneWay).
    OneWay,
    /// The descriptor was opened for this alone.
    Access(Access),
    /// The descriptor is of this kind, in words.
    Kind(&'static str),
}

impl Display for Limit {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::OneWay => f.write_str(
                "its direction is one-way; take an address that goes both ways, such as unix:, or \
                 join two one-way ones into a channel",
            ),
            Self::Access(access) => write!(
                f,
                "the descriptor is open for {access} alone; hand down one that is open for that"
            ),
            Self::Kind(kind) => write!(f, "the descriptor is {kind}"),
        }
    }
}

/// Why a descriptor's number cannot be taken over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Error)]
#[non_exhaustive]
pub enum DescriptorProblem {
    /// No descriptor of that number is open (`EBADF`).
    #[error("it is not open: whoever starts this program has to hand it down")]
    NotOpen,
    /// It was taken over before, and can be only once.
    #[error("it was taken over before, which can be done once")]
    Taken,
    /// This process opened it for itself: it was not open before `main`, or is closed on `exec`. Nor
    /// can one be taken whose number is 1024 or above.
    #[error(
        "it was not handed down as one of 3 to 1023, and this program uses the number itself: \
         whoever starts this program has to hand it down"
    )]
    Reserved,
}

impl Error {
    /// The errno behind this, if the kernel gave one.
    pub fn raw_os_error(&self) -> Option<i32> {
        match self {
            Self::Unsupported { .. } => None,
            Self::TimedOut { source, .. } => source.as_ref().and_then(io::Error::raw_os_error),
            Self::Fifo(error) => error.raw_os_error(),
            Self::Mq(error) => error.raw_os_error(),
            Self::Unix(error) => error.raw_os_error(),
            Self::Tcp(error) => error.raw_os_error(),
            Self::Exec(error) => error.raw_os_error(),
            Self::Descriptor { problem, .. } => match problem {
                DescriptorProblem::NotOpen => Some(libc::EBADF),
                _ => None,
            },
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
            Self::Unix(error) => error.kind(),
            Self::Tcp(error) => error.kind(),
            Self::Exec(error) => error.kind(),
            Self::Descriptor { .. } => io::ErrorKind::NotFound,
            Self::Io { source, .. } => source.kind(),
        }
    }
}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        Self::new(error.kind(), error)
    }
}
