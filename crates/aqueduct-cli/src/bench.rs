//! `aqueduct bench`: measure how fast messages move on this machine.

use std::io::{self, IsTerminal};

use anyhow::Context;
use aqueduct::connect::Options;
use aqueduct::endpoint::Direction;
use aqueduct::{Endpoint, OpenErrorKind};
use aqueduct_measure::{
    Case, Figure, Placement, Plan, Results, Runner, Step, Work, implementations, peer,
};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::cli::{BenchArgs, BenchPeerArgs};
use crate::config;
use crate::exit::{Exit, Failure};
use crate::report::{Report, about};
use crate::signals::Signals;
use crate::stdout;
use crate::table::{Table, cell};

/// The sizes measured for each mechanism; `[0]` is also the length of a round trip's message.
const SIZES: [usize; 3] = [64, 1 << 10, 64 << 10];
/// With no address named: system calls, and Aqueduct beside them.
const CASES: &[&str] = &[
    "raw/pipe",
    "aqueduct/pipe/feed",
    "raw/fifo",
    "aqueduct/fifo/feed",
    "raw/unix",
    "aqueduct/unix/feed",
    "raw/unixpacket",
    "aqueduct/unixpacket",
    "raw/tcp",
    "aqueduct/tcp/feed",
    "raw/mq",
    "aqueduct/mq/asyncfd",
    "aqueduct/mq/pool",
];

/// One of the two processes of a sample.
pub(crate) fn peer(args: &BenchPeerArgs) -> anyhow::Result<Exit> {
    let own = [true, false].map(implementations::address);
    let cases = [&implementations::usual()[..], &own[..]].concat();
    peer::run(&args.spec, &cases, |run| {
        run();
        None
    })?;
    Ok(Exit::Done)
}

pub(crate) async fn run(args: BenchArgs, report: &Report) -> anyhow::Result<Exit> {
    let mut endpoints = Vec::new();
    for address in args.addresses {
        let endpoint = Endpoint::try_from(address)?;
        if endpoint.capabilities().private {
            let sentence = format!(
                "{}: name an address that two processes can open",
                about(&endpoint)
            );
            return Err(Failure::wrong_use(sentence));
        }
        if config::has_datagrams(&endpoint) {
            let sentence = format!(
                "{}: bench measures until the end of the stream, which datagrams do not have",
                about(&endpoint)
            );
            return Err(Failure::wrong_use(sentence));
        }
        endpoints.push(endpoint);
    }
    let mut signals = Signals::new()?;
    let mut made = Vec::new();
    let results = tokio::select! {
        biased;
        () = signals.recv() => Err(anyhow::anyhow!("stopped before the first result")),
        results = measure(&endpoints, &mut made, report) => results,
    };
    for endpoint in made {
        // It may never have been made.
        let _ = endpoint.remove().await;
    }
    let results = results?;
    if args.json {
        return stdout::write_json(&results);
    }
    let missing = || results.iter().flat_map(|it| &it.missing);
    for it in missing() {
        report.note(format_args!("not measured: {}, {}", it.case, it.reason));
    }
    let rows = results.iter().flat_map(rows).collect::<Vec<_>>();
    if rows.is_empty() {
        let why = missing().next().map_or("no case", |it| &it.reason);
        anyhow::bail!("nothing could be measured: {why}");
    }
    let header = [
        "what", "64 B/s", "1 KiB/s", "64 KiB/s", "trip us", "p99", "cpu us",
    ];
    let mut table = Table::new(&header).right(&[1, 2, 3, 4, 5, 6]);
    for row in rows {
        table.row(row);
    }
    table.print()
}

/// All that was asked for; one set of results for each address.
///
/// What has to be removed is in `made`.
async fn measure<'a>(
    endpoints: &'a [Endpoint],
    made: &mut Vec<&'a Endpoint>,
    report: &Report,
) -> anyhow::Result<Vec<Results>> {
    let program = std::env::current_exe().context("cannot find this program")?;
    let mut runner = Runner::new(&program, &["bench-peer"])?;
    let plan = plan();
    let mut sets: Vec<(Option<&Endpoint>, Vec<Case>)> = Vec::new();
    if endpoints.is_empty() {
        let mut cases = implementations::usual();
        cases.retain(|it| CASES.contains(&it.name));
        cases.sort_by_key(|it| CASES.iter().position(|name| *name == it.name));
        sets.push((None, cases));
    }
    for endpoint in endpoints {
        let two_way = endpoint.capabilities().direction != Direction::OneWay;
        sets.push((Some(endpoint), vec![implementations::address(two_way)]));
    }
    let samples: usize = sets.iter().map(|(_, cases)| plan.samples(cases)).sum();
    let bar = bar(samples, report)?;
    let mut all = Vec::new();
    for (endpoint, cases) in sets {
        if let Some(endpoint) = endpoint {
            if is_missing(endpoint).await {
                made.push(endpoint);
            }
            runner.set_address(endpoint.to_string());
        }
        let shown = |case: &Case| endpoint.map_or(case.to_string(), ToString::to_string);
        let before = |case: &Case, _: &Step| {
            bar.inc(1);
            bar.set_message(shown(case));
        };
        let mut results =
            Results::measure(&mut runner, &cases, plan.clone(), false, before).await?;
        if let Some(endpoint) = made.pop() {
            endpoint.remove().await?;
        }
        for figure in &mut results.figures {
            if let Some(endpoint) = endpoint {
                figure.case = endpoint.to_string();
            }
        }
        for missing in &mut results.missing {
            if let Some(endpoint) = endpoint {
                missing.case = endpoint.to_string();
            }
        }
        all.push(results);
    }
    bar.finish_and_clear();
    Ok(all)
}

fn plan() -> Plan {
    let mut steps: Vec<Step> = Vec::new();
    for size in SIZES {
        steps.push(Step {
            work: Work::OneWay,
            size,
            placement: Placement::Free,
        });
    }
    steps.push(Step {
        work: Work::RoundTrip,
        ..steps[0]
    });
    Plan {
        steps,
        ..Plan::quick()
    }
}

/// On a terminal, and where it is not mixed with anything.
fn bar(samples: usize, report: &Report) -> anyhow::Result<ProgressBar> {
    let bar = ProgressBar::new(samples as u64);
    let shown = !report.is_quiet() && io::stderr().is_terminal();
    bar.set_draw_target(if shown {
        ProgressDrawTarget::stderr()
    } else {
        ProgressDrawTarget::hidden()
    });
    bar.set_style(ProgressStyle::with_template("{pos}/{len} {bar:30} {msg}")?);
    Ok(bar)
}

/// A row for each case, in the order of the first step.
fn rows(results: &Results) -> Vec<Vec<String>> {
    let mut names: Vec<&str> = Vec::new();
    for figure in &results.figures {
        if !names.contains(&figure.case.as_str()) {
            names.push(&figure.case);
        }
    }
    let row = |name: &&str| {
        let figure = |step: &Step| results.figure(name, *step);
        let steps = &results.plan.steps;
        let mut row = vec![(*name).to_owned()];
        for step in &steps[..SIZES.len()] {
            let rate = figure(step).and_then(Figure::rate);
            row.push(cell(rate.map(|it| format!("{:.0}", it.median))));
        }
        let trip = figure(&steps[SIZES.len()]).and_then(Figure::latency);
        row.push(cell(trip.map(|[p50, ..]| format!("{:.1}", p50.median))));
        row.push(cell(trip.map(|[_, p99, _]| format!("{:.1}", p99.median))));
        let cpu = figure(&steps[0]).and_then(Figure::cpu);
        row.push(cell(cpu.map(|it| format!("{:.2}", it.median))));
        row
    };
    names.iter().map(row).collect()
}

/// Whether what a measurement makes has to be removed after it: it does not exist yet, and stays.
async fn is_missing(endpoint: &Endpoint) -> bool {
    if !endpoint.capabilities().outlives_processes {
        return false;
    }
    if let Some(path) = endpoint.path() {
        return !path.exists();
    }
    let mut options = Options::new();
    let opened = options.create(false).open_receiver(endpoint).await;
    opened.is_err_and(|error| *error.kind() == OpenErrorKind::NotFound)
}
