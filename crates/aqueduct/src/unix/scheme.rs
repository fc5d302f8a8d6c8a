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
use tokio::net::UnixStream;

use super::address::Address;
use super::bind::BindOptions;
use super::connect::ConnectOptions;
use super::credentials::peer_credentials;
use super::halves::halves;
use super::listener::Listener;
use super::seqpacket::{self, Socket};
use super::watch::SocketWatch;
use crate::address::{AddressProblem, Capabilities, LargestMessage, Printer, Query};
use crate::connect::activation::{self, Wanted};
use crate::connect::group::GROUP_MODE;
use crate::connect::{
    Accept, Asked, Bound, ByteStream, Connection, End, Endpoint, Mechanism, OpenError,
    OpenErrorKind, Opening, Peer, Place, Scheme, Served,
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
            let stream = UnixStream::from_std(fd.into()).map_err(|e| attempt.failed(e))?;
            let connection = connection(stream, framing).map_err(|e| asked.failed(e))?;
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
                    let (unix, lasts) = (self.clone(), asked.options.persist);
                    Watched::new(unix, asked.address.to_owned(), every, lasts)
                }),
                shared: false,
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
    watched: Option<Watched>,
    /// Others accept from it too, now or later: it was passed down.
    shared: bool,
}

enum Listening {
    Stream(Listener),
    Packets(seqpacket::Listener),
    /// Its path was lost, and it was not bound again.
    Gone,
}

/// A bound path that is watched, and what follows when it no longer leads to the socket.
struct Watched {
    unix: Unix,
    /// For errors and logs.
    address: String,
    every: Duration,
    /// Whether the path is bound again.
    lasts: bool,
    state: WatchState,
}

enum WatchState {
    /// The listener was not asked for a watch yet.
    New,
    Watching(Box<SocketWatch>),
    /// The path is lost. Clients that connected before are accepted first.
    Lost,
    /// It has no path to watch, or failed before.
    Idle,
}

impl Watched {
    fn new(unix: Unix, address: String, every: Duration, lasts: bool) -> Self {
        Self {
            unix,
            address,
            every,
            lasts,
            state: WatchState::New,
        }
    }

    /// Waits until the path no longer leads to the socket.
    fn poll_lost(&mut self, cx: &mut Context<'_>, listening: &Listening) -> Poll<()> {
        if let WatchState::New = self.state {
            self.state = match listening.watch_name(self.every) {
                Some(watch) => WatchState::Watching(Box::new(watch)),
                None => WatchState::Idle,
            };
        }
        match &mut self.state {
            WatchState::Watching(watch) => ready!(watch.poll_lost(cx)),
            WatchState::Lost => {}
            WatchState::New | WatchState::Idle => return Poll::Pending,
        }
        self.state = WatchState::Lost;
        Poll::Ready(())
    }

    /// Another listener on the path, or the error with which this one ends.
    fn bind_again(
        &mut self,
        listening: &mut Listening,
        framing: &Framing,
    ) -> Result<(), OpenError> {
        self.state = WatchState::Idle;
        // Releases the lock, too.
        *listening = Listening::Gone;
        if !self.lasts {
            let cause = "its path was removed or leads to another socket";
            let error = OpenError::new("accept on", &self.address, OpenErrorKind::Replaced, cause);
            return Err(error.with_cure("bind it again"));
        }
        tracing::warn!(address = %self.address, "the path was removed or replaced: binding it again");
        *listening = self.unix.listen(framing)?;
        self.state = WatchState::New;
        Ok(())
    }
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
                let next = ready!(Pin::new(listener).poll_next(cx));
                next.map(|it| it.and_then(|stream| connection(stream, framing())))
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
            let (Poll::Pending, Some(watched)) = (&next, &mut self.watched) else {
                return next;
            };
            ready!(watched.poll_lost(cx, &self.listening));
            // Also clients that the runtime does not know of yet.
            if let Some(last) = self.accept_now().transpose() {
                return Poll::Ready(Some(last));
            }
            if let Some(watched) = &mut self.watched
                && let Err(error) = watched.bind_again(&mut self.listening, &self.framing)
            {
                return Poll::Ready(Some(Err(error.into())));
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
        let flags = libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        let socket = match SockRef::from(&fd).accept4(flags) {
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            accepted => accepted?.0,
        };
        let framing = self.framing.clone();
        Ok(Some(match &self.listening {
            Listening::Stream(_) | Listening::Gone => {
                connection(UnixStream::from_std(socket.into())?, framing)?
            }
            Listening::Packets(_) => {
                let max_message = framing.max_message();
                let socket = Socket::from_shared(socket.into(), max_message)?;
                seqpacket::connection(socket, framing, false)
            }
        }))
    }
}

fn connection(stream: UnixStream, framing: Framing) -> io::Result<Connection> {
    let peer = peer_credentials(&stream).map_or(Peer::Unknown, Peer::Process);
    let (reader, writer) = halves(stream)?;
    let bytes = ByteStream::socket(reader, writer);
    Ok(Connection::bytes(bytes, framing, Pace::default(), peer))
}
