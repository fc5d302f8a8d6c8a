//! One mechanism, session after session until the time is over: processes are started, harmed, waited
//! for, and what they noted down is compared with what the contract says.

mod pair;
mod shared;
mod sockets;

use std::path::{Path, PathBuf};
use std::time::Instant;

pub(crate) use pair::Pair;
pub(crate) use shared::{Over, Shared};
pub(crate) use sockets::Sockets;

use crate::figures::Figures;

/// Where a lane works, and how long.
#[derive(Debug)]
pub(crate) struct Place {
    /// Names are made of this.
    pub(crate) name: String,
    directory: PathBuf,
    until: Instant,
    session: u32,
    next_id: u32,
}

impl Place {
    pub(crate) fn new(name: &str, directory: &Path, until: Instant) -> anyhow::Result<Self> {
        let directory = directory.join(name);
        std::fs::create_dir(&directory)?;
        Ok(Self {
            name: name.to_owned(),
            directory,
            until,
            session: 0,
            next_id: 0,
        })
    }

    /// The directory for the notes of one more session, while there is time.
    fn session(&mut self) -> anyhow::Result<Option<PathBuf>> {
        if Instant::now() >= self.until {
            return Ok(None);
        }
        self.session += 1;
        let notes = self.directory.join(self.session.to_string());
        std::fs::create_dir(&notes)?;
        Ok(Some(notes))
    }

    /// A number that no process of this lane has had.
    fn id(&mut self) -> u32 {
        self.next_id += 1;
        self.next_id
    }

    /// A path for a FIFO or socket.
    fn path(&self) -> PathBuf {
        self.directory.join("link")
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

/// Ends a session: its notes are no longer needed if nothing was wrong.
fn end_session(figures: &mut Figures, wrong_before: usize, notes: &Path) -> anyhow::Result<()> {
    figures.sessions += 1;
    if figures.wrong.len() == wrong_before {
        std::fs::remove_dir_all(notes)?;
    }
    Ok(())
}
