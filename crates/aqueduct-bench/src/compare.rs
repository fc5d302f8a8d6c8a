//! What changed between two runs, beyond the noise.

use std::fmt::Write;

use aqueduct_measure::{Figure, Results, Work};

use crate::number;

/// A smaller change is not told of, however steady the samples are: two runs of the same program
/// differ by as much.
const LEAST: f64 = 0.05;

/// How one figure changed.
#[derive(Debug, PartialEq)]
enum Change {
    Faster(f64),
    Slower(f64),
    Noise,
}

/// A line for each figure that changed, and how many did not.
pub(crate) fn text(before: &Results, after: &Results) -> String {
    let mut text = String::new();
    if before.machine.cpu != after.machine.cpu || before.machine.cpus != after.machine.cpus {
        text.push_str("The two were not measured on the same machine.\n");
    }
    let (mut same, mut only) = (0, 0);
    for new in &after.figures {
        let Some(old) = before.figure(&new.case, new.step) else {
            only += 1;
            continue;
        };
        let (word, times) = match change(old, new) {
            Change::Faster(times) => ("faster", times),
            Change::Slower(times) => ("SLOWER", times),
            Change::Noise => {
                same += 1;
                continue;
            }
        };
        let (_, by) = number::unit(&new.step);
        let shown = |it: &Figure| it.main().map(|it| number::spread(&number::scaled(&it, by)));
        let _ = writeln!(
            text,
            "{word} {times:.2} times: {}, {}: {} -> {}",
            new.case,
            number::step(&new.step),
            shown(old).unwrap_or_default(),
            shown(new).unwrap_or_default(),
        );
    }
    let _ = writeln!(text, "{same} within the noise, {only} only in the second.");
    text
}

/// More than noise: no sample of one lies among those of the other, and the medians are apart.
fn change(before: &Figure, after: &Figure) -> Change {
    let (Some(old), Some(new)) = (before.main(), after.main()) else {
        return Change::Noise;
    };
    let times = match after.step.work {
        Work::OneWay => new.median / old.median,
        Work::RoundTrip => old.median / new.median,
    };
    if !old.is_apart_from(&new) || (times.max(1.0 / times) - 1.0) < LEAST {
        return Change::Noise;
    }
    if times > 1.0 {
        Change::Faster(times)
    } else {
        Change::Slower(1.0 / times)
    }
}

#[cfg(test)]
mod tests {
    use aqueduct_measure::{Mechanism, Placement, Sample, Step};

    use super::*;

    fn figure(rates: &[f64]) -> Figure {
        let sample = |&rate: &f64| Sample {
            rate,
            messages: 1,
            cpu_first_us: 0.0,
            cpu_second_us: 0.0,
            allocations: None,
            faults: 0.0,
            waits: 0.0,
            writes: 0.0,
            latency: None,
        };
        Figure {
            case: "raw/pipe".to_owned(),
            mechanism: Mechanism::Pipe,
            step: Step {
                work: Work::OneWay,
                size: 64,
                placement: Placement::Free,
            },
            samples: rates.iter().map(sample).collect(),
            allocations: None,
        }
    }

    #[test]
    fn a_change_is_told_of_only_beyond_the_noise() {
        let change = |a: &[f64], b: &[f64]| change(&figure(a), &figure(b));
        assert_eq!(
            change(&[90.0, 100.0, 110.0], &[190.0, 200.0, 210.0]),
            Change::Faster(2.0)
        );
        assert_eq!(
            change(&[190.0, 200.0, 210.0], &[90.0, 100.0, 110.0]),
            Change::Slower(2.0)
        );
        assert_eq!(
            change(&[90.0, 100.0, 191.0], &[190.0, 200.0, 210.0]),
            Change::Noise
        );
        assert_eq!(change(&[100.0, 100.1], &[102.0, 102.1]), Change::Noise);
    }
}
