//! [`Source`]: a non-blocking descriptor of our own, registered with Tokio's I/O driver.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, PoisonError, RwLock};
use std::task::{Context, Poll, ready};

use nix::poll::{PollFd, PollFlags, PollTimeout};
use tokio::io::unix::AsyncFd;
use tokio::io::{Interest, Ready};

use crate::sys;

type Registration = AsyncFd<Arc<OwnedFd>>;

/// Which half of the readiness a poll-style operation waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    Read,
    Write,
}

/// A registered descriptor whose readiness can be trusted for as long as it lives.
///
/// Tokio remembers that a descriptor was once closed by its peer and never forgets it
/// (`READ_CLOSED` and `WRITE_CLOSED` in its `scheduled_io.rs`). A FIFO can come back from that:
/// another process opens it. From then on Tokio would report it ready for ever and a waiting task
/// would spin. So where readiness says "closed", `poll(2)` is asked whether that is still so, and
/// if not the descriptor is registered afresh. Nothing of this costs anything until a peer leaves.
pub(crate) struct Source {
    // Dropped first: deregister before close.
    registration: RwLock<Arc<Registration>>,
    interest: Interest,
    fd: Arc<OwnedFd>,
}

impl Source {
    /// Registers `fd`, which must be in non-blocking mode, for `interest`.
    pub(crate) fn new(fd: OwnedFd, interest: Interest) -> io::Result<Self> {
        let fd = Arc::new(fd);
        let registration = sys::register(Arc::clone(&fd), interest)?;
        Ok(Self {
            registration: RwLock::new(Arc::new(registration)),
            interest,
            fd,
        })
    }

    /// Waits for any readiness in `interest`. Any number of tasks may wait at once.
    ///
    /// Cancel safe: nothing is consumed.
    pub(crate) async fn ready(&self, interest: Interest) -> io::Result<Ready> {
        loop {
            let registration = self.current();
            let ready = registration.ready(interest).await?.ready();
            if !self.is_stale(ready)? {
                return Ok(ready);
            }
            self.renew(&registration)?;
        }
    }

    /// Polls for readiness in one direction. Only the last task to poll a direction is woken.
    pub(crate) fn poll_ready(
        &self,
        cx: &mut Context<'_>,
        direction: Direction,
    ) -> Poll<io::Result<()>> {
        loop {
            let registration = self.current();
            let guard = match direction {
                Direction::Read => registration.poll_read_ready(cx),
                Direction::Write => registration.poll_write_ready(cx),
            };
            let ready = ready!(guard)?.ready();
            if !self.is_stale(ready)? {
                return Poll::Ready(Ok(()));
            }
            self.renew(&registration)?;
        }
    }

    /// Runs a non-blocking operation if the descriptor is known to be ready, else `WouldBlock`.
    ///
    /// When the operation itself says `WouldBlock` the readiness is cleared.
    pub(crate) fn try_io<R>(
        &self,
        interest: Interest,
        mut op: impl FnMut(BorrowedFd<'_>) -> io::Result<R>,
    ) -> io::Result<R> {
        let registration = self.registration.read();
        let registration = registration.unwrap_or_else(PoisonError::into_inner);
        registration.try_io(interest, |fd| op(fd.as_fd()))
    }

    /// Polls a non-blocking operation to its end: waits for readiness, tries, and waits again for
    /// as long as it says `WouldBlock`. Counts against the task's cooperative budget.
    pub(crate) fn poll_io<R>(
        &self,
        cx: &mut Context<'_>,
        direction: Direction,
        mut op: impl FnMut(BorrowedFd<'_>) -> io::Result<R>,
    ) -> Poll<io::Result<R>> {
        let interest = match direction {
            Direction::Read => Interest::READABLE,
            Direction::Write => Interest::WRITABLE,
        };
        loop {
            ready!(self.poll_ready(cx, direction))?;
            match self.try_io(interest, &mut op) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                result => return Poll::Ready(result),
            }
        }
    }

    /// Deregisters and gives the descriptor back, still in non-blocking mode.
    pub(crate) fn into_fd(self) -> io::Result<OwnedFd> {
        let Self {
            registration, fd, ..
        } = self;
        drop(registration);
        // Nobody else can hold it: whoever waits borrows `self`. A duplicate is as good.
        Arc::try_unwrap(fd).or_else(|fd| fd.try_clone())
    }

    fn current(&self) -> Arc<Registration> {
        let registration = self.registration.read();
        Arc::clone(&registration.unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether readiness says "closed" of a descriptor that now has a peer again and is not ready.
    fn is_stale(&self, ready: Ready) -> io::Result<bool> {
        if !(ready.is_read_closed() || ready.is_write_closed()) {
            return Ok(false);
        }
        let asked = if self.interest.is_readable() {
            PollFlags::POLLIN
        } else {
            PollFlags::POLLOUT
        };
        let mut fds = [PollFd::new(self.fd.as_fd(), asked)];
        Ok(nix::poll::poll(&mut fds, PollTimeout::ZERO)? == 0)
    }

    /// Replaces the registration `seen` by a fresh one, unless another task already has.
    fn renew(&self, seen: &Arc<Registration>) -> io::Result<()> {
        let registration = self.registration.write();
        let mut registration = registration.unwrap_or_else(PoisonError::into_inner);
        if Arc::ptr_eq(&registration, seen) {
            // A duplicate, since epoll takes each descriptor once and other tasks may still hold
            // the old registration. None of them sleeps on it: it reads "closed" to all of them.
            let fd = Arc::new(self.fd.try_clone()?);
            *registration = Arc::new(sys::register(fd, self.interest)?);
        }
        Ok(())
    }
}

impl AsFd for Source {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Source")
            .field("fd", &self.fd.as_raw_fd())
            .finish_non_exhaustive()
    }
}
