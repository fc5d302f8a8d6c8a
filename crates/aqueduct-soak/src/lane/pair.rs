use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::unistd::pipe2;

use super::{Lane, Place};
use crate::fault::Fault;
use crate::figures::Figures;
use crate::message::Sizes;
use crate::peer::{End, LINK_FD, Link, Role};
use crate::process::Process;

/// What a receiver may hold when it is killed: one read of at most 64 KiB, and the frame that it is
/// putting together.
const IN_HANDS: usize = 64 * 1024 + SIZES.largest;

/// Of length framing.
const HEADER: usize = 4;

const SIZES: Sizes = Sizes {
    usual: 600,
    largest: 100_000,
};

/// One sender and one receiver of a byte stream: a pipe, or a FIFO.
///
/// The contract: the receiver gets a beginning of what was sent, in order and whole. All of it, if
/// no receiver was killed; if the sender was, the stream ends behind a whole frame or with the error
/// that says "inside a frame". With a killed receiver goes what was in the pipe and in its hands, and
/// the sender is told.
#[derive(Debug)]
pub(crate) struct Pair {
    place: Place,
    fifo: bool,
    /// Whether a killed receiver has left the FIFO, which is nobody's to remove then.
    abandoned: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Plan {
    KillSender,
    KillReceiver,
    Unlink,
    Calm,
}

const PLANS: [Plan; 3] = [Plan::KillSender, Plan::KillReceiver, Plan::Unlink];

impl Pair {
    pub(crate) fn new(place: Place, fifo: bool) -> Self {
        Self {
            place,
            fifo,
            abandoned: false,
        }
    }
}

impl Lane for Pair {
    const LEAST: usize = PLANS.len();

    fn place(&mut self) -> &mut Place {
        &mut self.place
    }

    async fn session(&mut self, notes: &Path, figures: &mut Figures) -> anyhow::Result<()> {
        let plan = match self.place.turn(&PLANS) {
            Plan::Unlink if !self.fifo => Plan::Calm,
            plan => plan,
        };
        let count = match plan {
            Plan::KillSender => u64::MAX,
            _ => fastrand::u64(5_000..20_000),
        };
        let path = self.place.path();
        let (mut sender, mut receiver, capacity) = self.start(count, notes, &path)?;

        // What is to lose its name must not end before.
        let pauses = if plan == Plan::Unlink { 1 } else { 3 };
        for _ in 0..fastrand::u8(..pauses) {
            sender.moves(fastrand::u64(1..2_000)).await?;
            match fastrand::bool() {
                true => sender.pause(figures).await?,
                false => receiver.pause(figures).await?,
            }
        }
        receiver.moves(fastrand::u64(1..5_000)).await?;
        match plan {
            Plan::KillSender => sender.kill(figures).await?,
            Plan::KillReceiver => receiver.kill(figures).await?,
            // Where the receiver has ended already it has removed it.
            Plan::Unlink => {
                if std::fs::remove_file(&path).is_ok() {
                    figures.did(Fault::Unlink);
                }
                self.abandoned = false;
            }
            Plan::Calm => {}
        }
        let mut sender_ends = vec![End::Whole];
        let mut receiver_ends = vec![End::Whole];
        if receiver.killed {
            sender_ends.push(End::PeerGone);
            self.abandoned |= self.fifo;
        }
        if sender.killed {
            receiver_ends.push(End::Truncated);
        }
        sender.finish(figures, &sender_ends).await?;
        receiver.finish(figures, &receiver_ends).await?;

        let progress = sender.sent();
        let missing = figures.compare(&[(sender.id(), progress)], &[receiver.received()]);
        let missing = missing.get(&sender.id()).map_or(&[][..], |it| it);
        let lost = missing.len() as u64;
        if !receiver.killed {
            figures.losses(lost, 0, "no receiver was killed");
            return Ok(());
        }
        if missing.windows(2).any(|it| it[0] + 1 != it[1]) {
            figures.wrong(format!("messages before the last are missing: {missing:?}"));
        }
        // The last ones, as many as were in the pipe and in the receiver's hands.
        let mut room = capacity + IN_HANDS;
        let last = (0..progress.done).rev().take_while(|number| {
            let size = SIZES.of(sender.id(), *number) + HEADER;
            let fits = size <= room;
            room -= size.min(room);
            fits
        });
        let may_lose = last.count() as u64;
        figures.losses(lost, may_lose, "what the pipe and the killed receiver held");
        Ok(())
    }

    fn leftovers(&mut self, figures: &mut Figures) -> anyhow::Result<()> {
        if self.abandoned {
            std::fs::remove_file(self.place.path())?;
        }
        self.place.leftovers(figures)
    }
}

impl Pair {
    /// Starts both, and says how many bytes the pipe between them holds.
    fn start(
        &mut self,
        count: u64,
        notes: &Path,
        path: &Path,
    ) -> anyhow::Result<(Process, Process, usize)> {
        let mut ends: Option<(OwnedFd, OwnedFd)> = None;
        // Those of a new pipe are these; a FIFO that is being made has as many.
        let mut capacity = 65_536;
        let link = if self.fifo {
            Link::Fifo(PathBuf::from(path))
        } else {
            let (read, write) = pipe2(OFlag::O_CLOEXEC)?;
            capacity = fcntl(&read, FcntlArg::F_GETPIPE_SZ)?.try_into()?;
            ends = Some((read, write));
            Link::Pipe
        };
        let (read, write) = ends.unzip();
        let receive = Role::Receive { link: link.clone() };
        let send = Role::Send {
            link,
            sizes: SIZES,
            count,
        };
        let id = self.place.id();
        let receiver = Process::start(notes, id, receive, read.map(|it| (LINK_FD, it)))?;
        let id = self.place.id();
        let sender = Process::start(notes, id, send, write.map(|it| (LINK_FD, it)))?;
        Ok((sender, receiver, capacity))
    }
}
