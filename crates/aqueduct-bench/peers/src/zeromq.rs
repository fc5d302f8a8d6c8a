//! zeromq, ZeroMQ in Rust: PUSH and PULL one way, REQ and REP for round trips. It moves bytes; values
//! are turned into some by Postcard.

use bytes::Bytes;
use zeromq::{PullSocket, PushSocket, RepSocket, ReqSocket, Socket, SocketRecv, SocketSend};

use aqueduct_measure::case::{BOTH, Mechanism, Runtime, Work};
use aqueduct_measure::peer::ready;
use aqueduct_measure::sample::SideReport;
use aqueduct_measure::{Case, Check, Message, Receives, Sends, Session};

use crate::ROOM;
use crate::kept::Meeting;

pub(crate) const CASES: &[Case] = &[
    Case {
        name: "peer/zeromq",
        mechanism: Mechanism::Own,
        runtime: Runtime::CurrentThread,
        works: BOTH,
        // A value of 64 bytes.
        sizes: &[64],
        run: |it| run(it, true),
    },
    Case {
        name: "peer/zeromq/bytes",
        mechanism: Mechanism::Own,
        runtime: Runtime::CurrentThread,
        works: BOTH,
        sizes: &[],
        run: |it| run(it, false),
    },
];

struct End {
    socket: Either,
    values: bool,
}

enum Either {
    Push(PushSocket),
    Pull(PullSocket),
    Req(ReqSocket),
    Rep(RepSocket),
}

impl Sends for End {
    async fn send(&mut self, message: &'static Message) -> anyhow::Result<()> {
        let bytes = if self.values {
            let mut room = [0; ROOM];
            Bytes::copy_from_slice(postcard::to_slice(&message.item, &mut room)?)
        } else {
            message.bytes.clone()
        };
        let message = bytes.into();
        match &mut self.socket {
            Either::Push(socket) => socket.send(message).await?,
            Either::Req(socket) => socket.send(message).await?,
            Either::Rep(socket) => socket.send(message).await?,
            Either::Pull(_) => anyhow::bail!("PULL sends nothing"),
        }
        Ok(())
    }
}

impl Receives for End {
    async fn receive(&mut self, check: &mut Check) -> anyhow::Result<()> {
        let message = match &mut self.socket {
            Either::Pull(socket) => socket.recv().await?,
            Either::Req(socket) => socket.recv().await?,
            Either::Rep(socket) => socket.recv().await?,
            Either::Push(_) => anyhow::bail!("PUSH receives nothing"),
        };
        let frame = message.get(0);
        let frame = frame.ok_or_else(|| anyhow::anyhow!("a message without a frame came"))?;
        if self.values {
            return check.item(&postcard::from_bytes(frame)?);
        }
        check.frame(frame)
    }
}

fn run(session: &Session, values: bool) -> anyhow::Result<SideReport> {
    let meeting = Meeting::new(session)?;
    let address = format!("ipc://{}", session.spec().path("socket").display());
    let (first, work) = (session.is_first(), session.spec().work);
    let socket = session.exec().run(async move {
        Ok(match (first, work) {
            (true, Work::OneWay) => {
                let mut socket = PushSocket::new();
                socket.connect(&address).await?;
                Either::Push(socket)
            }
            (true, Work::RoundTrip) => {
                let mut socket = ReqSocket::new();
                socket.connect(&address).await?;
                Either::Req(socket)
            }
            (false, Work::OneWay) => {
                let mut socket = PullSocket::new();
                socket.bind(&address).await?;
                ready("")?;
                Either::Pull(socket)
            }
            (false, Work::RoundTrip) => {
                let mut socket = RepSocket::new();
                socket.bind(&address).await?;
                ready("")?;
                Either::Rep(socket)
            }
        })
    })?;
    meeting.play(session, End { socket, values })
}
