//! [`Error`]: why a Unix socket was not opened.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use super::{Address, MAX_ADDRESS_LEN};

/// Why a Unix socket was not opened.
///
/// As an [`io::Error`] it keeps the kind of its cause, and is itself the inner error:
/// `error.get_ref().and_then(|e| e.downcast_ref::<aqueduct::unix::Error>())`.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The address cannot be that of a socket.
    #[error("{address:?} is not a Unix socket address: {reason}")]
    BadAddress {
        /// What was given.
        address: Address,
        /// What is wrong with it.
        reason: &'static str,
    },

    /// The path or name is longer than [`MAX_ADDRESS_LEN`].
    #[error(
        "{address} has {len} bytes, and a Unix socket's path at most {MAX_ADDRESS_LEN}; choose a shorter one, such as one in $XDG_RUNTIME_DIR or a relative one"
    )]
    TooLong {
        /// What was given.
        address: Address,
        /// Its length in bytes.
        len: usize,
    },

    /// The mode cannot be given to this socket.
    #[error("{address} cannot have the mode {mode:#o}: {reason}")]
    BadMode {
        /// What was asked for.
        address: Address,
        /// The mode asked for.
        mode: u32,
        /// Why not.
        reason: &'static str,
    },

    /// Something that is no socket is at the path. It is left alone.
    #[error("{} is a {kind}, not a socket; move it away or choose another path", path.display())]
    NotASocket {
        /// The path.
        path: PathBuf,
        /// What is there.
        kind: &'static str,
    },

    /// A living server has the address.
    #[error("{address} is in use by a running server; stop it or choose another address")]
    InUse {
        /// What was asked for.
        address: Address,
        /// What the kernel said, where it was asked.
        source: Option<io::Error>,
    },

    /// A dead server's socket is at the path, and replacing it was not allowed.
    #[error(
        "{} was left by a server that is gone; remove it, or allow that (BindOptions::replace_stale)",
        path.display()
    )]
    Stale {
        /// The path.
        path: PathBuf,
    },

    /// The lock file beside the path cannot be used.
    #[error(
        "the lock file {} cannot be used; its directory must be writable, and it an ordinary file of one's own",
        path.display()
    )]
    Lock {
        /// The lock file's path.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },

    /// Other users can put files into the directory, or move them, and strictness was asked for.
    #[error(
        "the directory {} belongs to user {owner} with mode {mode:#o}, so others could replace the socket; use one of your own with mode 0700, such as $XDG_RUNTIME_DIR",
        path.display()
    )]
    UnsafeDirectory {
        /// The directory.
        path: PathBuf,
        /// Its owner.
        owner: u32,
        /// Its mode, with the sticky bit.
        mode: u32,
    },

    /// The path, or its directory when binding, does not exist (`ENOENT`).
    #[error(
        "{address} does not exist; start the server, or make the directory that is to hold its socket"
    )]
    Absent {
        /// What was asked for.
        address: Address,
        /// What the kernel said.
        source: io::Error,
    },

    /// Nobody listens there (`ECONNREFUSED`).
    #[error("nobody listens on {address}; start the server, or wait until it is there")]
    Refused {
        /// What was asked for.
        address: Address,
        /// What the kernel said.
        source: io::Error,
    },

    /// A socket of another type is there (`EPROTOTYPE`).
    #[error(
        "{address} is a socket of another type, and this is a {wanted} one; use the type its server uses"
    )]
    WrongType {
        /// What was asked for.
        address: Address,
        /// The type asked for: `stream` or `seqpacket`.
        wanted: &'static str,
        /// What the kernel said.
        source: io::Error,
    },

    /// The file's or a directory's mode does not allow it (`EACCES`, `EPERM`).
    #[error(
        "{address}: {action} is not allowed; connecting needs write permission on the socket, binding on its directory, and both search permission on the way there"
    )]
    PermissionDenied {
        /// What was asked for.
        address: Address,
        /// What was being done.
        action: &'static str,
        /// What the kernel said.
        source: io::Error,
    },

    /// The time was over before there was a connection.
    #[error(
        "no connection to {address} after {after:?}; the server is not there, or does not accept (its backlog is full)"
    )]
    TimedOut {
        /// What was asked for.
        address: Address,
        /// How long it was tried.
        after: Duration,
        /// What the last attempt said.
        source: io::Error,
    },

    /// Anything else.
    #[error("{address}: {action} failed")]
    Io {
        /// What was asked for.
        address: Address,
        /// What was being done.
        action: &'static str,
        /// What the kernel or Tokio said.
        source: io::Error,
    },
}

impl Error {
    /// The error number of the system call that failed, if one did.
    pub fn raw_os_error(&self) -> Option<i32> {
        self.io().and_then(io::Error::raw_os_error)
    }

    /// The kind this has as an [`io::Error`].
    pub fn kind(&self) -> io::ErrorKind {
        match self {
            Self::BadAddress { .. } | Self::TooLong { .. } | Self::BadMode { .. } => {
                io::ErrorKind::InvalidInput
            }
            Self::NotASocket { .. } => io::ErrorKind::AlreadyExists,
            Self::InUse { .. } | Self::Stale { .. } => io::ErrorKind::AddrInUse,
            Self::UnsafeDirectory { .. } => io::ErrorKind::PermissionDenied,
            Self::TimedOut { .. } => io::ErrorKind::TimedOut,
            _ => self.io().map_or(io::ErrorKind::Other, io::Error::kind),
        }
    }

    /// What a failed system call means for `address`.
    pub(super) fn from_io(address: &Address, action: &'static str, source: io::Error) -> Self {
        let address = address.clone();
        match source.raw_os_error() {
            Some(libc::EADDRINUSE) => Self::InUse {
                address,
                source: Some(source),
            },
            Some(libc::ENOENT | libc::ENOTDIR) => Self::Absent { address, source },
            Some(libc::ECONNREFUSED) => Self::Refused { address, source },
            Some(libc::EACCES | libc::EPERM | libc::EROFS) => Self::PermissionDenied {
                address,
                action,
                source,
            },
            _ => Self::Io {
                address,
                action,
                source,
            },
        }
    }

    fn io(&self) -> Option<&io::Error> {
        match self {
            Self::BadAddress { .. }
            | Self::TooLong { .. }
            | Self::BadMode { .. }
            | Self::NotASocket { .. }
            | Self::Stale { .. }
            | Self::UnsafeDirectory { .. } => None,
            Self::InUse { source, .. } => source.as_ref(),
            Self::Lock { source, .. }
            | Self::Absent { source, .. }
            | Self::Refused { source, .. }
            | Self::WrongType { source, .. }
            | Self::PermissionDenied { source, .. }
            | Self::TimedOut { source, .. }
            | Self::Io { source, .. } => Some(source),
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
