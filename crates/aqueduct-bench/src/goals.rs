//! What Aqueduct is to reach, held against what was measured.

mod list;
mod shm;

use std::fmt::Write;

use aqueduct_measure::stats::Spread;
use aqueduct_measure::{Cost, Results, Step, Work};

use self::list::{BYTES, GOALS};
use crate::costs::requests::{CHANNEL, SERVE, TIMES_TOKIO};
use crate::costs::{PRICE, SHARE, TIMES_AS_MUCH};
use crate::number;

/// How two figures are to compare.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Bound {
    /// Messages a second: at least this many times as many.
    AtLeast(f64),
    /// Round trips: at most this many times as long.
    AtMost(f64),
    /// There is no goal, for this reason; the figure is of use all the same.
    Free(&'static str),
}

use Bound::{AtLeast, AtMost, Free};

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

/// How many times as long as with Tokio a connection for each request may take.
const REQUESTS: &[(&str, f64)] = &[(CHANNEL, 1.1), (SERVE, 1.25)];

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

const HEAD: &str = "| work | ours | against | goal | measured | by processor time | |\n\
                    |---|---|---|---|---|---|---|\n";

/// The same of costs of shared memory alone.
pub(crate) fn of_costs(costs: &[Cost]) -> String {
    let mut text = HEAD.to_owned();
    shm::costs(costs, &mut text, &mut Verdicts::default());
    text
}

/// A table: each goal, what was measured with its spread, and whether that is enough.
pub(crate) fn markdown(results: &Results) -> String {
    let mut text = HEAD.to_owned();
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
                    "| {} | {ours} | {theirs} | {}{} | {measured} | {cpu} | {verdict} |",
                    number::step_short(&step),
                    goal.bound.text(),
                    because(goal.why),
                );
            }
        }
    }
    shm::rows(results, &mut text, &mut verdicts);
    shm::costs(&results.costs, &mut text, &mut verdicts);
    for pattern in NO_ALLOCATIONS {
        for mechanism in BYTES {
            let case = pattern.replace('*', mechanism);
            let Some(step) = allocation_step(results) else {
                continue;
            };
            let counted = results.figure(&case, step).and_then(|it| it.allocations);
            let most = AtMost(NONE);
            let verdict = verdicts.of(counted.map(|it| most.is_met_by(it)), most);
            let measured = counted.map_or("-".to_owned(), |it| format!("{it:.5}"));
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
        let bound = AtLeast(*least);
        let verdict = verdicts.of(Some(bound.is_met(&cost.value)), bound);
        let _ = writeln!(
            text,
            "| {}: {} | {case} | blocking calls | at least {least} | {} | - | {verdict} |",
            cost.table.trim_end_matches(SHARE),
            cost.column,
            number::spread(&cost.value),
        );
    }
    for cost in results.costs.iter().filter(|it| it.column == TIMES_TOKIO) {
        let Some((_, most)) = REQUESTS.iter().find(|it| it.0 == cost.row) else {
            continue;
        };
        let bound = AtMost(*most);
        let verdict = verdicts.of(Some(bound.is_met(&cost.value)), bound);
        let _ = writeln!(
            text,
            "| {} | {} | Tokio and `Framed` | at most {most} | {} | - | {verdict} |",
            cost.table,
            cost.row,
            number::spread(&cost.value),
        );
    }
    for cost in &results.costs {
        if cost.table != PRICE || cost.column != TIMES_AS_MUCH {
            continue;
        }
        let bound = AtMost(MOST_PRICE);
        let verdict = verdicts.of(Some(bound.is_met(&cost.value)), bound);
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
    let Verdicts {
        met,
        missed,
        unknown,
    } = verdicts;
    let _ = writeln!(
        text,
        "\n{met} met, {missed} not met, {unknown} not measured."
    );
    text
}

/// Why a goal is no higher, after it.
fn because(why: &str) -> String {
    if why.is_empty() {
        return String::new();
    }
    format!(": {why}")
}

/// The step in which allocations are held against the goal.
fn allocation_step(results: &Results) -> Option<Step> {
    let wanted = |it: &&Step| it.work == Work::OneWay && it.size == 64;
    results.plan.steps.iter().find(wanted).copied()
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
