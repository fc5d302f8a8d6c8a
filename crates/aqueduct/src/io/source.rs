//! [`Source`]: a non-blocking descriptor that we own, registered with Tokio's I/O driver.

mod retries;

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockWriteGuard};
use std::task::{Context, Poll, ready};

use nix::poll::PollFlags;
use tokio::io::unix::{AsyncFd, AsyncFdReadyGuard};
use tokio::io::{Interest, Ready};
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::task::coop::{consume_budget, poll_proceed};

use self::retries::Retries;
use super::crowd::{Crowd, Trials};
pub(crate) use super::fd::Direction;
use super::fd::{interrupted, would_block};
use super::{fd, sys};
use crate::io::polling;

type Registration = AsyncFd<Arc<OwnedFd>>;
type Guard<'a> = AsyncFdReadyGuard<'a, Arc<OwnedFd>>;

/// A registered descriptor whose readiness can be trusted for as long as it lives.
///
/// Tokio remembers that a descriptor was once closed by its peer and never forgets it
/// (`READ_CLOSED` and `WRITE_CLOSED` in its `scheduled_io.rs`). A FIFO can recover from that:
/// another process opens it. From then on Tokio would report it ready for ever and a waiting task
/// would spin. So if readiness says "closed", `poll(2)` is asked whether that still holds, and if
/// not the descriptor is registered again. None of this costs anything until a peer leaves.
///
/// Readiness is cleared only by an operation that returned `WouldBlock`, never after a short read:
/// on a pipe with a packet-mode writer a short read says nothing about the rest.
pub(crate) struct Source {
    // Dropped first: deregister before close.
    place: RwLock<Place>,
    /// When a writer of a pipe looks for other writers.
    trials: Trials,
    /// The last write had to wait.
    slept: AtomicBool,
    /// Set while the descriptor must be tried without waiting; see [`Source::assume_closed`].
    assumed_closed: AtomicBool,
    interest: Interest,
    /// Whether a peer can come back after "closed". A socket's never does.
    reopens: bool,
    /// How a wait for input begins; see [`Source::looking_again`].
    retries: Retries,
    /// The last read got less than it had room for.
    is_drained: AtomicBool,
    /// The runtime of the first registration, so that a later one lands there too, whichever thread
    /// or executor polls.
    runtime: Handle,
    fd: Arc<OwnedFd>,
}

/// Where a source waits.
#[derive(Clone)]
enum Place {
    Tokio(Arc<Registration>),
    /// The writing end of a pipe that several processes write to.
    Crowd(Arc<Crowd>),
}

impl Source {
    /// Registers `fd`, which must be in non-blocking mode, for `interest`.
    pub(crate) fn new(fd: OwnedFd, interest: Interest) -> io::Result<Self> {
        Self::with(fd, interest, true)
    }

    /// The same as [`new`](Self::new), for a socket: "closed" is trusted without asking again. (The
    /// answer would be wrong, too: `poll(2)` does not report a half-closed socket as hung up.)
    pub(crate) fn socket(fd: OwnedFd, interest: Interest) -> io::Result<Self> {
        Self::with(fd, interest, false)
    }

    fn with(fd: OwnedFd, interest: Interest, reopens: bool) -> io::Result<Self> {
        let runtime = Handle::try_current().map_err(io::Error::other)?;
        let fd = Arc::new(fd);
        let registration = sys::register(Arc::clone(&fd), interest)?;
        Ok(Self {
            place: RwLock::new(Place::Tokio(Arc::new(registration))),
            trials: Trials::default(),
            slept: AtomicBool::new(false),
            assumed_closed: AtomicBool::new(false),
            interest,
            reopens,
            retries: Retries::default(),
            is_drained: AtomicBool::new(false),
            runtime,
            fd,
        })
    }

    /// Makes a wait for input begin with a few tries, offering the processor to other processes
    /// before each, for as long as that pays: the peer of a conversation often answers before this
    /// process could go to sleep and be woken.
    ///
    /// Not in a multi-thread runtime: another of its threads sleeps in `epoll_wait(2)` meanwhile,
    /// and would be woken by everything that is read here.
    pub(crate) fn looking_again(mut self) -> Self {
        if self.runtime.runtime_flavor() == RuntimeFlavor::CurrentThread {
            self.retries = Retries::begin();
        }
        self
    }

    /// Notes whether the last read got less than it had room for. If not, it may have left something:
    /// this is a stream and no conversation.
    pub(crate) fn note_drained(&self, is_drained: bool) {
        self.is_drained.store(is_drained, Ordering::Relaxed);
        if !is_drained {
            self.expect_more();
        }
    }

    /// Whether the last read got less than it had room for.
    pub(crate) fn is_drained(&self) -> bool {
        self.is_drained.load(Ordering::Relaxed)
    }

    /// Notes that the last operation may have left something.
    pub(crate) fn expect_more(&self) {
        self.retries.expect_more();
    }

    /// Notes that all writers are known to be gone although this descriptor will not report it:
    /// reading does not wait until an operation returns `WouldBlock`, that is until a new peer has
    /// come.
    pub(crate) fn assume_closed(&self) {
        self.assumed_closed.store(true, Ordering::Relaxed);
    }

    /// Waits for any readiness in `interest`. Any number of tasks may wait at once.
    ///
    /// Counts against the task's cooperative budget, so that a loop on a descriptor that is always
    /// ready lets timers and other tasks run. Cancel safe: nothing is consumed.
    pub(crate) async fn ready(&self, interest: Interest) -> io::Result<Ready> {
        consume_budget().await;
        if let Some(closed) = self.assumed(interest) {
            return Ok(closed);
        }
        loop {
            let registration = self.current()?;
            let ready = registration.ready(interest).await?.ready();
            // Empty: another task was faster and has cleared it.
            if ready.is_empty() {
                continue;
            }
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
        if self.assumed(direction.interest()).is_some() {
            return Poll::Ready(Ok(()));
        }
        loop {
            let registration = self.current()?;
            if ready!(self.poll_guard(&registration, cx, direction))?.is_some() {
                return Poll::Ready(Ok(()));
            }
        }
    }

    /// Polls a registration; `None`: it was stale, and there is another now.
    // On the path of every operation.
    #[inline(always)]
    fn poll_guard<'a>(
        &self,
        registration: &'a Arc<Registration>,
        cx: &mut Context<'_>,
        direction: Direction,
    ) -> Poll<io::Result<Option<Guard<'a>>>> {
        let guard = ready!(match direction {
            Direction::Read => registration.poll_read_ready(cx),
            Direction::Write => registration.poll_write_ready(cx),
        })?;
        if !self.is_stale(guard.ready())? {
            return Poll::Ready(Ok(Some(guard)));
        }
        drop(guard);
        self.renew(registration)?;
        Poll::Ready(Ok(None))
    }

    /// Runs a non-blocking operation if the descriptor is known to be ready, otherwise returns
    /// `WouldBlock`.
    ///
    /// If the operation itself returns `WouldBlock` the readiness is cleared.
    pub(crate) fn try_io<R>(
        &self,
        interest: Interest,
        op: impl FnOnce(BorrowedFd<'_>) -> io::Result<R>,
    ) -> io::Result<R> {
        if self.assumed(interest).is_some() {
            let result = op(self.as_fd());
            if would_block(&result) {
                self.assumed_closed.store(false, Ordering::Relaxed);
            }
            return result;
        }
        // Not under the lock: the operation may be a caller's, and may come back here.
        self.current()?
            .try_io(interest, |fd| self.retries.noted(op(fd.as_fd())))
    }

    /// Runs a non-blocking operation to its end: waits for readiness, tries, and waits again for as
    /// long as it returns `WouldBlock`. Any number of tasks may do so at once.
    ///
    /// Cancel safe: once the operation has taken effect nothing is awaited any more.
    pub(crate) async fn io<R>(
        &self,
        interest: Interest,
        mut op: impl FnMut(BorrowedFd<'_>) -> io::Result<R>,
    ) -> io::Result<R> {
        if self.retries.are_made() && interest.is_readable() {
            consume_budget().await;
            let result = self.try_io(interest, &mut op);
            if !(would_block(&result) || interrupted(&result)) {
                return result;
            }
            if let Some(result) = self.retries.again(|| op(self.as_fd())) {
                return result;
            }
        }
        loop {
            self.ready(interest).await?;
            let result = self.try_io(interest, &mut op);
            if !(would_block(&result) || interrupted(&result)) {
                return result;
            }
        }
    }

    /// Polls a non-blocking operation to its end: waits for readiness, tries, and waits again for
    /// as long as it returns `WouldBlock`. Counts against the task's cooperative budget.
    #[inline]
    pub(crate) fn poll_io<R>(
        &self,
        cx: &mut Context<'_>,
        direction: Direction,
        mut op: impl FnMut(BorrowedFd<'_>) -> io::Result<R>,
    ) -> Poll<io::Result<R>> {
        let interest = direction.interest();
        loop {
            if self.assumed(interest).is_some() {
                let result = self.try_io(interest, &mut op);
                if !(would_block(&result) || interrupted(&result)) {
                    return Poll::Ready(result);
                }
            }
            let registration = match self.place() {
                Place::Tokio(registration) => registration,
                Place::Crowd(crowd) if direction == Direction::Write => {
                    if let Some(result) = ready!(crowd.poll_io(cx, &mut op)) {
                        return Poll::Ready(result);
                    }
                    self.current()?
                }
                Place::Crowd(_) => self.current()?,
            };
            match self.poll_guard(&registration, cx, direction) {
                Poll::Ready(guard) => {
                    let Some(mut guard) = guard? else { continue };
                    match guard.try_io(|fd| self.retries.noted(op(fd.as_fd()))) {
                        Ok(result) if interrupted(&result) => continue,
                        Ok(result) => {
                            self.slept.store(false, Ordering::Relaxed);
                            if direction == Direction::Write {
                                polling::wrote();
                            }
                            return Poll::Ready(result);
                        }
                        Err(_) if direction == Direction::Read => continue,
                        // Woken, and another writer was faster.
                        Err(_) if self.slept.swap(false, Ordering::Relaxed) => {
                            drop(guard);
                            self.try_crowd(registration);
                        }
                        Err(_) => {}
                    }
                }
                Poll::Pending if direction == Direction::Read => {
                    let budget = ready!(poll_proceed(cx));
                    let Some(result) = self.retries.again(|| op(self.as_fd())) else {
                        return Poll::Pending;
                    };
                    budget.made_progress();
                    return Poll::Ready(result);
                }
                Poll::Pending => {
                    self.slept.store(true, Ordering::Relaxed);
                    return Poll::Pending;
                }
            }
        }
    }

    /// Yields the processor once and tries a write again that found no room: a reader on the same
    /// processor makes room meanwhile. `None`: it would still block, so wait.
    ///
    /// Not in a multi-thread runtime, for the same reason as [`looking_again`](Self::looking_again),
    /// nor where other writers wait: it would overtake them.
    pub(crate) fn write_again<R>(
        &self,
        op: impl FnOnce(BorrowedFd<'_>) -> io::Result<R>,
    ) -> Option<io::Result<R>> {
        if self.runtime.runtime_flavor() != RuntimeFlavor::CurrentThread
            || !matches!(self.place(), Place::Tokio(_))
            || !polling::offer()
        {
            return None;
        }
        let result = op(self.as_fd());
        if would_block(&result) || interrupted(&result) {
            return None;
        }
        self.slept.store(false, Ordering::Relaxed);
        polling::wrote();
        Some(result)
    }

    /// Counts a wake-up that another writer used. Now and then a pipe's writer then waits where it is
    /// seen how many there are, and stays there if they are many; see [`Crowd`].
    fn try_crowd(&self, registration: Arc<Registration>) {
        if !self.reopens || !self.trials.is_due() {
            return;
        }
        match Crowd::join(Arc::clone(&self.fd)) {
            Ok(crowd) => {
                let place = Place::Crowd(Arc::new(crowd));
                drop((
                    registration,
                    std::mem::replace(&mut *self.place_mut(), place),
                ));
            }
            Err(trouble) => {
                tracing::debug!(target: "aqueduct::source", ?trouble, "no thread for crowds");
            }
        }
    }

    /// Notes that nothing will be written for now: if other writers wait, one of them is woken in
    /// its place.
    #[inline]
    pub(crate) fn pass_on(&self) {
        if let Place::Crowd(crowd) = self.place() {
            crowd.pass_on();
        }
    }

    /// Returns the descriptor, which stays open for as long as this is kept.
    pub(crate) fn share(&self) -> Arc<OwnedFd> {
        Arc::clone(&self.fd)
    }

    /// Returns the runtime it is registered with, to enter before a duplicate is registered late:
    /// whichever thread or executor polls.
    pub(crate) fn runtime(&self) -> &Handle {
        &self.runtime
    }

    /// Registers a duplicate of a socket with that runtime, since epoll takes each descriptor once.
    pub(crate) fn socket_again(&self, interest: Interest) -> io::Result<Self> {
        let fd = self.fd.try_clone()?;
        let _guard = self.runtime.enter();
        Self::socket(fd, interest)
    }

    /// Deregisters and returns the descriptor, still in non-blocking mode.
    pub(crate) fn into_fd(self) -> io::Result<OwnedFd> {
        let Self { place, fd, .. } = self;
        drop(place);
        // Nobody else can hold it: a waiting task borrows `self`. A duplicate is as good.
        Arc::try_unwrap(fd).or_else(|fd| fd.try_clone())
    }

    fn place(&self) -> Place {
        let place = self.place.read();
        place.unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn place_mut(&self) -> RwLockWriteGuard<'_, Place> {
        self.place.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tokio's registration, made again if it waits elsewhere.
    fn current(&self) -> io::Result<Arc<Registration>> {
        if let Place::Tokio(registration) = self.place() {
            return Ok(registration);
        }
        let mut place = self.place_mut();
        if let Place::Tokio(registration) = &*place {
            return Ok(Arc::clone(registration));
        }
        let registration = self.register_again()?;
        *place = Place::Tokio(Arc::clone(&registration));
        Ok(registration)
    }

    /// Registers a duplicate, since epoll takes each descriptor once and other tasks may still hold
    /// the old registration.
    fn register_again(&self) -> io::Result<Arc<Registration>> {
        let fd = Arc::new(self.fd.try_clone()?);
        let _guard = self.runtime.enter();
        Ok(Arc::new(sys::register(fd, self.interest)?))
    }

    fn assumed(&self, interest: Interest) -> Option<Ready> {
        let assumed = interest.is_readable() && self.assumed_closed.load(Ordering::Relaxed);
        assumed.then_some(Ready::READ_CLOSED)
    }

    /// Whether readiness says "closed" (or "error", which a pipe's write end reports together with
    /// it) for a descriptor that has a peer again.
    fn is_stale(&self, ready: Ready) -> io::Result<bool> {
        let closed = ready.is_read_closed() || ready.is_write_closed() || ready.is_error();
        if !closed || !self.reopens {
            return Ok(false);
        }
        // HUP and ERR need not be asked for; poll(2).
        Ok(!fd::poll_now(self.as_fd(), PollFlags::empty())?
            .intersects(PollFlags::POLLHUP | PollFlags::POLLERR))
    }

    /// Replaces the registration `seen` by a new one, unless another task already has.
    fn renew(&self, seen: &Arc<Registration>) -> io::Result<()> {
        let mut place = self.place_mut();
        if let Place::Tokio(registration) = &*place
            && Arc::ptr_eq(registration, seen)
        {
            // No task sleeps on the old one: it reads "closed" to all of them.
            *place = Place::Tokio(self.register_again()?);
            tracing::debug!(target: "aqueduct::source", fd = self.fd.as_raw_fd(), "the peer is back");
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

#[cfg(test)]
mod tests;
