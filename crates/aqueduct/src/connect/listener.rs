use std::fmt::{self, Debug, Formatter};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_core::Stream;
use tokio::net::{TcpStream, UnixStream};

use super::byte_stream::ByteStream;
use super::clients::Clients;
use super::{Connection, Incoming, Peer};
use crate::endpoint::Endpoint;
use crate::frame::Framing;
use crate::unix::{peer_credentials, seqpacket};
use crate::{tcp, unix};

/// How many bytes one read or write of a socket moves at most: 64 KiB.
pub(super) const SOCKET_CHUNK: usize = 64 * 1024;

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
        }
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
            _ => Incoming::new(Clients::new(self)),
        }
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
                next.map(|it| it.map(|stream| unix_connection(stream, framing())))
            }
            Inner::Packets(listener) => {
                let next = ready!(Pin::new(listener).poll_next(cx));
                next.map(|it| it.map(|socket| Connection::packets(socket, framing())))
            }
            Inner::Once(connection) => connection.take().map(|it| Ok(*it)),
        };
        Poll::Ready(next)
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
    let bytes = ByteStream::join(reader, writer);
    Connection::bytes(bytes, framing, SOCKET_CHUNK, peer)
}

pub(super) fn unix_connection(stream: UnixStream, framing: Framing) -> Connection {
    let peer = peer_credentials(&stream).map_or(Peer::Unknown, Peer::Unix);
    let (reader, writer) = stream.into_split();
    let bytes = ByteStream::join(reader, writer);
    Connection::bytes(bytes, framing, SOCKET_CHUNK, peer)
}
