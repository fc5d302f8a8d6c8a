//! [`Error`]: why a TCP socket was not opened.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use super::Address;

/// Why a TCP socket was not opened.
///
/// As an [`io::Error`] it keeps the kind of its cause, and is itself the inner error:
/// `error.get_ref().and_then(|e| e.downcast_ref::<aqueduct::tcp::Error>())`.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The text is not an address.
    #[error(
        "{address:?} is not a TCP address ({reason}); write host:port, [v6 address]:port or :port"
    )]
    BadAddress {
        /// What was given.
        address: String,
        /// What is wrong with it.
        reason: &'static str,
    },

    /// The host's name has no address, or the resolver did not answer.
    #[error("the host of {address} was not found; check its spelling and this machine's resolver")]
    Lookup {
        /// What was asked for.
        address: Address,
        /// What the resolver said.
        source: io::Error,
    },

    /// Another socket has the port (`EADDRINUSE`).
    #[error(
        "the port of {address} is in use; stop the program that has it (`ss -ltnp` shows it), or take another port (0: any free one)"
    )]
    InUse {
        /// What was asked for.
        address: Address,
        /// What the kernel said.
        source: io::Error,
    },

    /// No interface of this machine has the address (`EADDRNOTAVAIL`).
    #[error(
        "{address} is not an address of this machine; bind one that `ip address` shows, or 0.0.0.0 for all"
    )]
    NotLocal {
        /// What was asked for.
        address: Address,
        /// What the kernel said.
        source: io::Error,
    },

    /// The kernel or a packet filter does not allow it (`EACCES`, `EPERM`).
    #[error(
        "{address} is not allowed; ports below net.ipv4.ip_unprivileged_port_start (1024 unless set) need CAP_NET_BIND_SERVICE, and a packet filter can forbid the rest"
    )]
    PermissionDenied {
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

    /// No route leads there (`EHOSTUNREACH`, `ENETUNREACH`).
    #[error("{address} cannot be reached from here; check the address and `ip route`")]
    Unreachable {
        /// What was asked for.
        address: Address,
        /// What the kernel said.
        source: io::Error,
    },

    /// The time was over before there was a connection.
    #[error(
        "no connection to {address} after {after:?}; the server is down, does not accept (its backlog is full), or a packet filter drops the request"
    )]
    TimedOut {
        /// What was asked for.
        address: Address,
        /// How long it was tried.
        after: Duration,
        /// What the last complete attempt said, if there was one.
        source: Option<io::Error>,
    },

    /// The socket was connected to itself, which happens when nobody listens on a port that the
    /// kernel also hands out to clients; it was closed.
    #[error(
        "the connection to {address} was one to itself, since nobody listens there; start the server, and give it a port outside net.ipv4.ip_local_port_range"
    )]
    ToItself {
        /// What was asked for.
        address: Address,
        /// The address at both ends.
        at: SocketAddr,
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
            Self::BadAddress { .. } => io::ErrorKind::InvalidInput,
            Self::TimedOut { .. } => io::ErrorKind::TimedOut,
            Self::ToItself { .. } => io::ErrorKind::ConnectionRefused,
            _ => self.io().map_or(io::ErrorKind::Other, io::Error::kind),
        }
    }

    pub(super) fn from_bind(address: &Address, action: &'static str, source: io::Error) -> Self {
        let address = address.clone();
        match source.raw_os_error() {
            Some(libc::EADDRINUSE) => Self::InUse { address, source },
            Some(libc::EADDRNOTAVAIL) => Self::NotLocal { address, source },
            Some(libc::EACCES | libc::EPERM) => Self::PermissionDenied { address, source },
            _ => Self::Io {
                address,
                action,
                source,
            },
        }
    }

    pub(super) fn from_connect(address: &Address, after: Duration, source: io::Error) -> Self {
        let address = address.clone();
        match source.raw_os_error() {
            Some(libc::ECONNREFUSED) => Self::Refused { address, source },
            Some(libc::EHOSTUNREACH | libc::ENETUNREACH | libc::EHOSTDOWN) => {
                Self::Unreachable { address, source }
            }
            Some(libc::ETIMEDOUT) => Self::TimedOut {
                address,
                after,
                source: Some(source),
            },
            Some(libc::EACCES | libc::EPERM) => Self::PermissionDenied { address, source },
            _ => Self::Io {
                address,
                action: "connect",
                source,
            },
        }
    }

    /// Whether a later attempt may succeed although nothing is changed on this side.
    pub(super) fn may_pass(&self) -> bool {
        match self {
            Self::Lookup { .. }
            | Self::Refused { .. }
            | Self::Unreachable { .. }
            | Self::TimedOut { .. }
            | Self::ToItself { .. } => true,
            Self::Io { source, .. } => matches!(
                source.raw_os_error(),
                Some(libc::ECONNRESET | libc::ECONNABORTED | libc::EADDRNOTAVAIL | libc::EAGAIN)
            ),
            _ => false,
        }
    }

    fn io(&self) -> Option<&io::Error> {
        match self {
            Self::BadAddress { .. } | Self::ToItself { .. } => None,
            Self::Lookup { source, .. }
            | Self::InUse { source, .. }
            | Self::NotLocal { source, .. }
            | Self::PermissionDenied { source, .. }
            | Self::Refused { source, .. }
            | Self::Unreachable { source, .. }
            | Self::Io { source, .. } => Some(source),
            Self::TimedOut { source, .. } => source.as_ref(),
        }
    }
}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        Self::new(error.kind(), error)
    }
}

impl From<Infallible> for Error {
    fn from(never: Infallible) -> Self {
        match never {}
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
