//! What limits pipes, FIFOs and sockets.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use anyhow::Context;
use aqueduct::Endpoint;
use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit};
use nix::unistd::geteuid;

use super::{Check, State};
use crate::look::Processes;

/// What a new pipe holds unless its user has too many: `PIPE_DEF_BUFFERS` pages, `pipe(7)`.
const PIPE_PAGES: u64 = 16;
/// The length of the queue of connections that listeners ask for.
const BACKLOG: u64 = 1024;
/// From how many descriptors on a service has some room.
const DESCRIPTORS: u64 = 1024;
/// What one side of a connection by shared memory makes, unless told otherwise.
const MEMORY: u64 = (2 << 20) + 512;

pub(super) fn checks() -> anyhow::Result<Vec<Check>> {
    Ok(vec![
        schemes(),
        pipe()?,
        pipe_max(),
        shared_memory()?,
        descriptors()?,
        open_files(),
        backlog(),
        watches(),
        runtime_dir(),
    ])
}

fn schemes() -> Check {
    let names: Vec<_> = Endpoint::schemes().iter().map(|it| it.name).collect();
    Check::new("schemes", State::Ok, names.join(" "))
        .advice("the kinds of address of this build; aqueduct --help explains them")
}

/// A pipe is made: that shows what no file tells, whether this user's have used up the limit.
fn pipe() -> anyhow::Result<Check> {
    let (reader, _writer) = io::pipe().context("cannot make a pipe")?;
    let size = fcntl(&reader, FcntlArg::F_GETPIPE_SZ).context("cannot ask a pipe for its size")?;
    let size = u64::try_from(size).unwrap_or_default();
    let soft = number("/proc/sys/fs/pipe-user-pages-soft");
    let usual = page() * PIPE_PAGES;
    let state = if size < usual { State::Low } else { State::Ok };
    let soft = soft.map_or_else(|| "-".to_owned(), |it| it.to_string());
    Ok(
        Check::new("pipe_size", state, format!("{size} bytes")).advice(format!(
            "what a new pipe or FIFO holds, {usual} unless this user's pipes have more than \
         fs.pipe-user-pages-soft={soft} pages; then close some, or sysctl -w more (0: no limit)"
        )),
    )
}

fn pipe_max() -> Check {
    let path = "/proc/sys/fs/pipe-max-size";
    let Some(max) = number(path) else {
        return Check::new("pipe_max", State::Low, "-").advice(format!("cannot read {path}"));
    };
    Check::new("pipe_max", State::Ok, format!("{max} bytes")).advice(
        "the most a pipe can be made to hold by a user; for more: sysctl -w fs.pipe-max-size",
    )
}

/// Memory is made: that shows what no file tells, whether a sandbox forbids it.
fn shared_memory() -> anyhow::Result<Check> {
    let name = "shared_memory";
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    if let Err(error) = memfd_create(c"aqueduct-doctor", flags) {
        return Ok(Check::new(name, State::Low, "cannot be made").advice(format!(
            "memfd_create(2) fails: {}; shm: addresses need it, so allow it in this sandbox, or use \
             fallback=true on both sides",
            error.desc()
        )));
    }
    let (limit, _) = getrlimit(Resource::RLIMIT_FSIZE).context("cannot ask for the limit")?;
    if limit < MEMORY {
        return Ok(
            Check::new(name, State::Low, format!("at most {limit} bytes")).advice(format!(
                "RLIMIT_FSIZE holds for memory too: shm: addresses need {MEMORY} bytes, or 512 more \
             than capacity=; for more: ulimit -f unlimited"
            )),
        );
    }
    let (sides, bytes) = Processes::look().shared();
    let value = format!("{sides} ends, {} KiB", bytes / 1024);
    Ok(Check::new(name, State::Ok, value).advice(
        "the ends of shm: connections that this user may look into, and the memory they take; \
         aqueduct list shm: shows them",
    ))
}

fn descriptors() -> anyhow::Result<Check> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).context("cannot ask for the limit")?;
    let shown = |it| match it {
        RLIM_INFINITY => "unlimited".to_owned(),
        it => it.to_string(),
    };
    let state = if soft < DESCRIPTORS {
        State::Low
    } else {
        State::Ok
    };
    let (check, hard) = (Check::new("descriptors", state, shown(soft)), shown(hard));
    Ok(check.advice(format!(
        "RLIMIT_NOFILE of each process; every connection, FIFO and queue takes one, and shm: four; for more: \
         ulimit -n, up to {hard}"
    )))
}

fn open_files() -> Check {
    let text = fs::read_to_string("/proc/sys/fs/file-nr").unwrap_or_default();
    let numbers: Vec<u64> = text.split_whitespace().flat_map(str::parse).collect();
    let [used, _, limit] = numbers[..] else {
        return Check::new("open_files", State::Low, "-").advice("cannot read fs.file-nr");
    };
    Check::usage("open_files", used, Some(limit))
        .advice("open in the whole system, of fs.file-max; for more: sysctl -w fs.file-max")
}

fn backlog() -> Check {
    let Some(limit) = number("/proc/sys/net/core/somaxconn") else {
        return Check::new("backlog", State::Low, "-").advice("cannot read net.core.somaxconn");
    };
    let wanted = BACKLOG;
    let state = if limit < wanted {
        State::Low
    } else {
        State::Ok
    };
    Check::new("backlog", state, limit).advice(format!(
        "net.core.somaxconn, the clients that may wait to be accepted; {wanted} are asked for: \
         sysctl -w net.core.somaxconn={}",
        wanted.max(limit)
    ))
}

/// Each process that waits for a FIFO's other side takes one.
fn watches() -> Check {
    let Some(limit) = number("/proc/sys/fs/inotify/max_user_instances") else {
        return Check::new("inotify", State::Low, "-")
            .advice("cannot read fs.inotify.max_user_instances");
    };
    let state = if limit < 128 { State::Low } else { State::Ok };
    Check::new("inotify", state, limit).advice(
        "fs.inotify.max_user_instances; each end that waits for the other side of a FIFO takes \
         one, and where none is left it looks from time to time",
    )
}

fn runtime_dir() -> Check {
    let name = "runtime_dir";
    let Some(dir) = std::env::var_os("XDG_RUNTIME_DIR") else {
        return Check::new(name, State::Ok, "not set").advice(
            "XDG_RUNTIME_DIR names a private directory for FIFOs and sockets; without it, use a \
             directory of mode 0700 outside /tmp",
        );
    };
    let (dir, value) = (Path::new(&dir), dir.to_string_lossy());
    match fs::metadata(dir) {
        Err(error) => {
            let check = Check::new(name, State::Low, value);
            check.advice(format!("XDG_RUNTIME_DIR cannot be used: {error}"))
        }
        Ok(it) if it.uid() != geteuid().as_raw() || it.permissions().mode() & 0o077 != 0 => {
            Check::new(name, State::Low, value).advice(
                "others may look for or replace sockets in it: chown it to this user, chmod 0700",
            )
        }
        Ok(_) => Check::new(name, State::Ok, value),
    }
}

fn number(path: &str) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

fn page() -> u64 {
    let page = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE);
    page.ok().flatten().map_or(4096, |it| it.unsigned_abs())
}
