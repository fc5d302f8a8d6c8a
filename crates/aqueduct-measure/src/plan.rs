//! What a whole run measures.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::case::{Case, Work};
use crate::placement::Placement;
use crate::runner::Order;

/// One piece of work, done by every case that can.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Step {
    /// One way or round trip.
    pub work: Work,
    /// Bytes a message.
    pub size: usize,
    /// Where both run.
    pub placement: Placement,
}

/// Steps, and how often and for how long each case does them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// What is done.
    pub steps: Vec<Step>,
    /// How many samples of each case and step.
    pub repetitions: usize,
    /// Milliseconds before what counts.
    pub warm_up_ms: u64,
    /// Milliseconds that count.
    pub run_ms: u64,
}

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

impl Plan {
    /// Everything: all sizes in all placements.
    pub fn full() -> Self {
        let mut steps = Vec::new();
        let mut add = |work, placement, sizes: &[usize]| {
            steps.extend(sizes.iter().map(|&size| Step {
                work,
                size,
                placement,
            }));
        };
        let placements = [Placement::Free, Placement::OneCpu, Placement::Apart];
        for placement in placements {
            add(Work::OneWay, placement, &[64, KIB, 64 * KIB, MIB]);
        }
        for placement in placements {
            add(Work::RoundTrip, placement, &[64, KIB, 64 * KIB]);
        }
        Self {
            steps,
            repetitions: 5,
            warm_up_ms: 12,
            run_ms: 50,
        }
    }

    /// What says most, in a short time.
    pub fn quick() -> Self {
        let steps = [
            (Work::OneWay, 64, Placement::Free),
            (Work::OneWay, 64 * KIB, Placement::Free),
            (Work::RoundTrip, 64, Placement::OneCpu),
            (Work::RoundTrip, 64, Placement::Free),
        ];
        let steps = steps.map(|(work, size, placement)| Step {
            work,
            size,
            placement,
        });
        Self {
            steps: steps.to_vec(),
            repetitions: 3,
            warm_up_ms: 15,
            run_ms: 50,
        }
    }

    /// How many samples that is.
    pub fn samples(&self, cases: &[Case]) -> usize {
        let steps = self.steps.iter();
        let timed = steps.map(|step| cases.iter().filter(|it| step.is_for(it)).count());
        self.repetitions * timed.sum::<usize>()
    }

    /// What one sample of a step is of.
    pub fn order(&self, step: &Step) -> Order {
        Order {
            warm_up: Duration::from_millis(self.warm_up_ms),
            run: Duration::from_millis(self.run_ms),
            ..Order::new(step.work, step.size, step.placement)
        }
    }
}

impl Step {
    /// Whether a case can do this.
    pub fn is_for(&self, case: &Case) -> bool {
        case.does(self.work, self.size)
    }
}
