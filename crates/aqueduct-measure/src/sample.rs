//! What was measured.

use serde::{Deserialize, Serialize};

use crate::stats;
use crate::usage::Usage;

/// What one side has measured.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SideReport {
    /// Messages since the warm-up.
    pub messages: u64,
    /// How long they took.
    pub seconds: f64,
    /// What they cost this process.
    pub usage: Usage,
    /// What was allocated on this side's thread, where it was counted.
    pub allocations: Option<u64>,
    /// Round trips, where this side started them.
    pub latency: Option<Latency>,
}

/// All processes of a side together.
impl FromIterator<Self> for SideReport {
    fn from_iter<I: IntoIterator<Item = Self>>(reports: I) -> Self {
        let mut reports = reports.into_iter();
        let mut all = reports.next().unwrap_or_default();
        for report in reports {
            all.messages += report.messages;
            all.usage += report.usage;
        }
        all
    }
}

/// How round trips were distributed, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    /// Half took no longer.
    pub p50: f64,
    /// 99 of 100 took no longer.
    pub p99: f64,
    /// 999 of 1,000 took no longer.
    pub p999: f64,
    /// The longest.
    pub max: f64,
}

impl Latency {
    /// Of times in nanoseconds, exactly.
    pub fn of(times: &mut [u32]) -> Option<Self> {
        times.sort_unstable();
        let at = |share| stats::percentile(times, share).map(|it| f64::from(it) / 1e3);
        Some(Self {
            p50: at(0.5)?,
            p99: at(0.99)?,
            p999: at(0.999)?,
            max: at(1.0)?,
        })
    }
}

/// One sample: two processes, one piece of work.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// Messages a second; round trips a second.
    pub rate: f64,
    /// Messages, or round trips, since the warm-up.
    pub messages: u64,
    /// Processor microseconds a message, of the side that sends or starts.
    pub cpu_first_us: f64,
    /// The same of the other side.
    pub cpu_second_us: f64,
    /// Allocations a message, of both sides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allocations: Option<f64>,
    /// Page faults a message, of both sides.
    pub faults: f64,
    /// Waits a message, of both sides.
    pub waits: f64,
    /// Calls of `write(2)` a message, of both sides.
    #[serde(default)]
    pub writes: f64,
    /// Of round trips.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency: Option<Latency>,
}

impl Sample {
    /// Processor microseconds a message, of both sides.
    pub fn cpu_us(&self) -> f64 {
        self.cpu_first_us + self.cpu_second_us
    }

    /// From what both sides say. `timed` is the side whose clock counts.
    pub fn of(first: &SideReport, second: &SideReport) -> Self {
        let timed = if first.seconds > 0.0 { first } else { second };
        let per = |n: f64, side: &SideReport| n / side.messages.max(1) as f64;
        let count = |it: &SideReport| Some(per(it.allocations? as f64, it));
        Self {
            rate: timed.messages as f64 / timed.seconds.max(1e-9),
            messages: timed.messages,
            cpu_first_us: per(first.usage.cpu_us, first),
            cpu_second_us: per(second.usage.cpu_us, second),
            allocations: count(first).zip(count(second)).map(|(a, b)| a + b),
            faults: per(first.usage.faults as f64, first) + per(second.usage.faults as f64, second),
            waits: per(first.usage.waits as f64, first) + per(second.usage.waits as f64, second),
            writes: per(first.usage.writes as f64, first) + per(second.usage.writes as f64, second),
            latency: first.latency,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A figure one unit in the last place off is now and then rounded differently in a report.
    #[test]
    fn figures_read_back_are_those_written() {
        let at = 31.245270191439438;
        let latency = Latency {
            p50: at,
            p99: at,
            p999: at,
            max: at,
        };
        let text = serde_json::to_string(&latency).unwrap();
        assert_eq!(serde_json::from_str::<Latency>(&text).unwrap(), latency);
    }
}
