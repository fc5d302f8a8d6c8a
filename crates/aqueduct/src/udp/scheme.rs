//! `udp://host:port`: the address of a UDP socket, and how it is opened.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use socket2::{SockAddr, SockRef, Socket, Type};

use super::LARGEST;
use crate::address::{
    AddressProblem, Awaited, Capabilities, EndOfStream, HostPort, LargestMessage, Ordering,
    Printer, Sharing,
};
use crate::connect::activation::{self, Wanted};
use crate::connect::{
    AcceptingDatagrams, Asked, Bound, BoundSocket, Connection, Datagrams, End, Endpoint, Mechanism,
    OpenError, Opening, Peer, Place, Scheme, Served,
};
use crate::tcp::Attempt;

pub(crate) static SCHEME: Scheme = Scheme {
    name: "udp",
    form: "udp://host:port",
    summary: "UDP socket, whose messages may be lost; port 0 binds any free one",
    options: &[],
    synonyms: &[],
    parse: |rest, _| Ok(Arc::new(Udp::parse(rest)?)),
};

#[derive(Clone, Debug)]
struct Udp {
    at: HostPort,
}

impl Udp {
    fn parse(rest: &[u8]) -> Result<Self, AddressProblem> {
        let at = HostPort::parse(rest)?;
        Ok(Self { at })
    }

    /// Returns every address of the host, and the attempt for error messages.
    async fn lookup(&self, action: &'static str) -> Result<(Vec<SocketAddr>, Attempt), OpenError> {
        let attempt = Attempt::new("udp", action, self.at.clone())?;
        let found = attempt.lookup().await?;
        Ok((found, attempt))
    }

    /// Opens a socket for the first address at which `open` succeeds.
    async fn open(
        &self,
        action: &'static str,
        open: impl Fn(&Socket, &SockAddr) -> std::io::Result<()>,
    ) -> Result<(OwnedFd, Attempt), OpenError> {
        let (found, attempt) = self.lookup(action).await?;
        let mut failure = None;
        for at in found {
            let at = SockAddr::from(at);
            let socket = Socket::new(at.domain(), Type::DGRAM.nonblocking(), None);
            match socket.and_then(|socket| open(&socket, &at).map(|()| socket)) {
                Ok(socket) => return Ok((socket.into(), attempt)),
                Err(error) => failure = Some(error),
            }
        }
        // The lookup returns at least one address.
        Err(attempt.failed(failure.unwrap_or_else(|| std::io::ErrorKind::NotFound.into())))
    }
}

fn datagrams(fd: OwnedFd, asked: Asked<'_>) -> std::io::Result<Datagrams> {
    let framing = &asked.options.framing;
    let max_send = framing.max_message().clamp(1, LARGEST);
    Datagrams::new(fd, framing, max_send)
}

impl Mechanism for Udp {
    fn print(&self, printer: &mut Printer) {
        self.at.print(printer);
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            keeps_boundaries: Some(true),
            ordering: Ordering::Any,
            end_of_stream: EndOfStream::Never,
            largest_message: LargestMessage::Bytes(LARGEST),
            readers: Sharing::One,
            writers: Sharing::Many,
            awaits: Awaited::Nobody,
            ..Capabilities::BYTE_STREAM
        }
    }

    fn place(&self, _: End) -> Option<Place> {
        Some(Place::Port {
            protocol: "udp",
            host: self.at.host.clone(),
            port: self.at.port,
        })
    }

    fn connect<'a>(&'a self, asked: Asked<'a>) -> Opening<'a, Connection> {
        Box::pin(async move {
            let connect = |socket: &Socket, at: &SockAddr| socket.connect(at);
            let (fd, attempt) = self.open("connect to", connect).await?;
            let failed = |e| attempt.failed(e);
            let peer = SockRef::from(&fd).peer_addr().map_err(failed)?;
            let peer = peer.as_socket().map_or(Peer::Unknown, Peer::Address);
            let socket = datagrams(fd, asked).map_err(failed)?.reporting();
            Ok(socket.connection(asked.options.framing.clone(), peer))
        })
    }

    fn bind<'a>(&'a self, asked: Asked<'a>) -> Opening<'a, Served> {
        Box::pin(async move {
            let mut activated = None;
            if activation::is_used() {
                let (at, _) = self.lookup("bind").await?;
                let kind = Type::DGRAM;
                activated = activation::take(&Wanted::Ip { at, kind });
            }
            let (fd, activation_name) = match activated {
                Some((fd, name)) => (fd, Some(name)),
                None => {
                    let bind = |socket: &Socket, at: &SockAddr| socket.bind(at);
                    (self.open("bind", bind).await?.0, None)
                }
            };
            let failed = |e| asked.failed(e);
            let at = SockRef::from(&fd).local_addr().map_err(failed)?;
            let socket = datagrams(fd, asked).map_err(failed)?;
            let socket = match activation_name {
                Some(_) => BoundSocket::shared(socket),
                None => BoundSocket::new(socket, None),
            };
            let accepting = AcceptingDatagrams::new(socket, asked.options.framing.clone());
            let mut bound = Bound::new(accepting, asked.address, asked.options.poll_for);
            bound.activation_name = activation_name;
            let local = at.as_socket().map(|at| {
                let at = HostPort::from(at);
                Endpoint::from_parts(&SCHEME, Arc::new(Self { at }))
            });
            Ok(Served { bound, local })
        })
    }
}
