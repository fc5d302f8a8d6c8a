//! zmq, over the C++ library libzmq: PUSH and PULL one way, REQ and REP for round trips. It moves bytes;
//! values are turned into some by Postcard.

use zmq::{Context, Socket, SocketType};

use aqueduct_measure::case::{BOTH, Mechanism, Runtime, Work};
use aqueduct_measure::peer::ready;
use aqueduct_measure::sample::SideReport;
use aqueduct_measure::{Case, Check, Message, Receives, Sends, Session};

use crate::ROOM;
use crate::kept::Meeting;

pub(crate) const CASES: &[Case] = &[
    Case {
        name: "peer/zmq",
        mechanism: Mechanism::Own,
        runtime: Runtime::Blocking,
        works: BOTH,
        // A value of 64 bytes.
        sizes: &[64],
        run: |it| run(it, true),
    },
    Case {
        name: "peer/zmq/bytes",
        mechanism: Mechanism::Own,
        runtime: Runtime::Blocking,
        works: BOTH,
        sizes: &[],
        run: |it| run(it, false),
    },
];

struct End {
    socket: Socket,
    received: zmq::Message,
    values: bool,
}

impl Sends for End {
    async fn send(&mut self, message: &'static Message) -> anyhow::Result<()> {
        if self.values {
            let mut room = [0; ROOM];
            let value = postcard::to_slice(&message.item, &mut room)?;
            return Ok(self.socket.send(&*value, 0)?);
        }
        Ok(self.socket.send(&message.bytes[..], 0)?)
    }
}

impl Receives for End {
    async fn receive(&mut self, check: &mut Check) -> anyhow::Result<()> {
        self.socket.recv(&mut self.received, 0)?;
        if self.values {
            return check.item(&postcard::from_bytes(&self.received)?);
        }
        check.frame(&self.received)
    }
}

fn run(session: &Session, values: bool) -> anyhow::Result<SideReport> {
    let meeting = Meeting::new(session)?;
    let address = format!("ipc://{}", session.spec().path("socket").display());
    let first = session.is_first();
    let kind = match (session.spec().work, first) {
        (Work::OneWay, true) => SocketType::PUSH,
        (Work::OneWay, false) => SocketType::PULL,
        (Work::RoundTrip, true) => SocketType::REQ,
        (Work::RoundTrip, false) => SocketType::REP,
    };
    let socket = Context::new().socket(kind)?;
    if first {
        socket.connect(&address)?;
    } else {
        socket.bind(&address)?;
        ready("")?;
    }
    let received = zmq::Message::new();
    let end = End {
        socket,
        received,
        values,
    };
    meeting.play(session, end)
}
