use std::fmt::{self, Debug, Formatter};
use std::io;
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_core::Stream;
use socket2::SockRef;
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::Mutex;
use tokio::time::timeout;

use super::byte_stream::ByteStream;
use super::clients::Clients;
use super::lasting::{Connector, Lasting};
use super::{Connection, Error, Incoming, Outgoing, Peer};
use crate::endpoint::Endpoint;
use crate::frame::{Framing, Pace};
use crate::unix::{peer_credentials, seqpacket};
use crate::{tcp, unix};

/// A two-way endpoint that is served: a `Stream` of [`Connection`]s.
///
/// While descriptors or memory are short (`EMFILE` and its like) accepting pauses and goes on; a
/// connection that was aborted before it was accepted is passed over. Any other error is given out
/// and ends the stream.
///
/// `exec:`, `stdio:` and a connected socket in `fd:` have one connection, and then the stream ends:
/// what serves a socket so serves one peer, as a service under inetd does.
///
/// # Cancel safety
///
/// Dropping a future of `next()` or [`accept`](Self::accept) loses no connection.
#[must_use = "dropping it closes the endpoint"]
pub struct Listener {
    inner: Inner,
    framing: Framing,
    local: Endpoint,
    name: Option<String>,
    /// Whether others accept from it too, now or later: it was handed down.
    shared: bool,
    poll_for: Duration,
}

pub(super) enum Inner {
    Tcp(tcp::Listener),
    Unix(unix::Listener),
    Packets(seqpacket::Listener),
    Once(Option<Box<Connection>>),
}

impl Listener {
    pub(super) fn new(inner: Inner, framing: Framing, local: Endpoint) -> Self {
        Self {
            inner,
            framing,
            local,
            name: None,
            shared: false,
            poll_for: Duration::ZERO,
        }
    }

    /// Its connections receive in latency mode, if the limit says so.
    pub(super) fn polled(mut self, limit: Duration) -> Self {
        self.poll_for = limit;
        self
    }

    pub(super) fn shared(mut self) -> Self {
        self.shared = true;
        self
    }

    /// Refuses who comes from now on, as far as the mechanism can; whether those who wait already
    /// are to be accepted still. Those of a socket that was handed down are left to whoever
    /// accepts from it next.
    pub(super) fn refuse(&self) -> bool {
        // Of a Unix socket connect(2) fails with ECONNREFUSED from then on, and accept(2) with
        // EINVAL when nobody is left (`unix_stream_connect` in `net/unix/af_unix.c`). TCP has no
        // such thing.
        let refused = match &self.inner {
            _ if self.shared => return false,
            Inner::Unix(listener) => SockRef::from(listener).shutdown(Shutdown::Read),
            Inner::Packets(listener) => SockRef::from(listener).shutdown(Shutdown::Read),
            Inner::Tcp(_) => Ok(()),
            Inner::Once(_) => return false,
        };
        refused.is_ok()
    }

    /// Accepts one of those who wait, also where the runtime does not know of it yet; `None` if
    /// there is none. For a listener that refuses: of such a Unix socket epoll(7) says for ever
    /// that it is readable, and accept(2) `EAGAIN`.
    pub(super) fn accept_now(&mut self) -> io::Result<Option<Connection>> {
        let fd = match &self.inner {
            Inner::Tcp(listener) => listener.as_fd(),
            Inner::Unix(listener) => listener.as_fd(),
            Inner::Packets(listener) => listener.as_fd(),
            Inner::Once(_) => return Ok(None),
        };
        let flags = libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        let socket = match SockRef::from(&fd).accept4(flags) {
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            accepted => accepted?.0,
        };
        let framing = self.framing.clone();
        let accepted = match &self.inner {
            Inner::Tcp(_) => tcp_connection(TcpStream::from_std(socket.into())?, framing),
            Inner::Unix(_) => unix_connection(UnixStream::from_std(socket.into())?, framing)?,
            _ => {
                let max_message = framing.get_max_frame();
                let socket = seqpacket::Socket::from_shared(socket.into(), max_message)?;
                Connection::packets(socket, framing)
            }
        };
        Ok(Some(accepted.polled(self.poll_for)))
    }

    pub(super) fn activated_as(mut self, name: String) -> Self {
        self.name = Some(name);
        self
    }

    /// Accepts one connection; `None` when there will be no more.
    ///
    /// # Errors
    ///
    /// What the system says of `accept(2)`, where that does not pass.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: no connection is lost.
    pub async fn accept(&mut self) -> Option<io::Result<Connection>> {
        std::future::poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await
    }

    /// What to connect to, to reach this: the endpoint that was bound, for TCP with the address
    /// and port that the system chose where a name or port 0 was asked for.
    pub fn local_endpoint(&self) -> &Endpoint {
        &self.local
    }

    /// The name that the service manager gave to the socket in `LISTEN_FDNAMES`, if this socket
    /// came from it; empty where it gave none. `None`: it was bound here.
    pub fn activation_name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// Receives from all clients at the same time, as one stream of messages.
    ///
    /// - It has no end of its own; [`Incoming::stop`] and [`Incoming::limit`] end it.
    /// - The messages of one client come in order; those of several as they arrive. Nothing is
    ///   ever sent to a client.
    /// - A client that breaks off or sends what is no message costs its own connection only; a
    ///   warning through `tracing` tells of it. An error of accepting is an item, and the stream
    ///   ends when the clients that are there have ended.
    /// - At most [`DEFAULT_MAX_CLIENTS`](super::DEFAULT_MAX_CLIENTS) are served at a time; more
    ///   wait to be accepted.
    pub fn into_incoming(self) -> Incoming {
        match self.inner {
            Inner::Once(Some(connection)) => connection.into_incoming(),
            _ => {
                let local = self.local.clone();
                Incoming::new(Clients::new(self)).bound_to(local)
            }
        }
    }
}

impl Listener {
    /// Sends to one client after another: to the first one who connects, and when that has gone, or
    /// has ended its own direction, to the next.
    ///
    /// It is the bound side of [`Options::reconnect`](super::Options::reconnect), and promises the
    /// same. Each time a client is waited for as long as `wait` says; `None`: for ever.
    pub fn into_outgoing(self, wait: Option<Duration>) -> Outgoing {
        let local = self.local.clone();
        let endpoint = local.clone();
        let listener = Arc::new(Mutex::new(self));
        let next: Connector = Box::new(move || {
            let (listener, endpoint) = (Arc::clone(&listener), endpoint.clone());
            Box::pin(async move {
                let mut listener = listener.lock().await;
                let accepting = listener.accept();
                let accepted = match wait {
                    None => accepting.await,
                    Some(waited) => {
                        timeout(waited, accepting)
                            .await
                            .map_err(|_| Error::TimedOut {
                                endpoint,
                                peer: "client",
                                waited,
                                source: None,
                            })?
                    }
                };
                let over = "no client can come any more";
                accepted.unwrap_or_else(|| Err(io::Error::new(io::ErrorKind::BrokenPipe, over)))
            })
        });
        Outgoing::lasting(Lasting::new(local, next, None))
    }
}

impl Stream for Listener {
    type Item = io::Result<Connection>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        let framing = || this.framing.clone();
        let next = match &mut this.inner {
            Inner::Tcp(listener) => {
                let next = ready!(Pin::new(listener).poll_next(cx));
                next.map(|it| it.map(|stream| tcp_connection(stream, framing())))
            }
            Inner::Unix(listener) => {
                let next = ready!(Pin::new(listener).poll_next(cx));
                next.map(|it| it.and_then(|stream| unix_connection(stream, framing())))
            }
            Inner::Packets(listener) => {
                let next = ready!(Pin::new(listener).poll_next(cx));
                next.map(|it| it.map(|socket| Connection::packets(socket, framing())))
            }
            Inner::Once(connection) => connection.take().map(|it| Ok(*it)),
        };
        let poll_for = this.poll_for;
        Poll::Ready(next.map(|it| it.map(|connection| connection.polled(poll_for))))
    }
}

impl Debug for Listener {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listener")
            .field("local", &self.local)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

pub(super) fn tcp_connection(stream: TcpStream, framing: Framing) -> Connection {
    let peer = stream.peer_addr().map_or(Peer::Unknown, Peer::Tcp);
    let (reader, writer) = stream.into_split();
    let bytes = ByteStream::of(reader, writer);
    Connection::bytes(bytes, framing, Pace::default(), peer)
}

pub(super) fn unix_connection(stream: UnixStream, framing: Framing) -> io::Result<Connection> {
    let peer = peer_credentials(&stream).map_or(Peer::Unknown, Peer::Unix);
    let (reader, writer) = unix::into_split(stream)?;
    let bytes = ByteStream::of(reader, writer);
    Ok(Connection::bytes(bytes, framing, Pace::default(), peer))
}
