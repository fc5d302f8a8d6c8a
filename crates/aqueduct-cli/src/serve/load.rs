//! [`Load`]: what a service has in hand, and whether it can start more programs.

use std::future::pending;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::futures::Notified;
use tokio::sync::{Mutex, Notify};
use tokio::time::sleep;

use crate::shortage::{shortage, told};

/// How soon a program is started again if descriptors, processes or memory are short.
const SHORT_PAUSE: Duration = Duration::from_millis(250);

/// The messages or connections in hand, and the start of their programs.
#[derive(Default)]
pub(super) struct Load {
    in_hand: AtomicUsize,
    /// No program can be started for now.
    short: AtomicBool,
    changed: Notify,
    /// Held while a program is started: if that has to wait, the others wait behind it.
    starting: Mutex<()>,
}

impl Load {
    pub(super) fn add(&self) {
        self.in_hand.fetch_add(1, Ordering::Relaxed);
        self.changed.notify_waiters();
    }

    pub(super) fn remove(&self) {
        self.in_hand.fetch_sub(1, Ordering::Relaxed);
        self.changed.notify_waiters();
    }

    pub(super) fn in_hand(&self) -> usize {
        self.in_hand.load(Ordering::Relaxed)
    }

    /// Whether no program can be started for now, so that nothing more is to be taken in hand.
    pub(super) fn is_short(&self) -> bool {
        self.short.load(Ordering::Relaxed)
    }

    /// Waits until one of these has changed since the call.
    pub(super) fn changed(&self) -> Notified<'_> {
        self.changed.notified()
    }

    /// Waits until nothing is in hand.
    pub(super) async fn empty(&self) {
        loop {
            let changed = self.changed();
            if self.in_hand() == 0 {
                return;
            }
            changed.await;
        }
    }

    /// Waits until nothing was in hand for as long as `limit`.
    pub(super) async fn idle(&self, limit: Option<Duration>) {
        let Some(limit) = limit else {
            return pending().await;
        };
        loop {
            self.empty().await;
            let changed = self.changed();
            tokio::select! {
                () = sleep(limit) => return,
                () = changed => {}
            }
        }
    }

    /// Starts a program. If there is a shortage, reports it by `tell` and waits until it has passed.
    /// `None`: `given_up` completed first.
    pub(super) async fn start<T>(
        &self,
        mut start: impl FnMut() -> anyhow::Result<T>,
        tell: impl Fn(&str),
        given_up: impl Future<Output = ()>,
    ) -> anyhow::Result<Option<T>> {
        let _turn = self.starting.lock().await;
        let mut given_up = pin!(given_up);
        let mut short = None;
        loop {
            let error = match start() {
                Ok(started) => return Ok(Some(started)),
                Err(error) => error,
            };
            let Some(cure) = shortage(&error) else {
                return Err(error);
            };
            if short.is_none() {
                tell(&told(&error, cure));
                short = Some(Short::begin(self));
            }
            tokio::select! {
                () = sleep(SHORT_PAUSE) => {}
                () = &mut given_up => return Ok(None),
            }
        }
    }

    fn set_short(&self, short: bool) {
        self.short.store(short, Ordering::Relaxed);
        self.changed.notify_waiters();
    }
}

/// While it exists, no program can be started.
struct Short<'a>(&'a Load);

impl<'a> Short<'a> {
    fn begin(load: &'a Load) -> Self {
        load.set_short(true);
        Self(load)
    }
}

impl Drop for Short<'_> {
    fn drop(&mut self) {
        self.0.set_short(false);
    }
}
