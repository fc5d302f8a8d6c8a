use std::future::Future;
use std::io;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use nix::fcntl::{FcntlArg, fcntl};

use crate::fifo::TARGET;
use crate::io::sys;
use crate::io::timer::{Sleep, sleep};

/// How soon a lock that is taken is tried again, at first and after many tries.
const FIRST_RETRY: Duration = Duration::from_millis(1);
const LAST_RETRY: Duration = Duration::from_millis(8);

/// How many bytes are written, to the end of a frame, before checking whether others wait.
const TURN: usize = 256 * 1024;

/// flock(2) on a descriptor, without blocking a thread.
///
/// The lock belongs to the open file description. [`fifo`](crate::fifo) opens one for each end, so
/// no two senders share a lock, and the kernel releases it when the end is closed or its process
/// dies.
///
/// A release wakes nobody. So a waiting sender puts up a sign: a record lock (fcntl(2),
/// `F_OFD_SETLK`) on the first byte of the same FIFO. The owner of the lock looks for a sign from
/// time to time and stands back. Without a sign it goes on without a pause.
#[derive(Debug, Default)]
pub(super) struct Lock {
    held: bool,
    /// How many bytes were written since the last check whether others wait.
    written: usize,
    pause: Option<Pin<Box<Sleep>>>,
    /// How often the lock was found taken; if it was, the sign is up.
    tries: u32,
}

impl Lock {
    /// Waits until the lock is ours.
    pub(super) fn poll_acquire(
        &mut self,
        cx: &mut Context<'_>,
        fd: impl AsFd,
    ) -> Poll<io::Result<()>> {
        while !self.held {
            if let Some(pause) = &mut self.pause {
                ready!(pause.as_mut().poll(cx));
                self.pause = None;
            }
            if sys::try_lock(fd.as_fd())? {
                self.held = true;
                self.take_sign_down(fd.as_fd());
            } else {
                // Each time: the first call may have found another's sign up, which has come down
                // since.
                put_sign(fd.as_fd(), libc::F_WRLCK);
                let wait = FIRST_RETRY * 2u32.saturating_pow(self.tries);
                self.pause_for(wait.min(LAST_RETRY));
                self.tries = self.tries.saturating_add(1);
            }
        }
        Poll::Ready(Ok(()))
    }

    pub(super) fn is_held(&self) -> bool {
        self.held
    }

    /// Counts written bytes. At the end of a frame the lock is then left to others if it is their
    /// turn.
    pub(super) fn wrote(&mut self, bytes: usize, frame_ends: bool, fd: impl AsFd) {
        self.written += bytes;
        if frame_ends && self.written >= TURN {
            self.written = 0;
            if sees_sign(fd.as_fd()) {
                self.release(fd);
                self.pause_for(LAST_RETRY);
            }
        }
    }

    /// Releases the lock, or gives up waiting for it.
    pub(super) fn release(&mut self, fd: impl AsFd) {
        self.take_sign_down(fd.as_fd());
        if !self.held {
            return;
        }
        self.held = false;
        // It cannot fail on a descriptor that could take the lock; closing it releases it too.
        if let Err(error) = sys::unlock(fd) {
            tracing::warn!(target: TARGET, %error, "cannot release the lock");
        }
    }

    fn take_sign_down(&mut self, fd: impl AsFd) {
        if self.tries > 0 {
            self.tries = 0;
            put_sign(fd, libc::F_UNLCK);
        }
    }

    fn pause_for(&mut self, time: Duration) {
        self.pause = Some(Box::pin(sleep(time)));
    }
}

/// Puts the sign up or takes it down. If another's is up already, that one will do.
fn put_sign(fd: impl AsFd, kind: i32) {
    let _ = fcntl(fd, FcntlArg::F_OFD_SETLK(&first_byte(kind)));
}

/// Whether another open file description has the sign up.
fn sees_sign(fd: impl AsFd) -> bool {
    let mut found = first_byte(libc::F_WRLCK);
    let asked = fcntl(fd, FcntlArg::F_OFD_GETLK(&mut found));
    asked.is_ok() && i32::from(found.l_type) != libc::F_UNLCK
}

fn first_byte(kind: i32) -> libc::flock {
    libc::flock {
        // The kinds and `SEEK_SET` are 0, 1 and 2.
        l_type: kind as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 1,
        // Must be 0 for these locks.
        l_pid: 0,
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::future::poll_fn;

    use tokio_test::{assert_pending, task};

    use super::*;

    /// Open file descriptions of one file, each for another writer.
    fn writers<const N: usize>() -> (tempfile::NamedTempFile, [(Lock, File); N]) {
        let file = tempfile::NamedTempFile::new().unwrap();
        let open = || File::options().read(true).write(true).open(file.path());
        let writers = std::array::from_fn(|_| (Lock::default(), open().unwrap()));
        (file, writers)
    }

    fn asks((lock, fd): &mut (Lock, File)) -> Poll<io::Result<()>> {
        task::spawn(poll_fn(|cx| lock.poll_acquire(cx, &*fd))).poll()
    }

    #[tokio::test(start_paused = true)]
    async fn each_who_waits_has_a_sign_up_for_as_long_as_it_waits() {
        let (_file, [mut has, mut first, mut second]) = writers();
        assert!(asks(&mut has).is_ready());
        assert!(!sees_sign(&has.1));
        assert_pending!(asks(&mut first));
        assert_pending!(asks(&mut second));
        assert!(sees_sign(&has.1));

        // The first has it now, and its sign comes down. The second still waits, and shows it.
        has.0.release(&has.1);
        tokio::time::advance(LAST_RETRY).await;
        assert!(asks(&mut first).is_ready());
        assert_pending!(asks(&mut second));
        assert!(sees_sign(&first.1));
    }

    #[tokio::test(start_paused = true)]
    async fn who_no_longer_waits_shows_no_sign() {
        let (_file, [mut has, mut waits]) = writers();
        assert!(asks(&mut has).is_ready());
        assert_pending!(asks(&mut waits));
        assert!(sees_sign(&has.1));
        waits.0.release(&waits.1);
        assert!(!sees_sign(&has.1));
    }
}
