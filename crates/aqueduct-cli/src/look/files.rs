//! FIFOs and sockets as files.

use std::fs::{self, Metadata};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use anyhow::Context;
use aqueduct::is_marked;
use aqueduct::unix::is_served;
use nix::unistd::geteuid;

use super::processes::{Processes, entries};
use super::sockets::{Bound, Sockets};
use super::thing::{Found, Kind, State, Thing, address};

/// The FIFOs and sockets in these directories, and in the directories in them that this user owns;
/// if none is given in those where programs put such files.
pub(super) fn find(dirs: &[PathBuf]) -> anyhow::Result<Vec<(PathBuf, Metadata)>> {
    let mut found = Vec::new();
    if dirs.is_empty() {
        for dir in usual() {
            search(&dir, true, &mut found);
        }
    }
    for dir in dirs {
        // Absolute, as the kernel has the paths of sockets.
        let readable = fs::canonicalize(dir).and_then(|it| fs::read_dir(&it).map(|_| it));
        let readable = readable.with_context(|| format!("cannot read directory {}", dir.display()));
        search(&readable?, true, &mut found);
    }
    Ok(found)
}

/// The FIFOs and sockets in a directory; none if it cannot be looked into.
pub(super) fn in_dir(dir: &Path) -> Vec<(PathBuf, Metadata)> {
    let mut found = Vec::new();
    if let Ok(dir) = fs::canonicalize(dir) {
        search(&dir, false, &mut found);
    }
    found
}

fn usual() -> Vec<PathBuf> {
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    let own = Path::new("/run/user").join(geteuid().to_string());
    let mut dirs: Vec<_> = runtime.into_iter().collect();
    dirs.extend([own, std::env::temp_dir(), PathBuf::from("/tmp")]);
    let dirs = dirs.iter().filter_map(|it| fs::canonicalize(it).ok());
    let mut dirs: Vec<_> = dirs.collect();
    dirs.sort();
    dirs.dedup();
    dirs
}

fn search(dir: &Path, deeper: bool, found: &mut Vec<(PathBuf, Metadata)>) {
    for entry in entries(dir) {
        // Of the entry itself: links are not followed.
        let Ok(metadata) = entry.metadata() else {
            continue;
        };
        let kind = metadata.file_type();
        if kind.is_dir() && deeper && metadata.uid() == geteuid().as_raw() {
            search(&entry.path(), false, found);
        } else if kind.is_fifo() || kind.is_socket() {
            found.push((entry.path(), metadata));
        }
    }
}

/// What a file is; `None` if nothing for messages.
pub(super) fn thing(
    path: PathBuf,
    metadata: &Metadata,
    processes: &Processes,
    sockets: &Sockets,
) -> Option<Thing> {
    let found = Found {
        id: (metadata.dev(), metadata.ino()),
        path,
    };
    let mut thing = Thing {
        kind: Kind::Fifo(found.clone()),
        address: String::new(),
        state: State::InUse,
        marked: is_marked(metadata),
        owner: Some(metadata.uid()),
        messages: None,
        connections: None,
        holders: Vec::new(),
        sides: Vec::new(),
    };
    let kind = metadata.file_type();
    if kind.is_fifo() {
        thing.address = address("fifo", &found.path);
        thing.holders = processes.of(found.id);
        thing.state = match (thing.holders.len(), processes.unclear()) {
            (0, []) => State::Orphaned,
            (0, _) => State::Unclear,
            _ => State::InUse,
        };
        return Some(thing);
    }
    if !kind.is_socket() {
        return None;
    }
    let bound = sockets.at(&found.path, metadata);
    thing.address = match bound {
        Some(bound) => bound.address(found.path.as_os_str()),
        None => address("unix", &found.path),
    };
    thing.connections = bound.and_then(Bound::connections);
    thing.holders = bound.map(|it| it.holders(processes)).unwrap_or_default();
    thing.state = match is_served(&found.path) {
        Ok(true) => State::InUse,
        Ok(false) => State::Orphaned,
        // Not to be asked, by its mode or the length of its path.
        Err(_) if bound.is_some() => State::InUse,
        Err(_) => State::Unclear,
    };
    thing.kind = Kind::Socket(found);
    Some(thing)
}
