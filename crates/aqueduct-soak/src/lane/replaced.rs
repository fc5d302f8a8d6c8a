use std::fs;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use super::{Lane, Place};
use crate::fault::Fault;
use crate::figures::Figures;
use crate::message::Sizes;
use crate::peer::{CHECK_NAME_EVERY, End, Role};
use crate::process::Process;

const SCHEMES: [&str; 4] = ["fifo", "unix", "unixpacket", "unixgram"];

const SIZES: Sizes = Sizes {
    usual: 600,
    largest: 20_000,
};

/// How long a new sender may take to reach the receiver. The receiver checks its path at an interval,
/// and waits one second for a removed FIFO to be made again; the rest is for a busy machine.
const NOTICED: Duration = CHECK_NAME_EVERY
    .saturating_add(Duration::from_secs(1))
    .saturating_add(Duration::from_secs(10));

/// A persistent receiver whose FIFO or socket path is removed or replaced while senders use it.
///
/// The contract: the receiver notices, new senders reach it, and connected senders lose nothing.
#[derive(Debug)]
pub(crate) struct Replaced {
    place: Place,
}

impl Replaced {
    pub(crate) fn new(place: Place) -> Self {
        Self { place }
    }
}

impl Lane for Replaced {
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
        let mut senders = vec![self.place.sender(notes, &address, SIZES, u64::MAX)?];
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
            let newcomer = self.place.sender(notes, &address, SIZES, count)?;
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
                figures.wrong(format!("the receiver of {address} did not notice"));
            }
            senders.push(newcomer);
        }
        for sender in &mut senders {
            sender.kill(figures).await?;
            sender.finish(figures, &[End::Whole]).await?;
        }
        let due = senders.iter().map(|it| it.sent().done).sum();
        receiver.receives(due).await?;
        receiver.stop();
        receiver.finish(figures, &[End::Whole]).await?;
        self.place.remove(scheme, "link", figures);

        let sent: Vec<_> = senders.iter().map(|it| (it.id(), it.sent())).collect();
        let missing = figures.compare(&sent, &[receiver.received()]);
        let lost = missing.values().map(|it| it.len() as u64).sum();
        figures.losses(lost, 0, "no receiver was killed");
        Ok(())
    }
}

impl Replaced {
    /// Removes the path, removes it and makes it again, or renames a new one over it.
    fn replace(&self, scheme: &str) -> anyhow::Result<()> {
        let path = self.place.path();
        let make = |path: &Path| match scheme {
            "fifo" => mkfifo(path, Mode::S_IRUSR | Mode::S_IWUSR).map_err(Into::into),
            // A stale one, as a killed server leaves it.
            _ => UnixListener::bind(path).map(drop),
        };
        match fastrand::u8(..3) {
            0 => drop(fs::remove_file(path)),
            1 => {
                // Missing if the receiver has not noticed the last time.
                drop(fs::remove_file(&path));
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
}
