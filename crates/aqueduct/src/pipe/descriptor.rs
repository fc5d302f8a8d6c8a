//! Descriptors of pipes: checks, a second open file description, and the capacity.

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};

use crate::connect::{OpenError, OpenErrorKind};
use crate::io::fd::{self, Access, Kind};

/// The kernel takes at most this many slices in one call (`UIO_MAXIOV`, `readv(2)`); more are an
/// error.
pub(super) const MAX_SLICES: usize = 1024;

/// Refuses a descriptor that is not a pipe, or is not open for `needed`.
pub(super) fn check(fd: impl AsFd, needed: Access) -> io::Result<()> {
    check_as(&fd, needed, || name(&fd))
}

/// The same as [`check`], for a descriptor that errors call `object`.
pub(super) fn check_as(
    fd: impl AsFd,
    needed: Access,
    object: impl Fn() -> String,
) -> io::Result<()> {
    let action = match needed {
        Access::Write => "write to",
        _ => "read from",
    };
    let kind = Kind::of(&fd)?;
    if kind != Kind::Pipe {
        let found = kind.words();
        let wrong = OpenErrorKind::WrongType { found };
        let cause = format!("it is {found}, not a pipe or FIFO");
        return Err(OpenError::new(action, object(), wrong, cause)
            .with_cure(cure(kind))
            .into());
    }
    let access = Access::of(&fd)?;
    let is_open_for = match needed {
        Access::Write => access.can_write(),
        _ => access.can_read(),
    };
    if !is_open_for {
        let cause = format!("it is open only for {access}");
        let error = OpenError::new(action, object(), OpenErrorKind::Unsupported, cause);
        let error = error.with_cure("pass the other end of the pipe");
        // The argument is at fault, not the platform.
        return Err(io::Error::new(io::ErrorKind::InvalidInput, error));
    }
    Ok(())
}

/// Opens the pipe behind `fd` a second time, for `access`.
pub(super) fn reopen(fd: impl AsFd, access: Access) -> io::Result<OwnedFd> {
    check(&fd, access)?;
    fd::reopen(&fd, access).map_err(|source| {
        let cure = match source.raw_os_error() {
            Some(libc::ENXIO) => "start a reader first, since no process reads this FIFO",
            Some(libc::ENOENT) => "mount /proc, or pass a descriptor that is not shared",
            Some(libc::EACCES) => {
                "pass a descriptor that is not shared: another user created this pipe"
            }
            _ => "pass a descriptor that is not shared",
        };
        let error = OpenError::system("reopen", name(&fd), source);
        error.with_cure(cure).into()
    })
}

/// Returns the capacity in bytes: `F_GETPIPE_SZ`, `fcntl(2)`.
pub(super) fn capacity(fd: impl AsFd) -> io::Result<usize> {
    bytes(fcntl(fd, FcntlArg::F_GETPIPE_SZ)?)
}

/// Changes the capacity, `F_SETPIPE_SZ`, and returns the kernel's value.
pub(super) fn set_capacity(fd: impl AsFd, asked: usize) -> io::Result<usize> {
    // A value that does not fit the call is beyond the kernel's own limit too.
    let result = match i32::try_from(asked) {
        Ok(size) => fcntl(&fd, FcntlArg::F_SETPIPE_SZ(size)),
        Err(_) => Err(Errno::EPERM),
    };
    let (kind, errno, cause, cure) = match result {
        Ok(size) => return bytes(size),
        Err(Errno::EPERM) => {
            let Some((cause, cure)) = which_limit(asked) else {
                return Err(Errno::EPERM.into());
            };
            (OpenErrorKind::LimitReached, Errno::EPERM, cause, cure)
        }
        Err(Errno::EBUSY) => {
            let cause = format!(
                "its capacity is {} bytes, and it holds more than {asked}",
                capacity(&fd)?
            );
            let cure = "read from it first, or ask for more";
            (OpenErrorKind::Other, Errno::EBUSY, cause, cure)
        }
        Err(e) => return Err(e.into()),
    };
    let error = OpenError::new("resize the pipe behind", name(&fd), kind, cause);
    let source = io::Error::from(errno);
    Err(error.with_cure(cure).with_source(source).into())
}

/// Which of the two limits that cause `EPERM` it was: that of one pipe, or that of all pipes of a
/// user; `pipe(7)`.
fn which_limit(asked: usize) -> Option<(String, &'static str)> {
    let limit = read_limit("/proc/sys/fs/pipe-max-size")?;
    if asked > limit {
        let cause = format!("{asked} bytes exceed the limit of {limit}");
        return Some((cause, "ask for less, or raise /proc/sys/fs/pipe-max-size"));
    }
    let pages = read_limit("/proc/sys/fs/pipe-user-pages-soft")?;
    let cause = format!(
        "with {asked} bytes this user's pipes would exceed the limit of {pages} pages together"
    );
    let cure = "close some, ask for less, or raise /proc/sys/fs/pipe-user-pages-soft";
    Some((cause, cure))
}

fn read_limit(path: &str) -> Option<usize> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

fn bytes(size: i32) -> io::Result<usize> {
    // A negative result is already an error here.
    usize::try_from(size).map_err(io::Error::other)
}

fn name(fd: impl AsFd) -> String {
    format!("descriptor {}", fd.as_fd().as_raw_fd())
}

fn cure(kind: Kind) -> &'static str {
    match kind {
        Kind::Socket => "use it as a socket",
        Kind::MessageQueue => "use it as a message queue",
        Kind::File | Kind::BlockDevice => {
            "read or write it with tokio::fs, or put a pipe in between (`cat FILE |`)"
        }
        Kind::CharDevice => "put a pipe in between (`cat |` or `| cat`)",
        _ => "pass a pipe, or make a FIFO with mkfifo",
    }
}
