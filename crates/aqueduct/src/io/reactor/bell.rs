//! [`Bell`]: the tasks that wait at one slot, and how they are woken.
//!
//! There are two kinds, see [`Waiter`]. The rules that make it sound, which the exhaustive check in
//! `post/model.rs` tries in every order of its steps:
//!
//! - A waiting task is first registered here, then makes the kernel look (arming), then checks
//!   whether the ringing thread has ended, then sleeps. So no event is missed.
//! - One event stands for any number of messages and wakes one of [`Waiter::Once`]. When that one
//!   has received its message it wakes the next (the baton). When it received none it makes the
//!   kernel look again. When it was dropped it wakes the next in its place.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::PoisonError;
use std::task::{Context, Poll, Waker};

#[cfg(all(test, aqueduct_loom))]
use loom::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicBool, Ordering},
};
#[cfg(not(all(test, aqueduct_loom)))]
use std::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicBool, Ordering},
};

/// The kind of a waiting task, which decides how it is woken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waiter {
    /// A future that is polled until it is done or dropped. One of these is woken at a time. It
    /// wakes the next one when it has received its message, and so does one that is dropped.
    Once,
    /// A stream or sink. It may be kept for any time without being polled, so a wake-up given only
    /// to it could be lost to the others: all of these are woken.
    Always,
}

/// The tasks that wait at one slot.
#[derive(Debug)]
pub(super) struct Bell {
    sleepers: Mutex<Sleepers>,
}

#[derive(Debug, Default)]
struct Sleepers {
    /// The number of the next waiting task. The lists are in this order.
    next: u64,
    once: VecDeque<(u64, Waker)>,
    always: VecDeque<(u64, Waker)>,
}

/// Whether the ringing thread is to end, has ended or never will run. A task that begins to wait
/// after this was set must not sleep; [`Bell::ring_all`] wakes those that slept before.
#[derive(Debug)]
pub(super) struct Over(AtomicBool);

impl Bell {
    pub(super) fn new() -> Self {
        Self {
            sleepers: Mutex::new(Sleepers::default()),
        }
    }

    /// Waits until the bell is rung, having armed it first, or until it is `over`.
    ///
    /// Cancel safe: a ring that a dropped future had been given goes to another one.
    pub(super) async fn wait(
        &self,
        waiter: Waiter,
        over: &Over,
        arm: impl FnOnce() -> io::Result<()>,
    ) -> io::Result<()> {
        let mut asleep = Asleep {
            bell: self,
            waiter,
            number: None,
        };
        // Registered before the kernel looks. A waker from its first poll would be too late.
        poll_fn(|cx| {
            asleep.begin(cx);
            Poll::Ready(())
        })
        .await;
        arm()?;
        if !over.is_set() {
            asleep.await;
        }
        Ok(())
    }

    /// An event: wakes one of those that are woken one at a time, and all others.
    pub(super) fn ring(&self) {
        self.ring_next();
        self.ring_each(|it| &mut it.always);
    }

    /// Wakes one more of those that are woken one at a time. A task that begins to wait after this
    /// makes the kernel look itself.
    pub(super) fn ring_next(&self) {
        let sleeper = self.lock().once.pop_front();
        // Never under the lock: a waker may do anything.
        if let Some((_, waker)) = sleeper {
            waker.wake();
        }
    }

    /// Whether no task waits.
    pub(super) fn is_empty(&self) -> bool {
        let sleepers = self.lock();
        sleepers.once.is_empty() && sleepers.always.is_empty()
    }

    /// Wakes all waiting tasks, since nobody will ring any more.
    pub(super) fn ring_all(&self) {
        self.ring_each(|it| &mut it.once);
        self.ring_each(|it| &mut it.always);
    }

    /// Wakes all tasks of one list that wait by now.
    fn ring_each(&self, list: fn(&mut Sleepers) -> &mut VecDeque<(u64, Waker)>) {
        let end = self.lock().next;
        loop {
            let mut sleepers = self.lock();
            let list = list(&mut sleepers);
            let sleeper = match list.front() {
                Some(first) if first.0 < end => list.pop_front(),
                _ => None,
            };
            drop(sleepers);
            let Some((_, waker)) = sleeper else { return };
            waker.wake();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Sleepers> {
        self.sleepers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sleepers {
    fn list(&mut self, waiter: Waiter) -> &mut VecDeque<(u64, Waker)> {
        match waiter {
            Waiter::Once => &mut self.once,
            Waiter::Always => &mut self.always,
        }
    }
}

impl Over {
    pub(super) fn new() -> Self {
        Self(AtomicBool::new(false))
    }

    // The bell's lock orders this with the waits: a task that `ring_all` does not wake has taken
    // the lock after it.
    pub(super) fn set(&self) {
        self.0.store(true, Ordering::Release);
    }

    pub(super) fn is_set(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// A waiting task.
struct Asleep<'a> {
    bell: &'a Bell,
    waiter: Waiter,
    /// While it is or was in its list and has not seen the ring.
    number: Option<u64>,
}

impl Asleep<'_> {
    fn begin(&mut self, cx: &mut Context<'_>) {
        let waker = cx.waker().clone();
        let mut sleepers = self.bell.lock();
        let number = sleepers.next;
        sleepers.next += 1;
        sleepers.list(self.waiter).push_back((number, waker));
        self.number = Some(number);
    }
}

impl Future for Asleep<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Some(number) = self.number else {
            return Poll::Ready(());
        };
        let mut sleepers = self.bell.lock();
        let list = sleepers.list(self.waiter);
        match list.binary_search_by_key(&number, |it| it.0) {
            Ok(i) => {
                let waker = &mut list[i].1;
                let before = (!waker.will_wake(cx.waker()))
                    .then(|| std::mem::replace(waker, cx.waker().clone()));
                drop(sleepers);
                drop(before);
                Poll::Pending
            }
            // No longer in the list: it was rung.
            Err(_) => {
                drop(sleepers);
                self.number = None;
                Poll::Ready(())
            }
        }
    }
}

impl Drop for Asleep<'_> {
    fn drop(&mut self) {
        let Some(number) = self.number else { return };
        let mut sleepers = self.bell.lock();
        let list = sleepers.list(self.waiter);
        let found = list.binary_search_by_key(&number, |it| it.0);
        let removed = found.ok().and_then(|i| list.remove(i));
        drop(sleepers);
        if removed.is_none() && self.waiter == Waiter::Once {
            self.bell.ring_next();
        }
    }
}
