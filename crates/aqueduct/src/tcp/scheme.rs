//! `tcp://host:port`: the address of a TCP socket, and how it is opened.

use std::io;
use std::net::{Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures_core::Stream;
use socket2::SockRef;
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use super::address::Address;
use super::connect::ConnectOptions;
use super::listener::{BindOptions, Listener};
use crate::address::{AddressProblem, Capabilities, Printer, Query, escape};
use crate::connect::activation::{self, Wanted};
use crate::connect::{
    Accept, Asked, Bound, ByteStream, Connection, End, Endpoint, Half, Mechanism, OpenError,
    Opening, Peer, Place, Rest, Scheme, Served, SocketHalf,
};
use crate::frame::{Framing, Pace};
use crate::io::sys;

const HOST: &str = "a host name, an IPv4 address or an IPv6 address in brackets; 127.0.0.1 is this \
                    machine alone, 0.0.0.0 binds every interface";
const PORT: &str = "a colon and a number from 0 to 65535, 0 standing for any free port";

pub(crate) static SCHEME: Scheme = Scheme {
    name: "tcp",
    form: "tcp://host:port",
    summary: "TCP socket; port 0 binds any free one",
    options: &["frame", "nodelay"],
    synonyms: &["inet"],
    parse: |rest, query| Ok(Arc::new(Tcp::parse(rest, query)?)),
};

/// A host, without the brackets of an IPv6 address, and a port; 0 stands for any free one.
#[derive(Clone, Debug)]
struct Tcp {
    host: String,
    port: u16,
    nodelay: Option<bool>,
}

impl Tcp {
    fn parse(rest: &[u8], query: &Query) -> Result<Self, AddressProblem> {
        let rest = escape::decode(rest)?;
        let rest = String::from_utf8_lossy(&rest);
        let (host, port) = match rest.strip_prefix('[') {
            Some(inner) => {
                let split = inner.split_once(']').filter(|(host, _)| is_ipv6(host));
                split.ok_or_else(|| invalid("host", &rest, HOST))?
            }
            None => {
                let (host, port) = rest.split_at(rest.rfind(':').unwrap_or(rest.len()));
                if !is_name(host) {
                    return Err(invalid("host", host, HOST));
                }
                (host, port)
            }
        };
        let digits = port.strip_prefix(':').unwrap_or_default();
        let valid = digits.bytes().all(|b| b.is_ascii_digit());
        let number = digits.parse().ok().filter(|_| valid);
        Ok(Self {
            host: host.to_owned(),
            port: number.ok_or_else(|| invalid("port", port, PORT))?,
            nodelay: query.boolean("nodelay")?,
        })
    }

    /// `host:port`, an IPv6 address in brackets.
    fn address(&self) -> String {
        let (host, port) = (self.host.clone(), self.port);
        Address { host, port }.to_string()
    }
}

impl Mechanism for Tcp {
    fn print(&self, printer: &mut Printer) {
        if self.host.contains(':') {
            printer.literal("[");
            printer.rest(self.host.as_ref(), b"");
            printer.literal("]");
        } else {
            printer.rest(self.host.as_ref(), b"");
        }
        printer.literal(":");
        printer.literal(&self.port.to_string());
        printer.option("nodelay", self.nodelay);
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::BYTE_STREAM
    }

    fn place(&self, _: End) -> Option<Place> {
        Some(Place::Port {
            protocol: "tcp",
            host: self.host.clone(),
            port: self.port,
        })
    }

    fn connect<'a>(&'a self, asked: Asked<'a>) -> Opening<'a, Connection> {
        Box::pin(async move {
            let mut options = ConnectOptions::new();
            options.wait(asked.options.wait);
            if let Some(nodelay) = self.nodelay {
                options.nodelay(nodelay);
            }
            let stream = options.connect(self.address()).await?;
            let framing = asked.options.framing.clone();
            Ok(connection(stream, framing).polled(asked.options.poll_for))
        })
    }

    fn bind<'a>(&'a self, asked: Asked<'a>) -> Opening<'a, Served> {
        Box::pin(async move {
            let address = self.address();
            if activation::is_used() {
                let found = tokio::net::lookup_host(&address).await;
                let wanted = Wanted::Ip(found.map(Iterator::collect).unwrap_or_default());
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
    let at = Address::from(at);
    let local = Arc::new(Tcp {
        host: at.host,
        port: at.port,
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

fn is_name(host: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    !host.is_empty() && host.bytes().all(allowed)
}

/// An IPv6 address, perhaps with a zone (`fe80::1%eth0`, RFC 4007).
fn is_ipv6(host: &str) -> bool {
    let (address, zone) = host.split_once('%').unwrap_or((host, "0"));
    address.parse::<Ipv6Addr>().is_ok() && is_name(zone)
}

fn invalid(part: &'static str, value: &str, expected: &'static str) -> AddressProblem {
    AddressProblem::InvalidPart {
        part,
        value: value.to_owned(),
        expected,
    }
}
