//! [`NameWatch`]: notices that a path no longer leads to a bound socket.

use std::fs::{File, OpenOptions};
use std::future::Future;
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use nix::sys::inotify::AddWatchFlags;

use crate::io::watch::Watch;

/// An event may be reported shortly before the path changes (`vfs_unlink` in `fs/namei.c`).
const RECHECK: Duration = Duration::from_millis(10);

/// Watches whether a path still leads to the file of a bound socket.
///
/// inotify(7) reports a removal or a rename at once. A change that causes no event, such as the
/// rename of a parent directory, is found by checking at an interval.
pub(super) struct NameWatch {
    path: PathBuf,
    /// Device and inode of the socket's file.
    made: (u64, u64),
    every: Duration,
    /// How long to wait before the next check.
    next: Duration,
    watch: Arc<Watch>,
    waiting: Option<Pin<Box<dyn Future<Output = bool> + Send + Sync>>>,
}

impl NameWatch {
    pub(super) fn new(path: PathBuf, made: (u64, u64), every: Duration) -> Self {
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_PATH | libc::O_NOFOLLOW)
            .open(&path);
        let events =
            AddWatchFlags::IN_ATTRIB | AddWatchFlags::IN_DELETE_SELF | AddWatchFlags::IN_MOVE_SELF;
        let watch = match &file {
            Ok(file) if inode(file) == Some(made) => Watch::on(file.as_fd(), &path, events),
            _ => Watch::none(),
        };
        Self {
            path,
            made,
            every,
            next: every,
            watch: Arc::new(watch),
            waiting: None,
        }
    }

    /// Waits until the path leads to something else or nothing.
    pub(super) fn poll_lost(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            if let Some(waiting) = &mut self.waiting {
                self.next = match ready!(waiting.as_mut().poll(cx)) {
                    true => RECHECK.min(self.every),
                    false => (self.next * 2).min(self.every),
                };
                self.waiting = None;
            }
            let now = std::fs::symlink_metadata(&self.path);
            if now.ok().map(|it| (it.dev(), it.ino())) != Some(self.made) {
                return Poll::Ready(());
            }
            let (watch, limit) = (Arc::clone(&self.watch), self.next);
            self.waiting = Some(Box::pin(async move { watch.changed_within(limit).await }));
        }
    }
}

fn inode(file: &File) -> Option<(u64, u64)> {
    let metadata = file.metadata().ok()?;
    Some((metadata.dev(), metadata.ino()))
}
