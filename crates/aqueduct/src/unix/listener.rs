//! [`Listener`].

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixListener as StdListener;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_core::Stream;
use socket2::{Domain, Socket, Type};
use tokio::net::unix::SocketAddr;
use tokio::net::{UnixListener, UnixStream};
use tokio::runtime::Handle;

use super::claim::Claim;
use crate::io::accept::{Accepting, accept};

/// A Unix stream socket that listens: a `Stream` of connections.
///
/// A connection that was aborted before it was accepted is passed over. While the process or the
/// machine has no free descriptor, memory or epoll watch (`EMFILE`, `ENFILE`, `ENOBUFS`, `ENOMEM`,
/// `ENOSPC`) accepting pauses, 10 ms at first and at most one second, and says so once through
/// `tracing`; the clients wait meanwhile. Any other error is given out and ends the stream.
///
/// Dropping it removes its file and lock file; see the [module](super).
///
/// `Listener::try_from(OwnedFd)` takes over a listening socket, from systemd for one; then no file
/// is removed.
#[derive(Debug)]
#[must_use = "dropping it closes the socket and removes its file"]
pub struct Listener {
    // Dropped first: see `Claim`.
    claim: Option<Claim>,
    inner: UnixListener,
    accepting: Accepting,
}

impl Listener {
    pub(super) fn new(fd: OwnedFd, claim: Option<Claim>) -> io::Result<Self> {
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
    /// Those that do not pass; see [`Listener`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: no connection is lost.
    pub async fn accept(&self) -> io::Result<(UnixStream, SocketAddr)> {
        accept(|| self.inner.accept(), Ok).await
    }

    /// The address this is bound to.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }

    /// Whether dropping this removes files.
    pub fn owns_path(&self) -> bool {
        self.claim.is_some()
    }

    /// Tokio's listener.
    pub fn get_ref(&self) -> &UnixListener {
        &self.inner
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

    /// Takes over a listening Unix stream socket and puts it into non-blocking mode.
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
