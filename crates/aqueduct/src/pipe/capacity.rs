//! How much a pipe holds: asking, changing, and saying which limit was in the way.

use std::fs;
use std::io;
use std::os::fd::AsFd;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};

use crate::pipe::Error;

/// `F_GETPIPE_SZ`, `fcntl(2)`.
pub(crate) fn get(fd: impl AsFd) -> io::Result<usize> {
    bytes(fcntl(fd, FcntlArg::F_GETPIPE_SZ)?)
}

/// `F_SETPIPE_SZ`, `fcntl(2)`; returns what the kernel has made of it.
pub(crate) fn set(fd: impl AsFd, asked: usize) -> io::Result<usize> {
    // Whatever does not fit the call is beyond the kernel's own end of the scale too.
    let result = match i32::try_from(asked) {
        Ok(size) => fcntl(&fd, FcntlArg::F_SETPIPE_SZ(size)),
        Err(_) => Err(Errno::EPERM),
    };
    match result {
        Ok(size) => bytes(size),
        Err(Errno::EPERM) => Err(which_limit(asked)),
        Err(Errno::EBUSY) => Err(Error::CapacityInUse {
            asked,
            capacity: get(fd)?,
        }
        .into()),
        Err(e) => Err(e.into()),
    }
}

/// Two limits end in `EPERM`: the one of a pipe and the one of all pipes of a user; `pipe(7)`.
fn which_limit(asked: usize) -> io::Error {
    let Some(limit) = read_limit("/proc/sys/fs/pipe-max-size") else {
        return Errno::EPERM.into();
    };
    if asked > limit {
        return Error::CapacityLimit { asked, limit }.into();
    }
    match read_limit("/proc/sys/fs/pipe-user-pages-soft") {
        Some(pages) => Error::UserLimit { asked, pages }.into(),
        None => Errno::EPERM.into(),
    }
}

fn read_limit(path: &str) -> Option<usize> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

fn bytes(size: i32) -> io::Result<usize> {
    // A negative result has become an error already.
    usize::try_from(size).map_err(io::Error::other)
}
