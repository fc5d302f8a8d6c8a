//! tachyon-ipc: a ring in shared memory for a reader that spins, then sleeps in futex(2).

use std::time::Duration;

use tachyon_ipc::{Bus, TachyonError};

use aqueduct_measure::case::{BOTH, Mechanism, Runtime};
use aqueduct_measure::implementations::Two;
use aqueduct_measure::peer::ready;
use aqueduct_measure::sample::SideReport;
use aqueduct_measure::{Case, Check, Message, Receives, Sends, Session};

use crate::kept::Meeting;

pub(crate) const CASES: &[Case] = &[
    Case {
        name: "peer/tachyon-ipc/futex",
        mechanism: Mechanism::Own,
        runtime: Runtime::Blocking,
        works: BOTH,
        sizes: &[],
        run,
    },
    Case {
        name: "peer/tachyon-ipc/spin",
        mechanism: Mechanism::Own,
        runtime: Runtime::Blocking,
        works: BOTH,
        sizes: &[],
        run,
    },
];

/// Bytes on their way: a message is whole in the ring.
const ROOM: usize = 8 << 20;
/// How often its documentation looks before it sleeps.
const SPINS: u32 = 10_000;

struct Tx(Bus);

impl Sends for Tx {
    async fn send(&mut self, message: &'static Message) -> anyhow::Result<()> {
        loop {
            match self.0.send(&message.bytes, 1) {
                // It has no wait for room.
                Err(TachyonError::BufferFull) => std::thread::yield_now(),
                sent => return Ok(sent?),
            }
        }
    }
}

struct Rx {
    bus: Bus,
    spins: u32,
}

impl Receives for Rx {
    async fn receive(&mut self, check: &mut Check) -> anyhow::Result<()> {
        let message = self.bus.acquire_rx(self.spins)?;
        check.frame(message.data())?;
        Ok(message.commit()?)
    }
}

fn run(session: &Session) -> anyhow::Result<SideReport> {
    let meeting = Meeting::new(session)?;
    let path = |way| session.spec().path(way).display().to_string();
    let (there, back) = (path("there"), path("back"));
    let (tx, bus) = if session.is_first() {
        (connect(&there)?, connect(&back)?)
    } else {
        ready("")?;
        let rx = Bus::listen(&there, ROOM)?;
        (Bus::listen(&back, ROOM)?, rx)
    };
    let spins = if session.spec().case.ends_with("/spin") {
        SPINS
    } else {
        0
    };
    let tx = Tx(tx);
    meeting.play(
        session,
        Two {
            tx,
            rx: Rx { bus, spins },
        },
    )
}

/// It listens while it waits for its one peer.
fn connect(path: &str) -> anyhow::Result<Bus> {
    for _ in 0..5000 {
        if let Ok(bus) = Bus::connect(path) {
            return Ok(bus);
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    anyhow::bail!("nobody listens at {path}")
}
