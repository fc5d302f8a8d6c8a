//! [`Bells`]: how each side wakes the other, and learns that it has gone.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, LazyLock, OnceLock};
use std::task::{Context, Poll, Wake, Waker, ready};

use futures_util::task::AtomicWaker;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::unistd::{pipe2, write};
use tokio::io::unix::AsyncFd;
use tokio::io::{Interest, ReadBuf};

use super::error::PeerError;
use super::ring::{Half, Rung};
use crate::io::fd::{Access, Kind};
use crate::io::sys;

/// How many bytes a bell holds. The smallest size, since default ones exhaust what one user may have
/// (`pipe-user-pages-soft`, pipe(7)).
const SIZE: i32 = 4096;

/// After this many sleeps the bell is emptied, long before it is full: each may have been rung for,
/// also one that found something before it waited.
pub(super) const SLEEPS: u32 = 1024;

/// Whether a bell has to be emptied for each ring, since one that is not empty wakes no edge-triggered
/// waiter: on Linux 5.5 to 5.13 (`pipe_write` in `fs/pipe.c`, from commit 1b6b26ae7053 to
/// 3a34b13a88ca).
static EMPTIED_EACH_TIME: LazyLock<bool> = LazyLock::new(|| {
    std::fs::read_to_string("/proc/sys/kernel/osrelease").is_ok_and(|it| is_quiet(&it))
});

/// Whether the kernel of this release is one of those.
fn is_quiet(release: &str) -> bool {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    let version = (numbers.next(), numbers.next());
    let (Some(Ok(major)), Some(Ok(minor))) = version else {
        return false;
    };
    ((5, 5)..(5, 14)).contains(&(major, minor))
}

/// Makes a bell: the end that rings it, which never leaves this process, and the peer's end.
///
/// Only the reading end is shared, so a peer that changes its mode cannot make a ring block.
pub(super) fn make() -> io::Result<(OwnedFd, OwnedFd)> {
    let (theirs, ours) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
    // Where it is refused the pipe is larger than needed.
    let _ = fcntl(&ours, FcntlArg::F_SETPIPE_SZ(SIZE));
    Ok((ours, theirs))
}

/// Checks what the peer has passed as its bell, and registers it with the current runtime.
pub(super) fn take(fd: OwnedFd) -> io::Result<AsyncFd<Arc<OwnedFd>>> {
    if Kind::of(&fd)? != Kind::Pipe || Access::of(&fd)? != Access::Read {
        return Err(PeerError::Bell.into());
    }
    sys::register(Arc::new(fd), Interest::READABLE)
}

/// The bells of both sides of a connection, and the tasks that wait for this side's.
pub(super) struct Bells {
    /// Rings the peer.
    theirs: OnceLock<OwnedFd>,
    /// What the peer rings. Its end is the end of the peer, since only the peer has the other end.
    own: OnceLock<AsyncFd<Arc<OwnedFd>>>,
    wakers: Arc<Wakers>,
    /// Wakes the tasks of both halves.
    both: Waker,
    /// The peer has gone, or was found to lie.
    gone: AtomicBool,
    /// How often a half went to sleep since the bell was emptied.
    sleeps: AtomicU32,
    /// Whether it is emptied for each ring.
    pub(super) empties: bool,
}

/// The tasks of both halves. One bell stands for data and for room.
#[derive(Default)]
struct Wakers {
    read: AtomicWaker,
    write: AtomicWaker,
}

impl Bells {
    pub(super) fn new() -> Self {
        let wakers = Arc::new(Wakers::default());
        Self {
            theirs: OnceLock::new(),
            own: OnceLock::new(),
            both: Waker::from(Arc::clone(&wakers)),
            wakers,
            gone: AtomicBool::new(false),
            sleeps: AtomicU32::new(0),
            empties: *EMPTIED_EACH_TIME,
        }
    }

    /// Sets the end that rings the peer, once.
    pub(super) fn set_theirs(&self, bell: OwnedFd) {
        let _ = self.theirs.set(bell);
    }

    /// Sets the end that the peer rings, once.
    pub(super) fn set_own(&self, bell: AsyncFd<Arc<OwnedFd>>) {
        let _ = self.own.set(bell);
    }

    /// Has a task woken by each later ring, and by the peer's end.
    pub(super) fn register(&self, half: Half, cx: &mut Context<'_>) {
        let waker = match half {
            Half::Read => &self.wakers.read,
            Half::Write => &self.wakers.write,
        };
        waker.register(cx.waker());
    }

    /// Wakes the tasks of both halves.
    pub(super) fn waker(&self) -> &Waker {
        &self.both
    }

    /// Notes that a half goes to sleep.
    pub(super) fn count_sleep(&self) {
        self.sleeps.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether the peer is known to have gone.
    pub(super) fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Relaxed)
    }

    pub(super) fn set_gone(&self) {
        self.gone.store(true, Ordering::Relaxed);
    }

    /// Wakes the peer.
    pub(super) fn ring(&self) -> io::Result<()> {
        let Some(bell) = self.theirs.get() else {
            return Ok(());
        };
        match write(bell, &[0]) {
            // It is full: the peer has been rung often enough.
            Ok(_) | Err(Errno::EAGAIN | Errno::EINTR) => Ok(()),
            Err(e) => {
                self.set_gone();
                Err(e.into())
            }
        }
    }

    /// How many rings wait to be read.
    #[cfg(test)]
    pub(super) fn unread(&self) -> usize {
        let bell = self.own.get().expect("the peer's hello has come");
        sys::unread(bell.get_ref()).expect("it is a pipe")
    }

    /// Waits until the bell has rung, or the peer has gone.
    pub(super) fn poll_rung(&self) -> Poll<io::Result<Rung>> {
        let Some(bell) = self.own.get() else {
            return Poll::Pending;
        };
        if self.sleeps.load(Ordering::Relaxed) >= SLEEPS {
            self.empty(bell);
            return Poll::Ready(Ok(Rung::Bell));
        }
        let mut cx = Context::from_waker(&self.both);
        let mut guard = ready!(bell.poll_read_ready(&mut cx))?;
        if guard.ready().is_read_closed() {
            self.set_gone();
            return Poll::Ready(Ok(Rung::Gone));
        }
        guard.clear_ready();
        if self.empties {
            self.empty(bell);
        }
        Poll::Ready(Ok(Rung::Bell))
    }

    fn empty(&self, bell: &AsyncFd<Arc<OwnedFd>>) {
        self.sleeps.store(0, Ordering::Relaxed);
        let mut bytes = [0; SIZE as usize];
        let mut buf = ReadBuf::new(&mut bytes);
        // What fails here is seen as the end, or with the next ring.
        let _ = sys::read_now(bell.get_ref(), &mut buf);
        // One of the rings may have been for the other half: both look again.
        self.both.wake_by_ref();
    }
}

impl Wake for Wakers {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.read.wake();
        self.write.wake();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_whose_full_pipes_wake_nobody_are_known() {
        for (release, quiet) in [
            ("5.4.0-200-generic", false),
            ("5.5.0", true),
            ("5.10.0-28-amd64", true),
            ("5.13.19", true),
            ("5.14.0-503.el9.x86_64", false),
            ("6.18.5", false),
            ("4.19", false),
            ("", false),
        ] {
            assert_eq!(is_quiet(release), quiet, "{release:?}");
        }
    }
}
