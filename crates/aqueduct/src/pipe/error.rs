//! [`Error`]: why a descriptor or a path cannot be used as a pipe, and what a pipe refuses.

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};

use crate::io::fd::{Access, Kind};

/// Why something is refused as a pipe end, or by one.
///
/// The functions of this module return [`io::Error`], as Tokio's do. Where the cause is one of
/// these it travels inside: [`Error::of`] takes it out again.
///
/// # Examples
///
/// ```
/// use aqueduct::pipe;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> std::io::Result<()> {
/// let file = std::fs::File::open("/dev/null")?;
/// let refused = pipe::Receiver::from_file(file).unwrap_err();
/// assert_eq!(refused.kind(), std::io::ErrorKind::InvalidInput);
/// assert!(matches!(pipe::Error::of(&refused), Some(pipe::Error::NotAPipe { .. })));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// It is something other than a pipe or a FIFO.
    #[error("{subject} is {kind}, not a pipe or FIFO: {}", cure(*kind))]
    NotAPipe {
        /// What was given.
        subject: Subject,
        /// What it is.
        kind: Kind,
    },
    /// It is a pipe, but this end of it was not opened for what is asked of it.
    #[error("{subject} is open for {access}, not for {needed}: pass the other end of the pipe")]
    WrongDirection {
        /// What was given.
        subject: Subject,
        /// What it is open for.
        access: Access,
        /// What it has to be open for.
        needed: Access,
    },
    /// It cannot be opened once more for a description of our own.
    #[error(
        "{subject} cannot be opened a second time through /proc/self/fd: {}",
        why(source)
    )]
    CannotReopen {
        /// What was given.
        subject: Subject,
        /// What `open(2)` said.
        source: io::Error,
    },
    /// No pipe may be made that large.
    #[error(
        "a pipe of {asked} bytes is not allowed: ask for at most {limit} bytes, \
         or raise /proc/sys/fs/pipe-max-size"
    )]
    CapacityLimit {
        /// The capacity asked for.
        asked: usize,
        /// The largest that an unprivileged process may ask for, in bytes.
        limit: usize,
    },
    /// This user's pipes together may not be made that large.
    #[error(
        "a pipe of {asked} bytes would take this user's pipes over {pages} pages in all: \
         close some or ask for less, or raise /proc/sys/fs/pipe-user-pages-soft"
    )]
    UserLimit {
        /// The capacity asked for.
        asked: usize,
        /// How many pages the pipes of one unprivileged user may have together.
        pages: usize,
    },
    /// The pipe holds more than would fit.
    #[error(
        "the pipe of {capacity} bytes holds too much at present to shrink to {asked}: \
         read from it first, or ask for more"
    )]
    CapacityInUse {
        /// The capacity asked for.
        asked: usize,
        /// The capacity it has and keeps.
        capacity: usize,
    },
    /// The message is larger than a packet can be.
    #[error("a message of {len} bytes is too large for a packet pipe: send at most {max} bytes")]
    MessageTooLarge {
        /// Its size.
        len: usize,
        /// The largest that is carried whole.
        max: usize,
    },
    /// The message is empty.
    #[error(
        "an empty message cannot be sent over a packet pipe, where it would look like the end of \
         the stream: send at least one byte"
    )]
    EmptyMessage,
}

impl Error {
    /// The typed error inside `error`, if it is one of these.
    #[must_use]
    pub fn of(error: &io::Error) -> Option<&Self> {
        error.get_ref()?.downcast_ref()
    }

    /// The error number behind it, where a system call failed.
    #[must_use]
    pub fn raw_os_error(&self) -> Option<i32> {
        match self {
            Self::CannotReopen { source, .. } => source.raw_os_error(),
            Self::CapacityLimit { .. } | Self::UserLimit { .. } => Some(libc::EPERM),
            Self::CapacityInUse { .. } => Some(libc::EBUSY),
            _ => None,
        }
    }
}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        let kind = match &error {
            Error::CannotReopen { source, .. } => source.kind(),
            Error::CapacityLimit { .. } | Error::UserLimit { .. } => {
                io::ErrorKind::PermissionDenied
            }
            Error::CapacityInUse { .. } => io::ErrorKind::ResourceBusy,
            _ => io::ErrorKind::InvalidInput,
        };
        Self::new(kind, error)
    }
}

/// What an [`Error`] is about.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Subject {
    /// The descriptor of this number.
    Descriptor(i32),
    /// The file at this path.
    Path(PathBuf),
}

impl Subject {
    pub(crate) fn descriptor(fd: impl AsFd) -> Self {
        Self::Descriptor(fd.as_fd().as_raw_fd())
    }

    pub(crate) fn path(path: &Path) -> Self {
        Self::Path(path.to_owned())
    }
}

impl std::fmt::Display for Subject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Descriptor(fd) => write!(f, "descriptor {fd}"),
            Self::Path(path) => write!(f, "{}", path.display()),
        }
    }
}

fn cure(kind: Kind) -> &'static str {
    match kind {
        Kind::Socket => "use it as a socket",
        Kind::MessageQueue => "use it as a message queue",
        Kind::File | Kind::BlockDevice => {
            "read or write it with tokio::fs, or put a pipe in between (`cat FILE |`)"
        }
        Kind::CharDevice => "put a pipe in between (`cat |` or `| cat`)",
        _ => "pass a pipe, or make a FIFO with mkfifo",
    }
}

fn why(source: &io::Error) -> &'static str {
    match source.raw_os_error() {
        Some(libc::ENXIO) => "no process has this FIFO open for reading; start the reader first",
        Some(libc::ENOENT) => "mount /proc, or pass a descriptor that is not shared",
        Some(libc::EACCES) => "another user made it; pass a descriptor that is not shared",
        _ => "pass a descriptor that is not shared",
    }
}
