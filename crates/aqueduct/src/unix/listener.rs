//! [`Listener`] of stream sockets.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixListener as StdListener;
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_core::Stream;
use socket2::{Domain, Socket, Type};
use tokio::net::unix::SocketAddr;
use tokio::net::{UnixListener, UnixStream};
use tokio::runtime::Handle;

use super::address::Address;
use super::bind::BindOptions;
use super::claim::Claim;
use super::watch::SocketWatch;
use crate::connect::OpenError;
use crate::io::accept::{Accepting, accept};

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
    inner: UnixListener,
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
            inner: UnixListener::from_std(StdListener::from(fd))?,
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
        accept(|| self.inner.accept(), Ok).await
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
        let this = &mut *self;
        let (inner, stream) = (&this.inner, |(stream, _)| Ok(stream));
        this.accepting
            .poll_next(cx, |cx| inner.poll_accept(cx), stream)
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
        self.inner.as_fd()
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
