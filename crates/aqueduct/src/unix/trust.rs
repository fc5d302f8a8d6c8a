//! [`Trust`]: the users that a client trusts to serve a path.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path};

use nix::fcntl::{AT_FDCWD, OFlag, openat, readlinkat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat};
use nix::unistd::geteuid;

/// Write permission for the group or others. With an access control list the group's bits are its
/// mask, which bounds what the list grants.
const OTHERS_WRITE: u32 = 0o022;

/// How many symbolic links a path may lead through, as for the kernel (path_resolution(7)).
const MAX_LINKS: usize = 40;

/// Users that may serve a socket: this user, root, and the owners of files that trusted users have
/// put on the way to it.
///
/// An owner is trusted if only trusted users can write to the directory that holds the file: nobody
/// else can have put it there. So a socket of user `redis` in `/run/redis`, where only `redis` can
/// write, is trusted. One in `/tmp` is not, and neither is one in a directory that `redis` has
/// created in `/tmp`.
#[derive(Debug)]
pub(super) struct Trust {
    users: Vec<u32>,
    /// Whether only they can write to the last directory that was looked at.
    exclusive: bool,
}

impl Trust {
    /// Trusts this user and root.
    pub(super) fn new() -> Self {
        Self {
            users: vec![0, geteuid().as_raw()],
            exclusive: false,
        }
    }

    /// Checks every part of the path, following symbolic links. The second value is the user that
    /// has put a link or the file itself there and is not trusted.
    pub(super) fn of_path(path: &Path) -> io::Result<(Self, Option<u32>)> {
        let mut trust = Self::new();
        let foreign = trust.walk(path)?;
        Ok((trust, foreign))
    }

    pub(super) fn includes(&self, user: u32) -> bool {
        self.users.contains(&user)
    }

    /// Whether only trusted users can have put a file of this owner there.
    pub(super) fn placed(&self, owner: u32) -> bool {
        self.exclusive || self.includes(owner)
    }

    fn walk(&mut self, path: &Path) -> io::Result<Option<u32>> {
        let mut rest = parts(&std::path::absolute(path)?);
        let mut directories = vec![self.root()?];
        let mut links = 0;
        while let Some(name) = rest.pop_front() {
            if name == ".." {
                if directories.len() > 1 {
                    directories.pop();
                }
                self.leave(&directories);
                continue;
            }
            let Some(directory) = directories.last() else {
                break;
            };
            let fd = open(&directory.fd, &name)?;
            let stat = fstat(&fd)?;
            let owner = stat.st_uid;
            self.exclusive = directory.exclusive;
            let placed = self.placed(owner);
            match SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits()) {
                SFlag::S_IFDIR => {
                    if placed && !self.includes(owner) {
                        self.users.push(owner);
                    }
                    let entered = self.enter(fd, &stat);
                    self.exclusive = entered.exclusive;
                    directories.push(entered);
                }
                SFlag::S_IFLNK => {
                    if !placed {
                        return Ok(Some(owner));
                    }
                    links += 1;
                    if links > MAX_LINKS {
                        return Err(io::Error::from_raw_os_error(libc::ELOOP));
                    }
                    let target = readlinkat(&fd, "")?;
                    if target.as_encoded_bytes().starts_with(b"/") {
                        directories.truncate(1);
                        self.leave(&directories);
                    }
                    let mut parts = parts(Path::new(&target));
                    parts.append(&mut rest);
                    rest = parts;
                }
                _ if !rest.is_empty() => return Err(io::Error::from_raw_os_error(libc::ENOTDIR)),
                _ if !placed => return Ok(Some(owner)),
                _ => self.users.push(owner),
            }
        }
        Ok(None)
    }

    fn root(&self) -> io::Result<Directory> {
        let fd = open(AT_FDCWD, "/".as_ref())?;
        let stat = fstat(&fd)?;
        Ok(self.enter(fd, &stat))
    }

    fn enter(&self, fd: OwnedFd, stat: &FileStat) -> Directory {
        Directory {
            fd,
            exclusive: self.includes(stat.st_uid) && stat.st_mode & OTHERS_WRITE == 0,
            trusted: self.users.len(),
        }
    }

    /// Forgets the users that were added only below the last of these directories.
    fn leave(&mut self, directories: &[Directory]) {
        self.users
            .truncate(directories.last().map_or(2, |it| it.trusted));
    }
}

struct Directory {
    fd: OwnedFd,
    /// Only trusted users can put something there.
    exclusive: bool,
    /// How many users are trusted here.
    trusted: usize,
}

fn open(directory: impl AsFd, name: &OsStr) -> nix::Result<OwnedFd> {
    let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    openat(directory, name, flags, Mode::empty())
}

fn parts(path: &Path) -> VecDeque<OsString> {
    let name = |part: Component<'_>| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        _ => None,
    };
    path.components().filter_map(name).collect()
}
