//! ringfire: records of one size in a ring in `/dev/shm`, lossless, for a reader that sleeps in futex(2)
//! or, under Tokio, in a timer.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use ringfire::spmc::{FlowControl, RingProducerBuilder};
use ringfire::wait::FutexWait;
use ringfire::{AsyncRingConsumer, RingConsumer, RingProducer};

use aqueduct_measure::case::{BOTH, Mechanism, Runtime};
use aqueduct_measure::implementations::Two;
use aqueduct_measure::peer::ready;
use aqueduct_measure::sample::SideReport;
use aqueduct_measure::{Case, Check, Message, Receives, Sends, Session};

use crate::kept::Meeting;

/// Its records have a size that is known when a program is built.
const SIZES: &[usize] = &[64, 1 << 10, 64 << 10];

pub(crate) const CASES: &[Case] = &[
    Case {
        name: "peer/ringfire/futex",
        mechanism: Mechanism::Own,
        runtime: Runtime::Blocking,
        works: BOTH,
        sizes: SIZES,
        run,
    },
    Case {
        name: "peer/ringfire/async",
        mechanism: Mechanism::Own,
        runtime: Runtime::CurrentThread,
        works: BOTH,
        sizes: SIZES,
        run,
    },
];

/// Bytes on their way, and records at most.
const ROOM: usize = 8 << 20;
const RECORDS: usize = 4096;

type Record<const N: usize> = [u8; N];

struct Tx<const N: usize>(RingProducer<Record<N>>);

impl<const N: usize> Sends for Tx<N> {
    async fn send(&mut self, message: &'static Message) -> anyhow::Result<()> {
        self.0.push((&message.bytes[..]).try_into()?);
        Ok(())
    }
}

struct Sleeps<const N: usize>(RingConsumer<Record<N>>);

impl<const N: usize> Receives for Sleeps<N> {
    async fn receive(&mut self, check: &mut Check) -> anyhow::Result<()> {
        check.frame(&self.0.recv_blocking(&mut FutexWait::default()))
    }
}

struct Awaits<const N: usize>(AsyncRingConsumer<Record<N>>);

impl<const N: usize> Receives for Awaits<N> {
    async fn receive(&mut self, check: &mut Check) -> anyhow::Result<()> {
        check.frame(&self.0.recv().await)
    }
}

fn run(session: &Session) -> anyhow::Result<SideReport> {
    match session.spec().size {
        64 => sized::<64>(session),
        0x400 => sized::<0x400>(session),
        0x1_0000 => sized::<0x1_0000>(session),
        other => anyhow::bail!("there is no record of {other} bytes"),
    }
}

fn sized<const N: usize>(session: &Session) -> anyhow::Result<SideReport> {
    let meeting = Meeting::new(session)?;
    let (to, from) = if session.is_first() {
        ("there", "back")
    } else {
        ("back", "there")
    };
    let ring = |way| PathBuf::from(format!("/dev/shm/{}-{way}", session.spec().name));
    let records = (ROOM / N).clamp(16, RECORDS) as u64;
    let tx = RingProducerBuilder::new(records)
        .flow_control(FlowControl::LosslessBackpressure)
        .build::<Record<N>, _>(ring(to))?;
    if !session.is_first() {
        ready("")?;
    }
    let rx = wait_for(|| RingConsumer::<Record<N>>::attach(ring(from)).ok())
        .context("no ring of the peer")?;
    // A writer waits for readers that it knows.
    fs::write(session.spec().path(to), [])?;
    let path = session.spec().path(from);
    wait_for(|| path.exists().then_some(())).context("no reader of the peer")?;
    let tx = Tx::<N>(tx);
    if session.spec().case.ends_with("/async") {
        let rx = Awaits(AsyncRingConsumer::from_consumer(rx));
        return meeting.play(session, Two { tx, rx });
    }
    let rx = Sleeps(rx);
    meeting.play(session, Two { tx, rx })
}

/// What the other process makes within a few seconds.
fn wait_for<T>(look: impl Fn() -> Option<T>) -> Option<T> {
    for _ in 0..5000 {
        let found = look();
        if found.is_some() {
            return found;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    None
}
