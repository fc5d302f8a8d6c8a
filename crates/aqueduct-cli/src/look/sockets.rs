//! [`Sockets`]: the bound Unix sockets of this network namespace.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs::{self, Metadata};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use anyhow::Context;
use nix::libc;

use super::processes::Processes;
use super::thing::{Holder, Kind, State, Thing, address};

/// `__SO_ACCEPTCON` in the kernel's `include/linux/net.h`: it listens.
const LISTENS: u64 = 1 << 16;

/// The sockets bound to one name: a listening one and those that it has accepted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Bound {
    kind: i32,
    /// Whether one of them listens.
    pub(super) listens: bool,
    inodes: Vec<u64>,
}

/// By path, or by name with `@` before it.
#[derive(Debug, Default)]
pub(super) struct Sockets(HashMap<PathBuf, Bound>);

impl Sockets {
    pub(super) fn look() -> anyhow::Result<Self> {
        let table = fs::read("/proc/net/unix").context("cannot read /proc/net/unix")?;
        Ok(Self::parse(&table))
    }

    /// Reads the lines of the file: `proc_net_unix(5)` has its columns. A name may hold anything
    /// but a newline; what follows one is no line that could be read.
    fn parse(table: &[u8]) -> Self {
        let mut all = Self::default();
        for line in table.split(|it| *it == b'\n').skip(1) {
            if let Some((name, inode, flags, kind)) = columns(line) {
                let bound = all.0.entry(name).or_default();
                bound.kind = kind;
                bound.listens |= flags & LISTENS != 0;
                bound.inodes.push(inode);
            }
        }
        all
    }

    pub(super) fn at(&self, path: &Path) -> Option<&Bound> {
        self.0.get(path)
    }

    /// The files that sockets are bound to, as far as they can be found from here.
    pub(super) fn paths(&self) -> impl Iterator<Item = (PathBuf, Metadata)> {
        let paths = self.0.keys().filter(|it| it.is_absolute());
        paths.filter_map(|it| Some((it.clone(), fs::symlink_metadata(it).ok()?)))
    }

    /// The sockets that have no file.
    pub(super) fn abstract_things(&self, processes: &Processes) -> Vec<Thing> {
        let names = self.0.iter().filter_map(|(name, bound)| {
            let name = name.as_os_str();
            if !name.as_bytes().starts_with(b"@") {
                return None;
            }
            let owner = bound.inodes.iter();
            let mut owner = owner.filter_map(|it| processes.owner_of_socket(*it));
            Some(Thing {
                kind: Kind::AbstractSocket,
                address: bound.address(name),
                state: State::InUse,
                marked: false,
                owner: owner.next(),
                messages: None,
                connections: bound.connections(),
                holders: bound.holders(processes),
            })
        });
        names.collect()
    }
}

impl Bound {
    /// The address of the socket with this path or `@name`.
    pub(super) fn address(&self, name: &OsStr) -> String {
        match self.kind {
            libc::SOCK_STREAM => address("unix", name),
            libc::SOCK_SEQPACKET => address("unixpacket", name),
            // No address leads to a datagram socket.
            _ => name.to_string_lossy().into_owned(),
        }
    }

    pub(super) fn connections(&self) -> Option<usize> {
        self.listens.then(|| self.inodes.len() - 1)
    }

    pub(super) fn holders(&self, processes: &Processes) -> Vec<Holder> {
        let inodes = self.inodes.iter();
        let holders = inodes.flat_map(|it| processes.of_socket(*it));
        let mut holders: Vec<_> = holders.cloned().collect();
        holders.sort_by_key(|it| it.pid);
        holders.dedup_by_key(|it| it.pid);
        holders
    }
}

/// Name, inode, flags and type of a line.
fn columns(line: &[u8]) -> Option<(PathBuf, u64, u64, i32)> {
    let mut rest = line;
    let mut words = Vec::new();
    while words.len() < 7 {
        rest = rest.trim_ascii_start();
        let end = rest.iter().position(u8::is_ascii_whitespace)?;
        words.push(std::str::from_utf8(&rest[..end]).ok()?);
        rest = &rest[end..];
    }
    // One space, and behind it the name to the end.
    let name = rest.strip_prefix(b" ").filter(|it| !it.is_empty())?;
    let hex = |word: &str| u64::from_str_radix(word, 16).ok();
    let kind = i32::try_from(hex(words[4])?).ok()?;
    let name = OsString::from_vec(name.to_vec()).into();
    Some((name, words[6].parse().ok()?, hex(words[3])?, kind))
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
        let sockets = Sockets::parse(table);
        assert_eq!(sockets.0.len(), 2);
        let bound = sockets.at(Path::new("/tmp/a b ")).unwrap();
        assert_eq!(bound.inodes, [34_990_023, 34_990_025]);
        assert_eq!((bound.listens, bound.connections()), (true, Some(1)));
        let name = OsString::from_vec(b"@\xff".to_vec());
        assert_eq!(sockets.at(Path::new(&name)).unwrap().kind, 5);
    }
}
