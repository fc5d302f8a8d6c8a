//! Processes that wait in open(2) of a FIFO for its other side. They have no descriptor of it yet.

use std::ffi::OsString;
use std::fs::{self, File};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use nix::libc;

use super::thing::Id;

/// Where in the kernel they sleep: `fs/pipe.c`. The one may be compiled into the other.
const PLACES: [&str; 2] = ["wait_for_partner", "fifo_open"];

/// The longest path that a system call takes.
const PATH_MAX: usize = 4096;

pub(super) enum Waiting {
    For {
        id: Id,
        reads: bool,
        writes: bool,
    },
    /// It cannot be seen for what.
    Unclear,
}

/// What the threads of a process wait for.
pub(super) fn of(process: &Path) -> Vec<Waiting> {
    let threads = fs::read_dir(process.join("task")).into_iter().flatten();
    let threads = threads.flatten().map(|it| it.path());
    let waiting = threads.filter(|thread| {
        let place = fs::read_to_string(thread.join("wchan")).unwrap_or_default();
        PLACES.contains(&place.trim_end())
    });
    let waiting = waiting.map(|thread| of_thread(process, &thread));
    waiting.map(|it| it.unwrap_or(Waiting::Unclear)).collect()
}

/// The system call and its arguments, as proc_pid_syscall(5) has them, and the path that they
/// point to. To see them takes the right to trace the process.
fn of_thread(process: &Path, thread: &Path) -> Option<Waiting> {
    let call = fs::read_to_string(thread.join("syscall")).ok()?;
    let mut words = call.split_whitespace();
    let number: i64 = words.next()?.parse().ok()?;
    let mut argument = || {
        let word = words.next()?.strip_prefix("0x")?;
        u64::from_str_radix(word, 16).ok()
    };
    let (dir, path) = match number {
        libc::SYS_openat => (argument()? as i32, argument()?),
        #[cfg(target_arch = "x86_64")]
        libc::SYS_open => (libc::AT_FDCWD, argument()?),
        _ => return None,
    };
    let flags = OFlag::from_bits_retain(argument()? as i32);
    let path = string_at(&process.join("mem"), path)?;
    let base = match dir {
        _ if path.is_absolute() => process.join("root"),
        libc::AT_FDCWD => process.join("cwd"),
        dir => process.join("fd").join(dir.to_string()),
    };
    let relative = path.strip_prefix("/").unwrap_or(&path);
    let file = fs::metadata(base.join(relative)).ok()?;
    let access = flags & OFlag::O_ACCMODE;
    Some(Waiting::For {
        id: (file.dev(), file.ino()),
        reads: access != OFlag::O_WRONLY,
        writes: access != OFlag::O_RDONLY,
    })
}

/// The path at an address in the memory of a process.
fn string_at(memory: &Path, address: u64) -> Option<PathBuf> {
    let mut bytes = vec![0; PATH_MAX];
    // It may end before that, at the end of what is mapped.
    let n = File::open(memory).ok()?.read_at(&mut bytes, address).ok()?;
    let end = bytes[..n].iter().position(|it| *it == 0)?;
    bytes.truncate(end);
    Some(OsString::from_vec(bytes).into())
}
