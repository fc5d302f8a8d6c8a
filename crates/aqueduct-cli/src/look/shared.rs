//! Connections by shared memory, by what the memory of each side says.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::{self, Metadata};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use aqueduct::shm::Snapshot;

use super::processes::Processes;
use super::sockets::Sockets;
use super::thing::{Holder, Id, Kind, Side, State, Thing, address};

/// How `/proc/PID/fd` shows the memory of one side.
const LINK: &[u8] = b"/memfd:aqueduct-shm";

/// How often both sides are looked at until what they say fits together: they go on meanwhile.
const LOOKS: usize = 8;

/// The memory of one side, as a process has it open.
#[derive(Clone)]
pub(super) struct Memory {
    path: PathBuf,
    id: Id,
    holder: Holder,
    owner: u32,
    snapshot: Snapshot,
    /// What it takes of the machine's memory.
    bytes: u64,
}

impl Memory {
    /// What is at a path such as `/proc/PID/fd/7`, if it is such memory. Fails if it is that of
    /// another version.
    pub(super) fn at(
        path: &Path,
        file: &Metadata,
        holder: &Holder,
        owner: impl Fn() -> u32,
    ) -> Result<Option<Self>, String> {
        let is_memory = file.is_file() && file.nlink() == 0;
        if !(is_memory && fs::read_link(path).is_ok_and(|it| begins(&it))) {
            return Ok(None);
        }
        let snapshot = match Snapshot::read(path) {
            Ok(Some(snapshot)) if snapshot.memory == file.ino() => snapshot,
            Err(error) if error.raw_os_error().is_none() => {
                let Holder { pid, command, .. } = holder;
                return Err(format!("shared memory of {command}[{pid}]: {error}"));
            }
            // It has gone meanwhile, or is something else of that name.
            Ok(_) | Err(_) => return Ok(None),
        };
        Ok(Some(Self {
            path: path.to_owned(),
            id: (file.dev(), file.ino()),
            holder: holder.clone(),
            owner: owner(),
            snapshot,
            bytes: file.blocks() * 512,
        }))
    }

    /// The memory that it names as the other side's.
    fn peer(&self) -> Option<Id> {
        self.snapshot.peer.map(|peer| (self.id.0, peer))
    }

    fn look_again(&mut self) {
        if let Ok(Some(snapshot)) = Snapshot::read(&self.path)
            && snapshot.memory == self.snapshot.memory
        {
            self.snapshot = snapshot;
        }
    }

    fn side(&self, unread: Option<u64>) -> Side {
        Side {
            pid: self.holder.pid,
            command: self.holder.command.clone(),
            capacity: self.snapshot.capacity,
            unread,
            waits_for_data: self.snapshot.waits_for_data,
            waits_for_room: self.snapshot.waits_for_room,
            finished: self.snapshot.finished,
        }
    }
}

fn begins(link: &Path) -> bool {
    link.as_os_str().as_bytes().starts_with(LINK)
}

/// How many sides there are, and how many bytes of memory they take together.
pub(super) fn usage(memories: &[Memory]) -> (usize, u64) {
    let sides = sides(memories.iter());
    (sides.len(), sides.iter().map(|it| it.bytes).sum())
}

/// Each memory once.
fn sides<'a>(memories: impl Iterator<Item = &'a Memory>) -> Vec<&'a Memory> {
    let mut sides: Vec<_> = memories.collect();
    sides.sort_by_key(|it| (it.id, it.holder.pid));
    sides.dedup_by_key(|it| it.id);
    sides
}

/// All connections with a side that may be looked into, and the paths of their sockets.
pub(super) fn things(processes: &Processes, sockets: &Sockets) -> Vec<(PathBuf, Thing)> {
    // A process can claim any socket: only one that it has counts.
    let has_socket = |it: &&Memory| {
        let holders = processes.of_socket(it.snapshot.socket);
        holders.iter().any(|holder| holder.pid == it.holder.pid)
    };
    let sides = sides(processes.memories().iter().filter(has_socket));
    let other = |one: &Memory| {
        let at = sides.binary_search_by_key(&one.peer(), |it| Some(it.id));
        let other = at.ok().map(|at| sides[at]);
        other.filter(|other| belong_together(one, other, sockets))
    };
    let pairs = sides
        .iter()
        .filter_map(|one| Some((one.id, other(one)?.id)));
    let pairs: HashMap<_, _> = pairs.flat_map(|(a, b)| [(a, b), (b, a)]).collect();
    let mut things = Vec::new();
    for one in &sides {
        let other = pairs.get(&one.id).and_then(|id| {
            let at = sides.binary_search_by_key(id, |it| it.id);
            at.ok().map(|at| sides[at])
        });
        let place = |it: &Memory| sockets.place(it.snapshot.socket, processes);
        let (own_place, other_place) = (place(one), other.map(place));
        // The server's socket has the name. Where neither can be seen the older memory is first.
        let is_first = match (&own_place, &other_place) {
            (_, None) | (Some(_), Some(None)) => true,
            (None, Some(Some(_))) => false,
            _ => other.is_some_and(|it| one.id < it.id),
        };
        if is_first {
            let path = own_place.clone().unwrap_or_default().into();
            things.push((path, thing(one, other, own_place)));
        }
    }
    things
}

/// Whether what one side says of the other is true. It can say anything, so the other one has to say
/// it too. A client that has not read since it was accepted does not know the other side: then the
/// kernel has to say so of their sockets.
fn belong_together(one: &Memory, other: &Memory, sockets: &Sockets) -> bool {
    match other.peer() {
        Some(id) => id == one.id && id != other.id,
        None => sockets.are_connected(one.snapshot.socket, other.snapshot.socket),
    }
}

fn thing(one: &Memory, other: Option<&Memory>, place: Option<OsString>) -> Thing {
    let scheme = "shm";
    let (sides, owner, state) = match other {
        Some(other) => (both(one.clone(), other.clone()), one.owner, State::InUse),
        None => {
            let state = match one.snapshot.peer {
                None => State::Waiting,
                Some(_) => State::Unclear,
            };
            (vec![one.side(None)], one.owner, state)
        }
    };
    let mut holders = vec![one.holder.clone()];
    holders.extend(other.map(|it| it.holder.clone()));
    holders.dedup_by_key(|it| it.pid);
    Thing {
        kind: Kind::Connection,
        address: place.map_or_else(|| format!("{scheme}:"), |it| address(scheme, it)),
        state,
        marked: true,
        owner: Some(owner),
        messages: None,
        connections: None,
        holders,
        sides,
    }
}

/// Both sides at about the same moment.
fn both(mut one: Memory, mut other: Memory) -> Vec<Side> {
    let unread = |from: &Snapshot, to: &Snapshot| {
        let unread = from.written.checked_sub(to.read);
        unread.filter(|it| *it <= from.capacity)
    };
    let mut found = (None, None);
    for _ in 0..LOOKS {
        // A reader is looked at before its writer: it cannot have read more than was written later.
        one.look_again();
        let read_before = one.snapshot;
        other.look_again();
        found.0 = found.0.or_else(|| unread(&other.snapshot, &read_before));
        one.look_again();
        found.1 = found.1.or_else(|| unread(&one.snapshot, &other.snapshot));
        if found.0.is_some() && found.1.is_some() {
            break;
        }
    }
    vec![one.side(found.1), other.side(found.0)]
}
