//! [`Name`]: the path of a FIFO, which FIFO that was, and what the path names now.

use std::fs::{self, Metadata};
use std::future::Future;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use nix::sys::inotify::AddWatchFlags;
use nix::sys::stat::{FileStat, fstat};

use super::TARGET;
use crate::connect::{OpenError, OpenErrorKind};
use crate::io::watch::Watch;

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

/// How soon the path is checked again after an event: the kernel reports an unlink just before the
/// name is gone.
const RECHECK_AFTER_EVENT: Duration = Duration::from_millis(10);

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

/// Watches whether a path still names its FIFO, while its end waits.
///
/// inotify(7) reports a removal or a rename at once. A change that causes no event, such as the
/// rename of a parent directory, is found by checking at an interval.
pub(super) struct NameWatch {
    every: Duration,
    /// How long to wait before the next check.
    next: Duration,
    watch: Option<Arc<Watch>>,
    waiting: Option<Pin<Box<dyn Future<Output = bool> + Send + Sync>>>,
}

impl NameWatch {
    /// Checks at least this often.
    pub(super) fn new(every: Duration) -> Self {
        Self {
            every,
            next: every,
            watch: None,
            waiting: None,
        }
    }

    /// Waits until the path of the FIFO behind `fd` names something else or nothing.
    pub(super) fn poll_lost(
        &mut self,
        cx: &mut Context<'_>,
        name: &Name,
        fd: impl AsFd,
    ) -> Poll<io::Result<()>> {
        loop {
            if let Some(waiting) = &mut self.waiting {
                self.next = match ready!(waiting.as_mut().poll(cx)) {
                    true => RECHECK_AFTER_EVENT.min(self.every),
                    false => (self.next * 2).min(self.every),
                };
                self.waiting = None;
            }
            // The watch is set before the first check, so nothing falls in between.
            let watch = self.watch.get_or_insert_with(|| {
                let events = AddWatchFlags::IN_ATTRIB
                    | AddWatchFlags::IN_DELETE_SELF
                    | AddWatchFlags::IN_MOVE_SELF;
                Arc::new(Watch::on(fd.as_fd(), &name.absolute, events))
            });
            if name.state(fd.as_fd())? != PathState::Current {
                return Poll::Ready(Ok(()));
            }
            let (watch, limit) = (Arc::clone(watch), self.next);
            self.waiting = Some(Box::pin(async move { watch.changed_within(limit).await }));
        }
    }
}

impl std::fmt::Debug for NameWatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NameWatch")
            .field("every", &self.every)
            .finish_non_exhaustive()
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
