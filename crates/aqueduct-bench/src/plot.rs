//! One picture of messages of 64 B one way, as SVG files for light and for dark pages.

use std::fmt::Write;

use aqueduct_measure::{Placement, Results, Step, Work};

const STEP: Step = Step {
    work: Work::OneWay,
    size: 64,
    placement: Placement::Free,
};
/// Case by mechanism, and what its bar is called.
const BARS: [(&str, &str); 4] = [
    ("raw/{}", "system calls, one a message"),
    ("tokio/{}/feed", "Tokio with tokio-util"),
    ("aqueduct/{}/feed", "Aqueduct"),
    ("aqueduct/{}/borrowed", "Aqueduct, borrowed frames"),
];
const MECHANISMS: [(&str, &str); 4] = [
    ("pipe", "pipe"),
    ("fifo", "FIFO"),
    ("unix", "Unix socket"),
    ("tcp", "TCP"),
];

/// Pixels.
const WIDTH: f64 = 720.0;
const NAME: f64 = 96.0;
const VALUE: f64 = 64.0;
const BAR: f64 = 15.0;
const GAP: f64 = 14.0;
const KEY: f64 = 34.0;

/// The colours of a page.
pub(crate) struct Colours {
    text: &'static str,
    soft: &'static str,
    bars: [&'static str; 4],
}

pub(crate) const LIGHT: Colours = Colours {
    text: "#1d2129",
    soft: "#656d76",
    bars: ["#8c959f", "#c4762a", "#1f6feb", "#0a3069"],
};

pub(crate) const DARK: Colours = Colours {
    text: "#e6edf3",
    soft: "#9198a1",
    bars: ["#6e7681", "#d08b49", "#4493f8", "#a5d6ff"],
};

/// The picture; nothing, if none of its cases was measured.
pub(crate) fn svg(results: &Results, colours: &Colours) -> Option<String> {
    let rate = |case: &str, mechanism: &str| {
        let figure = results.figure(&case.replace("{}", mechanism), STEP)?;
        Some(figure.rate()?.median / 1e6)
    };
    let rates: Vec<[Option<f64>; 4]> = MECHANISMS
        .iter()
        .map(|(mechanism, _)| BARS.map(|(case, _)| rate(case, mechanism)))
        .collect();
    let greatest = rates.iter().flatten().flatten().copied().reduce(f64::max)?;
    let group = BAR * BARS.len() as f64 + GAP;
    let height = KEY + group * MECHANISMS.len() as f64;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" \
         font-family=\"system-ui, sans-serif\" font-size=\"12\">\n\
         <title>Million messages of 64 B a second, one way between two processes</title>\n"
    );
    for (at, ((_, name), fill)) in BARS.iter().zip(colours.bars).enumerate() {
        let x = [0.0, 196.0, 364.0, 464.0][at];
        let _ = writeln!(
            svg,
            "<rect x=\"{x}\" y=\"4\" width=\"10\" height=\"10\" fill=\"{fill}\"/>\
             <text x=\"{}\" y=\"13\" fill=\"{}\">{name}</text>",
            x + 15.0,
            colours.text,
        );
    }
    let _ = writeln!(
        svg,
        "<text x=\"{WIDTH}\" y=\"13\" text-anchor=\"end\" fill=\"{}\">M/s</text>",
        colours.soft
    );
    for (row, ((_, name), rates)) in MECHANISMS.iter().zip(&rates).enumerate() {
        let top = KEY + group * row as f64;
        let _ = writeln!(
            svg,
            "<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\" fill=\"{}\">{name}</text>",
            NAME - 10.0,
            top + (group - GAP) / 2.0 + 4.0,
            colours.text,
        );
        for (at, (rate, fill)) in rates.iter().zip(colours.bars).enumerate() {
            let Some(rate) = rate else { continue };
            let y = top + BAR * at as f64;
            let width = (WIDTH - NAME - VALUE) * rate / greatest;
            let _ = writeln!(
                svg,
                "<rect x=\"{NAME}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{}\" \
                 fill=\"{fill}\"/><text x=\"{:.1}\" y=\"{:.1}\" fill=\"{}\">{rate:.1}</text>",
                BAR - 2.0,
                NAME + width + 6.0,
                y + 11.0,
                colours.soft,
            );
        }
    }
    svg.push_str("</svg>\n");
    Some(svg)
}
