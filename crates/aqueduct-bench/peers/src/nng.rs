//! nng, over the C library of the same name: push and pull one way, request and reply for round
//! trips. It moves bytes.

use nng::{Protocol, Socket};

use aqueduct_measure::case::{BOTH, Mechanism, Runtime, Work};
use aqueduct_measure::peer::ready;
use aqueduct_measure::sample::SideReport;
use aqueduct_measure::{Case, Check, Message, Receives, Sends, Session};

use crate::kept::Meeting;

pub(crate) const CASES: &[Case] = &[Case {
    name: "peer/nng",
    mechanism: Mechanism::Own,
    runtime: Runtime::Blocking,
    works: BOTH,
    sizes: &[],
    run,
}];

struct End(Socket);

impl Sends for End {
    async fn send(&mut self, message: &'static Message) -> anyhow::Result<()> {
        let sent = self.0.send(&message.bytes[..]);
        Ok(sent.map_err(|(_, error)| error)?)
    }
}

impl Receives for End {
    async fn receive(&mut self, check: &mut Check) -> anyhow::Result<()> {
        check.frame(&self.0.recv()?)
    }
}

fn run(session: &Session) -> anyhow::Result<SideReport> {
    let meeting = Meeting::new(session)?;
    let address = format!("ipc://{}", session.spec().path("socket").display());
    let first = session.is_first();
    let socket = Socket::new(match (session.spec().work, first) {
        (Work::OneWay, true) => Protocol::Push0,
        (Work::OneWay, false) => Protocol::Pull0,
        (Work::RoundTrip, true) => Protocol::Req0,
        (Work::RoundTrip, false) => Protocol::Rep0,
    })?;
    if first {
        socket.dial(&address)?;
    } else {
        socket.listen(&address)?;
        ready("")?;
    }
    meeting.play(session, End(socket))
}
