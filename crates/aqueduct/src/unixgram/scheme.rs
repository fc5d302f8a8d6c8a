//! `unixgram:/path` and `unixgram:@name`: the address of a Unix datagram socket, and how it is opened.

use std::path::Path;
use std::sync::Arc;

use socket2::{SockRef, Type};

use crate::address::{
    AddressProblem, Capabilities, EndOfStream, LargestMessage, Printer, Query, Sharing,
};
use crate::connect::activation::{self, Wanted};
use crate::connect::group::GROUP_MODE;
use crate::connect::{
    AcceptingDatagrams, Asked, Bound, Connection, Datagrams, End, Mechanism, OpenError, Opening,
    Peer, Place, Scheme, Served,
};
use crate::unix::{Address, BindOptions, ConnectOptions, make_room};

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

    fn bound(&self, asked: Asked<'_>) -> Result<(Datagrams, Option<String>), OpenError> {
        let framing = &asked.options.framing;
        let wanted = Wanted::Unix {
            name: self.name.to_bytes(),
            kind: Type::DGRAM,
        };
        let (fd, claim, activation_name) = match activation::take(&wanted) {
            Some((fd, name)) => (fd, None, Some(name)),
            None => {
                let mut options = BindOptions::new();
                if let Some(group) = &self.group {
                    options.mode(GROUP_MODE).group(group);
                }
                if let Some(mode) = self.mode {
                    options.mode(mode);
                }
                let (fd, claim, _) = options.open(self.name.clone(), Type::DGRAM)?;
                (fd, claim, None)
            }
        };
        let failed = |e| asked.failed(e);
        // Each datagram carries the credentials of its sender.
        SockRef::from(&fd).set_passcred(true).map_err(failed)?;
        let max_send = make_room(&fd, framing.max_message().max(1)).map_err(failed)?;
        let socket = Datagrams::new(fd, framing, max_send).map_err(failed)?;
        Ok((socket.guarded(claim), activation_name))
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
