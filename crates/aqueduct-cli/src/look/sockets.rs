//! [`Sockets`]: the bound Unix sockets of this network namespace.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs::{self, Metadata};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{DirEntryExt, FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use anyhow::Context;
use nix::libc;

use super::processes::{Processes, entries};
use super::sock_diag;
use super::thing::{Holder, Kind, State, Thing, address};

/// `__SO_ACCEPTCON` in the kernel's `include/linux/net.h`: it listens.
const LISTENS: u64 = 1 << 16;

/// A socket with a name.
pub(super) struct Socket {
    /// As the kernel has it: a path, or a zero byte and an abstract name.
    pub(super) name: Vec<u8>,
    /// Such as `SOCK_STREAM`.
    pub(super) kind: i32,
    pub(super) listens: bool,
    /// Its inode number, which `/proc` shows too.
    pub(super) number: u64,
    /// The number of the socket that it is connected to, if that is known.
    pub(super) peer: Option<u64>,
    /// The file that it has made, if that is known.
    pub(super) file: Option<Inode>,
}

/// A file of a socket as the kernel tells of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Inode {
    /// The lower 32 bits of its number.
    pub(super) number: u32,
    pub(super) device: u64,
}

/// The sockets bound to one name: a listening one and those that it has accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Bound {
    name: Name,
    kind: i32,
    /// Whether one of them listens.
    pub(super) listens: bool,
    numbers: Vec<u64>,
}

/// What tells the sockets of one name from others. The name that a file had when it was made says
/// nothing if the file is known: it can have another now, and its own may be another file's.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Name {
    File(Inode, PathBuf),
    Path(PathBuf),
    /// Each type of socket has names of its own.
    Abstract(i32, Vec<u8>),
}

#[derive(Debug, Default)]
pub(super) struct Sockets {
    bound: HashMap<Name, Bound>,
    /// The sockets that those with a name are connected to, by number.
    peers: HashMap<u64, u64>,
}

impl Sockets {
    /// Where the kernel answers no sock_diag(7), by `/proc/net/unix`.
    pub(super) fn look() -> anyhow::Result<Self> {
        if let Ok(sockets) = sock_diag::sockets() {
            return Ok(sockets.into_iter().collect());
        }
        let table = fs::read("/proc/net/unix").context("cannot read /proc/net/unix")?;
        Ok(parse(&table).collect())
    }

    /// The sockets bound to a file, which may have been renamed meanwhile.
    pub(super) fn at(&self, path: &Path, file: &Metadata) -> Option<&Bound> {
        self.bound.values().find(|it| it.is(path, file))
    }

    /// The files that sockets are bound to, as far as they can be found from here.
    pub(super) fn paths(&self, processes: &Processes) -> Vec<(PathBuf, Metadata)> {
        let bound = self.bound.values();
        bound.filter_map(|it| it.find(processes)).collect()
    }

    /// Whether the kernel says that these two are connected, by their numbers.
    pub(super) fn are_connected(&self, one: u64, other: u64) -> bool {
        let is = |from: u64, to: u64| self.peers.get(&from) == Some(&to);
        is(one, other) || is(other, one)
    }

    /// The path or `@name` that a socket is bound to, by its number.
    pub(super) fn place(&self, number: u64, processes: &Processes) -> Option<OsString> {
        let bound = self
            .bound
            .values()
            .find(|it| it.numbers.contains(&number))?;
        match &bound.name {
            Name::Abstract(_, name) => Some(OsString::from_vec([b"@", name.as_slice()].concat())),
            Name::File(_, name) | Name::Path(name) => {
                let found = bound.find(processes).map(|it| it.0);
                found
                    .or_else(|| bound.absolute(name, processes))
                    .map(Into::into)
            }
        }
    }

    /// The sockets that have no file, without those of datagram clients.
    pub(super) fn abstract_things(&self, processes: &Processes) -> Vec<Thing> {
        let names = self.bound.values().filter_map(|bound| {
            let Name::Abstract(_, name) = &bound.name else {
                return None;
            };
            if bound.kind == libc::SOCK_DGRAM && is_automatic(name) {
                return None;
            }
            let owner = bound.numbers.iter();
            let mut owner = owner.filter_map(|it| processes.owner_of_socket(*it));
            let name = [b"@", name.as_slice()].concat();
            Some(Thing {
                kind: Kind::AbstractSocket,
                address: bound.address(OsStr::from_bytes(&name)),
                state: State::InUse,
                marked: false,
                owner: owner.next(),
                messages: None,
                connections: bound.connections(),
                holders: bound.holders(processes),
                sides: Vec::new(),
            })
        });
        names.collect()
    }
}

impl FromIterator<Socket> for Sockets {
    fn from_iter<T: IntoIterator<Item = Socket>>(sockets: T) -> Self {
        let mut all = HashMap::new();
        let mut peers = HashMap::new();
        for socket in sockets {
            peers.extend(socket.peer.map(|peer| (socket.number, peer)));
            let name = socket.name();
            let bound = all.entry(name.clone()).or_insert_with(|| Bound {
                name,
                kind: socket.kind,
                listens: false,
                numbers: Vec::new(),
            });
            bound.listens |= socket.listens;
            bound.numbers.push(socket.number);
        }
        Self { bound: all, peers }
    }
}

impl Socket {
    fn name(&self) -> Name {
        let path = || PathBuf::from(OsString::from_vec(self.name.clone()));
        match (self.name.split_first(), self.file) {
            (Some((0, name)), _) => Name::Abstract(self.kind, name.to_vec()),
            (_, Some(file)) => Name::File(file, path()),
            (_, None) => Name::Path(path()),
        }
    }
}

impl Inode {
    fn is(self, number: u64) -> bool {
        // As the kernel shortens it.
        self.number == number as u32
    }
}

impl Bound {
    /// Whether that file, found at that path, is what these sockets are bound to.
    fn is(&self, path: &Path, file: &Metadata) -> bool {
        match &self.name {
            Name::File(inode, name) => {
                // Some file systems give stat(2) another device than they have themselves (btrfs). A
                // number says the same in the directory where the socket was bound.
                let same_device = || inode.device == file.dev() || path.parent() == name.parent();
                inode.is(file.ino()) && same_device()
            }
            Name::Path(name) => path == name,
            Name::Abstract(..) => false,
        }
    }

    /// The file, by the name that it was made with or by another in that directory.
    fn find(&self, processes: &Processes) -> Option<(PathBuf, Metadata)> {
        let (Name::File(_, name) | Name::Path(name)) = &self.name else {
            return None;
        };
        let path = self.absolute(name, processes)?;
        let metadata = |path: &Path| fs::symlink_metadata(path).ok();
        let inode = match &self.name {
            Name::File(inode, _) => *inode,
            _ => return Some((path.clone(), metadata(&path)?)),
        };
        let found = metadata(&path).filter(|it| inode.is(it.ino()));
        if let Some(found) = found {
            return Some((path, found));
        }
        let mut named = entries(path.parent()?).filter(|it| inode.is(it.ino()));
        named.find_map(|it| {
            let found = it.metadata().ok()?;
            found.file_type().is_socket().then(|| (it.path(), found))
        })
    }

    /// A relative path begins where its process is.
    fn absolute(&self, name: &Path, processes: &Processes) -> Option<PathBuf> {
        if name.is_absolute() {
            return Some(name.to_owned());
        }
        let holder = self.holders(processes).into_iter().next()?;
        let dir = fs::read_link(format!("/proc/{}/cwd", holder.pid)).ok()?;
        Some(dir.join(name))
    }

    /// The address of the socket with this path or `@name`.
    pub(super) fn address(&self, name: &OsStr) -> String {
        match self.kind {
            libc::SOCK_STREAM => address("unix", name),
            libc::SOCK_SEQPACKET => address("unixpacket", name),
            libc::SOCK_DGRAM => address("unixgram", name),
            _ => name.to_string_lossy().into_owned(),
        }
    }

    pub(super) fn connections(&self) -> Option<usize> {
        self.listens.then(|| self.numbers.len() - 1)
    }

    pub(super) fn holders(&self, processes: &Processes) -> Vec<Holder> {
        let inodes = self.numbers.iter();
        let holders = inodes.flat_map(|it| processes.of_socket(*it));
        let mut holders: Vec<_> = holders.cloned().collect();
        holders.sort_by_key(|it| it.pid);
        holders.dedup_by_key(|it| it.pid);
        holders
    }
}

/// Whether the kernel has chosen the name, for a client to get replies at (unix(7), autobind).
fn is_automatic(name: &[u8]) -> bool {
    name.len() == 5 && name.iter().all(u8::is_ascii_hexdigit)
}

/// Reads the lines of `/proc/net/unix`: `proc_net_unix(5)` has its columns. A name may hold anything
/// but a newline; what follows one is no line that could be read.
fn parse(table: &[u8]) -> impl Iterator<Item = Socket> {
    table.split(|it| *it == b'\n').skip(1).filter_map(columns)
}

fn columns(line: &[u8]) -> Option<Socket> {
    let mut rest = line;
    let mut words = Vec::new();
    while words.len() < 7 {
        rest = rest.trim_ascii_start();
        let end = rest.iter().position(u8::is_ascii_whitespace)?;
        words.push(std::str::from_utf8(&rest[..end]).ok()?);
        rest = &rest[end..];
    }
    // One space, and behind it the name to the end.
    let mut name = rest.strip_prefix(b" ")?.to_vec();
    let first = name.first_mut()?;
    // Zero bytes are shown so; only of the first one it is known.
    if *first == b'@' {
        *first = 0;
    }
    let hex = |word: &str| u64::from_str_radix(word, 16).ok();
    Some(Socket {
        name,
        kind: i32::try_from(hex(words[4])?).ok()?,
        listens: hex(words[3])? & LISTENS != 0,
        number: words[6].parse().ok()?,
        peer: None,
        file: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_table_is_read_whatever_the_names_are() {
        let table = b"Num       RefCount Protocol Flags    Type St Inode Path\n\
            0000000059c05e71: 00000003 00000000 00000000 0001 03  1073\n\
            000000006d279c56: 00000002 00000000 00010000 0001 01 34990023 /tmp/a b \n\
            00000000865df2b9: 00000003 00000000 00000000 0001 03 34990025 /tmp/a b \n\
            00000000045a38ee: 00000002 00000000 00000000 0005 01 3 @\xff\n\
            garbage\n";
        let sockets: Sockets = parse(table).collect();
        assert_eq!(sockets.bound.len(), 2);
        let bound = &sockets.bound[&Name::Path("/tmp/a b ".into())];
        assert_eq!(bound.numbers, [34_990_023, 34_990_025]);
        assert_eq!((bound.listens, bound.connections()), (true, Some(1)));
        assert_eq!(sockets.bound[&Name::Abstract(5, b"\xff".to_vec())].kind, 5);
    }

    #[test]
    fn sock_diag_and_the_table_tell_of_the_same_sockets() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("bound");
        let _listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let table = fs::read("/proc/net/unix").unwrap();
        let file = fs::metadata(&path).unwrap();
        for sockets in [parse(&table).collect(), Sockets::look().unwrap()] {
            let bound = sockets.at(&path, &file).expect("it is bound");
            assert_eq!((bound.listens, bound.connections()), (true, Some(0)));
        }
    }
}
