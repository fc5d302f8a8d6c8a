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

thread_local! {
    /// The last one that waited in this thread; only compared.
    static LAST: Cell<*const Polling> = const { Cell::new(ptr::null()) };
    /// Whether something was written in this thread since a burst began.
    static WROTE: Cell<bool> = const { Cell::new(false) };
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
    /// Go to sleep. The round is over.
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
    pub(crate) fn next(&self, round: &mut Round) -> Next {
        let Some(began) = round.began else {
            if is_glancing() {
                return Next::Sleep;
            }
            if self.is_left_out() {
                // Not exact if several wait at a time, nor need it be.
                self.counts(FAR_COUNT_AS_ONE);
                return Next::Sleep;
            }
            round.began = Some(Instant::now());
            round.most = self.burst();
            return again(round);
        };
        let took = began.elapsed();
        if round.tries < round.most && took < self.worth() {
            return again(round);
        }
        if took < self.limit {
            round.tries = 0;
            return Next::Yield;
        }
        *round = Round::default();
        self.was_in_vain();
        Next::Sleep
    }

    /// Returns whether to let the runtime's other tasks run and try again, without any tries at
    /// once; if not, go to sleep. For events that only the runtime can find out, and rounds that
    /// are kept until they are [`done`](Self::done): the length of a wait then shows whether
    /// polling might have paid.
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
            None if self.is_left_out() => {
                round.asleep = Some(Instant::now());
                return false;
            }
            None => round.began = Some(Instant::now()),
        }
        thread::yield_now();
        true
    }

    /// Notes that the operation is done, and ends the round.
    pub(crate) fn done(&self, round: &mut Round) {
        let Round {
            began,
            asleep,
            tries,
            ..
        } = std::mem::take(round);
        if let Some(began) = began {
            if began.elapsed() <= self.worth() {
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

fn again(round: &mut Round) -> Next {
    round.tries += 1;
    thread::yield_now();
    Next::Again
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One wait that never succeeds: how often it tries again, and yields, before it sleeps.
    fn in_vain(polling: &Polling) -> (u32, u32) {
        wrote();
        let mut round = Round::default();
        let (mut again, mut yields) = (0, 0);
        loop {
            match polling.next(&mut round) {
                Next::Again => again += 1,
                Next::Yield => yields += 1,
                Next::Sleep => return (again, yields),
            }
        }
    }

    #[test]
    fn a_wait_tries_a_few_times_and_sleeps() {
        let (again, yields) = in_vain(&Polling::new(Duration::ZERO));
        assert!((1..=BURST).contains(&again), "{again}");
        assert_eq!(yields, 0);
    }

    #[test]
    fn a_glance_makes_no_tries_and_does_not_count_as_a_failure() {
        let polling = Polling::new(Duration::from_secs(1));
        for _ in 0..2 {
            let mut round = Round::default();
            assert_eq!(glance(|| polling.next(&mut round)), Next::Sleep);
        }
        assert_eq!(polling.next(&mut Round::default()), Next::Again);
    }

    #[test]
    fn latency_mode_yields_to_other_tasks_until_its_time_is_over() {
        // Long, since on a busy machine the yielded processor returns late.
        let limit = Duration::from_millis(500);
        let began = Instant::now();
        let (again, yields) = in_vain(&Polling::new(limit));
        assert!(began.elapsed() >= limit);
        assert!(yields >= 1, "{yields}");
        assert!(
            again <= BURST * (yields + 1),
            "{again} tries, {yields} yields"
        );
    }

    #[test]
    fn where_it_is_in_vain_it_is_left_out_more_and_more_often() {
        let polling = Polling::new(Duration::ZERO);
        let polled: Vec<bool> = (0..100).map(|_| in_vain(&polling).0 > 0).collect();
        let at: Vec<usize> = (0..100).filter(|i| polled[*i]).collect();
        assert_eq!(at, [0, 3, 8, 17, 34, 51, 68, 85]);
    }

    #[test]
    fn a_long_limit_is_left_out_for_longer() {
        let polling = Polling::new(Duration::from_micros(300));
        let polled = (0..400).filter(|_| in_vain(&polling).0 > 0).count();
        // 0, 3, 8, 17, 34, 67, 132, then each 101st.
        assert!((8..=11).contains(&polled), "{polled}");
    }

    /// Which of 1,000 waits of that length are polled, without success.
    fn polled(polling: &Polling, took: Duration) -> Vec<usize> {
        let is_polled = |_: &usize| {
            let mut round = Round::default();
            let polled = polling.yields(&mut round);
            if polled {
                polling.was_in_vain();
            }
            polling.slept(took);
            polled
        };
        (0..1000).filter(is_polled).collect()
    }

    #[test]
    fn waits_far_longer_than_the_limit_are_hardly_ever_polled() {
        let limit = Duration::from_micros(50);
        let far = polled(&Polling::new(limit), Duration::from_millis(2));
        assert_eq!(far, [0, 32, 96, 224, 480, 736, 992]);
    }

    #[test]
    fn shorter_waits_soon_have_it_polled_again() {
        let limit = Duration::from_micros(50);
        let polling = Polling::new(limit);
        polled(&polling, Duration::from_secs(1));
        let near = polled(&polling, Duration::from_micros(200));
        assert!(near[0] <= 16 && near[1] - near[0] == 16, "{near:?}");
        // It would have paid.
        polling.slept(limit);
        assert!(polling.yields(&mut Round::default()));
    }

    #[test]
    fn a_wait_is_polled_once_however_often_its_task_runs_meanwhile() {
        let polling = Polling::new(Duration::from_nanos(1));
        let mut round = Round::default();
        assert!(polling.yields(&mut round));
        thread::sleep(Duration::from_millis(1));
        for _ in 0..100 {
            assert!(!polling.yields(&mut round));
        }
        polling.done(&mut round);
        assert_eq!(polling.vain.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn once_it_pays_it_is_done_each_time_again() {
        // Long, so that it pays on a busy machine too.
        let polling = Polling::new(Duration::from_secs(60));
        polling.vain.store(5, Ordering::Relaxed);
        let mut round = Round::default();
        assert_eq!(polling.next(&mut round), Next::Again);
        polling.done(&mut round);
        for _ in 0..10 {
            assert_eq!(polling.next(&mut round), Next::Again);
            polling.done(&mut round);
        }
        assert_eq!(polling.vain.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn an_answer_that_comes_after_too_long_does_not_pay() {
        let polling = Polling::new(Duration::ZERO);
        let mut round = Round::default();
        polling.next(&mut round);
        thread::sleep(WORTH * 2);
        polling.done(&mut round);
        assert_eq!(polling.next(&mut round), Next::Sleep);
    }

    /// How many tries each of the next bursts has, if all fail.
    fn failed(polling: &Polling, bursts: usize) -> Vec<u32> {
        let polled = std::iter::repeat_with(|| in_vain(polling).0).filter(|it| *it > 0);
        polled.take(bursts).collect()
    }

    /// Long, so that a busy machine cuts no burst short.
    fn patient() -> Polling {
        let polling = Polling::new(Duration::ZERO).with_long_bursts();
        polling.with_worth(Duration::from_millis(999))
    }

    #[test]
    fn one_of_many_failed_bursts_is_long() {
        let tries = failed(&patient(), 17);
        let long: Vec<_> = (0..17).filter(|i| tries[*i] == LONG_BURST).collect();
        assert_eq!(long, [7, 15], "{tries:?}");
        assert!(tries.iter().all(|it| [BURST, LONG_BURST].contains(it)));
    }

    /// Succeeds in this try of a burst.
    fn answered(polling: &Polling, in_try: u32) {
        polling.skip.store(0, Ordering::Relaxed);
        wrote();
        let mut round = Round::default();
        (0..in_try).for_each(|_| assert_eq!(polling.next(&mut round), Next::Again));
        polling.done(&mut round);
    }

    #[test]
    fn an_answer_to_a_late_try_makes_bursts_long_while_they_pay() {
        let polling = patient();
        failed(&polling, 7);
        answered(&polling, BURST + 1);
        for _ in 0..100 {
            answered(&polling, 1);
            assert_eq!(failed(&polling, 1), [LONG_BURST]);
        }
        assert_eq!(failed(&polling, 3), [LONG_BURST, LONG_BURST, BURST]);
    }

    #[test]
    fn a_thread_that_only_reads_makes_short_bursts() {
        let polling = patient();
        polling.long.store(true, Ordering::Relaxed);
        let mut tries = [0; 2];
        for (i, tries) in tries.iter_mut().enumerate() {
            polling.skip.store(0, Ordering::Relaxed);
            LAST.set(&polling);
            WROTE.set(i == 0);
            let mut round = Round::default();
            while polling.next(&mut round) == Next::Again {
                *tries += 1;
            }
        }
        assert_eq!(tries, [LONG_BURST, BURST]);
    }

    #[test]
    fn an_end_that_is_not_alone_in_its_thread_makes_short_bursts() {
        let (polling, other) = (patient(), patient());
        failed(&polling, 7);
        answered(&polling, LONG_BURST);
        answered(&other, 1);
        assert_eq!(failed(&polling, 1), [BURST]);
        assert_eq!(failed(&polling, 1), [LONG_BURST]);
    }
}
