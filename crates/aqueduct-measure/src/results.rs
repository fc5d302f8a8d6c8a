//! The results of a run: every sample, and where it was taken.

use serde::{Deserialize, Serialize};

use crate::case::{Case, Mechanism, Work};
use crate::machine::Machine;
use crate::plan::{Plan, Step};
use crate::runner::Runner;
use crate::sample::Sample;
use crate::stats::Spread;

/// All that was measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Results {
    /// Where.
    pub machine: Machine,
    /// What with: names and versions.
    pub versions: Vec<(String, String)>,
    /// What was asked for.
    pub plan: Plan,
    /// By case and step.
    pub figures: Vec<Figure>,
    /// What ends cost besides messages.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub costs: Vec<Cost>,
    /// What could not be measured, and why.
    pub missing: Vec<Missing>,
}

/// What one case did in one step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    /// The name of the case.
    pub case: String,
    /// What it moves messages by.
    pub mechanism: Mechanism,
    /// What it did.
    #[serde(flatten)]
    pub step: Step,
    /// One a repetition; in the order of the repetitions, so that those of two cases can be paired.
    pub samples: Vec<Sample>,
    /// Allocations a message of both sides, where they were counted: by a sample of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allocations: Option<f64>,
}

/// A figure that is none of messages, in a table of such.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cost {
    /// What the table is of.
    pub table: String,
    /// The mechanism.
    pub row: String,
    /// What of it.
    pub column: String,
    /// What the figure is in.
    pub unit: String,
    /// The figure.
    pub value: Spread,
}

/// What could not be measured.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Missing {
    /// The case, or what else.
    pub case: String,
    /// Why.
    pub reason: String,
}

impl Figure {
    /// Messages, or round trips, a second.
    pub fn rate(&self) -> Option<Spread> {
        Spread::of(self.samples.iter().map(|it| it.rate))
    }

    /// Microseconds of a round trip: of all samples the median, 99th and 99.9th percentile.
    pub fn latency(&self) -> Option<[Spread; 3]> {
        let of = |pick: fn(&crate::sample::Latency) -> f64| {
            let values = self.samples.iter().filter_map(|it| it.latency);
            Spread::of(values.map(|it| pick(&it)))
        };
        Some([of(|it| it.p50)?, of(|it| it.p99)?, of(|it| it.p999)?])
    }

    /// What is compared: messages a second one way, microseconds of a round trip.
    pub fn main(&self) -> Option<Spread> {
        match self.step.work {
            Work::OneWay => self.rate(),
            Work::RoundTrip => Some(self.latency()?[0]),
        }
    }

    /// Processor microseconds a message, of both sides.
    pub fn cpu(&self) -> Option<Spread> {
        Spread::of(self.samples.iter().map(Sample::cpu_us))
    }

    /// [`main`](Self::main) in each repetition.
    pub fn mains(&self) -> Vec<f64> {
        let main = |it: &Sample| match self.step.work {
            Work::OneWay => it.rate,
            Work::RoundTrip => it.latency.map_or(f64::NAN, |it| it.p50),
        };
        self.samples.iter().map(main).collect()
    }
}

impl Results {
    /// Measures all cases.
    ///
    /// Each repetition goes through all steps and all cases, so that a temporary disturbance of the
    /// machine affects all of them. `before` is called before each sample.
    ///
    /// A sample that fails is tried once more; a case that fails twice in one step is missing there.
    ///
    /// # Errors
    ///
    /// None of the cases' own: those are in [`missing`](Self::missing).
    pub async fn measure(
        runner: &mut Runner,
        cases: &[Case],
        plan: Plan,
        count_allocations: bool,
        mut before: impl FnMut(&Case, &Step),
    ) -> anyhow::Result<Self> {
        let machine = Machine::here();
        let mut figures: Vec<Figure> = Vec::new();
        let mut missing: Vec<Missing> = Vec::new();
        for step in &plan.steps {
            for case in cases.iter().filter(|it| step.is_for(it)) {
                figures.push(Figure {
                    case: case.name.to_owned(),
                    mechanism: case.mechanism,
                    step: *step,
                    samples: Vec::new(),
                    allocations: None,
                });
            }
        }
        let case = |name: &str| cases.iter().find(|it| it.name == name);
        let mut failed = vec![false; figures.len()];
        for repetition in 0..plan.repetitions {
            for (figure, failed) in figures.iter_mut().zip(&mut failed) {
                let Some(case) = case(&figure.case) else {
                    continue;
                };
                before(case, &figure.step);
                if *failed {
                    continue;
                }
                let mut order = plan.order(&figure.step);
                let mut sample = runner.sample(case, &order).await;
                if sample.is_err() {
                    sample = runner.sample(case, &order).await;
                }
                match sample {
                    Ok(sample) => figure.samples.push(sample),
                    Err(error) => {
                        *failed = true;
                        missing.push(Missing {
                            case: case.name.to_owned(),
                            reason: format!("{} bytes: {error:#}", figure.step.size),
                        });
                    }
                }
                if repetition == 0 && count_allocations && !*failed {
                    order.count_allocations = true;
                    let counted = runner.sample(case, &order).await;
                    figure.allocations = counted.ok().and_then(|it| it.allocations);
                }
            }
        }
        figures.retain(|it| !it.samples.is_empty());
        // One that fails here and there for one reason is told of once.
        missing.sort();
        missing.dedup();
        Ok(Self {
            machine,
            versions: Vec::new(),
            plan,
            figures,
            costs: Vec::new(),
            missing,
        })
    }

    /// What a case did in a step.
    pub fn figure(&self, case: &str, step: Step) -> Option<&Figure> {
        let mut figures = self.figures.iter();
        figures.find(|it| it.case == case && it.step == step)
    }

    /// How many times the value of `theirs` that of `ours` is, pair by pair.
    pub fn ratio(&self, ours: &str, theirs: &str, step: Step) -> Option<Spread> {
        let (ours, theirs) = (self.figure(ours, step)?, self.figure(theirs, step)?);
        let pairs = ours.mains().into_iter().zip(theirs.mains());
        Spread::of(pairs.map(|(ours, theirs)| ours / theirs))
    }

    /// The same by the processor time of both sides, which depends less on what else runs: one way
    /// how many times less `ours` takes, of a round trip how many times as much.
    pub fn cpu_ratio(&self, ours: &str, theirs: &str, step: Step) -> Option<Spread> {
        let (ours, theirs) = (self.figure(ours, step)?, self.figure(theirs, step)?);
        let pairs = ours.samples.iter().zip(&theirs.samples);
        Spread::of(pairs.map(|(ours, theirs)| match step.work {
            Work::OneWay => theirs.cpu_us() / ours.cpu_us(),
            Work::RoundTrip => ours.cpu_us() / theirs.cpu_us(),
        }))
    }
}
