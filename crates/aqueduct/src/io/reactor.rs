//! [`Slot`]: waiting for a queue or pipe in a thread that sleeps in `epoll_wait(2)` itself.
//!
//! The thread only waits: it rings the bell of the slot that can go on. The woken task sends and
//! receives, so the thread never holds a message of a task that has gone.
//!
//! It is a thread of a runtime's blocking pool for that runtime's queues, and one thread of the
//! process for pipes. Tokio's own driver cannot do this, nor can an epoll instance within it: where
//! no thread sleeps in the instance itself, an exclusive registration wakes all others as well
//! (`ep_poll_callback` in `fs/eventpoll.c`). [`post`] has the rules.

pub(crate) mod bell;
mod post;

use std::collections::HashMap;
use std::future::pending;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::panic::{self, AssertUnwindSafe};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::PollFlags;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::resource::{UsageWho, getrusage};
use tokio::runtime::{Handle, Id};
use tokio::sync::Notify;
use tokio::task::AbortHandle;

use self::bell::{Over, Waiter};
use self::post::{Kernel, Post, TICK};
use super::fd::{Direction, poll_now};
use super::timer::timeout;

/// How long the first wait in a runtime waits for a thread of the blocking pool before it gives up.
const POOL_START_TIMEOUT: Duration = Duration::from_secs(1);

/// How many events one `epoll_wait` takes.
const EVENTS: usize = 64;

/// The event that makes the thread look at its state. Slots count from 0 and never get this far.
const WAKE: u64 = u64::MAX;

/// After so many times that the thread has slept, it counts how often it was woken: it is crowded if
/// that is twice as often.
const WINDOW: u32 = 4;

const TARGET: &str = "aqueduct::reactor";

/// All reactors of this process. Weak: slots keep them alive.
static REACTORS: Mutex<Vec<Weak<Reactor>>> = Mutex::new(Vec::new());

/// Why nothing can wait.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// A system call has failed.
    System(io::Error),
    /// The system gives no thread, for this reason.
    NoThread(String),
    /// No thread of the blocking pool became free in this time.
    Busy(Duration),
    /// The thread has failed with this errno.
    Failed(i32),
    /// The runtime has gone.
    Gone,
}

/// One direction of one descriptor, to be waited for.
#[derive(Debug)]
pub(crate) struct Slot {
    reactor: Arc<Reactor>,
    entry: Arc<Entry>,
    token: u64,
    // Not in the entry: the thread may keep that for a moment longer.
    fd: Arc<OwnedFd>,
}

/// The part of a slot that the thread uses.
#[derive(Debug)]
struct Entry {
    post: Post,
    token: u64,
    interest: EpollFlags,
    fd: Weak<OwnedFd>,
}

/// Keeps a thread while any slot uses it.
#[derive(Debug)]
struct Reactor {
    shared: Arc<Shared>,
    guard: Option<AbortHandle>,
}

/// The state shared by the thread and the waiting tasks.
#[derive(Debug)]
struct Shared {
    /// Whose blocking pool the thread is of, if it is of one.
    runtime: Option<Id>,
    epoll: Epoll,
    wake: EventFd,
    // The thread runs. It may take a while until a thread of the pool is free.
    started: AtomicBool,
    over: Over,
    // Why the thread has ended, if a system call failed: its errno, otherwise 0.
    failed: AtomicI32,
    starting: Notify,
    entries: Mutex<HashMap<u64, Arc<Entry>>>,
    next: AtomicU64,
    /// Whether the thread counts ticks, and how many there were.
    ticking: AtomicBool,
    ticks: AtomicU64,
}

impl Slot {
    /// Waits in a thread of the blocking pool of a runtime.
    pub(crate) fn in_pool(
        handle: &Handle,
        fd: Arc<OwnedFd>,
        direction: Direction,
    ) -> Result<Self, Trouble> {
        Self::new(Some(handle), fd, direction)
    }

    /// Waits in the thread of the process.
    pub(crate) fn in_process(fd: Arc<OwnedFd>, direction: Direction) -> Result<Self, Trouble> {
        Self::new(None, fd, direction)
    }

    fn new(
        handle: Option<&Handle>,
        fd: Arc<OwnedFd>,
        direction: Direction,
    ) -> Result<Self, Trouble> {
        let reactor = Reactor::of(handle)?;
        let shared = &reactor.shared;
        let token = shared.next.fetch_add(1, Ordering::Relaxed);
        let entry = Arc::new(Entry {
            post: Post::new(),
            token,
            interest: match direction {
                Direction::Read => EpollFlags::EPOLLIN,
                Direction::Write => EpollFlags::EPOLLOUT,
            },
            fd: Arc::downgrade(&fd),
        });
        shared.entries().insert(token, Arc::clone(&entry));
        Ok(Self {
            reactor,
            entry,
            token,
            fd,
        })
    }

    pub(crate) fn runtime(&self) -> Option<Id> {
        self.reactor.shared.runtime
    }

    pub(crate) fn is_alive(&self) -> bool {
        !self.reactor.shared.is_over()
    }

    /// Waits until the descriptor can be used, or could a moment ago.
    ///
    /// After it an attempt is made, and its result [noted](Self::attempted).
    pub(crate) async fn wait(&self, waiter: Waiter) -> Result<(), Trouble> {
        let shared = &self.reactor.shared;
        shared.started().await?;
        let calls = self.calls();
        self.entry.post.wait(waiter, &shared.over, &calls).await?;
        shared.check()
    }

    /// Notes whether the attempt after a wait was successful, or would block.
    pub(crate) fn attempted(&self, done: bool) {
        self.entry.post.attempted(done, &self.calls());
    }

    /// Deregisters it until a task waits again.
    pub(crate) fn deregister(&self) {
        if let Err(error) = self.entry.post.remove(&self.calls()) {
            tracing::warn!(target: TARGET, %error, "cannot deregister a descriptor");
        }
    }

    /// Whether other processes were faster of late.
    pub(crate) fn is_crowded(&self) -> bool {
        self.entry.post.is_crowded()
    }

    fn calls(&self) -> Calls<'_> {
        Calls {
            shared: &self.reactor.shared,
            entry: &self.entry,
            fd: Arc::clone(&self.fd),
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        // Before the descriptor is closed: a duplicate elsewhere would keep the events coming.
        self.deregister();
        self.reactor.shared.entries().remove(&self.token);
    }
}

/// The calls to epoll for one slot.
struct Calls<'a> {
    shared: &'a Shared,
    entry: &'a Entry,
    fd: Arc<OwnedFd>,
}

impl Calls<'_> {
    fn event(&self, flags: EpollFlags) -> EpollEvent {
        EpollEvent::new(self.entry.interest | flags, self.entry.token)
    }
}

impl Kernel for Calls<'_> {
    fn arm_once(&self, known: bool) -> io::Result<()> {
        let event = self.event(EpollFlags::EPOLLONESHOT);
        Ok(match known {
            true => self.shared.epoll.modify(self.fd.as_fd(), &mut { event }),
            false => self.shared.epoll.add(self.fd.as_fd(), event),
        }?)
    }

    fn arm_exclusively(&self) -> io::Result<()> {
        let event = self.event(EpollFlags::EPOLLEXCLUSIVE | EpollFlags::EPOLLET);
        Ok(self.shared.epoll.add(self.fd.as_fd(), event)?)
    }

    fn remove(&self) -> io::Result<()> {
        Ok(self.shared.epoll.delete(self.fd.as_fd())?)
    }

    fn is_ready(&self) -> io::Result<bool> {
        let flags = match self.entry.interest {
            EpollFlags::EPOLLIN => PollFlags::POLLIN,
            _ => PollFlags::POLLOUT,
        };
        Ok(!poll_now(self.fd.as_fd(), flags)?.is_empty())
    }

    fn tick(&self) -> u64 {
        self.shared.ticks.load(Ordering::Relaxed)
    }

    fn count_ticks(&self) {
        if !self.shared.ticking.swap(true, Ordering::SeqCst) {
            self.shared.rouse();
        }
    }
}

impl Reactor {
    /// Returns the reactor of this runtime, or that of the process; starts it if there is none.
    fn of(handle: Option<&Handle>) -> Result<Arc<Self>, Trouble> {
        let reactors = REACTORS.lock();
        let mut reactors = reactors.unwrap_or_else(PoisonError::into_inner);
        let mut found = None;
        // A runtime's id may be reused when it is gone, so dead ones do not count.
        reactors.retain(|reactor| match reactor.upgrade() {
            Some(reactor) if !reactor.shared.is_over() => {
                if reactor.shared.runtime == handle.map(Handle::id) {
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
    fn start(handle: Option<&Handle>) -> Result<Self, Trouble> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let wake = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        epoll.add(&wake, EpollEvent::new(EpollFlags::EPOLLIN, WAKE))?;
        let shared = Arc::new(Shared {
            runtime: handle.map(Handle::id),
            epoll,
            wake,
            started: AtomicBool::new(false),
            over: Over::new(),
            failed: AtomicI32::new(0),
            starting: Notify::new(),
            entries: Mutex::default(),
            next: AtomicU64::new(0),
            ticking: AtomicBool::new(false),
            ticks: AtomicU64::new(0),
        });
        // Declared over when the closure is dropped, run or not: a runtime that shuts down may drop
        // it without running it.
        let over = OverOnDrop(Arc::clone(&shared));
        let run = move || over.0.run();
        let guard = match handle {
            Some(handle) => Some(Self::start_in_pool(handle, &shared, run)?),
            None => {
                let thread = thread::Builder::new().name("aqueduct-waits".into());
                thread.spawn(run)?;
                None
            }
        };
        tracing::debug!(target: TARGET, runtime = ?shared.runtime, "reactor started");
        Ok(Self { shared, guard })
    }

    fn start_in_pool(
        handle: &Handle,
        shared: &Arc<Shared>,
        run: impl FnOnce() + Send + 'static,
    ) -> Result<AbortHandle, Trouble> {
        let spawn = || handle.spawn_blocking(run);
        // Tokio panics if the system refuses the pool's first thread.
        if let Err(panic) = panic::catch_unwind(AssertUnwindSafe(spawn)) {
            // The closure may have been queued, for a later thread.
            shared.stop();
            let reason = panic.downcast_ref::<String>();
            let reason = reason.map_or("no reason given", String::as_str);
            return Err(Trouble::NoThread(reason.to_owned()));
        }
        // A runtime that is dropped drops its tasks before it waits for its pool, so this stops the
        // thread in time.
        let stop = StopOnDrop(Arc::clone(shared));
        let guard = handle.spawn(async move {
            let _stop = stop;
            pending::<()>().await;
        });
        Ok(guard.abort_handle())
    }
}

impl Drop for Reactor {
    fn drop(&mut self) {
        self.shared.stop();
        if let Some(guard) = &self.guard {
            guard.abort();
        }
    }
}

impl Shared {
    fn run(&self) {
        self.started.store(true, Ordering::SeqCst);
        self.starting.notify_waiters();
        if let Err(errno) = self.react() {
            tracing::error!(target: TARGET, %errno, "reactor failed");
            self.failed.store(errno as i32, Ordering::Relaxed);
        }
        tracing::debug!(target: TARGET, runtime = ?self.runtime, "reactor stopped");
    }

    fn react(&self) -> Result<(), Errno> {
        let mut events = [EpollEvent::empty(); EVENTS];
        let mut fired: Vec<Arc<Entry>> = Vec::with_capacity(EVENTS);
        let mut tick: Option<Instant> = None;
        let mut wakes = Wakes::default();
        while !self.is_over() {
            let limit = tick.map(|it| it.saturating_duration_since(Instant::now()));
            let limit = limit.map_or(EpollTimeout::NONE, |it| {
                // Rounded up: a tick is never early.
                EpollTimeout::from(it.subsec_millis() as u16 + 1)
            });
            let count = match self.epoll.wait(&mut events, limit) {
                Ok(count) => count,
                Err(Errno::EINTR) => continue,
                Err(errno) => return Err(errno),
            };
            let crowded = wakes.are_many();
            let entries = self.entries();
            if crowded {
                entries.values().for_each(|it| it.post.meets_others());
            }
            for event in &events[..count] {
                match event.data() {
                    WAKE => drop(self.wake.read()),
                    token => fired.extend(entries.get(&token).cloned()),
                }
            }
            // A waker may do anything, even drop a slot, which takes this lock.
            drop(entries);
            for entry in fired.drain(..) {
                entry.with_calls(self, |it| entry.post.fired(it));
            }
            tick = self.count_ticks(tick);
        }
        Ok(())
    }

    /// Counts a tick if it is due, and returns the time of the next: none if nothing needs it.
    fn count_ticks(&self, due: Option<Instant>) -> Option<Instant> {
        if !self.ticking.load(Ordering::SeqCst) {
            return None;
        }
        let now = Instant::now();
        match due {
            None => return Some(now + TICK),
            Some(due) if now < due => return Some(due),
            Some(_) => {}
        }
        self.ticks.fetch_add(1, Ordering::Relaxed);
        // First, so that one that begins meanwhile is seen below or rouses the thread.
        self.ticking.store(false, Ordering::SeqCst);
        let entries: Vec<_> = self.entries().values().cloned().collect();
        let mut some = false;
        for entry in entries {
            some |= entry.with_calls(self, |it| entry.post.check(it));
        }
        if some {
            self.ticking.store(true, Ordering::SeqCst);
        }
        some.then(|| now + TICK)
    }

    /// Waits, for a bounded time, until the thread runs.
    async fn started(&self) -> Result<(), Trouble> {
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
            let in_time = timeout(waited, starting).await;
            in_time.map_err(|_| Trouble::Busy(waited))?;
        }
        self.check()
    }

    /// Whether the thread runs, or why not.
    fn check(&self) -> Result<(), Trouble> {
        if !self.is_over() {
            return Ok(());
        }
        Err(match self.failed.load(Ordering::Relaxed) {
            0 => Trouble::Gone,
            errno => Trouble::Failed(errno),
        })
    }

    fn stop(&self) {
        self.over.set();
        self.rouse();
    }

    /// Makes the thread look at its state.
    fn rouse(&self) {
        // Fails only if the counter is full, and then the thread is awake.
        let _ = self.wake.write(1);
    }

    fn is_over(&self) -> bool {
        self.over.is_set()
    }

    fn entries(&self) -> MutexGuard<'_, HashMap<u64, Arc<Entry>>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How often the kernel wakes this thread, and how often there is an event.
///
/// The kernel looks again before it returns an event: where another process was faster,
/// `epoll_wait(2)` sleeps on, and only the count of voluntary switches shows it.
#[derive(Debug, Default)]
struct Wakes {
    sleeps: u32,
    switches: i64,
}

impl Wakes {
    /// Counts a return of `epoll_wait(2)`.
    fn are_many(&mut self) -> bool {
        self.sleeps += 1;
        if self.sleeps < WINDOW {
            return false;
        }
        self.sleeps = 0;
        let usage = getrusage(UsageWho::RUSAGE_THREAD);
        let switches = usage.map_or(0, |it| it.voluntary_context_switches());
        let woken = switches - std::mem::replace(&mut self.switches, switches);
        woken >= i64::from(2 * WINDOW)
    }
}

impl Entry {
    /// Runs `f` unless the slot has gone. A call that fails leaves the slot unregistered: its tasks
    /// are woken, and the next wait reports the error.
    fn with_calls<R: Default>(
        &self,
        shared: &Shared,
        f: impl FnOnce(&Calls<'_>) -> io::Result<R>,
    ) -> R {
        let Some(fd) = self.fd.upgrade() else {
            return R::default();
        };
        let entry = self;
        f(&Calls { shared, entry, fd }).unwrap_or_else(|error| {
            tracing::warn!(target: TARGET, %error, "cannot change a registration");
            self.post.give_up();
            R::default()
        })
    }
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Self::System(error)
    }
}

impl From<Errno> for Trouble {
    fn from(errno: Errno) -> Self {
        Self::System(errno.into())
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
        let entries: Vec<_> = self.0.entries().values().cloned().collect();
        entries.iter().for_each(|entry| entry.post.give_up());
    }
}
