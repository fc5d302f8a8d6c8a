//! [`ConnectOptions`]: connects despite a full backlog, and to a server that is not there yet.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use socket2::{Domain, SockAddr, Socket, Type};
use tokio::net::UnixStream;

use super::address::{Address, Attempt};
use super::claim::check_is_socket;
use super::credentials::peer_credentials;
use super::diag::Diag;
use super::trust::Trust;
use crate::connect::{OpenError, OpenErrorKind};
use crate::io::backoff::{Backoff, Retry};

/// How long to wait for a full backlog, unless set.
const DEFAULT_LIMIT: Duration = Duration::from_secs(10);

const BACKOFF: Backoff = Backoff::new(Duration::from_millis(1), Duration::from_millis(100));

/// Options for connecting to a Unix socket.
///
/// # Examples
///
/// Wait for a server that is being started:
///
/// ```
/// use std::time::Duration;
/// use aqueduct::unix::ConnectOptions;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("service.sock");
/// # let _listener = aqueduct::unix::bind(&path)?;
/// # let _ = r#"
/// let path = "/run/service.sock";
/// # "#;
/// let stream = ConnectOptions::new().wait(Duration::from_secs(60)).connect(&path).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct ConnectOptions {
    limit: Option<Duration>,
    retry: bool,
    allow_foreign_owner: bool,
    pub(super) max_message: Option<usize>,
}

impl ConnectOptions {
    /// Creates the default options.
    ///
    /// A missing server is an error at once, a full backlog after 10 s. The largest message is 1
    /// MiB.
    pub fn new() -> Self {
        Self {
            limit: Some(DEFAULT_LIMIT),
            retry: false,
            allow_foreign_owner: false,
            max_message: None,
        }
    }

    /// Sets how long to wait for the server.
    ///
    /// It waits until the path exists, the server listens, and its backlog has room. `None` waits
    /// without a limit. Zero, the default, tries once. Attempts are 1 ms apart at first and at most
    /// 100 ms.
    pub fn wait(&mut self, limit: impl Into<Option<Duration>>) -> &mut Self {
        let limit = limit.into();
        self.retry = limit != Some(Duration::ZERO);
        self.limit = if self.retry {
            limit
        } else {
            Some(DEFAULT_LIMIT)
        };
        self
    }

    /// Sets the largest message of a [`seqpacket`](super::seqpacket) connection.
    ///
    /// At least 1. Streams ignore it.
    pub fn max_message(&mut self, bytes: usize) -> &mut Self {
        self.max_message = Some(bytes);
        self
    }

    /// Sets whether to connect to any user's socket (off by default).
    ///
    /// By default the path and the listening process must belong to this user, to root, or to the
    /// owner of a directory that no other user can write to. Otherwise another user could plant the
    /// socket, for example in `/tmp`, to eavesdrop. Symbolic links must belong to this user or
    /// root. For an abstract name only the process counts.
    pub fn allow_foreign_owner(&mut self, allow: bool) -> &mut Self {
        self.allow_foreign_owner = allow;
        self
    }

    /// Connects a stream socket.
    ///
    /// # Errors
    ///
    /// - [`NotFound`](OpenErrorKind::NotFound) (`ENOENT`): the path does not exist.
    /// - [`Refused`](OpenErrorKind::Refused) (`ECONNREFUSED`): nothing listens there.
    /// - [`ForeignOwner`](OpenErrorKind::ForeignOwner): another user may have planted it.
    /// - [`WrongType`](OpenErrorKind::WrongType): it is not a socket, or one of another type.
    /// - [`PermissionDenied`](OpenErrorKind::PermissionDenied) (`EACCES`).
    /// - [`TimedOut`](OpenErrorKind::TimedOut): the limit of [`wait`](Self::wait) is over.
    /// - [`InvalidName`](OpenErrorKind::InvalidName), [`NoRuntime`](OpenErrorKind::NoRuntime).
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: nothing is left open.
    pub async fn connect(&self, address: impl AsRef<Path>) -> Result<UnixStream, OpenError> {
        let address = Address::new(address);
        let (fd, attempt) = Box::pin(self.open(address, Type::STREAM)).await?;
        UnixStream::from_std(fd.into()).map_err(|e| attempt.failed(e))
    }

    /// Connects a socket of that type.
    pub(crate) async fn open(
        &self,
        address: Address,
        kind: Type,
    ) -> Result<(OwnedFd, Attempt), OpenError> {
        let attempt = Attempt::new("connect to", kind, address)?;
        attempt.in_runtime()?;
        let mut retry = Retry::new(self.limit, BACKOFF);
        loop {
            let source = match connect(&attempt.address.kernel, kind) {
                Ok(fd) => {
                    self.check_owner(&attempt, &fd)?;
                    tracing::debug!(address = %attempt.object, "connected");
                    return Ok((fd, attempt));
                }
                Err(source) => source,
            };
            let again = match source.raw_os_error() {
                // A full backlog. Unlike with TCP there is nothing to wait for: connect(2) on a
                // non-blocking Unix socket fails at once and does not continue by itself.
                Some(libc::EAGAIN | libc::EINTR) => true,
                Some(libc::ENOENT) => self.retry,
                Some(libc::ECONNREFUSED) => {
                    // The kernel reports this for any other kind of file as well.
                    check_is_socket(&attempt)?;
                    self.retry
                }
                Some(libc::EPROTOTYPE) => return Err(wrong_type(&attempt, kind, source)),
                // `unix_may_send` in the kernel's `net/unix/af_unix.c`.
                Some(libc::EPERM) if kind == Type::DGRAM => {
                    let cause = "it is connected to another socket and receives from that alone";
                    return Err(attempt
                        .error(OpenErrorKind::Refused, cause)
                        .with_cure("choose a socket that is not connected")
                        .with_source(source));
                }
                _ => false,
            };
            if !again {
                return Err(attempt.failed(source));
            }
            if !retry.pause().await {
                return Err(self.timed_out(&attempt, &retry, source));
            }
        }
    }

    /// Refuses a socket that another user may have planted. Nothing was sent to it yet.
    fn check_owner(&self, attempt: &Attempt, socket: &OwnedFd) -> Result<(), OpenError> {
        if self.allow_foreign_owner {
            return Ok(());
        }
        let failed = |e| attempt.failed(e);
        let (trust, foreign) = match attempt.path() {
            Some(path) => match Trust::of_path(path) {
                // A server of one client may have removed it since: only the listening process
                // counts then.
                Err(error) if error.kind() == io::ErrorKind::NotFound => (Trust::new(), None),
                found => found.map_err(failed)?,
            },
            None => (Trust::new(), None),
        };
        let peer = match attempt.kind() {
            Type::DGRAM => receiver_of(attempt, socket)?,
            _ => Some(peer_credentials(socket).map_err(failed)?.uid),
        };
        let peer = peer.filter(|it| !trust.includes(*it));
        match foreign.or(peer) {
            Some(owner) => Err(attempt.foreign(owner)),
            None => Ok(()),
        }
    }

    fn timed_out(&self, attempt: &Attempt, retry: &Retry, source: io::Error) -> OpenError {
        let waited = self.limit.unwrap_or_else(|| retry.elapsed());
        if source.raw_os_error() != Some(libc::EAGAIN) {
            return OpenError::timed_out(attempt.action, &attempt.object, "server", waited)
                .with_source(source);
        }
        let cause = format!("its backlog was full for {waited:?}");
        attempt
            .error(OpenErrorKind::TimedOut { waited }, cause)
            .with_cure("find out why the server does not accept, or wait longer")
            .with_source(source)
    }
}

impl Default for ConnectOptions {
    fn default() -> Self {
        Self::new()
    }
}

fn connect(kernel: &SockAddr, kind: Type) -> io::Result<OwnedFd> {
    let socket = Socket::new(Domain::UNIX, kind.nonblocking(), None)?;
    if kind == Type::DGRAM {
        // Binds to a name that the kernel chooses, so that the receiver can reply (unix(7), autobind).
        socket.bind(&SockAddr::unix("")?)?;
    }
    socket.connect(kernel)?;
    Ok(socket.into())
}

/// Returns the user that owns the receiving socket; `None` if only the owner of its file is known.
fn receiver_of(attempt: &Attempt, socket: &OwnedFd) -> Result<Option<u32>, OpenError> {
    match Diag::open().and_then(|it| it.peer_owner(socket)) {
        Ok(owner) => Ok(Some(owner)),
        Err(_) if attempt.path().is_some() => Ok(None),
        Err(error) => {
            let cause = format!("the kernel does not report its owner (sock_diag: {error})");
            let error = attempt.error(OpenErrorKind::Other, cause);
            Err(error.with_cure("use a path, or allow a foreign owner"))
        }
    }
}

/// The socket at the address is of another type than `kind`.
fn wrong_type(attempt: &Attempt, kind: Type, source: io::Error) -> OpenError {
    // A datagram socket does not notice the probe.
    let takes_datagrams = || match connect(&attempt.address.kernel, Type::DGRAM) {
        Ok(_) => true,
        Err(e) => matches!(e.raw_os_error(), Some(libc::EAGAIN | libc::EPERM)),
    };
    let (found, cure) = match kind {
        Type::DGRAM => (
            "socket of another type",
            "use unix: for a stream socket, unixpacket: for a seqpacket socket",
        ),
        _ if takes_datagrams() => ("datagram socket", "use unixgram:"),
        Type::SEQPACKET => ("stream socket", "use unix:"),
        _ => ("seqpacket socket", "use unixpacket:"),
    };
    attempt
        .error(
            OpenErrorKind::WrongType { found },
            format!("it is a {found}"),
        )
        .with_cure(cure)
        .with_source(source)
}

#[cfg(all(test, not(miri)))]
mod tests {
    use super::*;

    /// A server of one client removes its path as soon as the client has connected.
    #[tokio::test]
    async fn a_path_removed_after_connecting_does_not_refuse_the_server() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("once");
        let _listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let kind = Type::STREAM;
        let attempt = Attempt::new("connect to", kind, Address::Path(path.clone())).unwrap();
        let socket = connect(&attempt.address.kernel, kind).unwrap();
        std::fs::remove_file(&path).unwrap();
        ConnectOptions::new()
            .check_owner(&attempt, &socket)
            .unwrap();
    }
}
