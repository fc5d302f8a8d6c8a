//! [`Post`]: the tasks that wait for one direction of a descriptor, and how it is registered for them.
//!
//! An ordinary registration (`EPOLLONESHOT`) is woken by every change of a queue or pipe. If many
//! processes wait for one queue, each change wakes all of them, and all but one find nothing: a
//! thundering herd. `EPOLLEXCLUSIVE` (epoll_ctl(2)) wakes one. So a wait is exclusive if others were
//! faster of late: after an attempt that failed, or if the thread was woken for events that had gone.
//!
//! - The registration exists only while a task waits, because it uses up a wake-up. It is removed
//!   when its event arrives, and is last in the kernel's list when it is added again. It cannot be
//!   modified.
//! - An exclusive wake-up can be lost: its process is killed or stopped before it uses it, or its
//!   wait is dropped. A queue has one list for both directions, so the wake-up may also go to a
//!   process that waits for the other one. So at every [`TICK`] the thread checks whether the
//!   descriptor is ready although no event has arrived.
//! - After [`LONGEST`] ticks a wait is ordinary: a process that is idle for long needs no ticks.
//! - After [`EXCLUSIVE`] successful attempts a wait is ordinary, to find out whether there still are
//!   others.

#[cfg(all(test, aqueduct_loom))]
mod model;

use std::io;
use std::sync::PoisonError;
use std::time::Duration;

#[cfg(all(test, aqueduct_loom))]
use loom::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicU32, Ordering},
};
#[cfg(not(all(test, aqueduct_loom)))]
use std::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicU32, Ordering},
};

use super::TARGET;
use super::bell::{Bell, Over, Waiter};

/// How often the thread looks while something waits exclusively.
pub(super) const TICK: Duration = Duration::from_millis(25);

/// For how many ticks a wait is exclusive.
const LONGEST: u64 = 40;

/// How many waits are exclusive after an attempt that failed.
const EXCLUSIVE: u32 = 64;

/// The calls to the kernel for one descriptor, and the clock of its thread.
pub(super) trait Kernel {
    /// Registers it, or arms it again, for one event.
    fn arm_once(&self, known: bool) -> io::Result<()>;

    /// Registers it for events that wake nobody else.
    fn arm_exclusively(&self) -> io::Result<()>;

    fn remove(&self) -> io::Result<()>;

    /// Whether an attempt now might be successful.
    fn is_ready(&self) -> io::Result<bool>;

    /// How many ticks the thread has counted.
    fn tick(&self) -> u64;

    /// Makes the thread count ticks.
    fn count_ticks(&self);
}

/// Where tasks wait for one direction of a descriptor.
#[derive(Debug)]
pub(super) struct Post {
    bell: Bell,
    state: Mutex<State>,
    /// How many waits are to be exclusive.
    crowded: AtomicU32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Unknown,
    /// Known to the kernel, armed or not.
    Once,
    /// Armed exclusively, in the tick of this number.
    Exclusive(u64),
}

impl Post {
    pub(super) fn new() -> Self {
        Self {
            bell: Bell::new(),
            state: Mutex::new(State::Unknown),
            crowded: AtomicU32::new(0),
        }
    }

    /// Notes that other processes are faster.
    pub(super) fn meets_others(&self) {
        self.crowded.store(EXCLUSIVE, Ordering::Relaxed);
    }

    pub(super) fn is_crowded(&self) -> bool {
        self.crowded.load(Ordering::Relaxed) > 0
    }

    /// Waits until the descriptor can be used, or could a moment ago, or the thread is `over`.
    ///
    /// Cancel safe: a wake-up that a dropped future had been given goes to another task.
    pub(super) async fn wait(
        &self,
        waiter: Waiter,
        over: &Over,
        kernel: &impl Kernel,
    ) -> io::Result<()> {
        let left = Left { post: self, kernel };
        self.bell.wait(waiter, over, || self.arm(kernel)).await?;
        std::mem::forget(left);
        Ok(())
    }

    /// Notes the result of the attempt after a wait: whether it was successful, or would block.
    pub(super) fn attempted(&self, done: bool, kernel: &impl Kernel) {
        if !done {
            // The wait that follows makes the kernel look again, for all.
            return self.meets_others();
        }
        let left = self.crowded.load(Ordering::Relaxed).saturating_sub(1);
        self.crowded.store(left, Ordering::Relaxed);
        self.leave(kernel);
        // There may be more messages, and one event stood for all.
        self.bell.ring_next();
    }

    /// Makes the kernel look and report. The task is in the bell already.
    fn arm(&self, kernel: &impl Kernel) -> io::Result<()> {
        let mut state = self.lock();
        if !self.is_crowded() {
            if let State::Exclusive(_) = *state {
                forget(&mut state, kernel)?;
            }
            kernel.arm_once(*state == State::Once)?;
            *state = State::Once;
            return Ok(());
        }
        // Where it is armed exclusively, the kernel has looked, and no event has arrived since.
        if !matches!(*state, State::Exclusive(_)) {
            forget(&mut state, kernel)?;
            let since = kernel.tick();
            kernel.arm_exclusively()?;
            *state = State::Exclusive(since);
        }
        drop(state);
        kernel.count_ticks();
        Ok(())
    }

    /// An event has arrived.
    pub(super) fn fired(&self, kernel: &impl Kernel) -> io::Result<()> {
        let mut state = self.lock();
        if let State::Exclusive(_) = *state {
            forget(&mut state, kernel)?;
        }
        drop(state);
        self.bell.ring();
        Ok(())
    }

    /// A tick has been counted: wakes an exclusive wait for which the descriptor is ready. It keeps
    /// its place in the kernel's list. Returns whether there still is an exclusive wait.
    pub(super) fn check(&self, kernel: &impl Kernel) -> io::Result<bool> {
        let mut state = self.lock();
        let State::Exclusive(since) = *state else {
            return Ok(false);
        };
        let ticks = kernel.tick().saturating_sub(since);
        if ticks >= LONGEST {
            forget(&mut state, kernel)?;
            kernel.arm_once(false)?;
            *state = State::Once;
            return Ok(false);
        }
        drop(state);
        // Not in the tick in which it began.
        if ticks > 1 && kernel.is_ready()? {
            self.bell.ring();
        }
        Ok(true)
    }

    /// A wait is over or was dropped: if it was the last one, no wake-up is used up any more.
    fn leave(&self, kernel: &impl Kernel) {
        let mut state = self.lock();
        // Under the lock: a task is in the bell before it arms.
        if matches!(*state, State::Exclusive(_))
            && self.bell.is_empty()
            && let Err(error) = forget(&mut state, kernel)
        {
            tracing::warn!(target: TARGET, %error, "cannot deregister a descriptor");
        }
    }

    /// Wakes all tasks: the thread has ended, or cannot go on for them.
    pub(super) fn give_up(&self) {
        self.bell.ring_all();
    }

    /// Removes it until a task waits again.
    pub(super) fn remove(&self, kernel: &impl Kernel) -> io::Result<()> {
        forget(&mut self.lock(), kernel)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn forget(state: &mut State, kernel: &impl Kernel) -> io::Result<()> {
    match std::mem::replace(state, State::Unknown) {
        State::Unknown => Ok(()),
        _ => kernel.remove(),
    }
}

/// A wait that is dropped before its end.
struct Left<'a, K: Kernel> {
    post: &'a Post,
    kernel: &'a K,
}

impl<K: Kernel> Drop for Left<'_, K> {
    fn drop(&mut self) {
        self.post.leave(self.kernel);
    }
}
