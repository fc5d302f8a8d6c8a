use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use thiserror::Error;

use crate::io::fd::{Access, Kind};

/// Why a FIFO could not be made or opened.
///
/// Each variant carries the path and the facts; its text is one sentence with the cure. Nothing
/// has been sent or received when one of these is returned. It converts into an [`io::Error`] of
/// the same kind that keeps it as its source.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// There is nothing at the path, and it was not to be created (`ENOENT`).
    #[error(
        "{path:?} does not exist: start the program that makes this FIFO, or let it be created"
    )]
    NotFound {
        /// The path asked for.
        path: PathBuf,
    },
    /// A directory on the way to the path does not exist (`ENOENT`).
    #[error("{path:?} cannot be reached, directory {directory:?} does not exist: create it first")]
    DirectoryMissing {
        /// The path asked for.
        path: PathBuf,
        /// The first directory that is missing.
        directory: PathBuf,
    },
    /// Something on the way to the path is not a directory (`ENOTDIR`).
    #[error("{path:?} cannot be reached, {component:?} is not a directory: correct the path")]
    NotADirectory {
        /// The path asked for.
        path: PathBuf,
        /// What stands where a directory should.
        component: PathBuf,
    },
    /// The directory does not let this user make files in it (`EACCES`).
    #[error(
        "{path:?} cannot be made, directory {directory:?} is not writable for this user: use one that is, such as $XDG_RUNTIME_DIR"
    )]
    DirectoryNotWritable {
        /// The path asked for.
        path: PathBuf,
        /// The directory it would be in.
        directory: PathBuf,
    },
    /// A directory on the way does not let this user through (`EACCES`).
    #[error(
        "{path:?} cannot be reached, directory {directory:?} may not be searched by this user: give it the x permission"
    )]
    DirectoryNotSearchable {
        /// The path asked for.
        path: PathBuf,
        /// The first directory that may not be searched.
        directory: PathBuf,
    },
    /// The file system is mounted read-only, so no FIFO can be made there (`EROFS`).
    #[error("{path:?} cannot be made on a read-only file system: use a directory on another one")]
    ReadOnlyFilesystem {
        /// The path asked for.
        path: PathBuf,
    },
    /// The path, or one name in it, is too long (`ENAMETOOLONG`).
    #[error(
        "path of a FIFO has {len} bytes in {part} where {max} are allowed, shorten it: {path:?}"
    )]
    NameTooLong {
        /// The path asked for.
        path: PathBuf,
        /// Which part is too long: `one name` or `all`.
        part: &'static str,
        /// Its length in bytes.
        len: usize,
        /// The limit in bytes.
        max: usize,
    },
    /// No FIFO can have this path.
    #[error("{path:?} cannot name a FIFO, {reason}: correct the path")]
    InvalidPath {
        /// The path asked for.
        path: PathBuf,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The mode asked for has bits other than the nine permission bits.
    #[error("mode {mode:#o} is not a FIFO's: use the nine permission bits, such as 0o600")]
    InvalidMode {
        /// The mode asked for.
        mode: u32,
    },
    /// The path is taken, and a new FIFO was asked for (`EEXIST`).
    #[error(
        "{path:?} exists already and a new FIFO was asked for: remove it, or open the existing one"
    )]
    AlreadyExists {
        /// The path asked for.
        path: PathBuf,
    },
    /// The path is a symbolic link, and those are refused unless
    /// [`allow_symlink`](crate::fifo::OpenOptions::allow_symlink) was asked for.
    #[error(
        "{path:?} is a symbolic link to {target:?}, and none is followed here: use the path it leads to"
    )]
    Symlink {
        /// The path asked for.
        path: PathBuf,
        /// Where the link leads.
        target: PathBuf,
    },
    /// The path is a symbolic link that leads nowhere (`ENOENT`).
    #[error(
        "{path:?} is a symbolic link to {target:?}, which does not exist: make the FIFO there, or remove the link"
    )]
    DanglingSymlink {
        /// The path asked for.
        path: PathBuf,
        /// Where the link leads.
        target: PathBuf,
    },
    /// The path names something that is not a FIFO.
    #[error("{path:?} is {kind}, not a FIFO: remove it, or use another path")]
    NotAFifo {
        /// The path asked for.
        path: PathBuf,
        /// What it is.
        kind: Kind,
    },
    /// The FIFO belongs to another user, who may have put it there to listen in.
    #[error(
        "{path:?} belongs to user {owner} and this is user {euid}: remove it if it is not to be trusted, or allow a foreign owner"
    )]
    ForeignOwner {
        /// The path asked for.
        path: PathBuf,
        /// User id of the owner.
        owner: u32,
        /// Effective user id of this process.
        euid: u32,
    },
    /// The FIFO can be opened by more users than was allowed for, and `strict` was asked for.
    #[error(
        "{path:?} has mode {mode:#o} where at most {allowed:#o} is allowed: chmod it, or ask for the wider mode"
    )]
    ModeTooWide {
        /// The path asked for.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
        /// The widest that was allowed.
        allowed: u32,
    },
    /// The FIFO's permissions do not let this user open it so (`EACCES`).
    #[error(
        "{path:?} may not be opened for {access} by user {euid}, it has mode {mode:#o} and owner {owner}: chmod or chown it"
    )]
    AccessDenied {
        /// The path asked for.
        path: PathBuf,
        /// What it was to be opened for.
        access: Access,
        /// Its permission bits.
        mode: u32,
        /// User id of the owner.
        owner: u32,
        /// Effective user id of this process.
        euid: u32,
    },
    /// No process has the FIFO open for reading (`ENXIO`).
    #[error("{path:?} has no reader: start the receiver, or wait for one")]
    NoReader {
        /// The path asked for.
        path: PathBuf,
    },
    /// No reader came in time.
    #[error("{path:?} got no reader within {waited:?}: start the receiver, or wait longer")]
    TimedOut {
        /// The path asked for.
        path: PathBuf,
        /// How long was waited.
        waited: Duration,
    },
    /// Other processes kept exchanging what the path names while it was being opened.
    #[error(
        "{path:?} was replaced {times} times while it was being opened: find out which program does that"
    )]
    Unstable {
        /// The path asked for.
        path: PathBuf,
        /// How often this was tried.
        times: u32,
    },
    /// The descriptor could not be registered with Tokio: most often there is no runtime.
    #[error(
        "{path:?} cannot be registered with Tokio: call this inside a runtime with its I/O driver enabled"
    )]
    Register {
        /// The path asked for.
        path: PathBuf,
        /// What Tokio or the system said.
        source: io::Error,
    },
    /// A system call failed in a way that has no variant of its own; its errno says why.
    #[error("{path:?}: {call} failed")]
    Io {
        /// The path asked for.
        path: PathBuf,
        /// The system call.
        call: &'static str,
        /// Its error.
        source: io::Error,
    },
}

impl Error {
    /// The typed error inside `error`, if it is one of these.
    ///
    /// # Examples
    ///
    /// ```
    /// use aqueduct::fifo::Error;
    ///
    /// let error = std::io::Error::from(Error::NotFound { path: "/run/app/jobs".into() });
    /// assert!(matches!(Error::of(&error), Some(Error::NotFound { .. })));
    /// ```
    #[must_use]
    pub fn of(error: &io::Error) -> Option<&Self> {
        error.get_ref()?.downcast_ref()
    }

    /// The errno behind this, if the kernel gave one; what this library refuses itself has none.
    pub fn raw_os_error(&self) -> Option<i32> {
        match self {
            Self::NotFound { .. }
            | Self::DirectoryMissing { .. }
            | Self::DanglingSymlink { .. } => Some(libc::ENOENT),
            Self::NotADirectory { .. } => Some(libc::ENOTDIR),
            Self::DirectoryNotWritable { .. }
            | Self::DirectoryNotSearchable { .. }
            | Self::AccessDenied { .. } => Some(libc::EACCES),
            Self::ReadOnlyFilesystem { .. } => Some(libc::EROFS),
            Self::NameTooLong { .. } => Some(libc::ENAMETOOLONG),
            Self::AlreadyExists { .. } => Some(libc::EEXIST),
            Self::NoReader { .. } => Some(libc::ENXIO),
            Self::Register { source, .. } | Self::Io { source, .. } => source.raw_os_error(),
            Self::InvalidPath { .. }
            | Self::InvalidMode { .. }
            | Self::Symlink { .. }
            | Self::NotAFifo { .. }
            | Self::ForeignOwner { .. }
            | Self::ModeTooWide { .. }
            | Self::TimedOut { .. }
            | Self::Unstable { .. } => None,
        }
    }

    /// The kind this has as an [`io::Error`].
    pub fn kind(&self) -> io::ErrorKind {
        match self {
            Self::InvalidPath { .. }
            | Self::InvalidMode { .. }
            | Self::Symlink { .. }
            | Self::NotAFifo { .. } => io::ErrorKind::InvalidInput,
            Self::ForeignOwner { .. } | Self::ModeTooWide { .. } => io::ErrorKind::PermissionDenied,
            Self::NoReader { .. } => io::ErrorKind::NotConnected,
            Self::TimedOut { .. } => io::ErrorKind::TimedOut,
            Self::Unstable { .. } => io::ErrorKind::Other,
            Self::Register { source, .. } | Self::Io { source, .. } => source.kind(),
            other => match other.raw_os_error() {
                Some(errno) => io::Error::from_raw_os_error(errno).kind(),
                None => io::ErrorKind::Other,
            },
        }
    }

    pub(super) fn io(path: &Path, call: &'static str, source: impl Into<io::Error>) -> Self {
        Self::Io {
            path: path.to_owned(),
            call,
            source: source.into(),
        }
    }
}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        Self::new(error.kind(), error)
    }
}

/// Until each says its own kind.
impl From<Error> for crate::connect::OpenError {
    fn from(error: Error) -> Self {
        let kind = match error.kind() {
            io::ErrorKind::NotFound => crate::connect::OpenErrorKind::NotFound,
            io::ErrorKind::AlreadyExists => crate::connect::OpenErrorKind::AlreadyExists,
            io::ErrorKind::PermissionDenied => crate::connect::OpenErrorKind::PermissionDenied,
            io::ErrorKind::AddrInUse => crate::connect::OpenErrorKind::InUse,
            io::ErrorKind::ConnectionRefused => crate::connect::OpenErrorKind::Refused,
            io::ErrorKind::InvalidInput => crate::connect::OpenErrorKind::InvalidName,
            io::ErrorKind::Unsupported => crate::connect::OpenErrorKind::Unsupported,
            _ => crate::connect::OpenErrorKind::Other,
        };
        Self::adopt(kind, error)
    }
}
