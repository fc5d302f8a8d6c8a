//! The report as one page that needs nothing else: bars in SVG, light and dark.

use std::fmt::{self, Display, Formatter, Write};

use aqueduct_measure::stats::Spread;
use aqueduct_measure::{Cost, Figure, Mechanism, Results, Step, Work};

use crate::{goals, markdown, number};

/// Pixels.
const ROW: f64 = 20.0;
const NAME: f64 = 215.0;
const BAR: f64 = 450.0;
const VALUE: f64 = 300.0;
/// What the scale below the bars takes.
const SCALE: f64 = 24.0;

/// Rows of ours that are shown among those of other libraries, to compare.
const BESIDE: [&str; 2] = ["aqueduct/unix/feed", "aqueduct/unix/postcard"];

const STYLE: &str = "
:root { color-scheme: light dark; --text: #1d2129; --soft: #656d76; --paper: #fff; --line: #d8dee4;
  --raw: #8c959f; --tokio: #c4762a; --aqueduct: #1f6feb; --peer: #c2568f;
  --met: #1a7f37; --missed: #cf222e; }
@media (prefers-color-scheme: dark) { :root { --text: #e6edf3; --soft: #9198a1; --paper: #0d1117;
  --line: #30363d; --raw: #6e7681; --tokio: #d08b49; --aqueduct: #4493f8; --peer: #e58fba;
  --met: #3fb950; --missed: #f85149; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--text); background: var(--paper);
  max-width: 980px; margin: 2rem auto; padding: 0 1rem; }
h2 { margin: 2.5rem 0 .25rem; } h3 { margin: 1.25rem 0 0; font-size: 1rem; }
p, .soft { color: var(--soft); } .key span { margin-right: 1.25rem; }
.key i { display: inline-block; width: .8em; height: .8em; margin-right: .35em; }
svg { display: block; width: 100%; min-width: 800px; height: auto; } svg text { font-size: 12px; fill: var(--text); }
svg .value { fill: var(--soft); stroke: var(--paper); stroke-width: 3px; paint-order: stroke; }
.grid { stroke: var(--line); } .whisker { stroke: var(--text); stroke-width: 1.2; opacity: .7; }
.raw { fill: var(--raw); background: var(--raw); }
.tokio { fill: var(--tokio); background: var(--tokio); }
.aqueduct { fill: var(--aqueduct); background: var(--aqueduct); }
.peer { fill: var(--peer); background: var(--peer); }
table { border-collapse: collapse; font-size: 12.5px; } td, th { padding: .2rem .7rem .2rem 0;
  border-bottom: 1px solid var(--line); text-align: left; white-space: nowrap; }
td.long { white-space: normal; min-width: 9rem; } td.met { color: var(--met); }
td.missed { color: var(--missed); font-weight: 600; } .scroll { overflow-x: auto; }
";

/// The whole page.
pub(crate) fn html(results: &Results) -> String {
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\">\n<meta name=\"viewport\" \
         content=\"width=device-width\">\n<title>Aqueduct: benchmarks</title>\n<style>{STYLE}\
         </style>\n<h1>Aqueduct: benchmarks</h1>\n<p>{}</p>\n",
        Text(&markdown::machine(results)),
    );
    page.push_str("<p class=\"key\">");
    for (class, name) in [
        ("raw", "blocking system calls"),
        ("tokio", "Tokio with tokio-util"),
        ("aqueduct", "Aqueduct"),
        ("peer", "other libraries"),
    ] {
        let _ = write!(page, "<span><i class=\"{class}\"></i>{name}</span>");
    }
    page.push_str("The thin line goes from the least sample to the greatest.</p>\n");
    for step in &results.plan.steps {
        section(&mut page, results, step);
    }
    for of in results.costs.chunk_by(|a, b| a.table == b.table) {
        costs(&mut page, of);
    }
    let goals = table(&goals::markdown(results));
    let _ = write!(page, "<h2>Goals</h2>\n{goals}");
    if !results.missing.is_empty() {
        page.push_str("<h2>Not measured</h2>\n<ul class=\"soft\">\n");
        for (cases, reason) in markdown::missing(results) {
            let _ = writeln!(page, "<li>{}: {}</li>", Text(&cases), Text(reason));
        }
        page.push_str("</ul>\n");
    }
    page
}

fn section(page: &mut String, results: &Results, step: &Step) {
    let (unit, by) = number::unit(step);
    let mut title = number::step(step);
    title[..1].make_ascii_uppercase();
    let better = match step.work {
        Work::OneWay => "More is better.",
        Work::RoundTrip => "Less is better.",
    };
    let _ = writeln!(page, "<h2>{title}</h2>\n<p>{better}</p>");
    for mechanism in [
        Mechanism::Pipe,
        Mechanism::Fifo,
        Mechanism::Unix,
        Mechanism::Shm,
        Mechanism::UnixPacket,
        Mechanism::Tcp,
        Mechanism::Mq,
        Mechanism::Own,
    ] {
        let of = results.figures.iter().filter(|it| it.step == *step);
        let beside = |it: &Figure| BESIDE.contains(&it.case.as_str());
        let of: Vec<&Figure> = match mechanism {
            Mechanism::Own => of
                .filter(|it| it.mechanism == mechanism || beside(it))
                .collect(),
            _ => of.filter(|it| it.mechanism == mechanism).collect(),
        };
        // Ours stand beside others, not by themselves.
        if !of.iter().any(|it| it.mechanism == mechanism) {
            continue;
        }
        let bars: Vec<Bar<'_>> = of.iter().filter_map(|it| Bar::of(it, by)).collect();
        let title = match mechanism {
            Mechanism::Own => "other libraries, and ours over a Unix socket",
            _ => mechanism.name(),
        };
        let _ = writeln!(page, "<h3>{title}</h3>\n{}", chart(&bars, unit));
    }
}

/// One chart where all is in one unit, else one for each column.
fn costs(page: &mut String, of: &[Cost]) {
    let _ = writeln!(page, "<h2>{}</h2>", Text(&of[0].table));
    if of.iter().all(|it| it.unit == of[0].unit) {
        let bars: Vec<Bar<'_>> = of
            .iter()
            .map(|it| Bar::cost(it, format!("{}, {}", it.row, it.column)))
            .collect();
        let _ = writeln!(page, "{}", chart(&bars, &of[0].unit));
        return;
    }
    let row = of[0].row.as_str();
    for column in of.iter().take_while(|it| it.row == row) {
        let bars: Vec<Bar<'_>> = of
            .iter()
            .filter(|it| it.column == column.column)
            .map(|it| Bar::cost(it, it.row.clone()))
            .collect();
        let title = Text(&column.column);
        let _ = writeln!(page, "<h3>{title}</h3>\n{}", chart(&bars, &column.unit));
    }
}

/// One row of a chart.
struct Bar<'a> {
    name: String,
    /// What its colour tells.
    class: &'a str,
    value: Spread,
    /// What stands behind the value.
    more: String,
}

impl<'a> Bar<'a> {
    fn cost(cost: &Cost, name: String) -> Self {
        Self {
            name,
            class: "aqueduct",
            value: cost.value,
            more: String::new(),
        }
    }

    fn of(figure: &'a Figure, by: f64) -> Option<Self> {
        let more = figure.latency().map(|[_, p99, p999]| {
            let [p99, p999] = [p99, p999].map(|it| number::short(it.median));
            format!(", p99 {p99}, p99.9 {p999}")
        });
        Some(Self {
            name: figure.case.clone(),
            class: figure.case.split('/').next()?,
            value: number::scaled(&figure.main()?, by),
            more: more.unwrap_or_default(),
        })
    }
}

/// Bars from zero on, each with its spread: on one scale, which is drawn below them.
fn chart(bars: &[Bar<'_>], unit: &str) -> String {
    let greatest = bars.iter().map(|it| it.value.median).fold(0.0, f64::max);
    // One sample far out must not make all bars short; its line ends at the edge.
    let end = bars.iter().map(|it| it.value.max).fold(0.0, f64::max);
    let end = end.min(greatest * 1.5).max(f64::MIN_POSITIVE);
    let x = |value: f64| NAME + BAR * (value / end).min(1.0);
    let bottom = ROW * bars.len() as f64;
    let (width, height) = (NAME + BAR + VALUE, bottom + SCALE);
    let mut svg = format!(
        "<div class=\"scroll\"><svg viewBox=\"0 0 {width} {height}\" role=\"img\" \
         xmlns=\"http://www.w3.org/2000/svg\">"
    );
    let step = tick(end);
    for at in (0..)
        // Three steps of 0.2 are 0.6000000000000001.
        .map(|n| (f64::from(n) * step * 1e9).round() / 1e9)
        .take_while(|it| *it <= end)
    {
        let _ = write!(
            svg,
            "<line class=\"grid\" x1=\"{0:.1}\" y1=\"0\" x2=\"{0:.1}\" y2=\"{1:.1}\"/>\
             <text class=\"value\" x=\"{0:.1}\" y=\"{2:.1}\" text-anchor=\"middle\">{at}</text>",
            x(at),
            bottom + 4.0,
            bottom + 17.0,
        );
    }
    let _ = write!(
        svg,
        "<text class=\"value\" x=\"{:.0}\" y=\"{:.1}\">{}</text>",
        NAME + BAR + 30.0,
        bottom + 17.0,
        Text(unit),
    );
    for (row, bar) in bars.iter().enumerate() {
        let (spread, class) = (&bar.value, bar.class);
        let top = ROW * row as f64;
        let (middle, base) = (top + ROW / 2.0, top + ROW * 0.7);
        let (from, to) = (x(spread.min), x(spread.max));
        let _ = write!(
            svg,
            "<text x=\"{:.0}\" y=\"{base:.1}\" text-anchor=\"end\">{}</text>\
             <rect class=\"{class}\" x=\"{NAME}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{:.1}\"/>\
             <line class=\"whisker\" x1=\"{from:.1}\" y1=\"{middle:.1}\" x2=\"{to:.1}\" \
             y2=\"{middle:.1}\"/>\
             <text class=\"value\" x=\"{:.0}\" y=\"{base:.1}\">{}{}</text>",
            NAME - 8.0,
            Text(&bar.name),
            top + 3.0,
            x(spread.median) - NAME,
            ROW - 6.0,
            x(spread.max).max(x(spread.median)) + 6.0,
            number::spread(spread),
            bar.more,
        );
    }
    svg.push_str("</svg></div>");
    svg
}

/// The distance of the marks on a scale up to `end`: 1, 2 or 5 of some power of ten.
fn tick(end: f64) -> f64 {
    let rough = end / 5.0;
    let power = 10_f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0].into_iter().find(|it| it * power >= rough);
    // Of numbers below one, without the digits that they are not exact in.
    let step = step.unwrap_or(10.0) * power;
    ((step * 1e9).round() / 1e9).max(1e-9)
}

/// A Markdown table, and the lines around it, as HTML.
fn table(markdown: &str) -> String {
    let mut html = String::from("<div class=\"scroll\"><table>\n");
    for line in markdown.lines() {
        let Some(row) = line.strip_prefix("| ") else {
            continue;
        };
        let cells = row.trim_end_matches('|').split(" | ");
        html.push_str("<tr>");
        for cell in cells {
            let cell = cell.trim().trim_matches('*');
            let class = match cell {
                "met" => "met",
                "not met" => "missed",
                it if it.len() > 30 => "long",
                _ => "",
            };
            let _ = write!(html, "<td class=\"{class}\">{}</td>", Text(cell));
        }
        html.push_str("</tr>\n");
    }
    html.push_str("</table></div>\n");
    let beside = markdown
        .lines()
        .filter(|it| !it.is_empty() && !it.starts_with('|'));
    for line in beside {
        let _ = writeln!(html, "<p>{}</p>", Text(line));
    }
    html
}

/// Text in HTML.
struct Text<'a>(&'a str);

impl Display for Text<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            match c {
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '&' => f.write_str("&amp;")?,
                '"' => f.write_str("&quot;")?,
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chart_is_to_scale_and_text_is_escaped() {
        let of = |value: f64| Spread::of([value]).unwrap();
        let bar = |name: &str, value| Bar {
            name: name.to_owned(),
            class: "raw",
            value: of(value),
            more: String::new(),
        };
        let svg = chart(&[bar("raw/a&b", 100.0), bar("aqueduct/x", 50.0)], "<units>");
        assert!(svg.contains("raw/a&amp;b"), "{svg}");
        for mark in [">0</text>", ">80</text>", ">100</text>", ">&lt;units&gt;<"] {
            assert!(svg.contains(mark), "{mark}: {svg}");
        }
        let width = |it: f64| format!("width=\"{:.1}\" height", BAR * it);
        assert!(
            svg.contains(&width(1.0)) && svg.contains(&width(0.5)),
            "{svg}"
        );
    }

    #[test]
    fn marks_are_as_short_as_they_can_be() {
        let bar = Bar {
            name: "raw/x".to_owned(),
            class: "raw",
            value: Spread::of([0.7]).unwrap(),
            more: String::new(),
        };
        let svg = chart(&[bar], "us");
        assert!(svg.contains(">0.6</text>"), "{svg}");
    }

    #[test]
    fn a_scale_has_few_round_marks() {
        for (end, step) in [(100.0, 20.0), (0.7, 0.2), (58_500.0, 20_000.0), (5.0, 1.0)] {
            assert_eq!(tick(end), step);
        }
        for end in [1e-6, 0.03, 9.99, 1234.5, 7e9] {
            let marks = end / tick(end);
            assert!((2.0..=5.001).contains(&marks), "{end}: {marks}");
        }
        // Where nothing was measured there is still a scale.
        assert!(tick(f64::MIN_POSITIVE) > 0.0);
    }
}
