//! Waits until a queue can be read or written: the two drivers, and the parts they share.

mod async_fd;
mod registrations;

use std::fmt;
use std::future::{pending, poll_fn};
use std::io;
use std::os::fd::OwnedFd;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::task::coop;
use tokio_util::sync::ReusableBoxFuture;

use crate::connect::{OpenError, OpenErrorKind};
use crate::io::polling::{Next, Polling, Round};
use crate::io::reactor::bell::Waiter;
use crate::io::source::Direction;
use crate::mq::error::explained;
use crate::mq::link::Link;

use registrations::{Registration, Registrations};

pub use registrations::Driver;

/// One direction of a queue, and where it is registered to wait for it.
#[derive(Debug)]
pub(super) struct Side {
    driver: Driver,
    direction: Direction,
    link: Arc<Link>,
    polling: Polling,
    // How many waits in a row have ended before anything slept.
    awake: AtomicU32,
    registrations: Registrations,
}

/// How long another try may take and still be better than sleep: a queue of large messages that
/// both sides work on in turn takes that long to be filled or emptied.
const WORTH: Duration = Duration::from_micros(200);

/// After this many waits in a row that ended before anything slept, the side is deregistered.
const UNREGISTER_AFTER: u32 = 32;

/// Permission to try again after a wait.
#[derive(Debug)]
pub(super) struct Woken(Arc<Registration>);

impl Side {
    pub(super) fn new(
        driver: Driver,
        poll_for: Duration,
        link: Arc<Link>,
        direction: Direction,
        fd: Arc<OwnedFd>,
        duplicate: bool,
    ) -> Arc<Self> {
        Arc::new(Self {
            driver,
            direction,
            link,
            polling: Polling::new(poll_for).with_worth(WORTH),
            awake: AtomicU32::new(0),
            registrations: Registrations::new(driver, direction, fd, duplicate),
        })
    }

    /// Runs `op` to its end: tries, and waits for as long as it returns `WouldBlock`.
    ///
    /// The caller counts it against the task's budget, before: between a wake-up and the try it
    /// allows there must be no other reason to wait, or a cancelled task would keep the wake-up.
    pub(super) async fn run<R>(
        self: &Arc<Self>,
        mut op: impl FnMut() -> io::Result<R>,
    ) -> io::Result<R> {
        match done(op()) {
            Some(result) => result,
            None => self.run_on(op).await,
        }
    }

    /// The rest of [`run`](Self::run), when the first try would block.
    async fn run_on<R>(self: &Arc<Self>, mut op: impl FnMut() -> io::Result<R>) -> io::Result<R> {
        let mut round = Round::default();
        let tried = poll_fn(|cx| self.poll_try(cx, &mut round, &mut op));
        if let Some(result) = tried.await {
            return result;
        }
        let mut registration = None;
        loop {
            match Arc::clone(self).wait(Waiter::Once, registration).await {
                Ok(woken) => match woken.attempt(&mut op) {
                    Ok(result) => {
                        self.polling.done(&mut round);
                        self.slept();
                        return result;
                    }
                    Err(seen) => registration = Some(seen),
                },
                Err(error) => return self.last_try(error, op),
            }
        }
    }

    /// Tries again for as long as that may be better than sleep. `None`: it still would block, so
    /// wait.
    ///
    /// Nothing waits for the queue meanwhile, so a future may be dropped here. But a future that
    /// has been woken to try must not come here, or those that have not been would be left asleep.
    fn poll_try<R>(
        &self,
        cx: &mut Context<'_>,
        round: &mut Round,
        mut op: impl FnMut() -> io::Result<R>,
    ) -> Poll<Option<io::Result<R>>> {
        if self.wakes_others() {
            return Poll::Ready(None);
        }
        loop {
            match self.polling.next(round) {
                Next::Again => {}
                Next::Yield => {
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Next::Sleep => return Poll::Ready(None),
            }
            if let Some(result) = done(op()) {
                self.polling.done(round);
                self.stayed_awake();
                return Poll::Ready(Some(result));
            }
        }
    }

    /// Whether another thread sleeps in `epoll_wait(2)` while this one tries, and would be woken by
    /// each message received or sent meanwhile. In latency mode that is the lesser evil.
    fn wakes_others(&self) -> bool {
        !self.polling.is_asked_for() && self.may_wake_others() && !self.registrations.is_empty()
    }

    /// Whether another thread may sleep where this side is registered.
    fn may_wake_others(&self) -> bool {
        let several = |it: Handle| it.runtime_flavor() != RuntimeFlavor::CurrentThread;
        self.driver == Driver::AsyncFd && Handle::try_current().is_ok_and(several)
    }

    /// Notes that a wait has ended before anything slept.
    fn stayed_awake(&self) {
        // Not exact if several wait at a time, nor need it be.
        let awake = self.awake.load(Ordering::Relaxed).saturating_add(1);
        self.awake.store(awake, Ordering::Relaxed);
        if awake.is_multiple_of(UNREGISTER_AFTER) {
            self.registrations.release();
        }
    }

    /// Notes that a wait has ended in sleep.
    fn slept(&self) {
        self.awake.store(0, Ordering::Relaxed);
        if self.may_wake_others() {
            self.registrations.release();
        }
    }

    /// The result of an operation whose wait has failed: if the name no longer refers to this
    /// queue, messages sent to it before are still received.
    fn last_try<R>(&self, error: io::Error, op: impl FnOnce() -> io::Result<R>) -> io::Result<R> {
        let replaced =
            OpenError::of(&error).is_some_and(|it| *it.kind() == OpenErrorKind::Replaced);
        let received = (replaced && self.direction == Direction::Read).then(op);
        received.and_then(done).unwrap_or(Err(error))
    }

    /// Waits until `op` is worth another try.
    ///
    /// Cancel safe: a wake-up that a dropped future had been given goes to another one.
    ///
    /// An operation stays where it has `begun` to wait, even if its task has moved to another
    /// runtime: the wake-up that it was given and could not use is for all that wait there, and
    /// waiting there again makes the kernel look for them.
    async fn wait(
        self: Arc<Self>,
        waiter: Waiter,
        begun: Option<Arc<Registration>>,
    ) -> io::Result<Woken> {
        let mut gone = None;
        let mut begun = begun.filter(|it| it.is_alive());
        loop {
            let registration = match begun.take() {
                Some(registration) => Ok(registration),
                None => self.registrations.current(),
            };
            let registration = registration.map_err(|error| gone.take().unwrap_or(error))?;
            let waited = async {
                match &*registration {
                    Registration::Pool(slot) => slot.wait(waiter).await.map_err(explained),
                    Registration::AsyncFd(registered) => registered.wait().await,
                }
            };
            match self.unless_broken(waited).await {
                Ok(()) => return Ok(Woken(registration)),
                // It may be an earlier runtime's that had the same id, or its thread has ended by a
                // panic in somebody's waker. It is not used again, and another one shows whether
                // this runtime is there.
                Err(error) if gone.is_none() && !registration.is_alive() => gone = Some(error),
                Err(error) => return Err(error),
            }
        }
    }

    /// Waits for as long as the name refers to the queue.
    async fn unless_broken(&self, waiting: impl Future<Output = io::Result<()>>) -> io::Result<()> {
        if !self.link.is_watched() {
            return waiting.await;
        }
        // Rarely needed, and large: not in every future.
        let mut broken = Box::pin(self.link.broken());
        let mut waiting = pin!(waiting);
        poll_fn(|cx| match waiting.as_mut().poll(cx) {
            Poll::Ready(waited) => Poll::Ready(waited),
            Poll::Pending => broken.as_mut().poll(cx).map(|error| Err(error.into())),
        })
        .await
    }
}

impl Woken {
    /// The try that the wake-up is for. `Err`: it still would block, so wait there again.
    fn attempt<R>(
        self,
        op: impl FnOnce() -> io::Result<R>,
    ) -> Result<io::Result<R>, Arc<Registration>> {
        let result = match &*self.0 {
            Registration::Pool(slot) => {
                let result = done(op());
                slot.attempted(result.is_some());
                result
            }
            Registration::AsyncFd(registered) => done(registered.try_io(op)),
        };
        result.ok_or(self.0)
    }
}

/// An operation's result, unless it would block.
#[inline(always)]
fn done<R>(result: io::Result<R>) -> Option<io::Result<R>> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
        result => Some(result),
    }
}

/// The wait of a stream or sink, kept between polls.
pub(super) struct Waiting {
    // Its memory is allocated at the first wait and reused.
    future: ReusableBoxFuture<'static, io::Result<Woken>>,
    active: bool,
    round: Round,
}

impl Waiting {
    pub(super) fn new() -> Self {
        Self {
            future: ReusableBoxFuture::new(pending()),
            active: false,
            round: Round::default(),
        }
    }

    /// Polls `op` to its end, as [`Side::run`] does.
    pub(super) fn poll<R>(
        &mut self,
        cx: &mut Context<'_>,
        side: &Arc<Side>,
        mut op: impl FnMut() -> io::Result<R>,
    ) -> Poll<io::Result<R>> {
        if !self.active {
            let budget = ready!(coop::poll_proceed(cx));
            let tried = match done(op()) {
                None => ready!(side.poll_try(cx, &mut self.round, &mut op)),
                some => some,
            };
            if let Some(result) = tried {
                budget.made_progress();
                return Poll::Ready(result);
            }
            self.begin(side, None);
        }
        loop {
            let woken = ready!(self.future.poll(cx));
            self.active = false;
            match woken {
                Ok(woken) => match woken.attempt(&mut op) {
                    Ok(result) => {
                        side.polling.done(&mut self.round);
                        side.slept();
                        return Poll::Ready(result);
                    }
                    Err(seen) => self.begin(side, Some(seen)),
                },
                Err(error) => return Poll::Ready(side.last_try(error, op)),
            }
        }
    }

    fn begin(&mut self, side: &Arc<Side>, begun: Option<Arc<Registration>>) {
        self.future
            .set(Arc::clone(side).wait(Waiter::Always, begun));
        self.active = true;
    }
}

impl fmt::Debug for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Waiting")
            .field("active", &self.active)
            .finish_non_exhaustive()
    }
}
