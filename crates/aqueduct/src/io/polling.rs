//! Latency mode: polling for a moment before going to sleep.
//!
//! [`Polled`](crate::Polled) documents when to use it and what it costs.

use std::cell::Cell;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// How often an operation is tried again at once, yielding the processor before each time.
const BURST: u32 = 4;

/// The same in a long burst: long enough for the peer to wake up on another processor and answer.
const LONG_BURST: u32 = 16;

/// One of this many failed bursts in a row is long, to find out whether that pays.
const LONG_EVERY: u32 = 8;

/// After this many failed long bursts in a row bursts are short again.
const LONG_FAILED: u32 = 3;

/// How long a burst may take and still be better than going to sleep. It takes longer if other
/// processes want the yielded processor.
const WORTH: Duration = Duration::from_micros(50);

/// For how many waits in a row polling is skipped at most after it failed: this often it is tested
/// whether polling pays by now.
const MAX_SKIPPED: u32 = 16;

/// Polling would not have shortened a wait that was longer than the limit by this much, however
/// long it took to go to sleep and to be woken.
const FAR: Duration = Duration::from_micros(500);

/// This many of these count as one that might have been.
const FAR_COUNT_AS_ONE: u32 = 16;

/// What failed polling may cost each wait, on average.
const VAIN_COST: Duration = Duration::from_micros(3);

/// If yielding the processor takes longer than this, other processes are computing on it: each of
/// them gets a turn of some milliseconds. One that sleeps is woken sooner.
const LATE: Duration = Duration::from_millis(1);

/// After a late yield its thread yields no more for this many times as long.
const PAUSE: u32 = 32;

thread_local! {
    /// The last one that waited in this thread; only compared.
    static LAST: Cell<*const Polling> = const { Cell::new(ptr::null()) };
    /// Whether something was written in this thread since a burst began.
    static WROTE: Cell<bool> = const { Cell::new(false) };
    /// Until when this thread does not yield, after a late yield.
    static PAUSED: Cell<Option<Instant>> = const { Cell::new(None) };
    /// Whether [`glance`] is on this thread's stack.
    static GLANCING: Cell<bool> = const { Cell::new(false) };
}

/// Notes that this thread has written something, which may be answered.
#[inline]
pub(crate) fn wrote() {
    WROTE.set(true);
}

/// Polls for what has already arrived, without any tries: its caller has something to send first, and
/// polls again before it waits.
pub(crate) fn glance<R>(poll: impl FnOnce() -> R) -> R {
    struct Reset(bool);
    impl Drop for Reset {
        fn drop(&mut self) {
            GLANCING.set(self.0);
        }
    }
    let _reset = Reset(GLANCING.replace(true));
    poll()
}

/// Yields the processor, unless this thread has paused that after a late yield.
pub(crate) fn offer() -> bool {
    if is_paused() {
        return false;
    }
    let began = Instant::now();
    thread::yield_now();
    pause_if_late(began.elapsed(), LATE);
    true
}

fn is_paused() -> bool {
    let Some(until) = PAUSED.get() else {
        return false;
    };
    let is_paused = Instant::now() < until;
    if !is_paused {
        PAUSED.set(None);
    }
    is_paused
}

/// Notes how long a yield took, and returns whether that was later than `late`.
fn pause_if_late(took: Duration, late: Duration) -> bool {
    let is_late = took > late;
    if is_late {
        PAUSED.set(Instant::now().checked_add(took.saturating_mul(PAUSE)));
    }
    is_late
}

/// Whether this thread is in [`glance`].
#[inline]
pub(crate) fn is_glancing() -> bool {
    GLANCING.get()
}

/// Whether, and for how long, an operation that would block is tried again before its task goes to
/// sleep.
///
/// Going to sleep and being woken costs several tries, and far more if a processor sleeps with it.
/// So a wait begins with a burst of a few tries, each after the processor was offered to other
/// processes: to the peer, if it runs on the same one. In latency mode, with a limit above zero,
/// further bursts follow until that time has passed. Between them the task yields to the other
/// tasks of its runtime.
///
/// If the peer runs on another processor, both sides sleep after each message, and a burst ends
/// before the peer has woken up. A long burst does not. Once it succeeds neither side sleeps any
/// more, and answers arrive within a few tries. So some bursts are long, and all are while that
/// pays, unless another end has waited in this thread meanwhile: it could use the time. A thread
/// that writes nothing is in no conversation: tries would only slow its peer down.
///
/// Polling happens only while it pays. After it failed the next waits go to sleep at once, twice as
/// many each time, up to a number that keeps the cost at some 3 us per wait. Waits that are seen to
/// be [`FAR`] too long for it are hardly counted. Once polling pays, it happens each time again.
///
/// On a busy machine the yielded processor returns [late](LATE). Then no end polls in this thread
/// for a while.
#[derive(Debug)]
pub(crate) struct Polling {
    limit: Duration,
    /// How long a burst may take, in nanoseconds; the limit may be more.
    worth: u32,
    /// How often in a row it did not pay.
    vain: AtomicU32,
    /// Whether bursts may be long, and whether they are.
    may_be_long: bool,
    long: AtomicBool,
    /// How many waits are still to be skipped, times [`FAR_COUNT_AS_ONE`].
    skip: AtomicU32,
}

/// The polling state of one wait. Starts as [`default`](Self::default).
#[derive(Debug, Default)]
pub(crate) struct Round {
    began: Option<Instant>,
    /// In this burst, and how many there are at most.
    tries: u32,
    most: u32,
    /// How long after the beginning the processor was yielded for a try that is still to come.
    yielded: Option<Duration>,
    /// Since when it has slept, if that is noted.
    asleep: Option<Instant>,
}

/// The next step for an operation that would block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Try again at once; the processor was yielded meanwhile.
    Again,
    /// Let the runtime's other tasks run, and try again: wake the task and return `Pending`.
    Yield,
    /// Go to sleep.
    Sleep,
}

impl Polling {
    /// Polls for `limit` before each wait; zero is only the first burst.
    pub(crate) fn new(limit: Duration) -> Self {
        Self {
            limit,
            worth: WORTH.subsec_nanos(),
            vain: AtomicU32::new(0),
            may_be_long: false,
            long: AtomicBool::new(false),
            skip: AtomicU32::new(0),
        }
    }

    /// Sets how long a burst may take and still be better than going to sleep: less than a second.
    pub(crate) fn with_worth(mut self, worth: Duration) -> Self {
        self.worth = worth.subsec_nanos();
        self
    }

    /// Allows long bursts. Not for a queue: it holds few messages, and two processes that never sleep
    /// hand each of them over alone.
    pub(crate) fn with_long_bursts(mut self) -> Self {
        self.may_be_long = true;
        self
    }

    fn worth(&self) -> Duration {
        Duration::from_nanos(self.worth.into()).max(self.limit)
    }

    /// Whether it polls for longer than a burst, in latency mode.
    pub(crate) fn is_asked_for(&self) -> bool {
        !self.limit.is_zero()
    }

    /// Returns the next step: the operation would block.
    ///
    /// In latency mode rounds are kept until they are [`done`](Self::done): the length of a wait then
    /// shows whether polling might have paid.
    pub(crate) fn next(&self, round: &mut Round) -> Next {
        // Asleep: woken for nothing.
        if round.asleep.is_some() {
            return Next::Sleep;
        }
        let Some(began) = round.began else {
            if is_glancing() || is_paused() {
                return Next::Sleep;
            }
            if self.is_left_out() {
                if self.is_asked_for() {
                    round.asleep = Some(Instant::now());
                } else {
                    // Not exact if several wait at a time, nor need it be.
                    self.counts(FAR_COUNT_AS_ONE);
                }
                return Next::Sleep;
            }
            round.began = Some(Instant::now());
            round.most = self.burst();
            return again(round, Duration::ZERO);
        };
        let took = began.elapsed();
        let is_late = self.took_late(round, took);
        if round.tries < round.most && took < self.worth() {
            return again(round, took);
        }
        if took < self.limit && !is_late {
            round.tries = 0;
            return Next::Yield;
        }
        *round = Round::default();
        round.asleep = self.is_asked_for().then_some(began);
        self.was_in_vain();
        Next::Sleep
    }

    /// Returns whether to let the runtime's other tasks run and try again, without any tries at
    /// once; if not, go to sleep. For events that only the runtime can find out. Rounds are kept as in
    /// latency mode.
    pub(crate) fn yields(&self, round: &mut Round) -> bool {
        if self.limit.is_zero() || round.asleep.is_some() {
            return false;
        }
        match round.began {
            Some(began) if began.elapsed() >= self.limit => {
                *round = Round::default();
                round.asleep = Some(began);
                self.was_in_vain();
                return false;
            }
            Some(_) => {}
            None if self.is_left_out() || is_paused() => {
                round.asleep = Some(Instant::now());
                return false;
            }
            None => round.began = Some(Instant::now()),
        }
        // Not yielded: it was late, and the task still yields to others until the limit.
        offer();
        true
    }

    /// Notes that the operation is done, and ends the round.
    pub(crate) fn done(&self, round: &mut Round) {
        let mut round = std::mem::take(round);
        let Round {
            began,
            asleep,
            tries,
            ..
        } = round;
        if let Some(began) = began {
            let took = began.elapsed();
            self.took_late(&mut round, took);
            if took <= self.worth() {
                self.vain.store(0, Ordering::Relaxed);
                if tries > BURST {
                    self.long.store(true, Ordering::Relaxed);
                }
            } else {
                self.was_in_vain();
            }
        }
        if let Some(asleep) = asleep {
            self.slept(asleep.elapsed());
        }
    }

    /// Whether the last yield of a round was late. The round has taken so long by now.
    fn took_late(&self, round: &mut Round, took: Duration) -> bool {
        let yielded = round.yielded.take();
        let late = LATE.max(self.worth());
        yielded.is_some_and(|yielded| pause_if_late(took.saturating_sub(yielded), late))
    }

    /// Notes a wait of that length that was not polled through.
    fn slept(&self, took: Duration) {
        self.counts(if took <= self.limit {
            u32::MAX
        } else if took <= self.limit.saturating_add(FAR) {
            FAR_COUNT_AS_ONE
        } else {
            1
        });
    }

    /// How many tries the burst that begins has at most.
    fn burst(&self) -> u32 {
        if !self.may_be_long {
            return BURST;
        }
        let alone = ptr::eq(LAST.replace(self), self) && WROTE.replace(false);
        let vain = self.vain.load(Ordering::Relaxed);
        let long = self.long.load(Ordering::Relaxed) || vain % LONG_EVERY == LONG_EVERY - 1;
        match alone && long {
            true => LONG_BURST,
            false => BURST,
        }
    }

    fn is_left_out(&self) -> bool {
        self.skip.load(Ordering::Relaxed) > 0
    }

    /// One of the waits to be skipped is over.
    fn counts(&self, as_much: u32) {
        let skip = self.skip.load(Ordering::Relaxed);
        self.skip
            .store(skip.saturating_sub(as_much), Ordering::Relaxed);
    }

    fn was_in_vain(&self) {
        let vain = self.vain.load(Ordering::Relaxed).saturating_add(1);
        self.vain.store(vain, Ordering::Relaxed);
        if vain >= LONG_FAILED {
            self.long.store(false, Ordering::Relaxed);
        }
        let affordable = self.limit.as_micros() / VAIN_COST.as_micros();
        let most = u32::try_from(affordable).unwrap_or(u32::MAX);
        let most = most.max(MAX_SKIPPED);
        let skip = 1_u32.checked_shl(vain).unwrap_or(u32::MAX);
        let skip = skip.min(most).saturating_mul(FAR_COUNT_AS_ONE);
        self.skip.store(skip, Ordering::Relaxed);
    }
}

fn again(round: &mut Round, took: Duration) -> Next {
    round.tries += 1;
    round.yielded = Some(took);
    thread::yield_now();
    Next::Again
}

#[cfg(test)]
mod tests;
