//! `stdio:`: standard input and output as an address.

use std::sync::Arc;

use super::{stdin, stdout};
use crate::address::{AddressProblem, Awaited, Capabilities, Printer, Sharing};
use crate::connect::{
    Asked, ByteStream, Connection, End, Mechanism, MessageReceiver, MessageSender, Opening, Peer,
    Place, Scheme, Shared,
};
use crate::frame::{FramedWrite, Pace};

pub(crate) static SCHEME: Scheme = Scheme {
    name: "stdio",
    form: "stdio:",
    summary: "standard input and output",
    options: &["frame"],
    synonyms: &["stdin", "stdout"],
    parse: |rest, _| match rest {
        [] => Ok(Arc::new(Stdio)),
        _ => Err(AddressProblem::InvalidPart {
            part: "rest",
            value: String::from_utf8_lossy(rest).into_owned(),
            expected: "empty: the address is \"stdio:\"",
        }),
    },
};

#[derive(Debug)]
struct Stdio;

impl Mechanism for Stdio {
    fn print(&self, _: &mut Printer) {}

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            readers: Sharing::One,
            writers: Sharing::One,
            awaits: Awaited::Nobody,
            listens: Some(false),
            private: true,
            stdio: true,
            ..Capabilities::BYTE_STREAM
        }
    }

    fn place(&self, end: End) -> Option<Place> {
        Place::descriptor(match end {
            End::Receiver => 0,
            End::Sender => 1,
        })
    }

    fn connect<'a>(&'a self, asked: Asked<'a>) -> Opening<'a, Connection> {
        Box::pin(async move {
            let failed = |e| asked.failed(e);
            let bytes = ByteStream::join(stdin().map_err(failed)?, stdout().map_err(failed)?);
            let framing = asked.options.framing.clone();
            let connection = Connection::bytes(bytes, framing, Pace::default(), Peer::Stdio);
            Ok(connection.never_discarding().polled(asked.options.poll_for))
        })
    }

    fn open_sender<'a>(&'a self, asked: Asked<'a>) -> Opening<'a, MessageSender> {
        Box::pin(async move {
            let stdout = stdout().map_err(|e| asked.failed(e))?;
            let frames = FramedWrite::new(stdout, asked.options.framing.clone());
            Ok(MessageSender::bytes(frames))
        })
    }

    fn open_receiver<'a>(&'a self, asked: Asked<'a>) -> Opening<'a, MessageReceiver> {
        Box::pin(async move {
            let stdin = stdin().map_err(|e| asked.failed(e))?;
            Ok(asked.options.receive(Shared(stdin), Pace::default()))
        })
    }
}
