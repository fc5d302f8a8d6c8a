//! [`LockFile`]: a lock that leaves no file behind.

use std::fs::{File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::io::sys;

/// How often the lock file may change under our hands before we give up.
const ATTEMPTS: usize = 1000;

/// A lock held on a file, which is removed with it.
///
/// The lock is on the open file, not on its name, so one thing could go wrong with removing it: a
/// process that had opened the removed file locks that, while another locks a new file of the same
/// name. Therefore it is removed only by its holder, before it is unlocked, and whoever gets a lock
/// checks that the name leads to the file it has locked, and starts over if not. So of the files
/// that ever had the name only the one that has it now can be held, and by one holder.
#[derive(Debug)]
pub(super) struct LockFile {
    file: File,
    path: PathBuf,
}

impl LockFile {
    /// Locks the file at `path`, making it if need be; `None` if another process holds the lock.
    pub(super) fn take(path: &Path) -> io::Result<Option<Self>> {
        for _ in 0..ATTEMPTS {
            let Some(file) = open(path)? else {
                continue;
            };
            let free = sys::try_lock(&file)?;
            if is_at(&file, path) {
                return Ok(free.then(|| Self {
                    file,
                    path: path.into(),
                }));
            }
        }
        // So many others come and go that one of them has it.
        Ok(None)
    }
}

impl Drop for LockFile {
    fn drop(&mut self) {
        // It may be another's if somebody has removed ours by hand.
        if is_at(&self.file, &self.path)
            && let Err(error) = std::fs::remove_file(&self.path)
        {
            tracing::warn!(path = %self.path.display(), %error, "not removed");
        }
        // Closing would not do while a process that is just being started has a duplicate.
        let _ = sys::unlock(&self.file);
    }
}

/// Opens the lock file, or makes it; `None` if it came or went meanwhile.
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
                    // The next server must be able to open it, whatever our umask took away. Only
                    // ever done to a file we have just made.
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

/// Whether `path` names the open `file`. While that is open its inode number is not used again.
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
    fn of_many_that_come_and_go_at_once_never_two_hold_the_lock_and_no_file_stays() -> io::Result<()>
    {
        let dir = tempfile::tempdir()?;
        let path = dir.path().join("lock");
        let holders = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            let contender = || -> io::Result<()> {
                let mut held = 0;
                while held < 300 {
                    let Some(lock) = LockFile::take(&path)? else {
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
        let ours = LockFile::take(&path)?.expect("it is free");
        assert!(LockFile::take(&path)?.is_none());
        std::fs::remove_file(&path)?;
        let theirs = LockFile::take(&path)?.expect("it is another file");
        drop(ours);
        assert!(path.exists());
        drop(theirs);
        assert!(!path.exists());
        Ok(())
    }
}
