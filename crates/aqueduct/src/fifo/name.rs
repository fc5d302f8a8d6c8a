//! [`Name`]: the path of a FIFO, which FIFO that was, and what the path names now.

use std::fs::{self, Metadata};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::task::{Context, Poll};

use nix::sys::stat::{FileStat, fstat};

use super::TARGET;
use crate::connect::{OpenError, OpenErrorKind};
use crate::io::watch::{NameWatch, Watch};

/// What a path names now, compared with the FIFO that was opened there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PathState {
    /// The FIFO that was opened.
    Current,
    /// Nothing.
    Missing,
    /// Something else.
    Replaced,
}

/// The path by which a FIFO was opened, and which FIFO that was.
///
/// An inode number is not given to another file while a descriptor of the first is open. So the
/// owner of a `Name` also holds a descriptor of the FIFO, and drops the `Name` first.
#[derive(Debug)]
pub(super) struct Name {
    path: PathBuf,
    /// Stays valid after a change of the working directory.
    absolute: PathBuf,
    device: u64,
    inode: u64,
    /// Whether to remove the path on drop.
    unlink: bool,
}

impl Name {
    pub(super) fn new(path: &Path, stat: &FileStat) -> Self {
        Self {
            path: path.to_owned(),
            absolute: std::path::absolute(path).unwrap_or_else(|_| path.to_owned()),
            device: stat.st_dev,
            inode: stat.st_ino,
            unlink: false,
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn set_unlink(&mut self, unlink: bool) {
        self.unlink = unlink;
    }

    pub(super) fn is(&self, stat: &FileStat) -> bool {
        (self.device, self.inode) == (stat.st_dev, stat.st_ino)
    }

    /// Compares what the path names now with the FIFO behind `fd`.
    pub(super) fn state(&self, fd: impl AsFd) -> io::Result<PathState> {
        match fs::symlink_metadata(&self.absolute) {
            Ok(found) if !self.names(&found) => Ok(PathState::Replaced),
            // An unlink removes the link first, and the name a moment later.
            Ok(_) if fstat(fd)?.st_nlink == 0 => Ok(PathState::Missing),
            Ok(_) => Ok(PathState::Current),
            Err(e) if is_absence(&e) => Ok(PathState::Missing),
            Err(e) => Err(e),
        }
    }

    /// The error of an end whose path no longer names its FIFO.
    pub(super) fn lost(&self, action: &'static str) -> io::Error {
        let cause = match self.absolute.symlink_metadata() {
            Ok(_) => "another file has taken its place",
            Err(_) => "it was removed",
        };
        OpenError::new(action, shown(&self.path), OpenErrorKind::Replaced, cause)
            .with_cure("open it again")
            .with_source(io::Error::from_raw_os_error(libc::ESTALE))
            .into()
    }

    /// Waits until the path of the FIFO behind `fd` names something else or nothing.
    pub(super) fn poll_lost(
        &self,
        cx: &mut Context<'_>,
        watch: &mut NameWatch,
        fd: impl AsFd,
    ) -> Poll<io::Result<()>> {
        let fd = fd.as_fd();
        watch.poll_lost(
            cx,
            || Watch::on(fd, &self.absolute, NameWatch::EVENTS),
            || Ok(self.state(fd)? != PathState::Current),
        )
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
        // Only the inode that was created here. Another process could still replace it between this
        // check and the removal: the kernel has no call that removes by inode.
        match fs::symlink_metadata(&self.absolute) {
            Ok(found) if self.names(&found) => match fs::remove_file(&self.absolute) {
                Ok(()) => tracing::debug!(target: TARGET, path = ?self.path, "removed"),
                Err(error) => {
                    tracing::warn!(target: TARGET, path = ?self.path, %error, "not removed");
                }
            },
            Ok(_) => {
                tracing::debug!(target: TARGET, path = ?self.path, "not removed: replaced by another");
            }
            Err(e) if is_absence(&e) => {}
            Err(error) => {
                tracing::warn!(target: TARGET, path = ?self.path, %error, "not removed");
            }
        }
    }
}

/// The path of a FIFO as errors show it: on one line, with control characters escaped.
pub(super) fn shown(path: &Path) -> String {
    let quoted = format!("{path:?}");
    let text = quoted.strip_prefix('"').and_then(|it| it.strip_suffix('"'));
    match text {
        Some("") | None => quoted,
        Some(text) => text.to_owned(),
    }
}

fn is_absence(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}
