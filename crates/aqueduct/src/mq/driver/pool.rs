//! The driver on one thread of the runtime's blocking pool.
//!
//! The thread only waits: it sleeps in `epoll_wait` and rings the bell of the side that can go on.
//! The woken task sends and receives, so a thread never holds a message of a task that has gone.

use std::collections::HashMap;
use std::future::pending;
use std::io;
use std::mem;
use std::os::fd::OwnedFd;
use std::panic::{self, AssertUnwindSafe};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::eventfd::{EfdFlags, EventFd};
use tokio::runtime::{Handle, Id};
use tokio::sync::Notify;
use tokio::task::AbortHandle;

use super::bell::{Bell, Over, Waiter};
use crate::connect::OpenErrorKind;
use crate::io::source::Direction;
use crate::io::timer::timeout;
use crate::mq::error::{TARGET, cannot_wait, runtime_gone};

/// How long the first wait in a runtime, with the [`Pool`](crate::mq::Driver::Pool) driver, waits
/// for a thread of the blocking pool before it gives up.
const POOL_START_TIMEOUT: Duration = Duration::from_secs(1);

/// How many events one `epoll_wait` takes.
const EVENTS: usize = 64;

/// The event that makes the thread check whether to stop. Sides count from 0 and never get this
/// far.
const WAKE: u64 = u64::MAX;

/// The reactors of all runtimes in this process. Weak: waiting sides keep them alive.
static REACTORS: Mutex<Vec<Weak<Reactor>>> = Mutex::new(Vec::new());

/// One direction of one queue, registered with one runtime's reactor.
#[derive(Debug)]
pub(super) struct Slot {
    reactor: Arc<Reactor>,
    bell: Arc<Bell>,
    token: u64,
    interest: EpollFlags,
    fd: Arc<OwnedFd>,
    // Whether the kernel may know it.
    registered: AtomicBool,
}

/// Keeps a runtime's thread while any slot uses it.
#[derive(Debug)]
struct Reactor {
    shared: Arc<Shared>,
    guard: AbortHandle,
}

/// The state shared by the thread and the waiting tasks.
#[derive(Debug)]
struct Shared {
    runtime: Id,
    epoll: Epoll,
    wake: EventFd,
    // The thread runs. It may take a while until a thread of the pool is free.
    started: AtomicBool,
    over: Over,
    // Why the thread has ended, if a system call failed: its errno, otherwise 0.
    failed: AtomicI32,
    starting: Notify,
    bells: Mutex<HashMap<u64, Arc<Bell>>>,
    next: AtomicU64,
}

impl Slot {
    pub(super) fn new(handle: &Handle, fd: Arc<OwnedFd>, direction: Direction) -> io::Result<Self> {
        let reactor = Reactor::of(handle)?;
        let shared = &reactor.shared;
        let token = shared.next.fetch_add(1, Ordering::Relaxed);
        let bell = Arc::new(Bell::new());
        // Nothing is requested until a task waits; this only finds out whether it can be.
        let event = EpollEvent::new(EpollFlags::EPOLLONESHOT, token);
        shared.epoll.add(&fd, event)?;
        shared.bells().insert(token, Arc::clone(&bell));
        let interest = match direction {
            Direction::Read => EpollFlags::EPOLLIN,
            Direction::Write => EpollFlags::EPOLLOUT,
        };
        Ok(Self {
            reactor,
            bell,
            token,
            interest,
            fd,
            registered: AtomicBool::new(true),
        })
    }

    pub(super) fn runtime(&self) -> Id {
        self.reactor.shared.runtime
    }

    pub(super) fn is_alive(&self) -> bool {
        !self.reactor.shared.is_over()
    }

    /// Waits until the side can go on, or could a moment ago.
    pub(super) async fn wait(&self, waiter: Waiter) -> io::Result<()> {
        let shared = &self.reactor.shared;
        shared.started().await?;
        self.bell.wait(waiter, &shared.over, || self.arm()).await?;
        shared.check()
    }

    /// Makes the kernel look, and report once.
    fn arm(&self) -> io::Result<()> {
        let epoll = &self.reactor.shared.epoll;
        let event = EpollEvent::new(self.interest | EpollFlags::EPOLLONESHOT, self.token);
        match epoll.modify(&self.fd, &mut { event }) {
            Err(Errno::ENOENT) => match epoll.add(&self.fd, event) {
                // Registered by another waiting task.
                Err(Errno::EEXIST) => epoll.modify(&self.fd, &mut { event }),
                added => added,
            },
            modified => modified,
        }?;
        self.registered.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Deregisters it until a task waits again.
    pub(super) fn deregister(&mut self) {
        if mem::take(self.registered.get_mut())
            && let Err(errno) = self.reactor.shared.epoll.delete(&self.fd)
        {
            tracing::warn!(target: TARGET, %errno, "cannot deregister a queue");
        }
    }

    /// Wakes one more of those that are woken one at a time.
    pub(super) fn wake_next(&self) {
        self.bell.ring_next();
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        // Before the descriptor is closed: a duplicate elsewhere would keep the events coming.
        self.deregister();
        self.reactor.shared.bells().remove(&self.token);
    }
}

impl Reactor {
    /// Returns the reactor of this runtime; starts it if there is none.
    fn of(handle: &Handle) -> io::Result<Arc<Self>> {
        let reactors = REACTORS.lock();
        let mut reactors = reactors.unwrap_or_else(PoisonError::into_inner);
        let mut found = None;
        // A runtime's id may be reused when it is gone, so dead ones do not count.
        reactors.retain(|reactor| match reactor.upgrade() {
            Some(reactor) if !reactor.shared.is_over() => {
                if reactor.shared.runtime == handle.id() {
                    found = Some(reactor);
                }
                true
            }
            _ => false,
        });
        if let Some(found) = found {
            return Ok(found);
        }
        let reactor = Arc::new(Self::start(handle)?);
        reactors.push(Arc::downgrade(&reactor));
        Ok(reactor)
    }

    /// Everything that can fail is done, and checked, before a thread depends on it.
    fn start(handle: &Handle) -> io::Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let wake = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        epoll.add(&wake, EpollEvent::new(EpollFlags::EPOLLIN, WAKE))?;
        let shared = Arc::new(Shared {
            runtime: handle.id(),
            epoll,
            wake,
            started: AtomicBool::new(false),
            over: Over::new(),
            failed: AtomicI32::new(0),
            starting: Notify::new(),
            bells: Mutex::default(),
            next: AtomicU64::new(0),
        });
        // Declared over when the closure is dropped, run or not: a runtime that shuts down may drop
        // it without running it.
        let thread = OverOnDrop(Arc::clone(&shared));
        let spawn = || handle.spawn_blocking(move || thread.0.run());
        // Tokio panics if the system refuses the pool's first thread.
        if let Err(panic) = panic::catch_unwind(AssertUnwindSafe(spawn)) {
            // The closure may have been queued, for a later thread.
            shared.stop();
            let reason = match panic.downcast_ref::<String>() {
                Some(reason) => reason.clone(),
                None => "no reason given".to_owned(),
            };
            let cause = format!("the system gives the driver pool no thread ({reason})");
            let cure = "use the driver asyncfd, or raise the limit on threads (ulimit -u, pids.max \
                        of the control group)";
            let error = cannot_wait(OpenErrorKind::LimitReached, cause, cure);
            let errno = io::Error::from_raw_os_error(libc::EAGAIN);
            return Err(error.with_source(errno).into());
        }
        // A runtime that is dropped drops its tasks before it waits for its pool, so this stops the
        // thread in time.
        let stop = StopOnDrop(Arc::clone(&shared));
        let guard = handle.spawn(async move {
            let _stop = stop;
            pending::<()>().await;
        });
        let guard = guard.abort_handle();
        tracing::debug!(target: TARGET, runtime = %handle.id(), "queue reactor started");
        Ok(Self { shared, guard })
    }
}

impl Drop for Reactor {
    fn drop(&mut self) {
        self.shared.stop();
        self.guard.abort();
    }
}

impl Shared {
    fn run(&self) {
        self.started.store(true, Ordering::SeqCst);
        self.starting.notify_waiters();
        let mut events = [EpollEvent::empty(); EVENTS];
        let mut to_ring: Vec<Arc<Bell>> = Vec::with_capacity(EVENTS);
        while !self.is_over() {
            let count = match self.epoll.wait(&mut events, EpollTimeout::NONE) {
                Ok(count) => count,
                Err(Errno::EINTR) => continue,
                Err(errno) => {
                    tracing::error!(target: TARGET, %errno, "queue reactor failed");
                    self.failed.store(errno as i32, Ordering::Relaxed);
                    return;
                }
            };
            let bells = self.bells();
            // `WAKE` has no bell: it only ends the sleep.
            let rung = events[..count].iter().map(EpollEvent::data);
            to_ring.extend(rung.filter_map(|token| bells.get(&token).cloned()));
            // A waker may do anything, even drop a slot, which takes this lock.
            drop(bells);
            to_ring.drain(..).for_each(|bell| bell.ring());
        }
        tracing::debug!(target: TARGET, runtime = %self.runtime, "queue reactor stopped");
    }

    /// Waits, for a bounded time, until the thread runs.
    async fn started(&self) -> io::Result<()> {
        let begun = || self.started.load(Ordering::SeqCst) || self.is_over();
        if !begun() {
            let starting = async {
                let mut notified = pin!(self.starting.notified());
                notified.as_mut().enable();
                if !begun() {
                    notified.await;
                }
            };
            let waited = POOL_START_TIMEOUT;
            if timeout(waited, starting).await.is_err() {
                let cause = format!("no thread of Tokio's blocking pool became free in {waited:?}");
                let cure = "use the driver asyncfd, let blocking tasks end, or give the runtime \
                            more threads for them (max_blocking_threads)";
                return Err(cannot_wait(OpenErrorKind::LimitReached, cause, cure).into());
            }
        }
        self.check()
    }

    /// Whether the thread runs, or why not.
    fn check(&self) -> io::Result<()> {
        if !self.is_over() {
            return Ok(());
        }
        let error = match self.failed.load(Ordering::Relaxed) {
            0 => runtime_gone(),
            errno => {
                let source = io::Error::from_raw_os_error(errno);
                let cause = format!("the driver pool has failed: {source}");
                cannot_wait(OpenErrorKind::Other, cause, "use the driver asyncfd")
                    .with_source(source)
            }
        };
        Err(error.into())
    }

    fn stop(&self) {
        self.over.set();
        // Fails only if the counter is full, and then the thread is awake.
        let _ = self.wake.write(1);
    }

    fn is_over(&self) -> bool {
        self.over.is_set()
    }

    fn bells(&self) -> MutexGuard<'_, HashMap<u64, Arc<Bell>>> {
        self.bells.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct StopOnDrop(Arc<Shared>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.stop();
    }
}

/// Ends all waits when the thread has ended or will not run.
struct OverOnDrop(Arc<Shared>);

impl Drop for OverOnDrop {
    fn drop(&mut self) {
        self.0.over.set();
        self.0.starting.notify_waiters();
        let bells: Vec<_> = self.0.bells().values().cloned().collect();
        bells.iter().for_each(|bell| bell.ring_all());
    }
}
