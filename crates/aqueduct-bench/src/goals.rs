//! What Aqueduct is to reach, held against what was measured.

mod shm;

use std::fmt::Write;

use aqueduct_measure::stats::Spread;
use aqueduct_measure::{Placement, Results, Step, Work};

use crate::costs::{PRICE, SHARE, TIMES_AS_MUCH};
use crate::number;

/// How two figures are to compare.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Bound {
    /// Messages a second: at least so many times as many.
    AtLeast(f64),
    /// Round trips: at most so many times as long.
    AtMost(f64),
    /// There is no goal, for this reason; the figure is of use all the same.
    Free(&'static str),
}

use Bound::{AtLeast, AtMost, Free};

/// One case beside another, in one step. `*` in a name stands for each of the mechanisms.
#[derive(Debug)]
struct Goal {
    ours: &'static str,
    theirs: &'static str,
    mechanisms: &'static [&'static str],
    work: Work,
    sizes: &'static [usize],
    placements: &'static [Placement],
    bound: Bound,
}

const PIPES: &[&str] = &["pipe", "fifo"];
const UNIX: &[&str] = &["unix"];
const TCP: &[&str] = &["tcp"];
const BYTES: &[&str] = &["pipe", "fifo", "unix", "tcp"];
const QUEUE: &[&str] = &["mq"];
const K: usize = 1 << 10;
/// Where one-way work is held to a goal: free is what users have; on one processor is what repeats.
const BOTH: &[Placement] = &[Placement::Free, Placement::OneCpu];
const ONE_CPU: &[Placement] = &[Placement::OneCpu];
const FREE: &[Placement] = &[Placement::Free];

const GOALS: &[Goal] = &[
    one_way("aqueduct/*/feed", "tokio/*/feed", UNIX, &[64], AtLeast(2.2)),
    one_way(
        "aqueduct/*/feed",
        "tokio/*/feed-64k",
        UNIX,
        &[64],
        AtLeast(1.5),
    ),
    one_way(
        "aqueduct/*/borrowed",
        "raw/*/batched",
        UNIX,
        &[64],
        AtLeast(0.9),
    ),
    one_way(
        "aqueduct/*/borrowed",
        "tokio/*/feed",
        UNIX,
        &[64],
        AtLeast(4.0),
    ),
    one_way(
        "aqueduct/*/feed",
        "tokio/*/feed",
        PIPES,
        &[64],
        AtLeast(1.6),
    ),
    one_way(
        "aqueduct/*/borrowed",
        "tokio/*/feed",
        PIPES,
        &[64],
        AtLeast(2.0),
    ),
    one_way("aqueduct/*/feed", "tokio/*/feed", TCP, &[64], AtLeast(1.5)),
    one_way("aqueduct/*/feed", "tokio/*/feed", TCP, &[K], AtLeast(2.0)),
    one_way("aqueduct/*/feed", "tokio/*/feed", PIPES, &[K], AtLeast(2.0)),
    one_way("aqueduct/*/feed", "tokio/*/feed", UNIX, &[K], AtLeast(2.0)),
    one_way(
        "aqueduct/*/feed",
        "tokio/*/feed",
        PIPES,
        &[64 * K],
        AtLeast(6.0),
    ),
    one_way(
        "aqueduct/*/feed",
        "tokio/*/feed",
        UNIX,
        &[64 * K],
        AtLeast(3.0),
    ),
    one_way(
        "aqueduct/*/feed",
        "tokio/*/feed",
        PIPES,
        &[K * K],
        AtLeast(8.0),
    ),
    one_way(
        "aqueduct/*/feed",
        "tokio/*/feed",
        UNIX,
        &[K * K],
        AtLeast(1.5),
    ),
    one_way(
        "aqueduct/*/feed",
        "raw/*",
        PIPES,
        &[64 * K, K * K],
        AtLeast(1.0),
    ),
    one_way(
        "aqueduct/*/feed",
        "raw/*",
        UNIX,
        &[64 * K, K * K],
        AtLeast(1.0),
    ),
    one_way(
        "aqueduct/*/asyncfd",
        "raw/*",
        QUEUE,
        &[64, K],
        AtLeast(0.95),
    ),
    one_way("aqueduct/*/pool", "raw/*", QUEUE, &[64, K], AtLeast(0.95)),
    one_way(
        "aqueduct/*/asyncfd",
        "raw/*",
        QUEUE,
        &[64 * K],
        AtLeast(0.8),
    ),
    round_trip(
        "aqueduct/*/feed",
        "raw/*",
        &["pipe", "fifo", "unix"],
        ONE_CPU,
        1.2,
    ),
    round_trip("aqueduct/*/feed", "tokio/*/feed", TCP, ONE_CPU, 1.0),
    round_trip("aqueduct/*/feed", "raw/*", TCP, ONE_CPU, 1.5),
    round_trip("aqueduct/*/asyncfd", "raw/*", QUEUE, ONE_CPU, 1.8),
    round_trip("aqueduct/*/pool", "raw/*", QUEUE, ONE_CPU, 4.0),
    round_trip("aqueduct/*/asyncfd/latency", "raw/*", QUEUE, FREE, 0.1),
    round_trip(
        "aqueduct/*/feed/latency",
        "tokio/*/feed",
        &["pipe", "unix", "tcp"],
        FREE,
        0.1,
    ),
    one_way(
        "aqueduct/*/send",
        "aqueduct/*/feed",
        BYTES,
        &[64],
        Free("none: the system has each message when `send` returns"),
    ),
    one_way(
        "aqueduct/*/coalesced",
        "aqueduct/*/feed",
        BYTES,
        &[64],
        AtLeast(0.5),
    ),
    one_way(
        "aqueduct/*/feed/mt",
        "aqueduct/*/feed",
        BYTES,
        &[64],
        AtLeast(0.9),
    ),
    one_way(
        "aqueduct/*/postcard",
        "peer/ipc-channel",
        UNIX,
        &[64],
        AtLeast(5.0),
    ),
    one_way("aqueduct/*/postcard", "peer/zmq", UNIX, &[64], AtLeast(5.0)),
    one_way(
        "aqueduct/*/postcard",
        "peer/zeromq",
        UNIX,
        &[64],
        AtLeast(5.0),
    ),
    one_way(
        "aqueduct/*/postcard",
        "peer/remoc",
        UNIX,
        &[64],
        AtLeast(5.0),
    ),
    one_way(
        "aqueduct/*/postcard",
        "peer/tarpc",
        UNIX,
        &[64],
        AtLeast(5.0),
    ),
    one_way("aqueduct/*/call", "peer/tarpc", UNIX, &[64], AtLeast(1.2)),
    round_trip("aqueduct/*/call", "peer/tarpc", UNIX, ONE_CPU, 1.0),
    one_way(
        "aqueduct/*/concurrent",
        "aqueduct/*/concurrent/mutex",
        UNIX,
        &[64],
        AtLeast(2.0),
    ),
    one_way(
        "aqueduct/*/concurrent",
        "aqueduct/*/concurrent/task",
        UNIX,
        &[64],
        Free("none: it needs no task, and the error of an item is its caller's"),
    ),
];

/// Cases that are not to allocate for a message of 64 B.
const NO_ALLOCATIONS: &[&str] = &["aqueduct/*/feed", "aqueduct/*/borrowed"];
/// Allocations a message that count as none: what a buffer costs that grows now and then.
const NONE: f64 = 0.001;

/// How many times the processor time latency mode may take where messages come slowly.
const MOST_PRICE: f64 = 1.2;

/// What many processes at one queue or FIFO are to move of what blocking calls do: the case, the
/// numbers of processes, and how much.
const CROWDS: &[(&str, &[&str], f64)] = &[
    ("aqueduct/mq/pool", &["10", "100"], 0.4),
    ("aqueduct/fifo/shared", &["10", "100"], 0.6),
];

const fn one_way(
    ours: &'static str,
    theirs: &'static str,
    mechanisms: &'static [&'static str],
    sizes: &'static [usize],
    bound: Bound,
) -> Goal {
    Goal {
        ours,
        theirs,
        mechanisms,
        work: Work::OneWay,
        sizes,
        placements: BOTH,
        bound,
    }
}

const fn round_trip(
    ours: &'static str,
    theirs: &'static str,
    mechanisms: &'static [&'static str],
    placements: &'static [Placement],
    at_most: f64,
) -> Goal {
    Goal {
        ours,
        theirs,
        mechanisms,
        work: Work::RoundTrip,
        sizes: &[64],
        placements,
        bound: AtMost(at_most),
    }
}

impl Bound {
    fn is_met(self, ratio: &Spread) -> bool {
        self.is_met_by(ratio.median)
    }

    fn is_met_by(self, ratio: f64) -> bool {
        match self {
            AtLeast(it) => ratio >= it,
            AtMost(it) => ratio <= it,
            Free(_) => true,
        }
    }

    fn text(self) -> String {
        match self {
            AtLeast(it) => format!("at least {it}"),
            AtMost(it) => format!("at most {it}"),
            Free(why) => why.to_owned(),
        }
    }
}

/// How many goals are met.
#[derive(Debug, Default)]
struct Verdicts {
    met: usize,
    missed: usize,
    unknown: usize,
}

impl Verdicts {
    /// Counts a goal; `None`: it was not measured.
    fn of(&mut self, is_met: Option<bool>, bound: Bound) -> &'static str {
        match (is_met, bound) {
            (Some(_), Free(_)) => "-",
            (Some(true), _) => {
                self.met += 1;
                "met"
            }
            (Some(false), _) => {
                self.missed += 1;
                "**not met**"
            }
            (None, _) => {
                self.unknown += 1;
                "not measured"
            }
        }
    }
}

/// A table: each goal, what was measured with its spread, and whether that is enough.
pub(crate) fn markdown(results: &Results) -> String {
    let mut text = String::from(
        "| work | ours | against | goal | measured | by processor time | |\n\
         |---|---|---|---|---|---|---|\n",
    );
    let mut verdicts = Verdicts::default();
    for goal in GOALS {
        for mechanism in goal.mechanisms {
            let name = |it: &str| it.replace('*', mechanism);
            let (ours, theirs) = (name(goal.ours), name(goal.theirs));
            for step in goal.steps() {
                if !results.plan.steps.contains(&step) {
                    continue;
                }
                let (time, cpu) = (
                    results.ratio(&ours, &theirs, step),
                    results.cpu_ratio(&ours, &theirs, step),
                );
                let judged = if goal.is_judged_by_cpu(&step) {
                    cpu
                } else {
                    time
                };
                let is_met = judged.map(|it| goal.bound.is_met(&it));
                let verdict = verdicts.of(is_met, goal.bound);
                let shown =
                    |it: Option<Spread>| it.map_or("-".to_owned(), |it| number::spread(&it));
                let (measured, cpu) = (shown(time), shown(cpu));
                let _ = writeln!(
                    text,
                    "| {} | {ours} | {theirs} | {} | {measured} | {cpu} | {verdict} |",
                    number::step_short(&step),
                    goal.bound.text(),
                );
            }
        }
    }
    shm::rows(results, &mut text, &mut verdicts);
    shm::costs(results, &mut text, &mut verdicts);
    let Verdicts {
        mut met,
        mut missed,
        mut unknown,
    } = verdicts;
    for pattern in NO_ALLOCATIONS {
        for mechanism in BYTES {
            let case = pattern.replace('*', mechanism);
            let Some(step) = allocation_step(results) else {
                continue;
            };
            let counted = results.figure(&case, step).and_then(|it| it.allocations);
            let (measured, verdict) = match counted {
                Some(it) if it <= NONE => {
                    met += 1;
                    (format!("{it:.5}"), "met")
                }
                Some(it) => {
                    missed += 1;
                    (format!("{it:.5}"), "**not met**")
                }
                None => {
                    unknown += 1;
                    ("-".to_owned(), "not measured")
                }
            };
            let _ = writeln!(
                text,
                "| {} | {case} | allocations a message | at most {NONE} | {measured} | - | {verdict} |",
                number::step_short(&step),
            );
        }
    }
    for cost in results.costs.iter().filter(|it| it.table.ends_with(SHARE)) {
        let counts = |it: &&(&str, &[&str], f64)| it.0 == cost.row && it.1.contains(&&*cost.column);
        let Some((case, _, least)) = CROWDS.iter().find(counts) else {
            continue;
        };
        let verdict = if cost.value.median >= *least {
            met += 1;
            "met"
        } else {
            missed += 1;
            "**not met**"
        };
        let _ = writeln!(
            text,
            "| {}: {} | {case} | blocking calls | at least {least} | {} | - | {verdict} |",
            cost.table.trim_end_matches(SHARE),
            cost.column,
            number::spread(&cost.value),
        );
    }
    for cost in &results.costs {
        if cost.table != PRICE || cost.column != TIMES_AS_MUCH {
            continue;
        }
        let verdict = if cost.value.median <= MOST_PRICE {
            met += 1;
            "met"
        } else {
            missed += 1;
            "**not met**"
        };
        let _ = writeln!(
            text,
            "| one message of 64 B in 2 ms, {} | latency mode: the receiver's processor time | without | \
             at most {MOST_PRICE} | - | {} | {verdict} |",
            cost.row,
            number::spread(&cost.value),
        );
    }
    text.push_str(
        "\nMeasured is how many times as many messages a second, or how many times as long a round \
         trip, ours has in the same repetition: the median, the least and the greatest. By \
         processor time of both sides, one way: how many times less ours takes. On one processor \
         that figure decides. Goals of shared memory compare the best repetition of each.\n",
    );
    let _ = writeln!(
        text,
        "\n{met} met, {missed} not met, {unknown} not measured."
    );
    text
}

/// The step in which allocations are held against the goal.
fn allocation_step(results: &Results) -> Option<Step> {
    let wanted = |it: &&Step| it.work == Work::OneWay && it.size == 64;
    results.plan.steps.iter().find(wanted).copied()
}

impl Goal {
    /// On one processor messages a second are what their processor time allows, and that does not
    /// depend on what else runs.
    fn is_judged_by_cpu(&self, step: &Step) -> bool {
        self.work == Work::OneWay && step.placement == Placement::OneCpu
    }

    fn steps(&self) -> impl Iterator<Item = Step> {
        let of = move |size| {
            self.placements.iter().map(move |&placement| Step {
                work: self.work,
                size,
                placement,
            })
        };
        self.sizes.iter().flat_map(move |&size| of(size))
    }
}

#[cfg(test)]
mod tests {
    use aqueduct_measure::{Plan, implementations};

    use super::*;

    #[test]
    fn every_goal_names_cases_and_steps_that_there_are() {
        let cases = implementations::all();
        let plan = Plan::full();
        for goal in GOALS {
            for mechanism in goal.mechanisms {
                for step in goal.steps() {
                    assert!(plan.steps.contains(&step), "{goal:?}: {step:?}");
                    for name in [goal.ours, goal.theirs] {
                        let name = name.replace('*', mechanism);
                        // Other libraries are built apart.
                        if name.starts_with("peer/") {
                            continue;
                        }
                        let case = cases.iter().find(|it| it.name == name);
                        assert!(case.is_some_and(|it| step.is_for(it)), "{name}: {step:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_goal_is_met_by_its_median() {
        let ratio = Spread::of([1.0, 2.0, 9.0]).unwrap();
        assert!(AtLeast(2.0).is_met(&ratio) && !AtLeast(2.1).is_met(&ratio));
        assert!(AtMost(2.0).is_met(&ratio) && !AtMost(1.9).is_met(&ratio));
    }
}
