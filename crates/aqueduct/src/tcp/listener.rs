//! [`BindOptions`] and [`Listener`].

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_core::Stream;
use socket2::SockRef;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::runtime::Handle;

use super::{Address, Error, Keepalive};
use crate::io::accept::{Accepting, accept};

/// How many connections may wait to be accepted, unless set. The kernel's own limit is
/// `net.core.somaxconn`.
pub const DEFAULT_BACKLOG: u32 = 1024;

/// How to bind a TCP listener.
///
/// # Examples
///
/// ```
/// use aqueduct::tcp::BindOptions;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), aqueduct::tcp::Error> {
/// let listener = BindOptions::new().backlog(16).bind("localhost:0").await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct BindOptions {
    backlog: u32,
    reuse_address: bool,
    accepted: StreamOptions,
}

impl BindOptions {
    /// The defaults: [`DEFAULT_BACKLOG`], `SO_REUSEADDR`, accepted streams with `TCP_NODELAY` and
    /// without keep-alive.
    pub fn new() -> Self {
        Self {
            backlog: DEFAULT_BACKLOG,
            reuse_address: true,
            accepted: StreamOptions::default(),
        }
    }

    /// Sets how many connections may wait to be accepted. When that many wait, further clients
    /// hang until their own time limit; they are not refused.
    pub fn backlog(&mut self, backlog: u32) -> &mut Self {
        self.backlog = backlog;
        self
    }

    /// Sets `SO_REUSEADDR` (on by default): a server that restarts may bind its port while
    /// connections of its former life are in `TIME_WAIT`, which take a minute to go. Both the
    /// former and the new listener need it.
    pub fn reuse_address(&mut self, reuse: bool) -> &mut Self {
        self.reuse_address = reuse;
        self
    }

    /// Sets `TCP_NODELAY` of accepted streams (on by default).
    pub fn nodelay(&mut self, nodelay: bool) -> &mut Self {
        self.accepted.nodelay = nodelay;
        self
    }

    /// Sets keep-alive of accepted streams (off by default).
    pub fn keepalive(&mut self, keepalive: impl Into<Option<Keepalive>>) -> &mut Self {
        self.accepted.keepalive = keepalive.into();
        self
    }

    /// Looks the host up, binds the first of its addresses that can be bound, and listens.
    ///
    /// # Errors
    ///
    /// [`Error::BadAddress`], [`Error::Lookup`], [`Error::InUse`], [`Error::NotLocal`],
    /// [`Error::PermissionDenied`]; [`Error::Io`] for the rest, outside a runtime too. Where a
    /// name has several addresses the error is that of the last one.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: what was opened is closed.
    pub async fn bind<A>(&self, address: A) -> Result<Listener, Error>
    where
        A: TryInto<Address>,
        Error: From<A::Error>,
    {
        let address = address.try_into()?;
        in_runtime(&address)?;
        let mut result = Err(Error::BadAddress {
            address: address.to_string(),
            reason: "its host has no address",
        });
        for at in address.lookup().await? {
            result = self.bind_at(&address, at);
            if result.is_ok() {
                break;
            }
        }
        result
    }

    fn bind_at(&self, address: &Address, at: SocketAddr) -> Result<Listener, Error> {
        let failed = |action| move |e| Error::from_bind(address, action, e);
        let socket = new_socket(at).map_err(failed("socket"))?;
        socket
            .set_reuseaddr(self.reuse_address)
            .map_err(failed("SO_REUSEADDR"))?;
        socket.bind(at).map_err(failed("bind"))?;
        let inner = socket.listen(self.backlog).map_err(failed("listen"))?;
        // A value that the kernel refuses shows here, not at each connection.
        if let Some(keepalive) = &self.accepted.keepalive {
            let socket = SockRef::from(&inner);
            socket
                .set_tcp_keepalive(&keepalive.params())
                .map_err(failed("SO_KEEPALIVE"))?;
        }
        tracing::debug!(%address, at = ?inner.local_addr(), "listening");
        Ok(Listener::new(inner, self.accepted))
    }
}

impl Default for BindOptions {
    fn default() -> Self {
        Self::new()
    }
}

/// A TCP socket that listens: a `Stream` of connections.
///
/// A connection that was aborted before it was accepted is passed over, and one that cannot be given
/// its options is closed. While the process or the machine has no free descriptor, memory or epoll
/// watch (`EMFILE`, `ENFILE`, `ENOBUFS`, `ENOMEM`, `ENOSPC`) accepting pauses, 10 ms at first and at
/// most one second, and says so once through `tracing`; the clients wait meanwhile. Any other error is given out and ends the stream.
///
/// `Listener::try_from(OwnedFd)` takes over a listening socket, from systemd for one.
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
    /// Those that do not pass; see [`Listener`].
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

    /// The address this listens on: with the port the kernel chose, where 0 was asked for.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }

    /// Tokio's listener. What is accepted through it has none of the options.
    pub fn get_ref(&self) -> &TcpListener {
        &self.inner
    }

    /// Gives Tokio's listener back.
    pub fn into_inner(self) -> TcpListener {
        self.inner
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

    /// Takes over a listening TCP socket and puts it into non-blocking mode.
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

/// What every stream gets, whichever side opened it.
#[derive(Clone, Copy, Debug)]
pub(super) struct StreamOptions {
    pub(super) nodelay: bool,
    pub(super) keepalive: Option<Keepalive>,
}

impl StreamOptions {
    pub(super) fn apply(&self, stream: &TcpStream) -> io::Result<()> {
        stream.set_nodelay(self.nodelay)?;
        match &self.keepalive {
            Some(keepalive) => SockRef::from(stream).set_tcp_keepalive(&keepalive.params()),
            None => Ok(()),
        }
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

/// An error where Tokio would panic.
pub(super) fn in_runtime(address: &Address) -> Result<(), Error> {
    match Handle::try_current() {
        Ok(_) => Ok(()),
        Err(e) => Err(Error::Io {
            address: address.clone(),
            action: "finding the Tokio runtime",
            source: io::Error::other(e),
        }),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::{FutureExt, StreamExt};
    use tokio::io::AsyncReadExt;

    use super::*;

    /// It ended the stream, and a service with it.
    #[tokio::test]
    async fn a_connection_that_cannot_be_given_its_options_costs_itself_alone() {
        let mut listener = BindOptions::new().bind("127.0.0.1:0").await.expect("bound");
        let at = listener.local_addr().expect("an address");
        // No question at all is nothing the kernel knows (tcp(7)); `bind` would have refused it.
        listener.accepted.keepalive = Some(Keepalive::new().count(0));

        let mut refused = TcpStream::connect(at).await.expect("connected");
        let mut task = tokio_test::task::spawn(listener);
        let read = async {
            while task.poll_next().is_pending() {
                match refused.read(&mut [0; 1]).now_or_never() {
                    None => tokio::task::yield_now().await,
                    Some(read) => return read,
                }
            }
            panic!("it was given out, or an error of it was")
        };
        let read = tokio::time::timeout(Duration::from_secs(30), read).await;
        assert_eq!(read.expect("closed").expect("in order"), 0);

        task.accepted.keepalive = None;
        let _good = TcpStream::connect(at).await.expect("connected");
        let next = tokio::time::timeout(Duration::from_secs(30), task.next()).await;
        next.expect("in time")
            .expect("it goes on")
            .expect("a connection");
    }
}
