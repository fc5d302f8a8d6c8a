//! The report as Markdown: every figure in tables.

use std::fmt::Write;

use aqueduct_measure::{Figure, Results, Work};

use crate::{goals, number};

/// Machine, goals, and a table for each step.
pub(crate) fn report(results: &Results) -> String {
    let mut text = format!(
        "{}\n## Goals\n\n{}",
        machine(results),
        goals::markdown(results)
    );
    for step in &results.plan.steps {
        let mut title = number::step(step);
        title[..1].make_ascii_uppercase();
        let _ = write!(text, "\n## {title}\n\n");
        text.push_str(match step.work {
            Work::OneWay => {
                "| case | thousand messages/s | MiB/s | CPU us/message | allocations/message |\n\
                 |---|---|---|---|---|\n"
            }
            Work::RoundTrip => {
                "| case | us p50 | p99 | p99.9 | CPU us/round trip | allocations/round trip |\n\
                 |---|---|---|---|---|---|\n"
            }
        });
        let mut figures: Vec<&Figure> = results.figures.iter().collect();
        figures.retain(|it| it.step == *step);
        figures.sort_by_key(|it| it.mechanism);
        for figure in figures {
            if let Some(row) = row(figure) {
                text.push_str(&row);
            }
        }
    }
    if !results.missing.is_empty() {
        text.push_str("\n## Not measured\n\n");
        for missing in &results.missing {
            let _ = writeln!(text, "- {}: {}", missing.case, missing.reason);
        }
    }
    text
}

/// What was measured, where and how.
pub(crate) fn machine(results: &Results) -> String {
    let (machine, plan) = (&results.machine, &results.plan);
    let mut versions = String::new();
    for (name, version) in &results.versions {
        let _ = write!(versions, ", {name} {version}");
    }
    format!(
        "{}, {} processors, {} MiB of memory, Linux {}{versions}. Load when it began: {}. Each \
         figure is the median of {} samples of {} ms, taken in turn, each by two new processes; in \
         brackets the least and the greatest.\n",
        machine.cpu,
        machine.cpus,
        machine.memory >> 20,
        machine.kernel,
        machine.load,
        plan.repetitions,
        plan.run_ms,
    )
}

fn row(figure: &Figure) -> Option<String> {
    let cpu = number::spread(&figure.cpu()?);
    let allocations = figure.allocations.map_or("-".to_owned(), number::short);
    let case = &figure.case;
    Some(match figure.latency() {
        Some([p50, p99, p999]) => format!(
            "| {case} | {} | {} | {} | {cpu} | {allocations} |\n",
            number::spread(&p50),
            number::short(p99.median),
            number::short(p999.median),
        ),
        None => {
            let rate = figure.rate()?;
            let mib = rate.median * figure.step.size as f64 / f64::from(1 << 20);
            format!(
                "| {case} | {} | {} | {cpu} | {allocations} |\n",
                number::spread(&number::scaled(&rate, 1e-3)),
                number::short(mib),
            )
        }
    })
}
