//! The report as Markdown: every figure in tables.

use std::fmt::Write;

use aqueduct_measure::{Cost, Figure, Placement, Results, Step, Work};

use crate::{goals, number};

/// Machine, a summary, goals, and a table for each step.
pub(crate) fn report(results: &Results) -> String {
    let mut text = format!(
        "{}\n## In short\n\n{}\n## Goals\n\n{}",
        machine(results),
        summary(results),
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
    text.push_str(&costs(&results.costs));
    if !results.missing.is_empty() {
        text.push_str("\n## Not measured\n\n");
        for (cases, reason) in missing(results) {
            let _ = writeln!(text, "- {cases}: {reason}");
        }
    }
    text
}

/// A table for each kind of cost.
pub(crate) fn costs(costs: &[Cost]) -> String {
    let mut text = String::new();
    for of in costs.chunk_by(|a, b| a.table == b.table) {
        let mut columns: Vec<String> = of.iter().map(column).collect();
        let rows = of.chunk_by(|a, b| a.row == b.row);
        columns.truncate(rows.clone().map(<[_]>::len).max().unwrap_or(0));
        let _ = write!(
            text,
            "\n## {}\n\n| | {} |\n|---|{}\n",
            of[0].table,
            columns.join(" | "),
            "---|".repeat(columns.len()),
        );
        for row in rows {
            let cells: Vec<String> = row.iter().map(|it| number::spread(&it.value)).collect();
            let _ = writeln!(text, "| {} | {} |", row[0].row, cells.join(" | "));
        }
    }
    text
}

/// What a column has, and in what unit.
fn column(cost: &Cost) -> String {
    match &cost.unit[..] {
        "" => cost.column.clone(),
        unit => format!("{}, {unit}", cost.column),
    }
}

/// A text with what was measured in the places for it; none: it has no such place.
pub(crate) fn put_into(text: &str, results: &Results) -> Option<String> {
    let mut text = text.to_owned();
    let mut places = 0;
    for (name, new) in [("report", report(results)), ("in short", few(results))] {
        let begin = format!("<!-- {name} -->\n");
        let Some(from) = text.find(&begin).map(|it| it + begin.len()) else {
            continue;
        };
        let to = from + text[from..].find("<!-- end -->")?;
        text.replace_range(from..to, &new);
        places += 1;
    }
    (places > 0).then_some(text)
}

/// What could not be measured for one reason, and the reason.
pub(crate) fn missing(results: &Results) -> Vec<(String, &str)> {
    let mut reasons: Vec<(String, &str)> = Vec::new();
    for missing in &results.missing {
        match reasons.iter_mut().find(|it| it.1 == missing.reason) {
            Some((cases, _)) => {
                cases.push_str(", ");
                cases.push_str(&missing.case);
            }
            None => reasons.push((missing.case.clone(), &missing.reason)),
        }
    }
    reasons
}

/// A few medians, narrow enough for a small screen.
fn few(results: &Results) -> String {
    let mut text = String::from(
        "| 64 B | one way, million/s | tokio-util | round trip, \u{b5}s | tokio-util |\n\
         |---|---|---|---|---|\n",
    );
    for (mechanism, name) in [
        ("pipe", "pipe"),
        ("fifo", "FIFO"),
        ("unix", "Unix socket"),
        ("tcp", "TCP"),
    ] {
        let median = |case: String, step, by| {
            let value = results.figure(&case, step).and_then(|it| it.main());
            value.map_or("-".to_owned(), |it| format!("{:.1}", it.median * by))
        };
        let [ours, theirs] = ["aqueduct", "tokio"].map(|it| format!("{it}/{mechanism}/feed"));
        let one_way = small(Work::OneWay, Placement::Free);
        let round_trip = small(Work::RoundTrip, Placement::OneCpu);
        let _ = writeln!(
            text,
            "| {name} | {} | {} | {} | {} |",
            median(ours.clone(), one_way, 1e-6),
            median(theirs.clone(), one_way, 1e-6),
            median(ours, round_trip, 1.0),
            median(theirs, round_trip, 1.0),
        );
    }
    text
}

/// Messages of 64 B.
fn small(work: Work, placement: Placement) -> Step {
    Step {
        work,
        size: 64,
        placement,
    }
}

/// Messages of 64 B: a row for each mechanism.
pub(crate) fn summary(results: &Results) -> String {
    let mut text = String::from(
        "Messages of 64 B. One way: thousand messages a second, both processes where the scheduler \
         puts them. Round trip: microseconds, both on one processor.\n\n\
         | mechanism | system calls | batched by hand | tokio-util | Aqueduct | Aqueduct, borrowed \
         | round trip: system calls | tokio-util | Aqueduct |\n|---|---|---|---|---|---|---|---|---|\n",
    );
    let one_way = small(Work::OneWay, Placement::Free);
    let round_trip = small(Work::RoundTrip, Placement::OneCpu);
    for (mechanism, ours) in [
        ("pipe", "feed"),
        ("fifo", "feed"),
        ("unix", "feed"),
        ("unixpacket", ""),
        ("tcp", "feed"),
        ("mq", "asyncfd"),
    ] {
        let raw = format!("raw/{mechanism}");
        let tokio = format!("tokio/{mechanism}/feed");
        let ours = format!("aqueduct/{mechanism}/{ours}");
        let ours = ours.trim_end_matches('/');
        let cell = |case: &str, step: Step| {
            let figure = results.figure(case, step);
            let value = figure.and_then(|it| it.main());
            let (_, by) = number::unit(&step);
            value.map_or("-".to_owned(), |it| {
                number::spread(&number::scaled(&it, by))
            })
        };
        let _ = writeln!(
            text,
            "| {mechanism} | {} | {} | {} | {} | {} | {} | {} | {} |",
            cell(&raw, one_way),
            cell(&format!("{raw}/batched"), one_way),
            cell(&tokio, one_way),
            cell(ours, one_way),
            cell(&format!("aqueduct/{mechanism}/borrowed"), one_way),
            cell(&raw, round_trip),
            cell(&tokio, round_trip),
            cell(ours, round_trip),
        );
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

#[cfg(test)]
mod tests {
    use aqueduct_measure::stats::Spread;

    use super::*;

    #[test]
    fn costs_are_a_table_for_each_kind() {
        let cost = |row: &str, column: &str, unit: &str, value| Cost {
            table: "Opening".to_owned(),
            row: row.to_owned(),
            column: column.to_owned(),
            unit: unit.to_owned(),
            value: Spread::of([value]).unwrap(),
        };
        let text = costs(&[
            cost("pipe", "time", "us", 1.0),
            cost("pipe", "times", "", 2.0),
            cost("fifo", "time", "us", 3.0),
            cost("fifo", "times", "", 4.0),
        ]);
        let expected = "\n## Opening\n\n| | time, us | times |\n|---|---|---|\n\
                        | pipe | 1.00 [1.00-1.00] | 2.00 [2.00-2.00] |\n\
                        | fifo | 3.00 [3.00-3.00] | 4.00 [4.00-4.00] |\n";
        assert_eq!(text, expected);
    }
}
