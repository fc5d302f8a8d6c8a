//! The driver on Tokio's own I/O driver.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::runtime::{Handle, Id};

use crate::io::source::Direction;
use crate::io::sys;
use crate::mq::error::runtime_gone;

/// A queue's descriptor, registered with one runtime for one direction.
///
/// One direction only: a queue open for both reports the other one's events as well, and a sender
/// registered for writing is woken by every receive. A queue is never reported closed, so the cure
/// for that in [`Source`](crate::io::source::Source) is not needed here.
#[derive(Debug)]
pub(super) struct Registered {
    fd: AsyncFd<Arc<OwnedFd>>,
    interest: Interest,
    runtime: Id,
    dead: AtomicBool,
}

impl Registered {
    /// Registers with the runtime of `handle`, which must be the current one.
    pub(super) fn new(handle: &Handle, fd: Arc<OwnedFd>, direction: Direction) -> io::Result<Self> {
        let interest = match direction {
            Direction::Read => Interest::READABLE,
            Direction::Write => Interest::WRITABLE,
        };
        // Tokio's own errors have no errno: the runtime is shutting down.
        let gone = |error: io::Error| match error.raw_os_error() {
            Some(_) => error,
            None => runtime_gone().into(),
        };
        Ok(Self {
            fd: sys::register(fd, interest).map_err(gone)?,
            interest,
            runtime: handle.id(),
            dead: AtomicBool::new(false),
        })
    }

    pub(super) fn runtime(&self) -> Id {
        self.runtime
    }

    pub(super) fn is_alive(&self) -> bool {
        !self.dead.load(Ordering::Relaxed)
    }

    /// Waits for the readiness that [`try_io`](Self::try_io) then uses or clears. All waiting tasks
    /// are woken.
    pub(super) async fn wait(&self) -> io::Result<()> {
        match self.fd.ready(self.interest).await {
            Ok(_guard) => Ok(()),
            Err(_) => {
                // The only possible reason.
                self.dead.store(true, Ordering::Relaxed);
                Err(runtime_gone().into())
            }
        }
    }

    /// Runs `op` if the queue is known to be ready. If it would block, the readiness is cleared.
    pub(super) fn try_io<R>(&self, op: impl FnOnce() -> io::Result<R>) -> io::Result<R> {
        self.fd.try_io(self.interest, |_| op())
    }
}
