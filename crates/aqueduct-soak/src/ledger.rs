//! What processes note down while they live: files that a `SIGKILL` does not undo.
//!
//! Each note is one `write(2)` of a few bytes, so it is there whole or not at all.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// How far a sender has come.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Progress {
    /// Messages below this number may have been handed over.
    pub(crate) begun: u64,
    /// Those below this number have been, without an error.
    pub(crate) done: u64,
    /// How many connections have broken under it.
    pub(crate) breaks: u64,
    /// How many of these it has cut itself.
    pub(crate) cuts: u64,
}

/// A sender's progress, in its file.
#[derive(Debug)]
pub(crate) struct Sent(File);

impl Sent {
    pub(crate) fn create(path: &Path) -> io::Result<Self> {
        File::create(path).map(Self)
    }

    pub(crate) fn note(&self, progress: Progress) -> io::Result<()> {
        let Progress {
            begun,
            done,
            breaks,
            cuts,
        } = progress;
        let cell = [begun, done, breaks, cuts].map(u64::to_le_bytes).concat();
        self.0.write_all_at(&cell, 0)
    }

    /// What is in the file; nothing as long as it has not been made.
    pub(crate) fn read(path: &Path) -> Progress {
        let cell = std::fs::read(path).unwrap_or_default();
        let number = |at: usize| {
            let bytes = cell.get(8 * at..8 * at + 8)?;
            Some(u64::from_le_bytes(bytes.try_into().ok()?))
        };
        Progress {
            begun: number(0).unwrap_or_default(),
            done: number(1).unwrap_or_default(),
            breaks: number(2).unwrap_or_default(),
            cuts: number(3).unwrap_or_default(),
        }
    }
}

/// A message that came: its sender and number, or that it was torn.
pub(crate) type Record = Option<(u32, u64)>;

const RECORD: usize = 12;
const TORN: u32 = u32::MAX;

/// The messages that came, one after the other, in their file.
#[derive(Debug)]
pub(crate) struct Received(File);

impl Received {
    pub(crate) fn create(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(path);
        file.map(Self)
    }

    pub(crate) fn note(&mut self, record: Record) -> io::Result<()> {
        let (sender, number) = record.unwrap_or((TORN, 0));
        let mut note = [0; RECORD];
        note[..4].copy_from_slice(&sender.to_le_bytes());
        note[4..].copy_from_slice(&number.to_le_bytes());
        self.0.write_all(&note)
    }

    /// How many are in the file.
    pub(crate) fn count(path: &Path) -> u64 {
        std::fs::metadata(path).map_or(0, |it| it.len() / RECORD as u64)
    }

    /// Reads the file from the record after the first `skip`.
    pub(crate) fn read(path: &Path, skip: u64) -> Vec<Record> {
        let mut notes = Vec::new();
        if let Ok(mut file) = File::open(path) {
            // Records that cannot be read count as missing.
            let _ = file.seek(SeekFrom::Start(skip * RECORD as u64));
            let _ = file.read_to_end(&mut notes);
        }
        let (notes, _) = notes.as_chunks::<RECORD>();
        let record = |note: &[u8; RECORD]| {
            let (sender, number) = note.split_at(4);
            let sender = u32::from_le_bytes(sender.try_into().ok()?);
            let number = u64::from_le_bytes(number.try_into().ok()?);
            (sender != TORN).then_some((sender, number))
        };
        notes.iter().map(record).collect()
    }
}

/// Where the process numbered `id` keeps its notes.
pub(crate) fn path(directory: &Path, id: u32, what: &str) -> PathBuf {
    directory.join(format!("{id}.{what}"))
}
