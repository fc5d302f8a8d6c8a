use std::fs::{self, Metadata};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::inotify::AddWatchFlags;
use nix::sys::stat::{FileStat, fstat};

use super::watch::Watch;

/// What a path names now, compared with the FIFO that was opened there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PathState {
    /// The FIFO that was opened: whoever opens the path meets this end.
    Current,
    /// Nothing.
    Missing,
    /// Something else. Whoever opens the path does not meet this end.
    Replaced,
}

/// How long a change of the path that made no event may stay unnoticed: 1 second.
const RECHECK: Duration = Duration::from_secs(1);

/// How soon the path is looked at again after an event: the kernel reports an unlink just before
/// the name is gone.
const RECHECK_AFTER_EVENT: Duration = Duration::from_millis(10);

/// The path a FIFO was opened by, and which FIFO that was.
///
/// An inode number is not given to another file while a descriptor of the first is open. So
/// whoever holds a `Name` holds a descriptor of the FIFO too, and drops the `Name` first.
#[derive(Debug)]
pub(super) struct Name {
    path: PathBuf,
    /// Good even after a change of the working directory.
    absolute: PathBuf,
    follow_symlink: bool,
    device: u64,
    inode: u64,
    /// Whether to remove the path on drop.
    unlink: bool,
}

impl Name {
    pub(super) fn new(path: &Path, follow_symlink: bool, stat: &FileStat) -> Self {
        Self {
            path: path.to_owned(),
            absolute: std::path::absolute(path).unwrap_or_else(|_| path.to_owned()),
            follow_symlink,
            device: stat.st_dev,
            inode: stat.st_ino,
            unlink: false,
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn follows_symlink(&self) -> bool {
        self.follow_symlink
    }

    pub(super) fn set_unlink(&mut self, unlink: bool) {
        self.unlink = unlink;
    }

    pub(super) fn is(&self, stat: &FileStat) -> bool {
        (self.device, self.inode) == (stat.st_dev, stat.st_ino)
    }

    /// Compares what the path names now with the FIFO behind `fd`.
    pub(super) fn state(&self, fd: impl AsFd) -> io::Result<PathState> {
        let found = if self.follow_symlink {
            fs::metadata(&self.absolute)
        } else {
            fs::symlink_metadata(&self.absolute)
        };
        match found {
            Ok(found) if !self.names(&found) => Ok(PathState::Replaced),
            // An unlink takes the link away first, and the name a moment later.
            Ok(_) if fstat(fd)?.st_nlink == 0 => Ok(PathState::Missing),
            Ok(_) => Ok(PathState::Current),
            Err(e) if is_absence(&e) => Ok(PathState::Missing),
            Err(e) => Err(e),
        }
    }

    /// Waits until the path names something else or nothing, and says which.
    pub(super) async fn lost(&self, fd: impl AsFd) -> io::Result<PathState> {
        let events =
            AddWatchFlags::IN_ATTRIB | AddWatchFlags::IN_DELETE_SELF | AddWatchFlags::IN_MOVE_SELF;
        let watch = Watch::on(fd.as_fd(), &self.absolute, events);
        let mut wait = RECHECK;
        loop {
            let state = self.state(fd.as_fd())?;
            if state != PathState::Current {
                return Ok(state);
            }
            wait = if watch.changed_within(wait).await {
                RECHECK_AFTER_EVENT
            } else {
                (wait * 2).min(RECHECK)
            };
        }
    }

    fn names(&self, found: &Metadata) -> bool {
        (self.device, self.inode) == (found.dev(), found.ino())
    }
}

impl Drop for Name {
    fn drop(&mut self) {
        if !self.unlink {
            return;
        }
        // Only the inode that was made here. Between this look and the removal another process
        // could still exchange it: the kernel has no call that removes by inode.
        match fs::symlink_metadata(&self.absolute) {
            Ok(found) if self.names(&found) => match fs::remove_file(&self.absolute) {
                Ok(()) => tracing::debug!(target: super::TARGET, path = ?self.path, "removed"),
                Err(error) => {
                    tracing::warn!(target: super::TARGET, path = ?self.path, %error, "left behind");
                }
            },
            Ok(_) => {
                tracing::debug!(target: super::TARGET, path = ?self.path, "not removed: replaced by another");
            }
            Err(e) if is_absence(&e) => {}
            Err(error) => {
                tracing::warn!(target: super::TARGET, path = ?self.path, %error, "left behind");
            }
        }
    }
}

fn is_absence(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}
