//! Properties of a descriptor: its kind, access mode and blocking mode, and a private copy of it.
//!
//! A descriptor from outside (standard input, an inherited number) can be anything. These functions
//! find out before it is used, so that a wrong one is refused by its kind instead of a puzzling
//! `EPERM` from `epoll_ctl`.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout};
use nix::sys::stat::{SFlag, fstat};
use nix::sys::statfs::{FsType, fstatfs};
use tokio::io::Interest;

/// The half of the readiness that a poll-style operation waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    Read,
    Write,
}

impl Direction {
    pub(super) fn interest(self) -> Interest {
        match self {
            Self::Read => Interest::READABLE,
            Self::Write => Interest::WRITABLE,
        }
    }
}

/// The kind of object that a descriptor refers to, from `fstat(2)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub(crate) enum Kind {
    /// An anonymous pipe or a FIFO.
    Pipe,
    /// A socket of any family.
    Socket,
    /// A POSIX message queue.
    MessageQueue,
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A character device, such as a terminal or `/dev/null`.
    CharDevice,
    /// A block device.
    BlockDevice,
    /// Something else: an epoll or event descriptor, for example.
    Other,
}

impl Kind {
    /// Finds the kind of `fd`.
    ///
    /// # Errors
    ///
    /// Any error of `fstat(2)`; none is expected for an open descriptor.
    pub(crate) fn of(fd: impl AsFd) -> io::Result<Self> {
        let mode = SFlag::from_bits_truncate(fstat(&fd)?.st_mode) & SFlag::S_IFMT;
        Ok(match mode {
            SFlag::S_IFIFO => Self::Pipe,
            SFlag::S_IFSOCK => Self::Socket,
            // Otherwise a queue's descriptor looks like a file.
            SFlag::S_IFREG if fstatfs(&fd)?.filesystem_type() == MQUEUE_MAGIC => Self::MessageQueue,
            SFlag::S_IFREG => Self::File,
            SFlag::S_IFDIR => Self::Directory,
            SFlag::S_IFCHR => Self::CharDevice,
            SFlag::S_IFBLK => Self::BlockDevice,
            _ => Self::Other,
        })
    }

    /// Its name, in words.
    pub(crate) fn words(self) -> &'static str {
        match self {
            Self::Pipe => "a pipe",
            Self::Socket => "a socket",
            Self::MessageQueue => "a message queue",
            Self::File => "a regular file",
            Self::Directory => "a directory",
            Self::CharDevice => "a character device",
            Self::BlockDevice => "a block device",
            Self::Other => "not a file of any usual kind",
        }
    }
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.words())
    }
}

/// The access mode of a descriptor: its `O_ACCMODE`, `open(2)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub(crate) enum Access {
    /// Reading only.
    Read,
    /// Writing only.
    Write,
    /// Both.
    ReadWrite,
    /// Neither: an `O_PATH` descriptor.
    Neither,
}

impl Access {
    /// Finds the access mode of `fd`.
    ///
    /// # Errors
    ///
    /// Any error of `fcntl(2)`; none is expected for an open descriptor.
    pub(crate) fn of(fd: impl AsFd) -> io::Result<Self> {
        let flags = status_flags(fd.as_fd())?;
        if flags.contains(OFlag::O_PATH) {
            return Ok(Self::Neither);
        }
        Ok(match flags & OFlag::O_ACCMODE {
            OFlag::O_RDONLY => Self::Read,
            OFlag::O_WRONLY => Self::Write,
            _ => Self::ReadWrite,
        })
    }

    /// Whether it can be read from.
    #[must_use]
    pub(crate) fn can_read(self) -> bool {
        matches!(self, Self::Read | Self::ReadWrite)
    }

    /// Whether it can be written to.
    #[must_use]
    pub(crate) fn can_write(self) -> bool {
        matches!(self, Self::Write | Self::ReadWrite)
    }
}

impl std::fmt::Display for Access {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Read => "reading",
            Self::Write => "writing",
            Self::ReadWrite => "reading and writing",
            Self::Neither => "neither reading nor writing",
        })
    }
}

pub(super) fn would_block<R>(result: &io::Result<R>) -> bool {
    matches!(result, Err(e) if e.kind() == io::ErrorKind::WouldBlock)
}

pub(super) fn interrupted<R>(result: &io::Result<R>) -> bool {
    matches!(result, Err(e) if e.kind() == io::ErrorKind::Interrupted)
}

/// Whether `O_NONBLOCK` is set, which all duplicates of `fd` share (open(2)).
#[cfg(test)]
pub(crate) fn is_nonblocking(fd: impl AsFd) -> io::Result<bool> {
    let flags = OFlag::from_bits_retain(fcntl(&fd, FcntlArg::F_GETFL)?);
    Ok(flags.contains(OFlag::O_NONBLOCK))
}

/// Sets or clears `O_NONBLOCK`, if it is not already as asked.
pub(crate) fn set_nonblocking(fd: impl AsFd, nonblocking: bool) -> io::Result<()> {
    set_status_flag(fd.as_fd(), OFlag::O_NONBLOCK, nonblocking)
}

/// Sets or clears `O_DIRECT`, which on a pipe is packet mode; `pipe(2)`.
pub(crate) fn set_direct(fd: impl AsFd, direct: bool) -> io::Result<()> {
    set_status_flag(fd.as_fd(), OFlag::O_DIRECT, direct)
}

/// Opens the object behind `fd` again: through a separate open file description, in non-blocking
/// mode, closed on `exec`.
///
/// This makes a descriptor non-blocking without affecting processes that share it; proc(5),
/// `/proc/pid/fd`.
pub(crate) fn reopen(fd: impl AsFd, access: Access) -> io::Result<OwnedFd> {
    let fd = fd.as_fd().as_raw_fd();
    let file = File::options()
        .read(access.can_read())
        .write(access.can_write())
        .custom_flags((OFlag::O_NONBLOCK | OFlag::O_NOCTTY).bits())
        .open(format!("/proc/self/fd/{fd}"))?;
    Ok(file.into())
}

/// Returns what `poll(2)` reports for `fd` at this moment.
pub(crate) fn poll_now(fd: BorrowedFd<'_>, asked: PollFlags) -> io::Result<PollFlags> {
    let mut fds = [PollFd::new(fd, asked)];
    loop {
        match nix::poll::poll(&mut fds, PollTimeout::ZERO) {
            Ok(_) => return Ok(fds[0].revents().unwrap_or(PollFlags::empty())),
            // Even a poll that does not wait can be interrupted by a signal.
            Err(Errno::EINTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
}

fn status_flags(fd: BorrowedFd<'_>) -> io::Result<OFlag> {
    Ok(OFlag::from_bits_retain(fcntl(fd, FcntlArg::F_GETFL)?))
}

fn set_status_flag(fd: BorrowedFd<'_>, flag: OFlag, on: bool) -> io::Result<()> {
    let before = status_flags(fd)?;
    let mut after = before;
    after.set(flag, on);
    if after != before {
        fcntl(fd, FcntlArg::F_SETFL(after))?;
    }
    Ok(())
}

/// `MQUEUE_MAGIC` of `ipc/mqueue.c`.
const MQUEUE_MAGIC: FsType = FsType(0x1980_0202);
