//! [`Shared`]: the thread of a [reactor](super::Reactor), and what it shares with waiting tasks.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::PollFlags;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::resource::{UsageWho, getrusage};
use tokio::runtime::Id;
use tokio::sync::Notify;

use super::bell::Over;
use super::post::{Kernel, Post, TICK};
use super::{TARGET, Trouble};
use crate::io::fd::{Direction, poll_now};
use crate::io::timer::timeout;

/// How long the first wait in a runtime waits for a thread of the blocking pool before it gives up.
const POOL_START_TIMEOUT: Duration = Duration::from_secs(1);

/// How many events one `epoll_wait` takes.
const EVENTS: usize = 64;

/// The event that makes the thread look at its state. Slots count from 0 and never get this far.
const WAKE: u64 = u64::MAX;

/// How many sleeps of the thread are compared with its wake-ups: it is crowded if there were at least
/// twice as many of those.
const WINDOW: u32 = 4;

/// The part of a slot that the thread uses.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) post: Post,
    token: u64,
    interest: EpollFlags,
    fd: Weak<OwnedFd>,
}

/// The state shared by the thread and the waiting tasks.
#[derive(Debug)]
pub(super) struct Shared {
    /// Whose blocking pool the thread is of, if it is of one.
    pub(super) runtime: Option<Id>,
    epoll: Epoll,
    wake: EventFd,
    // The thread runs. It may take a while until a thread of the pool is free.
    started: AtomicBool,
    pub(super) over: Over,
    // Why the thread has ended, if a system call failed: its errno, otherwise 0.
    failed: AtomicI32,
    starting: Notify,
    entries: Mutex<HashMap<u64, Arc<Entry>>>,
    next: AtomicU64,
    /// Whether the thread counts ticks, and how many there were.
    ticking: AtomicBool,
    ticks: AtomicU64,
}

impl Shared {
    pub(super) fn new(runtime: Option<Id>) -> io::Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let wake = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        epoll.add(&wake, EpollEvent::new(EpollFlags::EPOLLIN, WAKE))?;
        Ok(Self {
            runtime,
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
        })
    }

    pub(super) fn add(&self, fd: &Arc<OwnedFd>, direction: Direction) -> Arc<Entry> {
        let token = self.next.fetch_add(1, Ordering::Relaxed);
        let entry = Arc::new(Entry {
            post: Post::new(),
            token,
            interest: match direction {
                Direction::Read => EpollFlags::EPOLLIN,
                Direction::Write => EpollFlags::EPOLLOUT,
            },
            fd: Arc::downgrade(fd),
        });
        self.entries().insert(token, Arc::clone(&entry));
        entry
    }

    pub(super) fn remove(&self, entry: &Entry) {
        self.entries().remove(&entry.token);
    }

    /// The thread's work, until it is [stopped](Self::stop).
    pub(super) fn run(&self) {
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
    pub(super) async fn started(&self) -> Result<(), Trouble> {
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
    pub(super) fn check(&self) -> Result<(), Trouble> {
        if !self.is_over() {
            return Ok(());
        }
        Err(match self.failed.load(Ordering::Relaxed) {
            0 => Trouble::Gone,
            errno => Trouble::Failed(errno),
        })
    }

    pub(super) fn stop(&self) {
        self.over.set();
        self.rouse();
    }

    /// Makes the thread look at its state.
    fn rouse(&self) {
        // Fails only if the counter is full, and then the thread is awake.
        let _ = self.wake.write(1);
    }

    pub(super) fn is_over(&self) -> bool {
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

/// The calls to epoll for one slot.
pub(super) struct Calls<'a> {
    pub(super) shared: &'a Shared,
    pub(super) entry: &'a Entry,
    pub(super) fd: Arc<OwnedFd>,
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

/// Stops the thread.
pub(super) struct StopOnDrop(pub(super) Arc<Shared>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.stop();
    }
}

/// Ends all waits when the thread has ended or will not run.
pub(super) struct OverOnDrop(pub(super) Arc<Shared>);

impl Drop for OverOnDrop {
    fn drop(&mut self) {
        self.0.over.set();
        self.0.starting.notify_waiters();
        let entries: Vec<_> = self.0.entries().values().cloned().collect();
        entries.iter().for_each(|entry| entry.post.give_up());
    }
}
