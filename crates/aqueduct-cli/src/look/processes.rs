//! [`Processes`]: who has what open, by what `/proc` tells.

use std::collections::HashMap;
use std::fs::{self, DirEntry, Metadata};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use super::opening;
use super::shared::{self, Memory};
use super::thing::{Holder, Id};

/// What all processes have open that may be looked into: the own ones, or all for root.
#[derive(Default)]
pub(crate) struct Processes {
    files: HashMap<Id, Vec<Holder>>,
    /// By the number that `/proc/net/unix` has for it.
    sockets: HashMap<u64, Vec<Holder>>,
    owners: HashMap<u64, u32>,
    fifos: Vec<(PathBuf, Metadata)>,
    /// Those that wait for the other side of a FIFO, and it cannot be seen of which.
    unclear: Vec<u32>,
    memories: Vec<Memory>,
    /// Why some memory cannot be read.
    unread: Vec<String>,
}

impl Processes {
    pub(crate) fn look() -> Self {
        let mut all = Self::default();
        for entry in entries(Path::new("/proc")) {
            let name = entry.file_name();
            if let Some(pid) = name.to_str().and_then(|it| it.parse().ok()) {
                all.add(pid, &entry.path());
            }
        }
        all
    }

    /// The holders of a file.
    pub(crate) fn of(&self, id: Id) -> Vec<Holder> {
        self.files.get(&id).cloned().unwrap_or_default()
    }

    pub(super) fn of_socket(&self, inode: u64) -> &[Holder] {
        self.sockets.get(&inode).map_or(&[], Vec::as_slice)
    }

    /// The user whose process has that socket.
    pub(super) fn owner_of_socket(&self, inode: u64) -> Option<u32> {
        self.owners.get(&inode).copied()
    }

    /// Every FIFO that is open, by the path that it was opened by.
    pub(super) fn fifos(&self) -> impl Iterator<Item = (PathBuf, Metadata)> {
        self.fifos.iter().cloned()
    }

    /// The processes of which it cannot be told which FIFO they wait for.
    pub(crate) fn unclear(&self) -> &[u32] {
        &self.unclear
    }

    /// The memory of each side of a connection by shared memory.
    pub(super) fn memories(&self) -> &[Memory] {
        &self.memories
    }

    /// Why some of it cannot be read.
    pub(super) fn unread(&self) -> &[String] {
        &self.unread
    }

    /// How many sides of such connections there are, and how many bytes they take together.
    pub(crate) fn shared(&self) -> (usize, u64) {
        shared::usage(&self.memories)
    }

    fn add(&mut self, pid: u32, process: &Path) {
        let command = fs::read(process.join("comm")).unwrap_or_default();
        let command = String::from_utf8_lossy(command.trim_ascii_end()).into_owned();
        let holder = |reads, writes, opening| Holder {
            pid,
            command: command.clone(),
            reads,
            writes,
            opening,
        };
        for entry in entries(&process.join("fd")) {
            // The link's mode says for what it is open; with O_PATH for nothing.
            let (Ok(link), Ok(file)) = (entry.metadata(), fs::metadata(entry.path())) else {
                continue;
            };
            let (reads, writes) = (link.mode() & 0o400 != 0, link.mode() & 0o200 != 0);
            let holder = holder(reads, writes, false);
            if file.file_type().is_socket() {
                note(self.sockets.entry(file.ino()).or_default(), holder);
                if let Ok(process) = fs::metadata(process) {
                    self.owners.insert(file.ino(), process.uid());
                }
                continue;
            }
            let owner = || fs::metadata(process).map_or(u32::MAX, |it| it.uid());
            match Memory::at(&entry.path(), &file, &holder, owner) {
                Ok(memory) => self.memories.extend(memory),
                Err(reason) => self.unread.push(reason),
            }
            if file.file_type().is_fifo() {
                self.fifo(&entry.path(), &file);
            }
            note(
                self.files.entry((file.dev(), file.ino())).or_default(),
                holder,
            );
        }
        for waiting in opening::of(process) {
            match waiting {
                opening::Waiting::For { id, reads, writes } => {
                    let holder = holder(reads, writes, true);
                    note(self.files.entry(id).or_default(), holder);
                }
                opening::Waiting::Unclear => self.unclear.push(pid),
            }
        }
    }

    /// Notes a FIFO if it has a name that leads to it from here.
    fn fifo(&mut self, descriptor: &Path, file: &Metadata) {
        let Ok(path) = fs::read_link(descriptor) else {
            return;
        };
        let Ok(named) = fs::symlink_metadata(&path) else {
            return;
        };
        if (named.dev(), named.ino()) == (file.dev(), file.ino()) {
            self.fifos.push((path, named));
        }
    }
}

/// One entry for each process, with all that it does.
fn note(holders: &mut Vec<Holder>, new: Holder) {
    match holders.iter_mut().find(|it| it.pid == new.pid) {
        Some(known) => {
            known.reads |= new.reads;
            known.writes |= new.writes;
            known.opening |= new.opening;
        }
        None => holders.push(new),
    }
}

/// What is in a directory, or can be seen of it.
pub(super) fn entries(dir: &Path) -> impl Iterator<Item = DirEntry> + use<> {
    fs::read_dir(dir).into_iter().flatten().flatten()
}
