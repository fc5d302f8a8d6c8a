//! Message queues, by both drivers.

use std::time::Duration;

use aqueduct::mq::{Driver, OpenOptions, Queue};

use crate::check::Check;
use crate::implementations::{place, play_halves};
use crate::message::Message;
use crate::peer::ready;
use crate::sample::SideReport;
use crate::session::{Receives, Sends, Session};

struct End(Queue);

impl Sends for End {
    async fn send(&mut self, message: &'static Message) -> anyhow::Result<()> {
        Ok(self.0.send(0, &message.bytes).await?)
    }
}

impl Receives for End {
    async fn receive(&mut self, check: &mut Check) -> anyhow::Result<()> {
        check.frame(self.0.recv().await?.body())
    }
}

pub(super) fn async_fd(session: &Session) -> anyhow::Result<SideReport> {
    run(session, Driver::AsyncFd, Duration::ZERO)
}

/// In latency mode, for as long as its documentation proposes.
pub(super) fn latency(session: &Session) -> anyhow::Result<SideReport> {
    run(session, Driver::AsyncFd, Duration::from_micros(50))
}

pub(super) fn pool(session: &Session) -> anyhow::Result<SideReport> {
    run(session, Driver::Pool, Duration::ZERO)
}

fn run(session: &Session, driver: Driver, poll_for: Duration) -> anyhow::Result<SideReport> {
    ready("")?;
    let (sends, receives) = place::ends(session);
    let (to, from) = place::queue_names(session);
    let ends = session.exec().run(async move {
        let mut options = OpenOptions::new();
        options.driver(driver).poll_for(poll_for);
        let tx = sends.then(|| options.clone().write(true).open(to));
        let rx = receives.then(|| options.clone().read(true).open(from));
        Ok((tx.transpose()?.map(End), rx.transpose()?.map(End)))
    })?;
    play_halves(session, ends)
}
