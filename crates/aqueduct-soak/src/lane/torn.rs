use std::path::Path;
use std::time::Duration;

use nix::sys::signal::Signal;

use super::{Place, end_session};
use crate::fault::Fault;
use crate::figures::Figures;
use crate::message::Sizes;
use crate::peer::{End, Link, Role};
use crate::process::Process;

const SCHEMES: [&str; 3] = ["fifo", "unix", "tcp"];
const SENDERS: usize = 3;

/// More than a socket or a pipe holds by default, and no more than a pipe can be made to hold.
const SIZES: Sizes = Sizes {
    usual: 300_000,
    largest: 900_000,
};

/// Senders of long lines that are killed inside one, and a receiver of them all.
///
/// The contract: what a killed sender left of a line on a socket is no message, and costs no other.
/// On a FIFO, where the senders share a lock, it leaves all of a line or nothing. What it had handed
/// over before arrives.
#[derive(Debug)]
pub(crate) struct Torn {
    place: Place,
}

impl Torn {
    pub(crate) fn new(place: Place) -> Self {
        Self { place }
    }

    pub(crate) async fn run(mut self, figures: &mut Figures) -> anyhow::Result<()> {
        while let Some(notes) = self.place.session(SCHEMES.len())? {
            let wrong = figures.wrong.len();
            self.session(&notes, figures).await?;
            end_session(figures, wrong, &notes)?;
        }
        self.place.leftovers(figures)
    }

    async fn session(&mut self, notes: &Path, figures: &mut Figures) -> anyhow::Result<()> {
        let scheme = self.place.turn(&SCHEMES);
        let address = self.place.address(scheme, "link");
        let collect = Role::Collect {
            address: address.clone(),
        };
        let mut receiver = Process::start(notes, self.place.id(), collect, None)?;
        receiver.opens().await?;
        let mut senders = Vec::new();
        for _ in 0..SENDERS {
            senders.push(self.sender(notes, &address, u64::MAX)?);
        }
        for _ in 0..fastrand::u8(2..6) {
            let living = senders.iter_mut().filter(|it| !it.killed);
            let Some(victim) = living.last() else { break };
            victim.moves(fastrand::u64(1..6)).await?;
            // In full flow, or where it cannot go on.
            let stuck = fastrand::bool() && receiver.signal(Signal::SIGSTOP)?;
            if stuck {
                figures.did(Fault::Stop);
                until_stuck(victim).await;
            }
            victim.kill(figures).await?;
            receiver.signal(Signal::SIGCONT)?;
            senders.push(self.sender(notes, &address, u64::MAX)?);
        }
        // What follows the torn lines is whole.
        let mut last = self.sender(notes, &address, 5)?;
        last.finish(figures, &[End::Whole]).await?;
        for sender in &mut senders {
            sender.kill(figures).await?;
        }
        senders.push(last);
        let due = senders.iter().map(|it| it.sent().done).sum();
        receiver.receives(due).await?;
        receiver.stop();
        receiver.finish(figures, &[End::Whole]).await?;
        if scheme == "fifo" {
            std::fs::remove_file(self.place.path())?;
        }

        let received = receiver.received();
        for sender in &senders {
            let mut came = received.iter().flatten();
            // The one in its hands never arrived, and so it was killed within it.
            let begun = sender.sent().begun;
            let whole = came.any(|it| *it == (sender.id(), begun.saturating_sub(1)));
            if sender.killed && begun > sender.sent().done && !whole {
                figures.did(Fault::Tear);
            }
        }
        let sent: Vec<_> = senders.iter().map(|it| (it.id(), it.sent())).collect();
        let missing = figures.compare(&sent, &[received]);
        let lost = missing.values().map(|it| it.len() as u64).sum();
        figures.losses(
            lost,
            0,
            "lines were handed over before their sender was killed",
        );
        Ok(())
    }

    fn sender(&mut self, notes: &Path, address: &str, count: u64) -> anyhow::Result<Process> {
        let role = Role::Send {
            link: Link::Lines(address.to_owned()),
            sizes: SIZES,
            count,
        };
        Process::start(notes, self.place.id(), role, None)
    }
}

/// Waits until a sender gets no further.
async fn until_stuck(sender: &Process) {
    let mut before = None;
    while before != Some(sender.sent()) {
        before = Some(sender.sent());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
