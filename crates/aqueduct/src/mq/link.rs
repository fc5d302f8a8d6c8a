//! [`Link`]: an open queue's name, and whether it still refers to the queue.

use std::future::pending;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::libc;
use nix::sys::stat::{fstat, stat};

use crate::connect::OpenError;
use crate::io::sys::QueueFd;
use crate::io::timer::sleep;
use crate::mq::error::{TARGET, replaced};
use crate::mq::mount::MOUNT_POINT;

/// The shortest interval between two checks of a name, which are some system calls each.
pub(super) const SHORTEST_INTERVAL: Duration = Duration::from_millis(10);

/// The name by which a queue was opened, and when it was last seen to refer to it.
///
/// The kernel does not report that a queue was unlinked: the queue file system causes no `inotify`
/// event for it. So it has to be checked, once per interval for all that use a queue together.
#[derive(Debug)]
pub(super) struct Link {
    name: String,
    fd: Arc<OwnedFd>,
    /// Device and inode: which queue of that name it is.
    id: (u64, u64),
    every: Option<Duration>,
    opened: Instant,
    /// When it was last checked, in nanoseconds from `opened`.
    looked: AtomicU64,
}

impl Link {
    pub(super) fn new(
        name: &str,
        fd: Arc<OwnedFd>,
        id: (u64, u64),
        every: Option<Duration>,
    ) -> Arc<Self> {
        Arc::new(Self {
            name: name.to_owned(),
            fd,
            id,
            every: every.map(|it| it.max(SHORTEST_INTERVAL)),
            opened: Instant::now(),
            looked: AtomicU64::new(0),
        })
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Whether it is checked at intervals.
    pub(super) fn is_watched(&self) -> bool {
        self.every.is_some()
    }

    /// Checks that the name refers to the queue.
    ///
    /// The outer error is that of a failed check, the inner one its result.
    fn state(&self) -> io::Result<Result<(), OpenError>> {
        let gone = |anew| Ok(Err(replaced(&self.name, anew)));
        let own = fstat(&self.fd)?;
        match named(&self.name, self.id.0) {
            Ok(found) if found == self.id => Ok(Ok(())),
            Ok(_) => gone(true),
            Err(error) => match error.raw_os_error() {
                Some(libc::ENOENT) => gone(false),
                // It cannot be opened: the name exists. A queue is never renamed and has one name,
                // so if ours is linked it is ours.
                Some(libc::EACCES) if own.st_nlink > 0 => Ok(Ok(())),
                Some(libc::EACCES) => gone(true),
                _ => Err(error),
            },
        }
    }

    /// Checks that the name refers to the queue.
    pub(super) fn check(&self) -> io::Result<()> {
        Ok(self.state()??)
    }

    /// The same if it is watched and the last check was too long ago.
    pub(super) fn check_if_due(&self) -> Result<(), OpenError> {
        match self.every {
            Some(every) if self.since_look() >= every => self.look(),
            _ => Ok(()),
        }
    }

    /// Waits until the name no longer refers to the queue: for ever, if it is not watched.
    pub(super) async fn broken(&self) -> OpenError {
        let Some(every) = self.every else {
            return pending().await;
        };
        loop {
            let looked = self.looked.load(Ordering::Relaxed);
            if let Some(left) = every.checked_sub(self.since_look()) {
                sleep(left).await;
                if self.looked.load(Ordering::Relaxed) != looked {
                    // Another task has checked meanwhile.
                    continue;
                }
            }
            if let Err(error) = self.look() {
                return error;
            }
        }
    }

    /// Checks. A failed check is left to the next one.
    fn look(&self) -> Result<(), OpenError> {
        match self.state() {
            // Not noted: the next one to check must see it at once.
            Ok(Err(replaced)) => return Err(replaced),
            Ok(Ok(())) => {}
            Err(error) => {
                let name = &self.name;
                tracing::warn!(target: TARGET, name, %error, "cannot check whether it is still linked");
            }
        }
        let now = self.opened.elapsed().as_nanos();
        let now = u64::try_from(now).unwrap_or(u64::MAX);
        self.looked.store(now, Ordering::Relaxed);
        Ok(())
    }

    fn since_look(&self) -> Duration {
        let looked = Duration::from_nanos(self.looked.load(Ordering::Relaxed));
        self.opened.elapsed().saturating_sub(looked)
    }
}

/// Device and inode of the queue that has this name now.
fn named(name: &str, device: u64) -> io::Result<(u64, u64)> {
    // If the queues of this namespace are mounted, a look at the file is enough.
    if let Ok(mount) = stat(MOUNT_POINT)
        && mount.st_dev == device
    {
        let found = stat(format!("{MOUNT_POINT}{name}").as_str())?;
        return Ok((found.st_dev, found.st_ino));
    }
    let mut last = io::Error::from(Errno::EACCES);
    for mut options in [
        posixmq::OpenOptions::readonly(),
        posixmq::OpenOptions::writeonly(),
    ] {
        match options.nonblocking().open(name) {
            Ok(queue) => {
                let stat = fstat(QueueFd::from(queue).fd())?;
                return Ok((stat.st_dev, stat.st_ino));
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}
