//! Shortages of descriptors, processes and memory.

use std::fs::File;
use std::io;

use anyhow::Context;
use aqueduct::OpenError;
use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// How many descriptors a command needs at least beside those that it is started with. Tokio panics
/// where it gets none for its signals.
const DESCRIPTORS: usize = 8;

/// How many are left over, for what is opened for a moment.
const SPARE: usize = 16;

/// Fails if there are not enough descriptors to begin.
pub(crate) fn check() -> anyhow::Result<()> {
    let open = |_| File::open("/dev/null");
    let opened = (0..DESCRIPTORS).map(open).collect::<io::Result<Vec<_>>>();
    opened.context("cannot begin").map(drop)
}

/// Raises the limit on open files as far as this process may: one that passes on many connections
/// needs two descriptors for each.
pub(crate) fn raise_descriptors() {
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        // Without it there is room for fewer.
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}

/// How many things with so many descriptors each can be open at a time, at least one.
pub(crate) fn room(descriptors: usize) -> usize {
    let Ok((soft, _)) = getrlimit(Resource::RLIMIT_NOFILE) else {
        return usize::MAX;
    };
    let open = std::fs::read_dir("/proc/self/fd").map_or(SPARE, Iterator::count);
    let free = usize::try_from(soft).unwrap_or(usize::MAX);
    (free.saturating_sub(open + SPARE) / descriptors).max(1)
}

/// What helps, if a program cannot be started for a shortage of this process or system, which may pass.
pub(crate) fn shortage(error: &anyhow::Error) -> Option<&'static str> {
    match errno(error)? {
        // Its pipes are watched. Elsewhere this is a disk.
        Errno::ENOSPC => Some("raise the limit on watches (sysctl fs.epoll.max_user_watches)"),
        Errno::EFBIG => None,
        _ => cure(error),
    }
}

/// What helps, if an error is a limit of this process or system.
pub(crate) fn cure(error: &anyhow::Error) -> Option<&'static str> {
    match errno(error)? {
        Errno::EMFILE => Some("raise the limit on open files (ulimit -n)"),
        Errno::ENFILE => Some("raise the system's limit on open files (sysctl fs.file-max)"),
        Errno::EAGAIN => {
            Some("raise the limit on processes (ulimit -u, or pids.max of its cgroup)")
        }
        Errno::ENOMEM => Some("free some memory"),
        Errno::EFBIG => Some("raise the limit on the size of files (ulimit -f)"),
        _ => None,
    }
}

fn errno(error: &anyhow::Error) -> Option<Errno> {
    let errno = error.chain().find_map(|cause| {
        let opening = cause.downcast_ref::<OpenError>();
        let io = cause.downcast_ref::<io::Error>();
        opening
            .or(io.and_then(OpenError::of))
            .and_then(OpenError::raw_os_error)
            .or(io.and_then(io::Error::raw_os_error))
    })?;
    Some(Errno::from_raw(errno))
}

/// A shortage with what helps, once: some errors say so themselves.
pub(crate) fn told(error: &anyhow::Error, cure: &str) -> String {
    let error = format!("{error:#}");
    match error.contains(cure) {
        true => error,
        false => format!("{error}; {cure}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shortage_is_recognised_in_any_error() {
        for (errno, cure) in [
            (Errno::EMFILE, Some("ulimit -n")),
            (Errno::EAGAIN, Some("ulimit -u")),
            (Errno::ENOMEM, Some("memory")),
            (Errno::ENOENT, None),
            (Errno::EACCES, None),
        ] {
            let error = anyhow::Error::new(io::Error::from(errno)).context("cannot start it");
            let found = shortage(&error);
            assert_eq!(found.is_some(), cure.is_some(), "{errno}");
            assert!(found.unwrap_or_default().contains(cure.unwrap_or_default()));
        }
    }
}
