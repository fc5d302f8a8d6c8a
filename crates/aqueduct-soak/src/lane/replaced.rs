use std::fs;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use super::{Place, end_session};
use crate::fault::Fault;
use crate::figures::Figures;
use crate::message::Sizes;
use crate::peer::{CHECK_NAME_EVERY, End, Link, Role};
use crate::process::Process;

const SCHEMES: [&str; 3] = ["fifo", "unix", "unixpacket"];

const SIZES: Sizes = Sizes {
    usual: 600,
    largest: 20_000,
};

/// How soon a sender that comes after the fault is heard: a receiver looks at its path this often, and
/// gives a FIFO that was only removed one second to be made anew. The rest is for a busy machine.
const NOTICED: Duration = CHECK_NAME_EVERY
    .saturating_add(Duration::from_secs(1))
    .saturating_add(Duration::from_secs(10));

/// A receiver that lasts, whose FIFO or socket path is removed or made anew, by somebody else, again and
/// again, while some send to it and others come.
///
/// The contract: it notices, those who come later reach it, and nothing is lost: those who were there
/// before are heard out.
#[derive(Debug)]
pub(crate) struct Replaced {
    place: Place,
}

impl Replaced {
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
        let mut senders = vec![self.sender(notes, &address, u64::MAX)?];
        for _ in 0..fastrand::u8(2..6) {
            if let Some(before) = senders.last_mut() {
                before.moves(fastrand::u64(1..500)).await?;
            }
            let before = receiver.count();
            self.replace(scheme)?;
            figures.did(Fault::Replace);
            let count = match fastrand::bool() {
                true => u64::MAX,
                false => fastrand::u64(1..500),
            };
            let newcomer = self.sender(notes, &address, count)?;
            let since = Instant::now();
            let is_heard = || {
                let mut new = receiver.received_since(before).into_iter().flatten();
                new.any(|(sender, _)| sender == newcomer.id())
            };
            while !is_heard() && since.elapsed() < NOTICED {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            figures.slowest = figures.slowest.max(since.elapsed());
            if !is_heard() {
                figures.wrong(format!("{address} was replaced, and that is not noticed"));
            }
            senders.push(newcomer);
        }
        for sender in &mut senders {
            // Some have finished by then.
            sender.kill(figures).await?;
            sender.finish(figures, &[End::Whole]).await?;
        }
        let due = senders.iter().map(|it| it.sent().done).sum();
        receiver.receives(due).await?;
        receiver.stop();
        receiver.finish(figures, &[End::Whole]).await?;
        if scheme == "fifo" {
            fs::remove_file(self.place.path())?;
        }

        let sent: Vec<_> = senders.iter().map(|it| (it.id(), it.sent())).collect();
        let missing = figures.compare(&sent, &[receiver.received()]);
        let lost = missing.values().map(|it| it.len() as u64).sum();
        figures.losses(lost, 0, "who was there before is heard out");
        Ok(())
    }

    /// Removes the path; or makes it anew, at once or by moving another one over it.
    fn replace(&self, scheme: &str) -> anyhow::Result<()> {
        let path = self.place.path();
        let make = |path: &Path| match scheme {
            "fifo" => mkfifo(path, Mode::S_IRUSR | Mode::S_IWUSR).map_err(Into::into),
            // As a server leaves it that was killed.
            _ => UnixListener::bind(path).map(drop),
        };
        match fastrand::u8(..3) {
            0 => fs::remove_file(path)?,
            1 => {
                fs::remove_file(&path)?;
                make(&path)?;
            }
            _ => {
                let other = self.place.file("other");
                make(&other)?;
                fs::rename(other, path)?;
            }
        }
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
