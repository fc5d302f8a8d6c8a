//! [`Pace`]: how many bytes one read or write moves at most.

use nix::sys::resource::{UsageWho, getrusage};

/// How many bytes one read or write of a pipe moves at most if both sides work at the same time:
/// two pages, 8 KiB.
///
/// A pipe is a ring of pages. In small steps of whole pages, reader and writer work at the same
/// time; in large ones they take turns. If they take turns anyway, as on one processor, large steps
/// cost less. The `framed` methods of pipes and FIFOs then adapt to take up to 64 KiB of a large
/// frame at a time, each side independently, and try small steps again from time to time.
/// `with_chunk` fixes the size.
pub(crate) const PIPE_CHUNK: usize = 8192;

/// How many bytes one read or write moves at most, and how many are gathered before they are
/// written, unless set otherwise: 64 KiB.
const DEFAULT_CHUNK: usize = 64 * 1024;

/// How many bytes of a large frame one read or write moves at most, unless set otherwise: 1 MiB.
const DEFAULT_STEP: usize = 1 << 20;

/// Large steps of a pipe: its default capacity, `pipe(7)`.
const LARGE: usize = 64 * 1024;

/// Moving more than this between two waits means the peer ran concurrently. It is twice the
/// capacity of a pipe, since on one processor too the scheduler sometimes runs the other side in
/// between.
const ALONE: usize = 2 * LARGE;

/// After this many turns in small steps and alone, large steps begin.
const TURNS_ALONE: u32 = 8;

/// After this many turns in large steps, small ones are tried for the first time. The number
/// doubles with each failed try, up to [`MOST_TURNS`].
const FIRST_TURNS: u32 = 4;

/// With this limit, trying costs some 2 % if both sides are on one processor.
const MOST_TURNS: u32 = 64;

/// For how many turns small steps are tried.
const TRIED_TURNS: u32 = 2;

/// After this many runs of writes without a wait, this is a conversation: each frame fits the pipe.
const CONVERSATION: u32 = 16;

/// In a conversation in small steps, one of this many runs is watched for preemptions.
const WATCHED: u32 = 2;

/// How many bytes one read or write moves at most: a fixed size, or on a pipe the size that pays.
///
/// A pipe locks out the other side during each read and write. In small steps both sides can work
/// at the same time, which takes less than half the time of large ones. If they cannot, as on one
/// processor, small steps only add system calls. Each side finds out independently, by how much it
/// moves from one wait to the next, its *turn*: if never more than the pipe holds, the other side
/// did nothing meanwhile. Large steps make the sides take turns in any case, so small ones are
/// tried again from time to time.
///
/// A side that sends one frame at a time may never wait for room, and then its turns do not end. On one
/// processor the peer shows in another way: it wakes up after the first small step and preempts the
/// writer. So some *runs* of writes, from nothing written to all written, are watched for that.
///
/// The capacity of the pipe is not known. In a larger pipe turns are longer, and steps stay small.
#[derive(Clone, Debug)]
pub(crate) struct Pace {
    /// How many bytes of small frames one read or write takes at most, and how many are gathered
    /// before they are written without a flush.
    pub(super) chunk: usize,
    /// How many bytes of a large frame one read or write takes at most.
    pub(super) step: usize,
    turns: Option<Turns>,
}

/// The observations of a [`Pace`] that adapts.
#[derive(Clone, Debug)]
struct Turns {
    /// How many bytes were moved in the current turn.
    moved: usize,
    steps: Steps,
    /// How many turns until small steps are tried again.
    before_trying: u32,
    /// How many runs of writes there were since the last wait.
    runs: u32,
}

/// A run of writes.
#[must_use]
pub(super) struct Run {
    /// How often this thread had been preempted before, if the run is watched.
    preempted: Option<i64>,
}

/// The size of the steps, and for how many turns so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Steps {
    /// This many turns in a row were alone.
    Small(u32),
    Large(u32),
    /// Small for some turns, to see whether the other side works at the same time by now.
    Trying(u32),
}

impl Pace {
    /// Fixed: `chunk` bytes; from 64 KiB on up to 1 MiB of a large frame.
    pub(crate) fn fixed(chunk: usize) -> Self {
        let chunk = chunk.max(1);
        Self {
            chunk,
            step: step_of(chunk),
            turns: None,
        }
    }

    /// For a broken sink: there is never room.
    pub(crate) fn closed() -> Self {
        Self {
            chunk: 0,
            ..Self::fixed(1)
        }
    }

    /// For pipes and FIFOs: [`PIPE_CHUNK`], or 64 KiB of a large frame if the sides take turns.
    pub(crate) fn pipe() -> Self {
        Self {
            turns: Some(Turns {
                moved: 0,
                steps: Steps::Small(0),
                before_trying: FIRST_TURNS,
                runs: 0,
            }),
            ..Self::fixed(PIPE_CHUNK)
        }
    }

    pub(super) fn is_of_pipe(&self) -> bool {
        self.turns.is_some()
    }

    /// How many of `waiting` bytes one write takes at most. If small frames are gathered, at most a
    /// chunk and the last frame wait, and whole pages are written.
    #[inline]
    pub(super) fn write_of(&self, waiting: usize) -> usize {
        if waiting < 2 * PIPE_CHUNK {
            self.chunk
        } else {
            self.step
        }
    }

    /// Notes that this many bytes were read or written.
    #[inline]
    pub(super) fn moved(&mut self, bytes: usize) {
        if let Some(turns) = &mut self.turns {
            turns.moved = turns.moved.saturating_add(bytes);
        }
    }

    /// Notes that a read or write has to wait: the turn is over.
    #[inline]
    pub(super) fn waits(&mut self) {
        if let Some(turns) = &mut self.turns {
            turns.runs = 0;
            self.step = turns.next();
        }
    }

    /// Begins a run of writes of `waiting` bytes.
    #[inline]
    pub(super) fn begin_run(&self, waiting: usize) -> Option<Run> {
        match &self.turns {
            Some(turns) if waiting >= 2 * PIPE_CHUNK => Some(turns.begin_run()),
            _ => None,
        }
    }

    /// Ends a run: all was written, without a wait.
    #[inline]
    pub(super) fn end_run(&mut self, run: Option<Run>) {
        if let (Some(run), Some(turns)) = (run, &mut self.turns) {
            let alone = run.preempted.map(|before| preemptions() > before);
            self.step = turns.end_run(alone);
        }
    }
}

/// For sockets and files: always 64 KiB, up to 1 MiB of a large frame.
impl Default for Pace {
    fn default() -> Self {
        Self::fixed(DEFAULT_CHUNK)
    }
}

impl Turns {
    /// Ends a turn; returns the size of the next steps.
    fn next(&mut self) -> usize {
        let moved = std::mem::take(&mut self.moved);
        // One small step or nothing: no stream, and nothing to learn.
        if moved > PIPE_CHUNK {
            self.steps = self.after(moved > ALONE);
        }
        self.size()
    }

    fn size(&self) -> usize {
        match self.steps {
            Steps::Large(_) => LARGE,
            Steps::Small(_) | Steps::Trying(_) => PIPE_CHUNK,
        }
    }

    fn begin_run(&self) -> Run {
        let watched = self.runs >= CONVERSATION
            && match self.steps {
                Steps::Small(_) => self.runs.is_multiple_of(WATCHED),
                Steps::Large(_) => false,
                Steps::Trying(_) => true,
            };
        Run {
            preempted: watched.then(preemptions),
        }
    }

    /// Ends a run, in which the peer preempted this thread or did not, if it was watched.
    fn end_run(&mut self, preempted: Option<bool>) -> usize {
        if self.runs >= CONVERSATION {
            self.moved = 0;
            self.steps = match (self.steps, preempted) {
                (Steps::Large(_), _) | (Steps::Small(_), Some(true)) => self.after(false),
                // One preemption is enough: the peer may be slow to wake up.
                (Steps::Trying(_), Some(true)) => {
                    self.steps = Steps::Trying(TRIED_TURNS);
                    self.after(false)
                }
                (Steps::Trying(turns), Some(false)) if turns + 1 < TRIED_TURNS => {
                    Steps::Trying(turns + 1)
                }
                // Runs in large steps would be tried as rarely as before.
                (Steps::Trying(_), Some(false)) => Steps::Small(0),
                (steps, _) => steps,
            };
        }
        self.runs = self.runs.saturating_add(1);
        self.size()
    }

    fn after(&mut self, overlapped: bool) -> Steps {
        match self.steps {
            Steps::Small(_) if overlapped => Steps::Small(0),
            Steps::Small(turns) if turns + 1 < TURNS_ALONE => Steps::Small(turns + 1),
            Steps::Small(_) => Steps::Large(0),
            Steps::Large(turns) if turns + 1 < self.before_trying => Steps::Large(turns + 1),
            Steps::Large(_) => Steps::Trying(0),
            Steps::Trying(_) if overlapped => {
                self.before_trying = FIRST_TURNS;
                Steps::Small(0)
            }
            Steps::Trying(turns) if turns + 1 < TRIED_TURNS => Steps::Trying(turns + 1),
            Steps::Trying(_) => {
                self.before_trying = MOST_TURNS.min(self.before_trying * 2);
                Steps::Large(0)
            }
        }
    }
}

/// How often this thread was preempted so far.
fn preemptions() -> i64 {
    let usage = getrusage(UsageWho::RUSAGE_THREAD);
    let counted = usage.map_or(0, |it| it.involuntary_context_switches());
    #[cfg(test)]
    let counted = counted + tests::PREEMPTIONS.get();
    counted
}

/// How many bytes of a large frame one read or write moves at most if it moves `chunk` bytes of
/// small ones. Small steps are deliberate; large ones are only as large as buffers must be.
fn step_of(chunk: usize) -> usize {
    if chunk < DEFAULT_CHUNK {
        chunk
    } else {
        chunk.max(DEFAULT_STEP)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    thread_local! {
        /// How often this thread was preempted, according to tests.
        pub(super) static PREEMPTIONS: Cell<i64> = const { Cell::new(0) };
    }

    impl Pace {
        /// Counts as if this thread had been preempted.
        pub(crate) fn preempt() {
            PREEMPTIONS.set(PREEMPTIONS.get() + 1);
        }
    }

    const SMALL: usize = PIPE_CHUNK;
    /// On one processor each turn fills the pipe or empties it.
    const FULL: usize = LARGE;
    const OVERLAPPED: usize = ALONE + 1;

    /// The steps of `count` turns that each move `moved` bytes, once with the settings of each.
    fn turns(pace: &mut Pace, count: usize, moved: usize) -> Vec<usize> {
        let mut turn = || {
            let step = pace.step;
            assert_eq!(pace.chunk, PIPE_CHUNK);
            // In pieces, as in practice.
            pace.moved(moved / 2);
            pace.moved(moved - moved / 2);
            pace.waits();
            step
        };
        (0..count).map(|_| turn()).collect()
    }

    #[test]
    fn what_a_user_says_stays_so() {
        for (chunk, step) in [(1, 1), (8192, 8192), (65_536, 1 << 20), (2 << 20, 2 << 20)] {
            let mut pace = Pace::fixed(chunk);
            for moved in [0, 1, FULL, OVERLAPPED] {
                for _ in 0..100 {
                    pace.moved(moved);
                    pace.waits();
                }
                assert_eq!((pace.chunk, pace.step), (chunk, step));
            }
        }
    }

    #[test]
    fn sides_that_work_at_the_same_time_keep_to_small_steps() {
        let mut pace = Pace::pipe();
        assert_eq!(turns(&mut pace, 1000, OVERLAPPED), [SMALL; 1000]);
        // Also if they wait for each other now and then.
        for _ in 0..100 {
            let waits = turns(&mut pace, TURNS_ALONE as usize - 1, FULL);
            assert!(waits.iter().all(|it| *it == SMALL), "{waits:?}");
            assert_eq!(turns(&mut pace, 1, OVERLAPPED), [SMALL]);
        }
    }

    /// Small steps are tried less and less often.
    #[test]
    fn sides_that_take_turns_settle_on_large_steps() {
        let mut pace = Pace::pipe();
        let steps = turns(&mut pace, 600, FULL);
        let changes: Vec<_> = (1..steps.len())
            .filter(|i| steps[*i] != steps[i - 1])
            .collect();
        let expected = [
            8, 12, 14, 22, 24, 40, 42, 74, 76, 140, 142, 206, 208, 272, 274, 338, 340, 404, 406,
            470, 472, 536, 538,
        ];
        assert_eq!(changes, expected);
        assert_eq!(steps[8], LARGE);
    }

    /// A second time they are noticed sooner.
    #[test]
    fn sides_that_start_to_work_at_the_same_time_are_noticed() {
        let mut pace = Pace::pipe();
        turns(&mut pace, 1000, FULL);
        // Large steps do not overlap, whatever they move: only a try can show it.
        let most = (MOST_TURNS + TRIED_TURNS) as usize;
        let found = (0..most).find(|_| {
            let alone = pace.step == LARGE;
            turns(&mut pace, 1, if alone { FULL } else { OVERLAPPED }) == [SMALL]
        });
        assert!(found.is_some());
        assert_eq!(turns(&mut pace, 100, OVERLAPPED), [SMALL; 100]);
        // One disturbance does not send it back to large steps for long.
        turns(&mut pace, TURNS_ALONE as usize, FULL);
        let steps = turns(&mut pace, FIRST_TURNS as usize + 1, FULL);
        assert_eq!(steps, [LARGE, LARGE, LARGE, LARGE, SMALL]);
    }

    #[test]
    fn in_large_steps_more_than_the_pipe_holds_says_nothing() {
        let mut pace = Pace::pipe();
        turns(&mut pace, TURNS_ALONE as usize, FULL);
        let steps = turns(&mut pace, FIRST_TURNS as usize, OVERLAPPED);
        assert_eq!(steps, [LARGE; FIRST_TURNS as usize]);
    }

    /// The steps of `count` runs of a conversation, in which the peer preempts the writer or does not.
    fn runs(pace: &mut Pace, count: usize, preempted: bool) -> Vec<usize> {
        let mut run = || {
            let step = pace.step;
            let run = pace.begin_run(4 * SMALL).unwrap();
            pace.moved(4 * SMALL);
            let seen = run.preempted.map(|_| preempted);
            pace.step = pace.turns.as_mut().unwrap().end_run(seen);
            step
        };
        (0..count).map(|_| run()).collect()
    }

    #[test]
    fn a_conversation_on_one_processor_settles_on_large_steps() {
        let mut pace = Pace::pipe();
        let most = (CONVERSATION + TURNS_ALONE * WATCHED) as usize;
        runs(&mut pace, most, true);
        let steps = runs(&mut pace, 600, true);
        let small = steps.iter().filter(|it| **it == SMALL).count();
        // One run of each try is enough.
        assert!((1..=14).contains(&small), "{small}");
    }

    #[test]
    fn a_conversation_between_processors_keeps_to_small_steps() {
        let mut pace = Pace::pipe();
        assert_eq!(runs(&mut pace, 1000, false), [SMALL; 1000]);
        // Also if they were on one for some time.
        runs(&mut pace, 1000, true);
        runs(&mut pace, (MOST_TURNS + TRIED_TURNS) as usize, false);
        assert_eq!(runs(&mut pace, 1000, false), [SMALL; 1000]);
    }

    #[test]
    fn a_stream_that_waits_is_not_watched() {
        let mut pace = Pace::pipe();
        for _ in 0..100 {
            let steps = runs(&mut pace, CONVERSATION as usize, true);
            assert!(steps.iter().all(|it| *it == SMALL));
            turns(&mut pace, 1, OVERLAPPED);
        }
        assert!(pace.begin_run(SMALL).is_none(), "one step");
    }

    #[test]
    fn messages_of_one_step_and_waits_for_nothing_change_nothing() {
        let mut pace = Pace::pipe();
        assert_eq!(turns(&mut pace, 100, SMALL), [SMALL; 100]);
        assert_eq!(turns(&mut pace, 100, 0), [SMALL; 100]);
        // Nor do waits in between: a task may be polled any number of times.
        for _ in 1..TURNS_ALONE {
            turns(&mut pace, 1, FULL);
            assert_eq!(turns(&mut pace, 100, 0), [SMALL; 100]);
        }
        turns(&mut pace, 1, FULL);
        assert_eq!(turns(&mut pace, 100, 0), [LARGE; 100]);
        assert_eq!(turns(&mut pace, 100, SMALL), [LARGE; 100]);
    }
}
