//! `shm:`: the address of a Unix socket over which two processes agree to share memory.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use super::error::PeerError;
use super::halves::halves;
use super::wire::{Settings, Wire};
use crate::address::{AddressProblem, Capabilities, Printer, Query};
use crate::connect::{
    Accept, Asked, Bound, ByteStream, Connection, End, Mechanism, OpenError, Opening, Peer, Place,
    Scheme, Served,
};
use crate::frame::{Framing, Pace};
use crate::unix;

/// The largest ring, unless set.
const CAPACITY: u64 = 2 << 20;

/// The limits of the option `capacity`.
const SMALLEST: u64 = super::ring::SMALLEST;
const LARGEST: u64 = 64 << 20;

pub(crate) static SCHEME: Scheme = Scheme {
    name: "shm",
    form: "shm:/path",
    summary: "shared memory, set up over a Unix socket; an abstract one with @name",
    options: &["capacity", "fallback", "frame", "group", "mode"],
    synonyms: &["memfd", "memory"],
    parse: |rest, query| Ok(Arc::new(Shm::parse(rest, query)?)),
};

#[derive(Debug)]
struct Shm {
    /// The socket, as `unix:` has it.
    socket: Arc<dyn Mechanism>,
    capacity: Option<u64>,
    fallback: Option<bool>,
}

impl Shm {
    fn parse(rest: &[u8], query: &Query) -> Result<Self, AddressProblem> {
        let expected = "a power of two from 4KiB to 64MiB, as in capacity=1MiB";
        let capacity: Option<u64> = query.number("capacity", SMALLEST..=LARGEST, true, expected)?;
        if let Some(capacity) = capacity.filter(|it| !it.is_power_of_two()) {
            return Err(AddressProblem::InvalidValue {
                option: "capacity",
                value: capacity.to_string(),
                expected,
                nearest: None,
            });
        }
        Ok(Self {
            socket: (unix::STREAM.parse)(rest, query)?,
            capacity,
            fallback: query.boolean("fallback")?,
        })
    }

    fn settings(&self) -> Settings {
        Settings {
            capacity: self.capacity.unwrap_or(CAPACITY),
            fallback: self.fallback.unwrap_or(false),
        }
    }
}

impl Mechanism for Shm {
    fn print(&self, printer: &mut Printer) {
        printer.option("capacity", self.capacity);
        printer.option("fallback", self.fallback);
        self.socket.print(printer);
    }

    fn capabilities(&self) -> Capabilities {
        self.socket.capabilities()
    }

    fn path(&self) -> Option<&Path> {
        self.socket.path()
    }

    fn place(&self, end: End) -> Option<Place> {
        self.socket.place(end)
    }

    fn connect<'a>(&'a self, asked: Asked<'a>) -> Opening<'a, Connection> {
        Box::pin(async move {
            let named = |error: OpenError| error.with_object(asked.address);
            let socket = self.socket.connect(asked.bare()).await.map_err(named)?;
            let failed = |e| OpenError::system("share memory over", asked.address, e);
            let (socket, peer) = socket_of(socket).map_err(failed)?;
            let wire =
                Wire::client(socket, self.settings()).map_err(|e| match PeerError::of(&e) {
                    // It says what to do.
                    Some(_) => failed(e),
                    None => failed(e)
                        .with_cure("allow memfd_create(2), or use fallback=true on both sides"),
                })?;
            let framing = asked.options.framing.clone();
            Ok(connection(wire, framing, peer).polled(asked.options.poll_for))
        })
    }

    fn bind<'a>(&'a self, asked: Asked<'a>) -> Opening<'a, Served> {
        Box::pin(async move {
            let named = |error: OpenError| error.with_object(asked.address);
            let served = self.socket.bind(asked.bare()).await.map_err(named)?;
            let activation_name = served.bound.activation_name.clone();
            let accepting = Accepting {
                sockets: served.bound,
                settings: self.settings(),
                framing: asked.options.framing.clone(),
            };
            let mut bound = Bound::new(accepting, asked.address, asked.options.poll_for);
            bound.activation_name = activation_name;
            Ok(bound.into())
        })
    }
}

/// Takes the socket out of a connection.
fn socket_of(mut connection: Connection) -> io::Result<(OwnedFd, Peer)> {
    let peer = connection.peer().clone();
    let bytes = connection.take_bytes();
    let socket = bytes.and_then(|bytes| bytes.into_socket().ok());
    // All it takes is a free descriptor.
    let short = || io::Error::from_raw_os_error(libc::EMFILE);
    Ok((socket.ok_or_else(short)?, peer))
}

fn connection(wire: Arc<Wire>, framing: Framing, peer: Peer) -> Connection {
    let (reader, writer) = halves(wire);
    let bytes = ByteStream::of(reader, writer);
    Connection::bytes(bytes, framing, Pace::default(), peer)
}

/// Accepts sockets. Hellos are the connections' own matter: a client that sends none is a silent
/// client, and keeps nobody else waiting.
struct Accepting {
    sockets: Bound,
    settings: Settings,
    framing: Framing,
}

impl Accepting {
    fn accepted(&self, socket: Connection) -> io::Result<Connection> {
        let (socket, peer) = socket_of(socket)?;
        let wire = Wire::server(socket, self.settings)?;
        Ok(connection(wire, self.framing.clone(), peer))
    }
}

impl Accept for Accepting {
    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Connection>>> {
        loop {
            let Some(socket) = ready!(self.sockets.poll_accept(cx)) else {
                return Poll::Ready(None);
            };
            match socket.map(|it| self.accepted(it)) {
                Err(error) => return Poll::Ready(Some(Err(error))),
                Ok(Ok(connection)) => return Poll::Ready(Some(Ok(connection))),
                Ok(Err(error)) => warn(&error),
            }
        }
    }

    fn refuse(&self) -> bool {
        self.sockets.refuse()
    }

    fn accept_now(&mut self) -> io::Result<Option<Connection>> {
        while let Some(socket) = self.sockets.accept_now()? {
            match self.accepted(socket) {
                Ok(connection) => return Ok(Some(connection)),
                Err(error) => warn(&error),
            }
        }
        Ok(None)
    }
}

fn warn(error: &io::Error) {
    tracing::warn!(target: "aqueduct::shm", %error, "closed an accepted connection that cannot be used");
}
