//! [`Lane`]: one mechanism or kind of harm, session after session until the time is over. Processes are
//! started, harmed, waited for, and what they noted down is compared with what the contract says.

mod hang_up;
mod pair;
mod recording;
mod replaced;
mod shared;
mod sockets;
mod torn;

use std::path::{Path, PathBuf};
use std::time::Instant;

use aqueduct::mq;

pub(crate) use hang_up::HangUp;
pub(crate) use pair::Pair;
pub(crate) use recording::Recording;
pub(crate) use replaced::Replaced;
pub(crate) use shared::{Over, Shared};
pub(crate) use sockets::Sockets;
pub(crate) use torn::Torn;

use crate::figures::Figures;
use crate::message::Sizes;
use crate::peer::{Link, Role};
use crate::process::Process;
use crate::tool::Program;

/// Where a lane works, and how long.
#[derive(Debug)]
pub(crate) struct Place {
    /// Names are made of this.
    pub(crate) name: String,
    directory: PathBuf,
    program: Program,
    until: Instant,
    session: u32,
    /// Where turns begin.
    first: usize,
    next_id: u32,
}

impl Place {
    pub(crate) fn new(
        name: &str,
        directory: &Path,
        program: &Program,
        until: Instant,
    ) -> anyhow::Result<Self> {
        let directory = directory.join(name);
        std::fs::create_dir(&directory)?;
        Ok(Self {
            name: name.to_owned(),
            directory,
            program: program.clone(),
            until,
            session: 0,
            first: fastrand::usize(..1_000),
            next_id: 0,
        })
    }

    /// The directory for the notes of one more session, while there is time or there were fewer than
    /// `least`.
    fn session(&mut self, least: usize) -> anyhow::Result<Option<PathBuf>> {
        if Instant::now() >= self.until && self.session as usize >= least {
            return Ok(None);
        }
        self.session += 1;
        let notes = self.directory.join(self.session.to_string());
        std::fs::create_dir(&notes)?;
        Ok(Some(notes))
    }

    /// The item whose turn it is in this session.
    fn turn<T: Copy>(&self, all: &[T]) -> T {
        all[(self.first + self.session as usize) % all.len()]
    }

    /// A number that no process of this lane has had.
    fn id(&mut self) -> u32 {
        self.next_id += 1;
        self.next_id
    }

    /// Starts a process that sends lines.
    fn sender(
        &mut self,
        notes: &Path,
        address: &str,
        sizes: Sizes,
        count: u64,
    ) -> anyhow::Result<Process> {
        let role = Role::Send {
            link: Link::Lines(address.to_owned()),
            sizes,
            count,
        };
        Process::start(notes, self.id(), role, None)
    }

    /// A path for a FIFO or socket.
    fn path(&self) -> PathBuf {
        self.file("link")
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// An address for this lane alone. The receiver of a FIFO outlives its writers.
    fn address(&self, scheme: &str, name: &str) -> String {
        match scheme {
            "tcp" => {
                let (a, b) = (fastrand::u8(1..), fastrand::u8(1..255));
                format!("tcp://127.77.{a}.{b}:{}", fastrand::u16(20_000..30_000))
            }
            "mq" => format!("mq:{}", self.queue(name)),
            "fifo" => format!("fifo:{}?persist=true", self.file(name).display()),
            _ => format!("{scheme}:{}", self.file(name).display()),
        }
    }

    /// The name of a queue.
    fn queue(&self, name: &str) -> String {
        format!("/aqueduct-soak-{}-{}-{name}", std::process::id(), self.name)
    }

    /// Checks that a process has removed its socket.
    fn gone(&self, scheme: &str, name: &str, figures: &mut Figures) {
        if (scheme.starts_with("unix") || scheme == "shm") && self.file(name).exists() {
            figures.leaked += 1;
            figures.wrong(format!("{scheme}:{name} was left behind"));
        }
    }

    /// Removes a FIFO or queue, which outlives its processes; a socket must be gone.
    fn remove(&self, scheme: &str, name: &str, figures: &mut Figures) {
        let removed = match scheme {
            "fifo" => std::fs::remove_file(self.file(name)).is_ok(),
            "mq" => mq::unlink(&self.queue(name)).is_ok(),
            _ => return self.gone(scheme, name, figures),
        };
        if !removed {
            figures.wrong(format!("{scheme}:{name} is missing"));
        }
    }

    /// Counts what is left at the path and beside it, apart from notes.
    fn leftovers(&self, figures: &mut Figures) -> anyhow::Result<()> {
        for entry in std::fs::read_dir(&self.directory)? {
            let entry = entry?;
            if !entry.file_type()?.is_dir() {
                figures.leaked += 1;
                figures.wrong(format!("{} was left behind", entry.path().display()));
            }
        }
        Ok(())
    }
}

/// One mechanism or kind of harm.
pub(crate) trait Lane {
    /// How many sessions there are even where time is short.
    const LEAST: usize = 1;

    fn place(&mut self) -> &mut Place;

    /// Starts processes, harms them, and compares their notes, which are in this directory.
    async fn session(&mut self, notes: &Path, figures: &mut Figures) -> anyhow::Result<()>;

    /// Counts what is left behind after the last session.
    fn leftovers(&mut self, figures: &mut Figures) -> anyhow::Result<()> {
        self.place().leftovers(figures)
    }
}

/// Runs sessions until the time is over. The notes of those in which nothing was wrong are removed.
pub(crate) async fn run<L: Lane>(mut lane: L) -> anyhow::Result<Figures> {
    let mut figures = Figures::default();
    while let Some(notes) = lane.place().session(L::LEAST)? {
        let wrong = figures.wrong.len();
        lane.session(&notes, &mut figures).await?;
        figures.sessions += 1;
        if figures.wrong.len() == wrong {
            std::fs::remove_dir_all(notes)?;
        }
    }
    lane.leftovers(&mut figures)?;
    Ok(figures)
}
