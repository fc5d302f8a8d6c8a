//! [`Retries`]: how a wait for input begins.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use crate::io::fd::{interrupted, would_block};
use crate::io::polling::{self, Next, Polling, Round};

/// From this many operations without a wait on, incoming data is a stream.
const STREAM: u32 = 2;

/// The tries before a wait for input. By default there are none.
#[derive(Default)]
pub(super) struct Retries {
    polling: Option<Polling>,
    /// An operation has returned `WouldBlock`. Before that nothing may be read unasked: a FIFO that
    /// no writer has opened yet returns the end of the stream to every reader.
    was_empty: AtomicBool,
    /// An operation has returned `WouldBlock` since the last one that was done.
    is_empty: AtomicBool,
    /// How many operations were done since the last wait.
    done: AtomicU32,
}

impl Retries {
    /// Makes them for as long as that pays.
    pub(super) fn begin() -> Self {
        Self {
            polling: Some(Polling::new(Duration::ZERO).with_long_bursts()),
            ..Self::default()
        }
    }

    #[inline]
    pub(super) fn are_made(&self) -> bool {
        self.polling.is_some()
    }

    /// Notes that the last operation may have left something: this is a stream and no conversation.
    #[inline]
    pub(super) fn expect_more(&self) {
        if self.are_made() {
            self.done.store(STREAM, Ordering::Relaxed);
        }
    }

    /// Tries a few times whether there is input by now, whatever readiness says. `None`: it would
    /// still block, so wait.
    ///
    /// Not within a stream: a process that yields the processor for each piece of it is made to
    /// wait by the scheduler, and the two processes take turns for each piece.
    ///
    /// An event for the input that is read here arrives later all the same. It then costs one try
    /// that would block.
    // Apart from the path of every operation.
    #[inline(never)]
    pub(super) fn again<R>(&self, mut op: impl FnMut() -> io::Result<R>) -> Option<io::Result<R>> {
        let polling = self.polling.as_ref()?;
        if !self.was_empty.load(Ordering::Relaxed) || polling::is_glancing() {
            return None;
        }
        let done = self.done.swap(0, Ordering::Relaxed);
        let mut round = Round::default();
        if done >= STREAM {
            if self.is_empty.load(Ordering::Relaxed) {
                return None;
            }
            let result = op();
            self.note(would_block(&result));
            return (!would_block(&result) && !interrupted(&result)).then_some(result);
        }
        while polling.next(&mut round) == Next::Again {
            let result = op();
            self.note(would_block(&result));
            if !(would_block(&result) || interrupted(&result)) {
                polling.done(&mut round);
                return Some(result);
            }
        }
        None
    }

    /// Notes the result of an operation.
    #[inline]
    pub(super) fn noted<R>(&self, result: io::Result<R>) -> io::Result<R> {
        if self.are_made() {
            self.note(would_block(&result));
        }
        result
    }

    fn note(&self, blocked: bool) {
        self.is_empty.store(blocked, Ordering::Relaxed);
        if blocked {
            self.was_empty.store(true, Ordering::Relaxed);
        } else {
            let done = self.done.load(Ordering::Relaxed);
            self.done.store(done.saturating_add(1), Ordering::Relaxed);
        }
    }
}
