//! Figures and names as they are printed.

use aqueduct_measure::stats::Spread;
use aqueduct_measure::{Placement, Step, Work};

/// Three figures that count.
pub(crate) fn short(value: f64) -> String {
    match value.abs() {
        it if it >= 100.0 => format!("{value:.0}"),
        it if it >= 10.0 => format!("{value:.1}"),
        it if it >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

/// The median, and from where to where.
pub(crate) fn spread(it: &Spread) -> String {
    format!("{} [{}-{}]", short(it.median), short(it.min), short(it.max))
}

pub(crate) fn scaled(it: &Spread, by: f64) -> Spread {
    Spread {
        median: it.median * by,
        min: it.min * by,
        max: it.max * by,
    }
}

pub(crate) fn size(bytes: usize) -> String {
    match bytes {
        it if it >= 1 << 20 => format!("{} MiB", it >> 20),
        it if it >= 1 << 10 => format!("{} KiB", it >> 10),
        it => format!("{it} B"),
    }
}

pub(crate) fn work(work: Work) -> &'static str {
    match work {
        Work::OneWay => "one way",
        Work::RoundTrip => "round trip",
    }
}

pub(crate) fn placement(placement: Placement) -> &'static str {
    match placement {
        Placement::OneCpu => "both processes on one processor",
        Placement::Apart => "each process on its own processor",
        Placement::Free => "processes where the scheduler puts them",
    }
}

pub(crate) fn step(step: &Step) -> String {
    format!(
        "{}, {}, {}",
        work(step.work),
        size(step.size),
        placement(step.placement)
    )
}

/// For a column of a table.
pub(crate) fn step_short(step: &Step) -> String {
    let placement = match step.placement {
        Placement::OneCpu => "one processor",
        Placement::Apart => "apart",
        Placement::Free => "free",
    };
    format!("{} {}, {placement}", size(step.size), work(step.work))
}

/// What a step's figures are in, and what a value is multiplied by for it.
pub(crate) fn unit(step: &Step) -> (&'static str, f64) {
    match step.work {
        Work::OneWay => ("thousand messages a second", 1e-3),
        Work::RoundTrip => ("microseconds, the median round trip", 1.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_printed_with_three_figures_that_count() {
        let printed = [0.123, 1.234, 12.34, 123.4, 12340.0].map(short);
        assert_eq!(printed, ["0.123", "1.23", "12.3", "123", "12340"]);
        assert_eq!([64, 1 << 10, 1 << 20].map(size), ["64 B", "1 KiB", "1 MiB"]);
    }
}
