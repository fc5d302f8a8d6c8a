//! [`BindOptions`] and [`Listener`].

use std::fmt::Display;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_core::Stream;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::runtime::Handle;

use super::address::Attempt;
use super::lingering::only_closed_connections;
use crate::connect::{OpenError, OpenErrorKind};
use crate::io::accept::{Accepting, accept};
use crate::io::backoff::{Backoff, Retry};

/// How many connections may wait to be accepted, unless set.
const BACKLOG: u32 = 1024;

/// Between attempts to bind a port that is about to become free.
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(10), Duration::from_millis(500));

/// How often a silent peer is asked before it counts as dead.
const PROBES: u32 = 6;

/// Options for binding a TCP listener.
///
/// # Examples
///
/// ```
/// use aqueduct::tcp::BindOptions;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), aqueduct::OpenError> {
/// let listener = BindOptions::new().bind("localhost:0").await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct BindOptions {
    wait: Option<Duration>,
    accepted: StreamOptions,
}

impl BindOptions {
    /// Creates the default options.
    ///
    /// The backlog is 1,024 connections, and accepted streams have no keep-alive.
    pub fn new() -> Self {
        Self {
            wait: Some(Duration::ZERO),
            accepted: StreamOptions::default(),
        }
    }

    /// Sets how long to wait for a port that only closed connections hold.
    ///
    /// They are left by a server that has exited ([`Lingering`](OpenErrorKind::Lingering)). Zero,
    /// the default, does not wait. `None` waits until they are gone, a minute or two. A port that a
    /// living process uses is an error at once.
    pub fn wait(&mut self, limit: impl Into<Option<Duration>>) -> &mut Self {
        self.wait = limit.into();
        self
    }

    /// Sets keep-alive of accepted streams (off by default).
    ///
    /// See [`ConnectOptions::keepalive`](super::ConnectOptions::keepalive).
    pub fn keepalive(&mut self, silence: impl Into<Option<Duration>>) -> &mut Self {
        self.accepted.keepalive = silence.into();
        self
    }

    /// Sets `TCP_NODELAY` of accepted streams (on by default).
    pub(super) fn nodelay(&mut self, nodelay: bool) -> &mut Self {
        self.accepted.nodelay = nodelay;
        self
    }

    /// Binds the first of the host's addresses that can be bound, and listens.
    ///
    /// # Errors
    ///
    /// - [`InUse`](OpenErrorKind::InUse), or [`Lingering`](OpenErrorKind::Lingering) if only closed
    ///   connections hold the port (`EADDRINUSE`).
    /// - [`NotFound`](OpenErrorKind::NotFound): the host is unknown.
    /// - [`Other`](OpenErrorKind::Other) with `EADDRNOTAVAIL`: this machine does not have the
    ///   address.
    /// - [`PermissionDenied`](OpenErrorKind::PermissionDenied) (`EACCES`).
    /// - [`InvalidName`](OpenErrorKind::InvalidName), [`NoRuntime`](OpenErrorKind::NoRuntime).
    ///
    /// For a name with several addresses, the error is that of the last one.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: nothing is left open.
    pub async fn bind(&self, address: impl Display) -> Result<Listener, OpenError> {
        let attempt = Attempt::parse("bind", &address)?;
        // Boxed, since it is large and rarely runs.
        Box::pin(self.bind_in_time(attempt)).await
    }

    async fn bind_in_time(&self, attempt: Attempt) -> Result<Listener, OpenError> {
        let mut retry = Retry::new(self.wait, BACKOFF);
        let mut told = false;
        loop {
            match self.bind_once(&attempt).await {
                Err(error) if *error.kind() == OpenErrorKind::Lingering => {
                    if !std::mem::replace(&mut told, true) && self.wait != Some(Duration::ZERO) {
                        let address = &attempt.object;
                        tracing::warn!(%address, "waiting for closed connections to free the port");
                    }
                    if !retry.pause().await {
                        return Err(error);
                    }
                }
                bound => return bound,
            }
        }
    }

    /// Tries each address of the host once.
    async fn bind_once(&self, attempt: &Attempt) -> Result<Listener, OpenError> {
        let no_address = "its host has no address";
        let mut result = Err(attempt.error(OpenErrorKind::NotFound, no_address));
        for at in attempt.lookup().await? {
            result = self.bind_at(at).map_err(|e| match e.raw_os_error() {
                Some(libc::EADDRINUSE) if only_closed_connections(at) => attempt.lingering(e),
                _ => attempt.failed(e),
            });
            if result.is_ok() {
                break;
            }
        }
        result
    }

    fn bind_at(&self, at: SocketAddr) -> io::Result<Listener> {
        let socket = new_socket(at)?;
        // A server that restarts may bind its port while connections of its previous run are in
        // TIME_WAIT, which lasts a minute. Both the old and the new listener need it.
        socket.set_reuseaddr(true)?;
        socket.bind(at)?;
        let inner = socket.listen(BACKLOG)?;
        tracing::debug!(at = ?inner.local_addr(), "listening");
        Ok(Listener::new(inner, self.accepted))
    }
}

impl Default for BindOptions {
    fn default() -> Self {
        Self::new()
    }
}

/// A listening TCP socket: a `Stream` of connections.
///
/// A connection that is aborted before it is accepted is skipped, and one that cannot be given its
/// options is closed. If the process or the machine has no free file descriptor, memory or epoll
/// watch (`EMFILE`, `ENFILE`, `ENOBUFS`, `ENOMEM`, `ENOSPC`), accepting pauses, 10 ms at first and
/// at most one second. It logs one `tracing` warning; clients wait meanwhile. Any other error is
/// returned and ends the stream.
///
/// `Listener::try_from(OwnedFd)` takes over a listening socket, such as one from systemd.
///
/// # Examples
///
/// ```
/// use futures_util::StreamExt;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let mut listener = aqueduct::tcp::bind(":0").await?;
/// let client = aqueduct::tcp::connect(listener.local_addr()?).await?;
/// let server = listener.next().await.ok_or("no client")??;
/// # drop((client, server));
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "dropping it closes the port"]
pub struct Listener {
    inner: TcpListener,
    accepted: StreamOptions,
    accepting: Accepting,
}

impl Listener {
    fn new(inner: TcpListener, accepted: StreamOptions) -> Self {
        Self {
            inner,
            accepted,
            accepting: Accepting::default(),
        }
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
    pub async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let prepare = |(stream, peer)| {
            self.accepted.apply(&stream)?;
            Ok((stream, peer))
        };
        accept(|| self.inner.accept(), prepare).await
    }

    /// Returns the address it listens on.
    ///
    /// If port 0 was asked for, it has the port that the kernel chose.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }
}

impl Stream for Listener {
    type Item = io::Result<TcpStream>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        let (inner, accepted) = (&this.inner, this.accepted);
        let prepare = |(stream, _)| {
            accepted.apply(&stream)?;
            Ok(stream)
        };
        this.accepting
            .poll_next(cx, |cx| inner.poll_accept(cx), prepare)
    }
}

impl From<TcpListener> for Listener {
    fn from(inner: TcpListener) -> Self {
        Self::new(inner, StreamOptions::default())
    }
}

impl TryFrom<OwnedFd> for Listener {
    type Error = io::Error;

    /// Takes over a listening TCP socket and sets it to non-blocking mode.
    fn try_from(fd: OwnedFd) -> io::Result<Self> {
        Handle::try_current().map_err(io::Error::other)?;
        let socket = socket2::Socket::from(fd);
        let is_tcp = socket.protocol()? == Some(socket2::Protocol::TCP);
        if !is_tcp || !socket.is_listener()? {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "the descriptor is not a listening TCP socket",
            ));
        }
        socket.set_nonblocking(true)?;
        Ok(TcpListener::from_std(socket.into())?.into())
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inner.as_fd()
    }
}

/// The options of every stream, whichever side opened it.
#[derive(Clone, Copy, Debug)]
pub(super) struct StreamOptions {
    pub(super) nodelay: bool,
    pub(super) keepalive: Option<Duration>,
}

impl StreamOptions {
    pub(super) fn apply(&self, stream: &TcpStream) -> io::Result<()> {
        stream.set_nodelay(self.nodelay)?;
        let Some(silence) = self.keepalive else {
            return Ok(());
        };
        // The kernel's largest values (`MAX_TCP_KEEPIDLE` and `MAX_TCP_KEEPINTVL` in `net/tcp.h`).
        let seconds = |n: Duration| Duration::from_secs(n.as_secs().clamp(1, 32_767));
        let keepalive = TcpKeepalive::new()
            .with_time(seconds(silence))
            .with_interval(seconds(silence / PROBES))
            .with_retries(PROBES);
        SockRef::from(stream).set_tcp_keepalive(&keepalive)
    }
}

impl Default for StreamOptions {
    fn default() -> Self {
        Self {
            nodelay: true,
            keepalive: None,
        }
    }
}

pub(super) fn new_socket(at: SocketAddr) -> io::Result<TcpSocket> {
    if at.is_ipv4() {
        TcpSocket::new_v4()
    } else {
        TcpSocket::new_v6()
    }
}

#[cfg(test)]
mod tests {
    use super::super::ConnectOptions;
    use super::*;

    #[tokio::test]
    async fn nagle_stays_on_both_sides_where_asked_for() {
        let listener = BindOptions::new().nodelay(false).bind(":0").await;
        let listener = listener.expect("a port");
        let at = listener.local_addr().expect("bound");
        let client = ConnectOptions::new().nodelay(false).connect(at).await;
        let client = client.expect("connected");
        let (server, _) = listener.accept().await.expect("accepted");
        for stream in [client, server] {
            assert!(!stream.nodelay().expect("an option"));
        }
    }
}
