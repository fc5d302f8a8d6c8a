//! `tcp://host:port`: the address of a TCP socket, and how it is opened.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures_core::Stream;
use socket2::{SockRef, Type};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use super::connect::ConnectOptions;
use super::listener::{BindOptions, Listener};
use crate::address::{AddressProblem, Capabilities, HostPort, Printer, Query};
use crate::connect::activation::{self, Wanted};
use crate::connect::{
    Accept, Asked, Bound, ByteStream, Connection, End, Endpoint, Half, Mechanism, OpenError,
    Opening, Peer, Place, Rest, Scheme, Served, SocketHalf,
};
use crate::frame::{Framing, Pace};
use crate::io::sys;

pub(crate) static SCHEME: Scheme = Scheme {
    name: "tcp",
    form: "tcp://host:port",
    summary: "TCP socket; port 0 binds any free one",
    options: &["frame", "nodelay"],
    synonyms: &["inet"],
    parse: |rest, query| Ok(Arc::new(Tcp::parse(rest, query)?)),
};

#[derive(Clone, Debug)]
struct Tcp {
    at: HostPort,
    nodelay: Option<bool>,
}

impl Tcp {
    fn parse(rest: &[u8], query: &Query) -> Result<Self, AddressProblem> {
        Ok(Self {
            at: HostPort::parse(rest)?,
            nodelay: query.boolean("nodelay")?,
        })
    }
}

impl Mechanism for Tcp {
    fn print(&self, printer: &mut Printer) {
        self.at.print(printer);
        printer.option("nodelay", self.nodelay);
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::BYTE_STREAM
    }

    fn place(&self, _: End) -> Option<Place> {
        Some(Place::Port {
            protocol: "tcp",
            host: self.at.host.clone(),
            port: self.at.port,
        })
    }

    fn connect<'a>(&'a self, asked: Asked<'a>) -> Opening<'a, Connection> {
        Box::pin(async move {
            let mut options = ConnectOptions::new();
            options.wait(asked.options.wait);
            if let Some(nodelay) = self.nodelay {
                options.nodelay(nodelay);
            }
            let stream = options.connect(self.at.to_string()).await?;
            let framing = asked.options.framing.clone();
            Ok(connection(stream, framing).polled(asked.options.poll_for))
        })
    }

    fn bind<'a>(&'a self, asked: Asked<'a>) -> Opening<'a, Served> {
        Box::pin(async move {
            let address = self.at.to_string();
            if activation::is_used() {
                let found = tokio::net::lookup_host(&address).await;
                let wanted = Wanted::Ip {
                    at: found.map(Iterator::collect).unwrap_or_default(),
                    kind: Type::STREAM,
                };
                if let Some((fd, name)) = activation::take(&wanted) {
                    let mut served = serve(fd, asked)?;
                    served.bound.activation_name = Some(name);
                    return Ok(served);
                }
            }
            let mut options = BindOptions::new();
            options.wait(asked.options.wait);
            if let Some(nodelay) = self.nodelay {
                options.nodelay(nodelay);
            }
            let listener = options.bind(address).await?;
            let at = listener.local_addr().map_err(|e| asked.failed(e))?;
            Ok(served(listener, at, self.nodelay, false, asked))
        })
    }
}

/// Serves a listening socket that was passed down.
pub(crate) fn serve(fd: OwnedFd, asked: Asked<'_>) -> Result<Served, OpenError> {
    let failed = |e| asked.failed(e);
    let listener = Listener::try_from(fd).map_err(failed)?;
    let at = listener.local_addr().map_err(failed)?;
    Ok(served(listener, at, None, true, asked))
}

fn served(
    listener: Listener,
    at: SocketAddr,
    nodelay: Option<bool>,
    shared: bool,
    asked: Asked<'_>,
) -> Served {
    let accepting = Accepting {
        listener,
        framing: asked.options.framing.clone(),
        shared,
    };
    let local = Arc::new(Tcp {
        at: at.into(),
        nodelay,
    });
    Served {
        bound: Bound::new(accepting, asked.address, asked.options.poll_for),
        local: Some(Endpoint::from_parts(&SCHEME, local)),
    }
}

struct Accepting {
    listener: Listener,
    framing: Framing,
    /// Others accept from it too, now or later: it was passed down.
    shared: bool,
}

impl Accept for Accepting {
    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Connection>>> {
        let next = ready!(Pin::new(&mut self.listener).poll_next(cx));
        Poll::Ready(next.map(|it| it.map(|stream| connection(stream, self.framing.clone()))))
    }

    fn refuse(&self) -> bool {
        // TCP cannot refuse: waiting clients are served, and then the socket is closed.
        !self.shared
    }

    fn accept_now(&mut self) -> io::Result<Option<Connection>> {
        let fd = self.listener.as_fd();
        match SockRef::from(&fd).accept4(libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK) {
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(None),
            accepted => {
                let stream = TcpStream::from_std(accepted?.0.into())?;
                Ok(Some(connection(stream, self.framing.clone())))
            }
        }
    }
}

fn connection(stream: TcpStream, framing: Framing) -> Connection {
    let peer = stream.peer_addr().map_or(Peer::Unknown, Peer::Address);
    let (reader, writer) = stream.into_split();
    let bytes = ByteStream::socket(reader, writer);
    Connection::bytes(bytes, framing, Pace::default(), peer)
}

/// An end of the other direction is the only message that TCP has for a peer.
impl Half for OwnedReadHalf {
    fn stop(&mut self) -> Rest {
        Rest::Comes
    }

    fn undelivered(&self) -> io::Result<usize> {
        // A peer that has closed resets the connection when something arrives.
        let stream = self.as_ref();
        let waiting = sys::unsent(stream)?;
        stream.take_error()?.map_or(Ok(waiting), Err)
    }

    fn duplicate(&self) -> Option<OwnedFd> {
        let stream: &TcpStream = self.as_ref();
        stream.as_fd().try_clone_to_owned().ok()
    }
}

impl SocketHalf for OwnedReadHalf {
    type Writer = OwnedWriteHalf;

    fn descriptor(&self) -> BorrowedFd<'_> {
        self.as_ref().as_fd()
    }

    fn keep_open(writer: OwnedWriteHalf) {
        writer.forget();
    }
}
