use std::future::Future;
use std::io;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::Sleep;

use crate::fifo::TARGET;
use crate::sys;

/// How soon a lock that is taken is tried again, at first and after many tries.
const FIRST_RETRY: Duration = Duration::from_millis(1);
const LAST_RETRY: Duration = Duration::from_millis(8);

/// How many bytes are written under one hold of the lock, to the end of the frame: 1 MiB.
const TURN: usize = 1 << 20;

/// flock(2) on a descriptor, without blocking a thread.
///
/// The lock belongs to the open file description. [`fifo`](crate::fifo) opens one for each end, so
/// no two senders share a lock, and the kernel releases it when the end is closed or its process
/// dies.
#[derive(Debug, Default)]
pub(super) struct Lock {
    held: bool,
    /// How many bytes were written since it was acquired.
    written: usize,
    pause: Option<Pin<Box<Sleep>>>,
    tries: u32,
}

impl Lock {
    /// Waits until the lock is ours. Nothing is left behind if the wait is given up.
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
                self.written = 0;
                self.tries = 0;
            } else {
                let wait = FIRST_RETRY * 2u32.saturating_pow(self.tries);
                self.pause_for(wait.min(LAST_RETRY));
                self.tries += 1;
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Counts what was written, and says whether others should come to write now.
    pub(super) fn has_had_its_turn(&mut self, written: usize) -> bool {
        self.written += written;
        self.written >= TURN
    }

    /// Leaves the next hold of the lock to others, if there are any.
    pub(super) fn stand_back(&mut self) {
        self.pause_for(FIRST_RETRY);
    }

    pub(super) fn release(&mut self, fd: impl AsFd) {
        if !self.held {
            return;
        }
        self.held = false;
        // It cannot fail on a descriptor that could take the lock; closing it releases it too.
        if let Err(error) = sys::unlock(fd) {
            tracing::warn!(target: TARGET, %error, "lock not released");
        }
    }

    fn pause_for(&mut self, time: Duration) {
        self.pause = Some(Box::pin(tokio::time::sleep(time)));
    }
}
