//! Goals of shared memory.
//!
//! They compare the best sample of each case, since the processes sleep and wake less often where
//! something else runs: a disturbed sample says little about what a round trip takes.

use std::fmt::Write;

use aqueduct_measure::{Cost, Placement, Results, Step, Work};

use super::{Bound, Bound::AtLeast, Bound::AtMost, Verdicts};
use crate::costs::{BELLS, CALLS, IDLE, MEMORY, OPENING, PRICE, WITHOUT};
use crate::number;

const K: usize = 1 << 10;
const M: usize = 1 << 20;

const FEED: &str = "aqueduct/shm/feed";
const POLLED: &str = "aqueduct/shm/feed/latency";
const SEND: &str = "aqueduct/shm/send";
const LENT: &str = "aqueduct/shm/lent";
const UNIX: &str = "aqueduct/unix/feed";
const EVENTS: &str = "peer/iceoryx2";
const POLLING: &str = "peer/iceoryx2/polling";

/// How the receiver of a case waits, where that makes the difference.
const WAITS: &[(&str, &str)] = &[
    (FEED, "looks a few times, then sleeps"),
    (POLLED, "polls for 50 us, then sleeps"),
    (LENT, "looks a few times, then sleeps"),
    (UNIX, "looks a few times, then sleeps"),
    ("aqueduct/unix/feed/latency", "polls for 50 us, then sleeps"),
    (EVENTS, "woken by events"),
    (POLLING, "polls without an end"),
    ("peer/ringfire/futex", "32 looks, then sleeps by futex"),
    ("peer/ringfire/async", "looks, then timers of 50 us"),
    ("peer/tachyon-ipc/futex", "sleeps by futex"),
    (
        "peer/tachyon-ipc/spin",
        "10,000 looks, then sleeps by futex",
    ),
    ("peer/ipc-channel/shared", "woken through a socket"),
];

/// What is compared.
#[derive(Clone, Copy, Debug, PartialEq)]
enum By {
    /// Messages a second, or the time of a round trip.
    Time,
    /// How much of the processor time ours takes.
    Cpu,
}

#[derive(Debug)]
struct Goal {
    ours: &'static str,
    theirs: &'static str,
    step: Step,
    by: By,
    bound: Bound,
}

const fn goal(ours: &'static str, theirs: &'static str, step: Step, bound: Bound) -> Goal {
    let by = By::Time;
    Goal {
        ours,
        theirs,
        step,
        by,
        bound,
    }
}

const fn cpu(size: usize, at_most: f64) -> Goal {
    Goal {
        by: By::Cpu,
        ..goal(FEED, UNIX, one_way(size), AtMost(at_most))
    }
}

const fn trip(size: usize, placement: Placement) -> Step {
    let work = Work::RoundTrip;
    Step {
        work,
        size,
        placement,
    }
}

/// On one processor, where what is measured is what the software costs.
const fn one_way(size: usize) -> Step {
    let (work, placement) = (Work::OneWay, Placement::OneCpu);
    Step {
        work,
        size,
        placement,
    }
}

const SAME: Step = trip(64, Placement::OneCpu);
const APART: Step = trip(64, Placement::Apart);
const LARGE: Step = trip(64 * K, Placement::OneCpu);

const GOALS: &[Goal] = &[
    goal(FEED, UNIX, SAME, AtMost(0.7)),
    goal(POLLED, UNIX, SAME, AtMost(0.48)),
    goal(FEED, EVENTS, SAME, AtMost(0.42)),
    goal(POLLED, EVENTS, SAME, AtMost(0.28)),
    goal(POLLED, "aqueduct/unix/feed/latency", APART, AtMost(0.2)),
    goal(POLLED, POLLING, APART, AtMost(1.2)),
    goal(FEED, UNIX, LARGE, AtMost(0.45)),
    goal(FEED, EVENTS, LARGE, AtMost(0.8)),
    goal(SEND, "aqueduct/unix/send", one_way(64), AtLeast(15.0)),
    goal(SEND, "aqueduct/unix/send", one_way(K), AtLeast(8.0)),
    goal(FEED, UNIX, one_way(64), AtLeast(1.05)),
    goal(FEED, UNIX, one_way(K), AtLeast(1.7)),
    goal(FEED, UNIX, one_way(64 * K), AtLeast(2.5)),
    goal(FEED, UNIX, one_way(M), AtLeast(2.4)),
    goal(
        "aqueduct/shm/borrowed",
        "aqueduct/unix/borrowed",
        one_way(64),
        AtLeast(1.5),
    ),
    goal(LENT, UNIX, one_way(64 * K), AtLeast(5.0)),
    goal(LENT, UNIX, one_way(M), AtLeast(5.0)),
    goal(LENT, EVENTS, one_way(M), AtLeast(1.2)),
    cpu(K, 0.6),
    cpu(64 * K, 0.4),
    cpu(M, 0.5),
    goal(FEED, "peer/ringfire/futex", SAME, NONE),
    goal(FEED, "peer/ringfire/async", SAME, NONE),
    goal(FEED, "peer/tachyon-ipc/futex", SAME, NONE),
    goal(POLLED, "peer/tachyon-ipc/spin", APART, NONE),
    goal(LENT, "peer/ipc-channel/shared", one_way(M), NONE),
];

const NONE: Bound = Bound::Free("none");

/// A figure of costs: its table, its row and its column.
type Place = (&'static str, &'static str, &'static str);

/// Costs, what each is held against, and how many times as much it may be; or how much, in its unit.
const COSTS: &[(Place, Option<Place>, f64)] = &[
    (
        (OPENING, "shm, with a message each way", "time"),
        Some((OPENING, "socketpair", "time")),
        9.0,
    ),
    ((IDLE, "shm", MEMORY), None, 16.0),
    ((BELLS, "shm, 64 B", CALLS), None, 1.0),
    ((BELLS, "shm, 1 KiB", CALLS), None, 1.0),
    ((PRICE, "shm", WITHOUT), Some((PRICE, "unix", WITHOUT)), 1.0),
];

/// Rows of the table of goals: what is measured besides messages.
pub(super) fn costs(costs: &[Cost], text: &mut String, verdicts: &mut Verdicts) {
    let find = |at: &Place| {
        costs
            .iter()
            .find(|it| (&*it.table, &*it.row, &*it.column) == *at)
    };
    for (ours, theirs, most) in COSTS {
        let Some(cost) = find(ours) else {
            continue;
        };
        let beside = match theirs {
            Some(theirs) => find(theirs).map(|it| it.value.min),
            None => Some(1.0),
        };
        let ratio = beside.map(|it| cost.value.min / it);
        let bound = AtMost(*most);
        let verdict = verdicts.of(ratio.map(|it| bound.is_met_by(it)), bound);
        let (table, row, column) = ours;
        let against = theirs.map_or("-", |it| it.1);
        let ratio = ratio.map_or("-".to_owned(), |it| format!("best {it:.2}"));
        let _ = writeln!(
            text,
            "| {table} | {row}: {column} | {against} | {} | {ratio}; {} {} | - | {verdict} |",
            bound.text(),
            number::spread(&cost.value),
            cost.unit,
        );
    }
}

/// Rows of the table of goals.
pub(super) fn rows(results: &Results, text: &mut String, verdicts: &mut Verdicts) {
    for goal in GOALS {
        if !results.plan.steps.contains(&goal.step) {
            continue;
        }
        let best = goal.best(results);
        let verdict = verdicts.of(best.map(|it| goal.bound.is_met_by(it)), goal.bound);
        let pairs = [
            results.ratio(goal.ours, goal.theirs, goal.step),
            results.cpu_ratio(goal.ours, goal.theirs, goal.step),
        ];
        let [time, cpu] = pairs.map(|it| it.map_or("-".to_owned(), |it| number::spread(&it)));
        let best = best.map_or(String::new(), |it| format!("best {it:.2}; "));
        let (time, cpu) = match goal.by {
            By::Time => (format!("{best}{time}"), cpu),
            By::Cpu => (time, format!("{best}{cpu}")),
        };
        let what = match goal.by {
            By::Time => "",
            By::Cpu => " of the processor time",
        };
        let _ = writeln!(
            text,
            "| {} | {} | {} | {}{what} | {time} | {cpu} | {verdict} |",
            number::step_short(&goal.step),
            named(goal.ours),
            named(goal.theirs),
            goal.bound.text(),
        );
    }
}

/// A case, and how its receiver waits.
fn named(case: &str) -> String {
    match WAITS.iter().find(|it| it.0 == case) {
        Some((_, how)) => format!("{case} ({how})"),
        None => case.to_owned(),
    }
}

impl Goal {
    /// The best sample of ours against the best one of theirs.
    fn best(&self, results: &Results) -> Option<f64> {
        let of = |case| {
            let figure = results.figure(case, self.step)?;
            match (self.by, self.step.work) {
                (By::Cpu, _) => Some(figure.cpu()?.min),
                (By::Time, Work::OneWay) => Some(figure.main()?.max),
                (By::Time, Work::RoundTrip) => Some(figure.main()?.min),
            }
        };
        Some(of(self.ours)? / of(self.theirs)?)
    }
}

#[cfg(test)]
mod tests {
    use aqueduct_measure::{Plan, implementations};

    use super::*;

    #[test]
    fn every_goal_names_cases_and_steps_that_there_are() {
        let (cases, plan) = (implementations::all(), Plan::full());
        for goal in GOALS {
            assert!(plan.steps.contains(&goal.step), "{goal:?}");
            for name in [goal.ours, goal.theirs] {
                // Other libraries are built apart.
                if name.starts_with("peer/") {
                    continue;
                }
                let case = cases.iter().find(|it| it.name == name);
                assert!(case.is_some_and(|it| goal.step.is_for(it)), "{goal:?}");
            }
        }
    }
}
