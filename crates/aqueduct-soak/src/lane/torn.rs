use std::path::Path;
use std::time::Duration;

use nix::sys::signal::Signal;

use super::{Lane, Place};
use crate::fault::Fault;
use crate::figures::Figures;
use crate::message::Sizes;
use crate::peer::{End, Role};
use crate::process::Process;

const SCHEMES: [&str; 3] = ["fifo", "unix", "tcp"];
const SENDERS: usize = 3;

/// Many lines are larger than a pipe or the buffer of a socket, none is larger than the largest pipe.
const SIZES: Sizes = Sizes {
    usual: 300_000,
    largest: 900_000,
};

/// Senders that are killed while they send a long line, and one receiver for all of them.
///
/// The contract: on a socket the receiver drops the part of the line that arrived, and loses no other
/// line. On a FIFO, which the senders lock, a line arrives whole or not at all. Lines handed over before
/// arrive.
#[derive(Debug)]
pub(crate) struct Torn {
    place: Place,
}

impl Torn {
    pub(crate) fn new(place: Place) -> Self {
        Self { place }
    }
}

impl Lane for Torn {
    const LEAST: usize = SCHEMES.len();

    fn place(&mut self) -> &mut Place {
        &mut self.place
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
            senders.push(self.place.sender(notes, &address, SIZES, u64::MAX)?);
        }
        for round in 0..fastrand::u8(2..5) {
            let living = senders.iter_mut().filter(|it| !it.killed);
            let mut victims: Vec<_> = living.collect();
            for victim in &mut victims {
                victim.moves(fastrand::u64(1..3)).await?;
            }
            if round % 2 == 0 && receiver.signal(Signal::SIGSTOP)? {
                // All of them: with a FIFO only the one that has the lock is inside a line.
                figures.did(Fault::Stop);
                until_stuck(&victims).await;
            } else {
                victims.truncate(1);
            }
            let killed = victims.len();
            for victim in victims {
                victim.kill(figures).await?;
            }
            receiver.signal(Signal::SIGCONT)?;
            for _ in 0..killed {
                senders.push(self.place.sender(notes, &address, SIZES, u64::MAX)?);
            }
        }
        // Lines after the torn ones arrive.
        let mut last = self.place.sender(notes, &address, SIZES, 5)?;
        last.finish(figures, &[End::Whole]).await?;
        for sender in &mut senders {
            sender.kill(figures).await?;
        }
        senders.push(last);
        let due = senders.iter().map(|it| it.sent().done).sum();
        receiver.receives(due).await?;
        receiver.stop();
        receiver.finish(figures, &[End::Whole]).await?;
        self.place.remove(scheme, "link", figures);

        let received = receiver.received();
        for sender in &senders {
            let mut came = received.iter().flatten();
            // It was sending this line, which never arrived.
            let begun = sender.sent().begun;
            let whole = came.any(|it| *it == (sender.id(), begun.saturating_sub(1)));
            if sender.killed && begun > sender.sent().done && !whole {
                figures.did(Fault::Tear);
            }
        }
        let sent: Vec<_> = senders.iter().map(|it| (it.id(), it.sent())).collect();
        let missing = figures.compare(&sent, &[received]);
        let lost = missing.values().map(|it| it.len() as u64).sum();
        figures.losses(lost, 0, "all of them were handed over");
        Ok(())
    }
}

/// Waits until no sender makes progress.
async fn until_stuck(senders: &[&mut Process]) {
    let progress = || -> Vec<_> { senders.iter().map(|it| it.sent()).collect() };
    let mut before = Vec::new();
    while before != progress() {
        before = progress();
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
