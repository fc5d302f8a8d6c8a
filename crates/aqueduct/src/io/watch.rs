//! [`Watch`]: events of one file from inotify(7); [`NameWatch`]: whether a name still leads to it.

use std::fmt;
use std::future::{self, Future};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use tokio::io::Interest;

use super::source::Source;
use super::sys;
use super::timer::timeout;

/// How soon a wait for a peer checks again without an event, at first and after many checks.
///
/// It has to check: a reader that itself waits in a blocking open(2) causes no event.
pub(crate) const FIRST_TICK: Duration = Duration::from_millis(1);
pub(crate) const LAST_TICK: Duration = Duration::from_millis(100);

/// How soon a name is checked again after an event: the kernel reports an unlink just before the name
/// is gone (`vfs_unlink` in `fs/namei.c`).
const RECHECK_AFTER_EVENT: Duration = Duration::from_millis(10);

/// Room for the events of one read. The rest arrives with the next one.
const EVENTS: usize = 1024;

/// Events of one inode from inotify(7), or none: every wait on it has a time limit as well.
///
/// A user has few inotify instances (128 by default, `fs.inotify.max_user_instances`), so having
/// none left is not an error here: the time limits alone then find out, a little later.
#[derive(Debug)]
pub(crate) struct Watch(Option<Source>);

impl Watch {
    /// Sees nothing.
    pub(crate) const fn none() -> Self {
        Self(None)
    }

    /// Watches the file behind `fd`, which `path` names.
    pub(crate) fn on(fd: BorrowedFd<'_>, path: &Path, events: AddWatchFlags) -> Self {
        Self(match start(fd, path, events) {
            Ok(source) => Some(source),
            Err(error) => {
                tracing::debug!(?path, %error, "no inotify watch: checking from time to time");
                None
            }
        })
    }

    /// Waits for an event or until `limit` has passed, and returns whether there was an event.
    ///
    /// Cancel safe: an event that is lost is one that the caller did not act on.
    pub(crate) async fn changed_within(&self, limit: Duration) -> bool {
        timeout(limit, self.changed()).await.is_ok()
    }

    async fn changed(&self) {
        if let Some(source) = &self.0 {
            let mut events = [MaybeUninit::uninit(); EVENTS];
            let read = source.io(Interest::READABLE, |fd| sys::read(fd, &mut events));
            if read.await.is_ok() {
                return;
            }
        }
        future::pending::<()>().await;
    }
}

/// Watches whether a name still leads to its file.
///
/// inotify(7) reports a removal or a rename at once. A change that causes no event, such as the
/// rename of a parent directory, is found by checking at an interval.
pub(crate) struct NameWatch {
    every: Duration,
    /// How long to wait before the next check.
    next: Duration,
    watch: Option<Arc<Watch>>,
    waiting: Option<Pin<Box<dyn Future<Output = bool> + Send + Sync>>>,
}

impl NameWatch {
    /// What is watched for.
    pub(crate) const EVENTS: AddWatchFlags = AddWatchFlags::IN_ATTRIB
        .union(AddWatchFlags::IN_DELETE_SELF)
        .union(AddWatchFlags::IN_MOVE_SELF);

    /// Checks at least this often.
    pub(crate) fn new(every: Duration) -> Self {
        Self {
            every,
            next: every,
            watch: None,
            waiting: None,
        }
    }

    /// Waits until a check says that the name `is_lost`. `start` starts the watch on its file.
    pub(crate) fn poll_lost(
        &mut self,
        cx: &mut Context<'_>,
        start: impl FnOnce() -> Watch,
        is_lost: impl Fn() -> io::Result<bool>,
    ) -> Poll<io::Result<()>> {
        // The watch is set before the first check, so nothing falls in between.
        let watch = self.watch.get_or_insert_with(|| Arc::new(start()));
        loop {
            if let Some(waiting) = &mut self.waiting {
                self.next = match ready!(waiting.as_mut().poll(cx)) {
                    true => RECHECK_AFTER_EVENT.min(self.every),
                    false => (self.next * 2).min(self.every),
                };
                self.waiting = None;
            }
            if is_lost()? {
                return Poll::Ready(Ok(()));
            }
            let (watch, limit) = (Arc::clone(watch), self.next);
            self.waiting = Some(Box::pin(async move { watch.changed_within(limit).await }));
        }
    }
}

impl fmt::Debug for NameWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NameWatch")
            .field("every", &self.every)
            .finish_non_exhaustive()
    }
}

fn start(fd: BorrowedFd<'_>, path: &Path, events: AddWatchFlags) -> io::Result<Source> {
    let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
    // By descriptor, so that it is this very inode; by name only if /proc is not mounted.
    match inotify.add_watch(&proc_path(fd), events) {
        Err(Errno::ENOENT) => inotify.add_watch(path, events | AddWatchFlags::IN_DONT_FOLLOW),
        result => result,
    }?;
    Source::new(OwnedFd::from(inotify), Interest::READABLE)
}

/// A path that leads to the file behind `fd`, whatever its name: see proc_pid_fd(5).
pub(crate) fn proc_path(fd: BorrowedFd<'_>) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd()))
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::fd::AsFd;

    use nix::sys::stat::Mode;
    use nix::unistd::mkfifo;

    use super::*;

    const FOR_EVER: Duration = Duration::from_secs(3600);
    const DEADLINE: Duration = Duration::from_secs(30);

    async fn is_seen(watch: &Watch) -> bool {
        let seen = tokio::time::timeout(DEADLINE, watch.changed_within(FOR_EVER));
        seen.await.unwrap_or(false)
    }

    /// The event itself, not the time limit, reports a reader that opens, and the end of a name.
    #[tokio::test]
    async fn opening_and_removing_a_fifo_are_events() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("fifo");
        mkfifo(&path, Mode::S_IRWXU).unwrap();
        let fd = File::options().read(true).write(true).open(&path).unwrap();
        let events = AddWatchFlags::IN_OPEN | AddWatchFlags::IN_ATTRIB;
        let watch = Watch::on(fd.as_fd(), &path, events);
        assert!(watch.0.is_some());

        let mut changed = tokio_test::task::spawn(watch.changed_within(FOR_EVER));
        tokio_test::assert_pending!(changed.poll());
        drop(changed);

        let _reader = File::options().read(true).open(&path).unwrap();
        assert!(is_seen(&watch).await);
        std::fs::remove_file(&path).unwrap();
        assert!(is_seen(&watch).await);
    }
}
