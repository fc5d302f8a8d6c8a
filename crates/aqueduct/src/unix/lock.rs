//! [`LockFile`]: a lock that leaves no file behind.

use std::fs::{File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::io::sys;

/// How often the lock file may change while it is being locked before that fails.
const ATTEMPTS: usize = 1000;

/// A lock held on a file, which is removed with it.
///
/// The lock is on the open file, not on its name, so removing the file could go wrong in one way: a
/// process that had opened the removed file locks that, while another locks a new file of the same
/// name. Therefore only its holder removes it, before unlocking, and a process that gets a lock
/// checks that the name leads to the file it has locked, and starts over if not. So of the files
/// that ever had the name only the one that has it now can be held, and by one holder.
#[derive(Debug)]
pub(super) struct LockFile {
    /// The user that the file belongs to.
    pub(super) owner: u32,
    file: File,
    path: PathBuf,
}

impl LockFile {
    /// Locks the file at `path`, creating it if necessary.
    ///
    /// Fails with `WouldBlock` if others take and release it so often that none of them can be
    /// named.
    pub(super) fn take(path: &Path) -> io::Result<Locked> {
        for _ in 0..ATTEMPTS {
            let Some(file) = open(path)? else {
                continue;
            };
            let free = sys::try_lock(&file)?;
            if is_at(&file, path) {
                let owner = file.metadata()?.uid();
                return Ok(match free {
                    true => Locked::Ours(Self {
                        owner,
                        file,
                        path: path.into(),
                    }),
                    false => Locked::Busy(Holder {
                        owner,
                        process: holder(&file),
                    }),
                });
            }
        }
        Err(io::ErrorKind::WouldBlock.into())
    }
}

/// The result of an attempt to lock.
#[derive(Debug)]
pub(super) enum Locked {
    Ours(LockFile),
    Busy(Holder),
}

/// Another process that holds the lock.
#[derive(Debug)]
pub(super) struct Holder {
    /// The user that the file belongs to.
    pub(super) owner: u32,
    /// Its process ID and user, if the kernel reports them.
    pub(super) process: Option<(u32, u32)>,
}

/// Finds the process that locked the file in `/proc/locks` (proc_locks(5)).
fn holder(file: &File) -> Option<(u32, u32)> {
    let inode = file.metadata().ok()?.ino().to_string();
    let locks = std::fs::read_to_string("/proc/locks").ok()?;
    let process = locks.lines().find_map(|line| {
        let words: Vec<_> = line.split_whitespace().collect();
        // Waiting processes have an arrow in second place.
        let ["FLOCK", _, _, process, file] = words.get(1..6)? else {
            return None;
        };
        let ours = file.rsplit_once(':').is_some_and(|(_, it)| it == inode);
        process.parse().ok().filter(|_| ours)
    })?;
    let user = std::fs::metadata(format!("/proc/{process}")).ok()?.uid();
    Some((process, user))
}

impl Drop for LockFile {
    fn drop(&mut self) {
        // It may be another's if somebody has removed ours by hand.
        if is_at(&self.file, &self.path)
            && let Err(error) = std::fs::remove_file(&self.path)
        {
            tracing::warn!(path = %self.path.display(), %error, "not removed");
        }
        // Closing is not enough while a process that is just being started has a duplicate.
        let _ = sys::unlock(&self.file);
    }
}

/// Opens the lock file, or creates it; `None` if it appeared or vanished meanwhile.
fn open(path: &Path) -> io::Result<Option<File>> {
    let mut options = OpenOptions::new();
    options
        .read(true)
        .write(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY);
    match options.open(path) {
        Ok(file) if file.metadata()?.is_file() => Ok(Some(file)),
        Ok(_) => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "it is not an ordinary file",
        )),
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            match options.create_new(true).mode(0o600).open(path) {
                Ok(file) => {
                    // The next server must be able to open it, whatever bits our umask removed.
                    // Only ever done to a file that we have just created.
                    file.set_permissions(Permissions::from_mode(0o600))?;
                    Ok(Some(file))
                }
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(None),
                Err(e) => Err(e),
            }
        }
        Err(e) => Err(e),
    }
}

/// Whether `path` names the open `file`. While that is open its inode number is not reused.
fn is_at(file: &File, path: &Path) -> bool {
    match (file.metadata(), std::fs::symlink_metadata(path)) {
        (Ok(open), Ok(named)) => (open.dev(), open.ino()) == (named.dev(), named.ino()),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn never_two_hold_the_lock_and_no_file_stays() -> io::Result<()> {
        let dir = tempfile::tempdir()?;
        let path = dir.path().join("lock");
        let holders = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            let contender = || -> io::Result<()> {
                let mut held = 0;
                while held < 300 {
                    let Locked::Ours(lock) = LockFile::take(&path)? else {
                        std::thread::yield_now();
                        continue;
                    };
                    assert_eq!(holders.fetch_add(1, Ordering::SeqCst), 0);
                    std::thread::yield_now();
                    assert_eq!(holders.fetch_sub(1, Ordering::SeqCst), 1);
                    drop(lock);
                    held += 1;
                }
                Ok(())
            };
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(contender)).collect();
            threads
                .into_iter()
                .try_for_each(|it| it.join().expect("alone"))
        })?;
        assert!(!path.exists());
        Ok(())
    }

    #[test]
    fn a_file_that_took_the_name_of_ours_is_left_alone() -> io::Result<()> {
        let dir = tempfile::tempdir()?;
        let path = dir.path().join("lock");
        let ours = LockFile::take(&path)?;
        assert!(matches!(ours, Locked::Ours(_)));
        let Locked::Busy(holder) = LockFile::take(&path)? else {
            panic!("it is locked");
        };
        let process = holder.process.map(|(process, _)| process);
        assert_eq!(process, Some(std::process::id()));
        std::fs::remove_file(&path)?;
        let theirs = LockFile::take(&path)?;
        assert!(matches!(theirs, Locked::Ours(_)));
        drop(ours);
        assert!(path.exists());
        drop(theirs);
        assert!(!path.exists());
        Ok(())
    }
}
