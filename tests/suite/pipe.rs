//! Pipes: everything that `aqueduct::pipe` promises, on real descriptors and real processes.

mod cancel;
mod capacity;
mod edges;
mod kernel;
mod lifetime;
mod log;
mod moves_over;
mod never_spin;
mod packet;
mod processes;
mod refused;
mod shared;

use std::ffi::CString;
use std::fs::{File, OpenOptions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use aqueduct::pipe::{Receiver, Sender};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::stat::Mode;
use tempfile::TempDir;

use crate::support::deadline;

/// A FIFO of the test's own.
struct Fifo {
    path: PathBuf,
    _dir: TempDir,
}

impl Fifo {
    fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("fifo");
        let name = CString::new(path.as_os_str().as_bytes()).unwrap();
        nix::unistd::mkfifo(name.as_c_str(), Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
        Self { path, _dir: dir }
    }
}

impl AsRef<Path> for Fifo {
    fn as_ref(&self) -> &Path {
        &self.path
    }
}

/// The writing end as any other program would hold it; there must be a reader.
fn raw_writer(path: impl AsRef<Path>) -> File {
    let mut options = OpenOptions::new();
    options.write(true).custom_flags(libc::O_NONBLOCK);
    options.open(path).unwrap()
}

/// The reading end as any other program would hold it, non-blocking.
fn raw_reader(path: impl AsRef<Path>) -> File {
    let mut options = OpenOptions::new();
    options.read(true).custom_flags(libc::O_NONBLOCK);
    options.open(path).unwrap()
}

/// The CPU time that this thread has used.
fn thread_cpu() -> Duration {
    let usage = getrusage(UsageWho::RUSAGE_THREAD).unwrap();
    [usage.user_time(), usage.system_time()]
        .into_iter()
        .map(|time| Duration::from_micros(u64::try_from(time.num_microseconds()).unwrap()))
        .sum()
}

trait Microseconds {
    fn num_microseconds(&self) -> i64;
}

impl Microseconds for nix::sys::time::TimeVal {
    fn num_microseconds(&self) -> i64 {
        self.tv_sec() * 1_000_000 + self.tv_usec()
    }
}

/// Writes until there is no room for one more byte; returns what fitted.
async fn fill(sender: &Sender) -> usize {
    let mut total = 0;
    deadline(sender.writable()).await.unwrap();
    for size in [4096, 1] {
        loop {
            match sender.try_write(&vec![b'x'; size]) {
                Ok(n) => total += n,
                Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => break,
                Err(e) => panic!("{e}"),
            }
            deadline(sender.writable()).await.unwrap();
        }
        if size == 4096 {
            // The refusal has cleared the readiness; the kernel may still have room for less.
            let left = nix::unistd::write(sender, &vec![b'x'; 4095]);
            total += left.unwrap_or(0);
        }
    }
    total
}

/// Reads exactly `n` bytes.
async fn take(receiver: &Receiver, n: usize) -> Vec<u8> {
    let mut all = Vec::with_capacity(n);
    while all.len() < n {
        deadline(receiver.readable()).await.unwrap();
        let mut buf = vec![0; n - all.len()];
        match receiver.try_read(&mut buf) {
            Ok(0) => panic!("the stream ended after {} of {n} bytes", all.len()),
            Ok(got) => all.extend_from_slice(&buf[..got]),
            Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(e) => panic!("{e}"),
        }
    }
    all
}

/// Readable-and-read until something comes, as a program with `&self` does it.
async fn next_read(receiver: &Receiver) -> std::io::Result<Vec<u8>> {
    let mut buf = [0; 8192];
    loop {
        receiver.readable().await?;
        match receiver.try_read(&mut buf) {
            Ok(n) => return Ok(buf[..n].to_vec()),
            Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(e) => return Err(e),
        }
    }
}

/// Makes a pipe hold four pages, which everybody may have.
fn four_pages_of(fd: impl std::os::fd::AsFd) {
    nix::fcntl::fcntl(fd, nix::fcntl::FcntlArg::F_SETPIPE_SZ(4 * 4096)).unwrap();
}
