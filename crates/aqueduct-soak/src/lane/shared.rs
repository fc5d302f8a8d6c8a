use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use aqueduct::fifo;
use aqueduct::mq::{self, Queue};
use nix::fcntl::OFlag;
use nix::unistd::pipe2;

use super::{Lane, Place};
use crate::fault::Fault;
use crate::figures::Figures;
use crate::message::Sizes;
use crate::peer::{End, LINK_FD, Link, Role, wait_for_fifo};
use crate::process::Process;

const SENDERS: usize = 3;
const MAX_MESSAGE: usize = 512;

/// Several senders and receivers on one queue or packet pipe, or several senders and one receiver on
/// a FIFO.
///
/// The contract: each message goes to one receiver, whole, and each receiver gets those of one sender
/// in order. A killed sender has sent its message or not. A killed receiver takes the one message with
/// it that it had in its hands. (The one receiver of a FIFO is not killed here: it would take many.)
#[derive(Debug)]
pub(crate) struct Shared {
    place: Place,
    over: Over,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Over {
    Packets,
    Fifo,
    /// With this driver in every other process, and the other one in the rest.
    Queue(&'static str),
}

/// What holds the link open between sessions' processes.
enum Held {
    Packets(OwnedFd, OwnedFd),
    Fifo(Box<fifo::Sender>),
    Queue(Queue),
}

impl Shared {
    pub(crate) fn new(place: Place, over: Over) -> Self {
        Self { place, over }
    }
}

impl Lane for Shared {
    fn place(&mut self) -> &mut Place {
        &mut self.place
    }

    async fn session(&mut self, notes: &Path, figures: &mut Figures) -> anyhow::Result<()> {
        let queue = self.queue_name();
        let mut receivers = Vec::new();
        let held = match self.over {
            Over::Packets => {
                let (read, write) = pipe2(OFlag::O_CLOEXEC)?;
                Held::Packets(read, write)
            }
            Over::Queue(_) => {
                let mut options = mq::OpenOptions::new();
                options.capacity(10).max_message(MAX_MESSAGE);
                Held::Queue(options.create_new(true).unlink_on_drop(true).open(&queue)?)
            }
            Over::Fifo => {
                receivers.push(self.receiver(notes, None)?);
                // The stream ends when the last writer leaves: this one stays until all others have.
                let mut options = fifo::OpenOptions::new();
                options.create(false).wait(Some(Duration::from_secs(30)));
                Held::Fifo(Box::new(wait_for_fifo(&options, &self.place.path()).await?))
            }
        };
        if self.over != Over::Fifo {
            for _ in 0..SENDERS {
                receivers.push(self.receiver(notes, Some(&held))?);
            }
        }
        let mut senders = Vec::new();
        for _ in 0..SENDERS {
            senders.push(self.sender(notes, &held, u64::MAX)?);
        }

        // In the midst of it, one after the other is killed and another takes its place.
        let mut receivers_killed = 0;
        for _ in 0..fastrand::u8(2..8) {
            let of_senders = self.over == Over::Fifo || fastrand::bool();
            let group = if of_senders {
                &mut senders
            } else {
                &mut receivers
            };
            let Some(victim) = group
                .iter_mut()
                .filter(|it| !it.killed)
                .nth(fastrand::usize(..SENDERS))
            else {
                continue;
            };
            victim.moves(fastrand::u64(1..1_500)).await?;
            if fastrand::u8(..4) == 0 {
                victim.pause(figures).await?;
                continue;
            }
            victim.kill(figures).await?;
            if of_senders {
                let another = self.sender(notes, &held, u64::MAX)?;
                senders.push(another);
            } else {
                receivers_killed += 1;
                let another = self.receiver(notes, Some(&held))?;
                receivers.push(another);
            }
        }
        // What is open goes on without its name.
        let mut unlinked = false;
        if fastrand::u8(..4) == 0 {
            for process in senders.iter_mut().chain(&mut receivers) {
                process.opens().await?;
            }
            match self.over {
                Over::Queue(_) => mq::unlink(&queue)?,
                // Not there if the receiver has failed, which is told of it.
                Over::Fifo => drop(std::fs::remove_file(self.place.path())),
                Over::Packets => {}
            }
            unlinked = self.over != Over::Packets;
            if unlinked {
                figures.did(Fault::Unlink);
            }
        }
        // A few more messages by senders that end as they should, before the endless ones are killed.
        if !unlinked {
            let mut last = self.sender(notes, &held, 500)?;
            last.finish(figures, &[End::Whole]).await?;
            senders.push(last);
        }
        for sender in &mut senders {
            sender.moves(u64::from(unlinked)).await?;
            sender.kill(figures).await?;
            sender.finish(figures, &[End::Whole]).await?;
        }
        let living = receivers.iter().filter(|it| !it.killed).count();
        match held {
            Held::Packets(read, write) => drop((read, write)),
            Held::Fifo(keeper) => drop(keeper),
            Held::Queue(queue) => {
                // Behind all that has been sent, an end for each.
                for _ in 0..living {
                    queue.send_timeout(0, b"", Duration::from_secs(40)).await?;
                }
                for receiver in &mut receivers {
                    receiver.finish(figures, &[End::Whole]).await?;
                }
                let left = queue.attributes()?.messages;
                if left > 0 {
                    figures.wrong(format!("{left} messages were left in the queue"));
                }
            }
        }
        for receiver in &mut receivers {
            receiver.finish(figures, &[End::Whole]).await?;
        }
        if matches!(self.over, Over::Queue(_)) && mq::info(&queue).is_ok() {
            figures.leaked += 1;
            figures.wrong(format!("queue {queue} was left behind"));
        }

        let sent: Vec<_> = senders.iter().map(|it| (it.id(), it.sent())).collect();
        let received: Vec<_> = receivers.iter().map(Process::received).collect();
        let missing = figures.compare(&sent, &received);
        let lost = missing.values().map(|it| it.len() as u64).sum();
        figures.losses(
            lost,
            receivers_killed,
            "one for each receiver that was killed",
        );
        Ok(())
    }
}

impl Shared {
    fn queue_name(&self) -> String {
        self.place.queue("link")
    }

    fn link(&self, id: u32) -> Link {
        match self.over {
            Over::Packets => Link::Packets,
            Over::Fifo => Link::SharedFifo(self.place.path()),
            Over::Queue(driver) => Link::Queue {
                name: self.queue_name(),
                driver: match (driver, id % 4) {
                    ("pool", 0) => "asyncfd",
                    (_, 0) => "pool",
                    (driver, _) => driver,
                }
                .into(),
            },
        }
    }

    fn sender(&mut self, notes: &Path, held: &Held, count: u64) -> anyhow::Result<Process> {
        let id = self.place.id();
        let usual = match self.over {
            Over::Queue(_) => MAX_MESSAGE,
            Over::Packets => 1_000,
            Over::Fifo => 1_500,
        };
        let largest = match self.over {
            Over::Queue(_) => MAX_MESSAGE,
            Over::Packets => 4096,
            Over::Fifo => 4092,
        };
        let role = Role::Send {
            link: self.link(id),
            sizes: Sizes { usual, largest },
            count,
        };
        let fd = match held {
            Held::Packets(_, write) => Some((LINK_FD, write.try_clone()?)),
            _ => None,
        };
        Process::start(notes, id, role, fd)
    }

    fn receiver(&mut self, notes: &Path, held: Option<&Held>) -> anyhow::Result<Process> {
        let id = self.place.id();
        let role = Role::Receive {
            link: self.link(id),
        };
        let fd = match held {
            Some(Held::Packets(read, _)) => Some((LINK_FD, read.try_clone()?)),
            _ => None,
        };
        Process::start(notes, id, role, fd)
    }
}
