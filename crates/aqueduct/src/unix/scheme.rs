//! `unix:` and `unixpacket:`: the addresses of Unix sockets, and how they are opened.

use std::io;
use std::net::Shutdown;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_core::Stream;
use socket2::{SockRef, Type};

use super::address::Address;
use super::bind::BindOptions;
use super::connect::ConnectOptions;
use super::credentials::peer_credentials;
use super::halves::split;
use super::listener::{Listener, accept_now};
use super::seqpacket::{self, Socket};
use super::watch::{SocketWatch, Watched};
use crate::address::{AddressProblem, Capabilities, LargestMessage, Printer, Query};
use crate::connect::activation::{self, Wanted};
use crate::connect::group::GROUP_MODE;
use crate::connect::{
    Accept, Asked, Bound, ByteStream, Connection, End, Endpoint, Mechanism, OpenError, Opening,
    Peer, Place, Scheme, Served,
};
use crate::frame::{Framing, Pace};

pub(crate) static STREAM: Scheme = Scheme {
    name: "unix",
    form: "unix:/path",
    summary: "Unix stream socket; an abstract one with @name",
    options: &["frame", "group", "mode"],
    synonyms: &["uds", "ipc"],
    parse: |rest, query| Ok(Arc::new(Unix::parse(Type::STREAM, rest, query)?)),
};

pub(crate) static PACKET: Scheme = Scheme {
    name: "unixpacket",
    form: "unixpacket:/path",
    summary: "Unix SOCK_SEQPACKET socket, which keeps boundaries; or @name",
    options: &["group", "mode"],
    synonyms: &["seqpacket"],
    parse: |rest, query| Ok(Arc::new(Unix::parse(Type::SEQPACKET, rest, query)?)),
};

/// A path, or a name in the abstract namespace (`@name`), which is not a file and disappears with
/// its socket.
#[derive(Clone, Debug)]
struct Unix {
    kind: Type,
    name: Address,
    group: Option<String>,
    mode: Option<u32>,
}

impl Unix {
    fn parse(kind: Type, rest: &[u8], query: &Query) -> Result<Self, AddressProblem> {
        let name = Address::parse(rest)?;
        let (group, mode) = (query.group()?, query.mode()?);
        Ok(Self {
            kind,
            name,
            group,
            mode,
        })
    }

    fn wanted(&self) -> Wanted {
        Wanted::Unix {
            name: self.name.to_bytes(),
            kind: self.kind,
        }
    }
}

impl Mechanism for Unix {
    fn print(&self, printer: &mut Printer) {
        self.name.print(printer);
        printer.group(self.group.as_deref());
        printer.mode(self.mode);
    }

    fn capabilities(&self) -> Capabilities {
        if self.kind == Type::STREAM {
            return Capabilities::BYTE_STREAM;
        }
        Capabilities {
            keeps_boundaries: Some(true),
            // A packet has to fit the socket's send buffer, whose size the system sets.
            largest_message: LargestMessage::AsOpened,
            ..Capabilities::BYTE_STREAM
        }
    }

    fn path(&self) -> Option<&Path> {
        self.name.as_path()
    }

    fn place(&self, _: End) -> Option<Place> {
        Some(self.name.place())
    }

    fn connect<'a>(&'a self, asked: Asked<'a>) -> Opening<'a, Connection> {
        Box::pin(async move {
            let framing = asked.options.framing.clone();
            let mut options = ConnectOptions::new();
            options
                .wait(asked.options.wait)
                .allow_foreign_owner(asked.options.allow_foreign_owner)
                .max_message(framing.max_message());
            let (fd, attempt) = options.open(self.name.clone(), self.kind).await?;
            if self.kind == Type::SEQPACKET {
                let socket = Socket::new(fd, framing.max_message());
                let socket = socket.map_err(|e| attempt.failed(e))?;
                return Ok(seqpacket::connection(socket, framing, false));
            }
            let connection = connection(fd, framing, asked.is_bare).map_err(|e| asked.failed(e))?;
            Ok(connection.polled(asked.options.poll_for))
        })
    }

    fn bind<'a>(&'a self, asked: Asked<'a>) -> Opening<'a, Served> {
        Box::pin(async move {
            if let Some((fd, name)) = activation::take(&self.wanted()) {
                let mut served = serve(fd, self.kind, asked)?;
                served.bound.activation_name = Some(name);
                return Ok(served);
            }
            let accepting = Accepting {
                listening: self.listen(&asked.options.framing)?,
                framing: asked.options.framing.clone(),
                watched: asked.options.watch_name.map(|every| {
                    let lasts = asked.options.persist;
                    (
                        self.clone(),
                        Watched::new("accept on", asked.address, every, lasts),
                    )
                }),
                shared: false,
                is_bare: asked.is_bare,
            };
            let bound = Bound::new(accepting, asked.address, asked.options.poll_for);
            Ok(bound.into())
        })
    }
}

impl Unix {
    fn listen(&self, framing: &Framing) -> Result<Listening, OpenError> {
        let mut options = BindOptions::new();
        options.max_message(framing.max_message());
        if let Some(group) = &self.group {
            options.mode(GROUP_MODE).group(group);
        }
        if let Some(mode) = self.mode {
            options.mode(mode);
        }
        let name = self.name.clone();
        Ok(match self.kind {
            Type::SEQPACKET => Listening::Packets(options.bind_seqpacket_to(name)?),
            _ => Listening::Stream(options.bind_to(name)?),
        })
    }
}

/// Serves a listening socket that was passed down.
pub(crate) fn serve(fd: OwnedFd, kind: Type, asked: Asked<'_>) -> Result<Served, OpenError> {
    let failed = |e| asked.failed(e);
    let local = local_endpoint(&fd, kind);
    let listening = match kind {
        Type::SEQPACKET => {
            let listener = seqpacket::Listener::try_from(fd).map_err(failed)?;
            let max = asked.options.framing.max_message();
            Listening::Packets(listener.with_max_message(max))
        }
        _ => Listening::Stream(Listener::try_from(fd).map_err(failed)?),
    };
    let accepting = Accepting {
        listening,
        framing: asked.options.framing.clone(),
        watched: None,
        shared: true,
        is_bare: asked.is_bare,
    };
    let bound = Bound::new(accepting, asked.address, asked.options.poll_for);
    Ok(Served { bound, local })
}

fn local_endpoint(fd: &OwnedFd, kind: Type) -> Option<Endpoint> {
    let address = SockRef::from(fd).local_addr().ok()?;
    let name = match address.as_abstract_namespace() {
        Some(name) => Address::Abstract(name.to_vec()),
        None => Address::Path(address.as_pathname()?.to_owned()),
    };
    let scheme = match kind {
        Type::SEQPACKET => &PACKET,
        _ => &STREAM,
    };
    let (group, mode) = (None, None);
    Some(Endpoint::from_parts(
        scheme,
        Arc::new(Unix {
            kind,
            name,
            group,
            mode,
        }),
    ))
}

struct Accepting {
    listening: Listening,
    framing: Framing,
    /// What is bound again when its path is lost.
    watched: Option<(Unix, Watched)>,
    /// Others accept from it too, now or later: it was passed down.
    shared: bool,
    is_bare: bool,
}

enum Listening {
    Stream(Listener),
    Packets(seqpacket::Listener),
    /// Its path was lost, and it was not bound again.
    Gone,
}

impl Listening {
    fn watch_name(&self, every: Duration) -> Option<SocketWatch> {
        match self {
            Self::Stream(listener) => listener.watch_name(every),
            Self::Packets(listener) => listener.watch_name(every),
            Self::Gone => None,
        }
    }
}

impl Accepting {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Connection>>> {
        let framing = || self.framing.clone();
        Poll::Ready(match &mut self.listening {
            Listening::Stream(listener) => {
                let next = ready!(listener.poll_socket(cx));
                next.map(|it| it.and_then(|fd| connection(fd, framing(), self.is_bare)))
            }
            Listening::Packets(listener) => {
                let next = ready!(Pin::new(listener).poll_next(cx));
                next.map(|it| it.map(|socket| seqpacket::connection(socket, framing(), false)))
            }
            Listening::Gone => None,
        })
    }
}

impl Accept for Accepting {
    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Connection>>> {
        loop {
            let next = self.poll_next(cx);
            let (Poll::Pending, Some((_, watched))) = (&next, &mut self.watched) else {
                return next;
            };
            ready!(watched.poll_lost(cx, |every| self.listening.watch_name(every)));
            // Also clients that the runtime does not know of yet.
            if let Some(last) = self.accept_now().transpose() {
                return Poll::Ready(Some(last));
            }
            if let Some((unix, watched)) = &mut self.watched {
                // Releases the lock, too.
                self.listening = Listening::Gone;
                match watched.bind_again(|| unix.listen(&self.framing)) {
                    Ok(listening) => self.listening = listening,
                    Err(error) => return Poll::Ready(Some(Err(error.into()))),
                }
            }
        }
    }

    fn refuse(&self) -> bool {
        // From then on connect(2) fails with ECONNREFUSED, and accept(2) with EINVAL when nobody is
        // left (`unix_stream_connect` in `net/unix/af_unix.c`).
        let shut = match &self.listening {
            _ if self.shared => return false,
            Listening::Stream(listener) => SockRef::from(listener).shutdown(Shutdown::Read),
            Listening::Packets(listener) => SockRef::from(listener).shutdown(Shutdown::Read),
            Listening::Gone => return false,
        };
        shut.is_ok()
    }

    /// For a socket that refuses, epoll(7) keeps reporting it readable, and accept(2) returns
    /// `EAGAIN`.
    fn accept_now(&mut self) -> io::Result<Option<Connection>> {
        let fd = match &self.listening {
            Listening::Stream(listener) => listener.as_fd(),
            Listening::Packets(listener) => listener.as_fd(),
            Listening::Gone => return Ok(None),
        };
        let socket = match accept_now(fd) {
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            accepted => accepted?.0,
        };
        let framing = self.framing.clone();
        Ok(Some(match &self.listening {
            Listening::Stream(_) | Listening::Gone => connection(socket, framing, self.is_bare)?,
            Listening::Packets(_) => {
                let max_message = framing.max_message();
                let socket = Socket::from_shared(socket, max_message)?;
                seqpacket::connection(socket, framing, false)
            }
        }))
    }
}

fn connection(socket: OwnedFd, framing: Framing, is_bare: bool) -> io::Result<Connection> {
    let peer = peer_credentials(&socket).map_or(Peer::Unknown, Peer::Process);
    let bytes = if is_bare {
        ByteStream::bare(socket)
    } else {
        let (reader, writer) = split(socket)?;
        ByteStream::socket(reader, writer)
    };
    Ok(Connection::bytes(bytes, framing, Pace::default(), peer))
}
