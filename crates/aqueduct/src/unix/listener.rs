//! [`Listener`] of stream sockets.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::SocketAddr as StdSocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_core::Stream;
use socket2::{Domain, SockAddr, SockRef, Socket, Type};
use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::net::unix::SocketAddr;
use tokio::runtime::Handle;

use super::address::Address;
use super::bind::BindOptions;
use super::claim::Claim;
use super::watch::SocketWatch;
use crate::connect::OpenError;
use crate::io::accept::{Accepting, accept};
use crate::io::source::{Direction, Source};

/// A listening Unix stream socket: a `Stream` of connections.
///
/// A connection that is aborted before it is accepted is skipped. If the process or the machine has
/// no free file descriptor, memory or epoll watch (`EMFILE`, `ENFILE`, `ENOBUFS`, `ENOMEM`,
/// `ENOSPC`), accepting pauses, 10 ms at first and at most one second. It logs one `tracing`
/// warning; clients wait meanwhile. Any other error is returned and ends the stream.
///
/// Dropping it removes its file and lock file; see the [module](super).
///
/// `Listener::try_from(OwnedFd)` takes over a listening socket, such as one from systemd. Then no
/// file is removed.
///
/// # Examples
///
/// ```
/// use futures_util::StreamExt;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("service.sock");
/// let mut listener = aqueduct::unix::bind(&path)?;
/// let client = aqueduct::unix::connect(&path).await?;
/// let server = listener.next().await.ok_or("no client")??;
/// # drop((client, server));
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "dropping it closes the socket and removes its file"]
pub struct Listener {
    // Dropped first: see `Claim`.
    claim: Option<Claim>,
    source: Source,
    accepting: Accepting,
}

impl BindOptions {
    /// Binds a stream socket and listens.
    ///
    /// It makes some system calls on the file system and does not wait for anything else.
    ///
    /// # Errors
    ///
    /// - [`InUse`](crate::OpenErrorKind::InUse): a running server uses the path.
    /// - [`WrongType`](crate::OpenErrorKind::WrongType): something other than a socket is at the
    ///   path.
    /// - [`NotFound`](crate::OpenErrorKind::NotFound) (`ENOENT`): the directory does not exist.
    /// - [`PermissionDenied`](crate::OpenErrorKind::PermissionDenied) (`EACCES`).
    /// - [`InvalidName`](crate::OpenErrorKind::InvalidName), and
    ///   [`InvalidOption`](crate::OpenErrorKind::InvalidOption) for the mode.
    /// - [`NoRuntime`](crate::OpenErrorKind::NoRuntime).
    pub fn bind(&self, address: impl AsRef<Path>) -> Result<Listener, OpenError> {
        self.bind_to(Address::new(address))
    }

    pub(super) fn bind_to(&self, address: Address) -> Result<Listener, OpenError> {
        let (fd, claim, attempt) = self.open(address, Type::STREAM)?;
        Listener::new(fd, claim).map_err(|e| attempt.failed(e))
    }
}

impl Listener {
    fn new(fd: OwnedFd, claim: Option<Claim>) -> io::Result<Self> {
        Ok(Self {
            claim,
            source: Source::socket(fd, Interest::READABLE)?,
            accepting: Accepting::default(),
        })
    }

    /// Accepts one connection. Any number of tasks may wait at once.
    ///
    /// # Errors
    ///
    /// Errors that are not temporary; see [`Listener`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: no connection is lost.
    pub async fn accept(&self) -> io::Result<(UnixStream, SocketAddr)> {
        let one = || self.source.io(Interest::READABLE, accept_now);
        let prepare = |(socket, address): (OwnedFd, SockAddr)| {
            let address = from_kernel(&address)?;
            Ok((UnixStream::from_std(socket.into())?, address.into()))
        };
        accept(one, prepare).await
    }

    /// Polls for the next connection, which is not registered with the runtime yet.
    pub(super) fn poll_socket(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<OwnedFd>>> {
        self.poll_prepared(cx, Ok)
    }

    fn poll_prepared<T>(
        &mut self,
        cx: &mut Context<'_>,
        mut prepare: impl FnMut(OwnedFd) -> io::Result<T>,
    ) -> Poll<Option<io::Result<T>>> {
        let source = &self.source;
        self.accepting.poll_next(
            cx,
            |cx| source.poll_io(cx, Direction::Read, accept_now),
            |(socket, _)| prepare(socket),
        )
    }
}

impl Listener {
    /// Watches whether the path still leads to this socket, if it created the path.
    pub(super) fn watch_name(&self, every: Duration) -> Option<SocketWatch> {
        self.claim.as_ref()?.watch(every)
    }
}

impl Stream for Listener {
    type Item = io::Result<UnixStream>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_prepared(cx, |socket| UnixStream::from_std(socket.into()))
    }
}

impl TryFrom<OwnedFd> for Listener {
    type Error = io::Error;

    /// Takes over a listening Unix stream socket and sets it to non-blocking mode.
    fn try_from(fd: OwnedFd) -> io::Result<Self> {
        Self::new(adopt_listener(fd, Type::STREAM)?, None)
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.source.as_fd()
    }
}

/// Accepts a connection, in non-blocking mode.
pub(super) fn accept_now(fd: BorrowedFd<'_>) -> io::Result<(OwnedFd, SockAddr)> {
    let flags = libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    let (socket, address) = SockRef::from(&fd).accept4(flags)?;
    Ok((socket.into(), address))
}

/// The address of a client, which has none unless it was bound.
fn from_kernel(address: &SockAddr) -> io::Result<StdSocketAddr> {
    match address.as_abstract_namespace() {
        Some(name) => StdSocketAddr::from_abstract_name(name),
        None => StdSocketAddr::from_pathname(address.as_pathname().unwrap_or(Path::new(""))),
    }
}

/// Checks that `fd` is a listening Unix socket of `kind`, and makes it non-blocking.
pub(super) fn adopt_listener(fd: OwnedFd, kind: Type) -> io::Result<OwnedFd> {
    Handle::try_current().map_err(io::Error::other)?;
    let socket = Socket::from(fd);
    let fits = socket.domain()? == Domain::UNIX && socket.r#type()? == kind;
    if !fits || !socket.is_listener()? {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("the descriptor is not a listening Unix socket of type {kind:?}"),
        ));
    }
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

#[cfg(all(test, not(miri)))]
mod tests {
    use std::os::unix::ffi::OsStrExt;

    use super::*;

    const DEADLINE: Duration = Duration::from_secs(30);

    #[tokio::test]
    async fn accept_tells_the_address_of_a_client_that_has_one() {
        let dir = tempfile::tempdir().unwrap();
        let listener = BindOptions::new().bind(dir.path().join("server")).unwrap();
        let server = SockAddr::unix(dir.path().join("server")).unwrap();
        let path = dir.path().join("client");
        let name = format!("aqueduct-client-{}", std::process::id());
        let (named, abstract_one) = (path.as_os_str().as_bytes(), format!("\0{name}"));
        for own in [&b""[..], named, abstract_one.as_bytes()] {
            let client = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
            if !own.is_empty() {
                let own = std::ffi::OsStr::from_bytes(own);
                client.bind(&SockAddr::unix(own).unwrap()).unwrap();
            }
            client.connect(&server).unwrap();
            let accepted = tokio::time::timeout(DEADLINE, listener.accept()).await;
            let (_, address) = accepted.unwrap().unwrap();
            match own {
                [] => assert!(address.is_unnamed(), "{address:?}"),
                [0, ..] => assert_eq!(address.as_abstract_name(), Some(name.as_bytes())),
                _ => assert_eq!(address.as_pathname(), Some(&*path)),
            }
        }
    }
}
