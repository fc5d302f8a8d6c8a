//! Starts a program: descriptors that it must not inherit, and numbers that are kept.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{is_marked, mark, result_of};

/// How descriptors are kept from leaking into a program that is about to be started.
#[derive(Debug)]
pub(crate) enum Seal {
    /// One system call marks them all, in the child: no descriptor that another thread opens is
    /// missed.
    Range,
    /// Those that were open and not marked before the fork.
    Each(Vec<RawFd>),
}

impl Seal {
    /// The best method of this kernel.
    pub(crate) fn new() -> io::Result<Self> {
        // The last possible number is never open, so this only asks. Linux 5.9 knows the call, 5.11
        // the flag; close_range(2).
        match mark_range(libc::c_uint::MAX) {
            Ok(()) => Ok(Self::Range),
            Err(_) => Self::each(),
        }
    }

    pub(crate) fn each() -> io::Result<Self> {
        let mut unmarked = Vec::new();
        for entry in std::fs::read_dir("/proc/self/fd")? {
            let number = entry?.file_name().to_str().and_then(|it| it.parse().ok());
            unmarked.extend(number.filter(|fd| *fd > 2 && !is_marked(*fd).unwrap_or(true)));
        }
        Ok(Self::Each(unmarked))
    }

    /// Async-signal-safe.
    fn apply(&self) -> io::Result<()> {
        match self {
            Self::Range => mark_range(3),
            // A descriptor that has been closed since needs no mark.
            Self::Each(all) => all.iter().try_for_each(|fd| match mark(*fd) {
                Err(e) if e.raw_os_error() == Some(libc::EBADF) => Ok(()),
                result => result,
            }),
        }
    }
}

/// A number in the child that a descriptor is to be mapped to, from 3 on.
///
/// The pipe through which std learns that a program could not be executed must not have such a
/// number: it would be mapped over, and the failure would look like success. So the number is kept
/// in use while the child is started. The child checks whether the same file still uses it, since
/// another thread may have closed it in the meantime.
#[derive(Debug)]
pub(crate) struct Number {
    number: RawFd,
    device: AtomicU64,
    inode: AtomicU64,
}

impl Number {
    pub(crate) fn new(number: RawFd) -> Self {
        Self {
            number,
            device: AtomicU64::new(0),
            inode: AtomicU64::new(0),
        }
    }

    pub(crate) fn number(&self) -> RawFd {
        self.number
    }

    /// Notes what is open there now; an error if nothing is.
    pub(crate) fn note(&self) -> io::Result<()> {
        let (device, inode) = self.file()?;
        self.device.store(device, Ordering::Relaxed);
        self.inode.store(inode, Ordering::Relaxed);
        Ok(())
    }

    /// Async-signal-safe.
    fn check(&self) -> io::Result<()> {
        let noted = (
            self.device.load(Ordering::Relaxed),
            self.inode.load(Ordering::Relaxed),
        );
        match self.file() {
            // The descriptor there has gone, and nothing has replaced it.
            Err(_) => Ok(()),
            Ok(file) if file == noted => Ok(()),
            Ok(_) => Err(io::Error::from_raw_os_error(CHANGED_HANDS)),
        }
    }

    fn file(&self) -> io::Result<(u64, u64)> {
        let mut stat = MaybeUninit::<libc::stat>::uninit();
        // SAFETY: the kernel writes one structure, which is ours; a number that is not open is an error.
        result_of(unsafe { libc::fstat(self.number, stat.as_mut_ptr()) }.into())?;
        // SAFETY: the call has succeeded, and so has written it.
        let stat = unsafe { stat.assume_init() };
        Ok((stat.st_dev, stat.st_ino))
    }
}

/// The error of starting a child if a [`Number`] is not as it was noted: try again.
pub(crate) const CHANGED_HANDS: libc::c_int = libc::EBUSY;

/// Makes the child close every descriptor from 3 on when it executes the program, except those that
/// later hooks on the same command map. Makes it fail with [`CHANGED_HANDS`] before that if one of
/// `numbers` is not as it was noted last.
pub(crate) fn seal(command: &mut tokio::process::Command, seal: Seal, numbers: Arc<[Number]>) {
    let hook = move || {
        numbers.iter().try_for_each(Number::check)?;
        seal.apply()
    };
    // SAFETY: the hook runs between fork and exec, where only async-signal-safe functions may be
    // called and nothing may be allocated: it makes only `fstat`, and `close_range` or `fcntl`
    // system calls. An error with just a number needs no memory.
    unsafe { command.pre_exec(hook) };
}

/// Sets `FD_CLOEXEC` on every descriptor from `first` on.
fn mark_range(first: libc::c_uint) -> io::Result<()> {
    // By number, since older C libraries lack the function.
    // SAFETY: with this flag the call closes nothing; it changes flags of descriptors.
    let result = unsafe {
        libc::syscall(
            libc::SYS_close_range,
            first,
            libc::c_uint::MAX,
            libc::CLOSE_RANGE_CLOEXEC,
        )
    };
    result_of(result).map(drop)
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;

    use super::*;

    /// The descriptors of `sh` when it is started with one unmarked descriptor in this process.
    async fn shell_has(seal_with: fn() -> io::Result<Seal>) -> (String, String) {
        // With a number that the shell does not use by itself.
        let mut unmarked = nix::unistd::dup(io::stderr()).unwrap();
        let mut lower = Vec::new();
        while unmarked.as_raw_fd() < 20 {
            let next = nix::unistd::dup(io::stderr()).unwrap();
            lower.push(std::mem::replace(&mut unmarked, next));
        }
        let mut command = tokio::process::Command::new("sh");
        command.args(["-c", "echo /proc/$$/fd/*"]);
        seal(&mut command, seal_with().unwrap(), Arc::new([]));
        let output = command.output().await.unwrap();
        let open = String::from_utf8(output.stdout).unwrap();
        (open, format!("/fd/{}", unmarked.as_raw_fd()))
    }

    #[tokio::test]
    async fn unmarked_descriptors_do_not_reach_a_child_on_old_kernels() {
        for seal_with in [Seal::each, || Ok(Seal::Range), Seal::new] {
            let (open, unmarked) = shell_has(seal_with).await;
            assert!(open.contains("/fd/2"), "{open}");
            let mut words = open.split_whitespace();
            assert!(!words.any(|word| word.ends_with(&unmarked)), "{open}");
        }
        let (open, unmarked) = shell_has(|| Ok(Seal::Each(Vec::new()))).await;
        assert!(open.contains(&unmarked), "it would have leaked");
    }

    #[tokio::test]
    async fn a_number_that_changes_hands_stops_the_start() {
        let (other, _) = io::pipe().unwrap();
        let number = Number::new(other.as_raw_fd());
        number.note().unwrap();
        let numbers: Arc<[Number]> = Arc::new([number]);
        let mut command = tokio::process::Command::new("true");
        seal(&mut command, Seal::new().unwrap(), Arc::clone(&numbers));
        assert!(command.status().await.unwrap().success());
        // As if another thread had closed it, and std's pipe had got its number.
        numbers[0].inode.fetch_add(1, Ordering::Relaxed);
        let error = command.spawn().unwrap_err();
        assert_eq!(error.raw_os_error(), Some(CHANGED_HANDS));
        numbers[0].note().unwrap();
        assert!(command.status().await.unwrap().success());
        drop(other);
        assert!(numbers[0].note().is_err() || command.spawn().is_err());
    }
}
