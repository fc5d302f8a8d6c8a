//! `unixgram:/path` and `unixgram:@name`: the address of a Unix datagram socket, and how it is opened.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::task::{Context, Poll};

use socket2::{SockRef, Type};

use crate::address::{
    AddressProblem, Capabilities, EndOfStream, LargestMessage, Printer, Query, Sharing,
};
use crate::connect::activation::{self, Wanted};
use crate::connect::group::GROUP_MODE;
use crate::connect::{
    AcceptingDatagrams, Asked, Bound, BoundPath, BoundSocket, Connection, Datagrams, End,
    Mechanism, OpenError, Opening, Peer, Place, Scheme, Served,
};
use crate::frame::Framing;
use crate::unix::{Address, BindOptions, Claim, ConnectOptions, Watched, make_room};

pub(crate) static SCHEME: Scheme = Scheme {
    name: "unixgram",
    form: "unixgram:/path",
    summary: "Unix datagram socket such as /dev/log; or @name",
    options: &["group", "mode"],
    synonyms: &["unixdgram", "dgram", "datagram"],
    parse: |rest, query| Ok(Arc::new(Unixgram::parse(rest, query)?)),
};

#[derive(Clone, Debug)]
struct Unixgram {
    name: Address,
    group: Option<String>,
    mode: Option<u32>,
}

impl Unixgram {
    fn parse(rest: &[u8], query: &Query) -> Result<Self, AddressProblem> {
        Ok(Self {
            name: Address::parse(rest)?,
            group: query.group()?,
            mode: query.mode()?,
        })
    }

    /// Binds a socket.
    fn open(&self, framing: &Framing) -> Result<(Datagrams, Option<Claim>), OpenError> {
        let mut options = BindOptions::new();
        if let Some(group) = &self.group {
            options.mode(GROUP_MODE).group(group);
        }
        if let Some(mode) = self.mode {
            options.mode(mode);
        }
        let (fd, claim, attempt) = options.open(self.name.clone(), Type::DGRAM)?;
        let socket = datagrams(fd, framing).map_err(|e| attempt.failed(e))?;
        Ok((socket, claim))
    }

    fn bound(&self, asked: Asked<'_>) -> Result<(BoundSocket, Option<String>), OpenError> {
        let framing = &asked.options.framing;
        let wanted = Wanted::Unix {
            name: self.name.to_bytes(),
            kind: Type::DGRAM,
        };
        if let Some((fd, name)) = activation::take(&wanted) {
            let socket = datagrams(fd, framing).map_err(|e| asked.failed(e))?;
            return Ok((BoundSocket::shared(socket), Some(name)));
        }
        let (socket, claim) = self.open(framing)?;
        let watched = asked.options.watch_name.map(|every| {
            let lasts = asked.options.persist;
            Watched::new("receive on", asked.address, every, lasts)
        });
        let path = Held {
            claim,
            watched,
            unixgram: self.clone(),
            framing: framing.clone(),
        };
        Ok((BoundSocket::new(socket, Some(Box::new(path))), None))
    }
}

/// Makes a bound socket ready to receive, with the credentials of each sender.
fn datagrams(fd: OwnedFd, framing: &Framing) -> io::Result<Datagrams> {
    SockRef::from(&fd).set_passcred(true)?;
    let max_send = make_room(&fd, framing.max_message().max(1))?;
    Datagrams::new(fd, framing, max_send)
}

/// The path or name of a bound socket.
struct Held {
    /// Removes the path when dropped.
    claim: Option<Claim>,
    watched: Option<Watched>,
    unixgram: Unixgram,
    framing: Framing,
}

impl BoundPath for Held {
    fn poll_lost(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match (&mut self.watched, &self.claim) {
            (Some(watched), Some(claim)) => watched.poll_lost(cx, |every| claim.watch(every)),
            _ => Poll::Pending,
        }
    }

    fn bind_again(&mut self) -> io::Result<Datagrams> {
        // Releases the lock, too.
        self.claim = None;
        let (unixgram, framing) = (&self.unixgram, &self.framing);
        let (socket, claim) = match &mut self.watched {
            Some(watched) => watched.bind_again(|| unixgram.open(framing))?,
            None => unixgram.open(framing)?,
        };
        self.claim = claim;
        Ok(socket)
    }
}

impl Mechanism for Unixgram {
    fn print(&self, printer: &mut Printer) {
        self.name.print(printer);
        printer.group(self.group.as_deref());
        printer.mode(self.mode);
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            keeps_boundaries: Some(true),
            end_of_stream: EndOfStream::Never,
            // Limited by the socket's send buffer, whose size the system sets.
            largest_message: LargestMessage::AsOpened,
            readers: Sharing::One,
            writers: Sharing::Many,
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
                .allow_foreign_owner(asked.options.allow_foreign_owner);
            let (fd, attempt) = options.open(self.name.clone(), Type::DGRAM).await?;
            let failed = |e| attempt.failed(e);
            let max_send = make_room(&fd, framing.max_message().max(1)).map_err(failed)?;
            let socket = Datagrams::new(fd, &framing, max_send).map_err(failed)?;
            Ok(socket.connection(framing, Peer::Unknown))
        })
    }

    fn bind<'a>(&'a self, asked: Asked<'a>) -> Opening<'a, Served> {
        Box::pin(async move {
            let (socket, activation_name) = self.bound(asked)?;
            let accepting = AcceptingDatagrams::new(socket, asked.options.framing.clone());
            let mut bound = Bound::new(accepting, asked.address, asked.options.poll_for);
            bound.activation_name = activation_name;
            Ok(bound.into())
        })
    }
}
