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
mod thread;

use std::future::pending;
use std::io;
use std::os::fd::OwnedFd;
use std::panic::{self, AssertUnwindSafe};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use nix::errno::Errno;
use tokio::runtime::{Handle, Id};
use tokio::task::AbortHandle;

use self::bell::Waiter;
use self::thread::{Calls, Entry, OverOnDrop, Shared, StopOnDrop};
use super::fd::Direction;

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
    // Not in the entry: the thread may keep that for a moment longer.
    fd: Arc<OwnedFd>,
}

/// Keeps a thread while any slot uses it.
#[derive(Debug)]
struct Reactor {
    shared: Arc<Shared>,
    guard: Option<AbortHandle>,
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
        let entry = reactor.shared.add(&fd, direction);
        Ok(Self { reactor, entry, fd })
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
        self.reactor.shared.remove(&self.entry);
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
        let shared = Arc::new(Shared::new(handle.map(Handle::id))?);
        // Declared over when the closure is dropped, run or not: a runtime that shuts down may drop
        // it without running it.
        let over = OverOnDrop(Arc::clone(&shared));
        let run = move || over.0.run();
        let guard = match handle {
            Some(handle) => Some(Self::start_in_pool(handle, &shared, run)?),
            None => {
                let thread = std::thread::Builder::new().name("aqueduct-waits".into());
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
