//! Aqueduct's benchmarks: measures, and makes a report of it.
//!
//! A library too, for a program that brings cases of its own: [`run`].

mod compare;
mod costs;
mod goals;
mod markdown;
mod number;
mod one;
mod page;
mod plot;

use std::fs::{self, File};
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::Context;
use aqueduct_measure::results::Missing;
use aqueduct_measure::{Case, Plan, Results, Runner, implementations, peer};
use clap::{Parser, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};

/// Measures Aqueduct beside system calls and Tokio, and writes results.json, report.md and
/// report.html.
#[derive(Debug, Parser)]
#[command(args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(flatten)]
    measure: Measure,
    #[command(subcommand)]
    command: Option<Action>,
}

#[derive(Debug, clap::Args)]
struct Measure {
    /// The short form: under two minutes.
    #[arg(long)]
    quick: bool,
    /// Only cases whose name contains one of these.
    cases: Vec<String>,
    /// How often each case is measured.
    #[arg(long)]
    repetitions: Option<usize>,
    /// Where the report is written.
    #[arg(long, default_value = "target/bench")]
    out: PathBuf,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Say what changed from one results.json to another, beyond the noise.
    Compare { before: PathBuf, after: PathBuf },
    /// Hold a results.json against the goals.
    Goals { results: PathBuf },
    /// Write the report of a results.json beside it again.
    Render {
        results: PathBuf,
        /// A file to put it into as well, between the lines `<!-- report -->`, or the table in
        /// short between `<!-- in short -->`, and `<!-- end -->`; may be given several times.
        #[arg(long)]
        into: Vec<PathBuf>,
        /// A directory for the picture of the README: `speed-light.svg` and `speed-dark.svg`.
        #[arg(long)]
        pictures: Option<PathBuf>,
    },
    /// Measure only what ends cost besides messages: memory, opening and closing, being many.
    Costs {
        /// Only rows whose name contains one of these, such as `shm`.
        rows: Vec<String>,
        /// The short form.
        #[arg(long)]
        quick: bool,
    },
    /// Run one case in one step, as under a profiler; prints the case, the step, thousand messages a
    /// second, and processor microseconds a message.
    One(one::Args),
    /// The process whose connections do nothing.
    #[command(hide = true)]
    Idle { mechanism: String },
    /// The process that serves a connection for each request.
    #[command(hide = true)]
    Requests {
        server: costs::requests::Server,
        /// How many, for a profiler.
        #[arg(long)]
        requests: Option<usize>,
    },
    /// One process of a sample.
    #[command(hide = true)]
    Peer { spec: String },
}

/// What was built: a `Cargo.lock`, and the packages in it whose versions the report tells.
#[derive(Clone, Copy, Debug)]
pub struct Built<'a> {
    /// The text of the file.
    pub lock: &'a str,
    /// Names of packages.
    pub packages: &'a [&'a str],
}

impl Default for Built<'_> {
    fn default() -> Self {
        Self {
            lock: include_str!("../../../Cargo.lock"),
            packages: &["tokio", "tokio-util"],
        }
    }
}

/// Runs the command line, with more cases than those that need no peer, what there is not, and what
/// it was built of.
///
/// # Errors
///
/// Nothing can be measured, or a file not be read or written.
pub fn run(peers: &[Case], absent: &[Missing], built: Built<'_>) -> anyhow::Result<()> {
    let cases = [&implementations::all()[..], peers].concat();
    let cli = Cli::parse();
    match cli.command {
        None => measure(cli.measure, cases, peers.is_empty(), absent, built),
        Some(Action::Peer { spec }) => peer::run(&spec, &cases, |run| {
            Some(allocation_counter::measure(run).count_total)
        }),
        Some(Action::Compare { before, after }) => {
            print!("{}", compare::text(&read(&before)?, &read(&after)?));
            Ok(())
        }
        Some(Action::Goals { results }) => {
            print!("{}", goals::markdown(&read(&results)?));
            Ok(())
        }
        Some(Action::Costs { quick, rows }) => {
            let mut runner = runner()?;
            let measured = costs::measure(&mut runner, quick, rows);
            let (costs, missing) = runtime()?.block_on(measured);
            print!("{}", markdown::costs(&costs));
            print!("\n{}", goals::of_costs(&costs));
            for missing in missing {
                println!("\nnot measured: {}: {}", missing.case, missing.reason);
            }
            Ok(())
        }
        Some(Action::One(args)) => {
            let mut runner = runner()?;
            let line = runtime()?.block_on(one::measure(&mut runner, &cases, &args))?;
            println!("{line}");
            Ok(())
        }
        Some(Action::Idle { mechanism }) => {
            let figures = runtime()?.block_on(costs::idle(&mechanism))?;
            println!("{}", serde_json::to_string(&figures)?);
            Ok(())
        }
        Some(Action::Requests { server, requests }) => {
            let serving = costs::requests::serve(server, requests);
            println!("{}", serde_json::to_string(&runtime()?.block_on(serving)?)?);
            Ok(())
        }
        Some(Action::Render {
            results,
            into,
            pictures,
        }) => {
            let dir = results.parent().unwrap_or(Path::new(""));
            let results = read(&results)?;
            write(dir, &results)?;
            for path in into {
                let text = fs::read_to_string(&path)
                    .with_context(|| format!("cannot read {}", path.display()))?;
                let text = markdown::put_into(&text, &results)
                    .with_context(|| format!("{} has no place for it", path.display()))?;
                fs::write(&path, text)?;
            }
            for (name, colours) in [("light", plot::LIGHT), ("dark", plot::DARK)] {
                let Some(dir) = &pictures else { break };
                let svg =
                    plot::svg(&results, &colours).context("the picture's cases are missing")?;
                fs::write(dir.join(format!("speed-{name}.svg")), svg)?;
            }
            Ok(())
        }
    }
}

fn measure(
    args: Measure,
    mut cases: Vec<Case>,
    no_peers: bool,
    absent: &[Missing],
    built: Built<'_>,
) -> anyhow::Result<()> {
    let named = |it: &Case| args.cases.iter().any(|part| it.name.contains(part));
    cases.retain(|it| args.cases.is_empty() || named(it));
    let mut plan = if args.quick {
        Plan::quick()
    } else {
        Plan::full()
    };
    plan.repetitions = args.repetitions.unwrap_or(plan.repetitions).max(1);
    let whole = args.cases.is_empty();
    let samples = plan.samples(&cases);
    let minutes = expected(&plan, &cases, whole, args.quick).as_secs_f64() / 60.0;
    eprintln!(
        "{samples} samples of {} cases: about {minutes:.1} minutes",
        cases.len()
    );
    let bar = ProgressBar::new(samples as u64);
    bar.set_style(ProgressStyle::with_template(
        "{pos}/{len} {wide_bar} {eta} {wide_msg}",
    )?);
    let mut runner = runner()?;
    let measured = Results::measure(&mut runner, &cases, plan, true, |case, step| {
        bar.inc(1);
        bar.set_message(format!("{case}, {}", number::step(step)));
    });
    let mut results = runtime()?.block_on(measured)?;
    if whole {
        bar.set_message("what ends cost");
        let (costs, missing) =
            runtime()?.block_on(costs::measure(&mut runner, args.quick, Vec::new()));
        results.costs = costs;
        results.missing.extend(missing);
    }
    bar.finish_and_clear();
    results.missing.extend_from_slice(absent);
    if no_peers {
        results.missing.push(Missing {
            case: "other libraries".to_owned(),
            reason: "this program was built without them".to_owned(),
        });
    }
    results.versions = versions(built);
    fs::create_dir_all(&args.out)?;
    let json = File::create(args.out.join("results.json"))?;
    serde_json::to_writer(BufWriter::new(json), &results)?;
    write(&args.out, &results)?;
    print!("{}", goals::markdown(&results));
    println!("\nThe report: {}", args.out.join("report.html").display());
    Ok(())
}

/// How long it will take: each case and step is sampled so often, and once more to count allocations.
fn expected(plan: &Plan, cases: &[Case], costs: bool, quick: bool) -> Duration {
    /// To start two processes, and to wait for their end.
    const PROCESSES: Duration = Duration::from_millis(30);
    let each = Duration::from_millis(plan.warm_up_ms + plan.run_ms) + PROCESSES;
    let samples = plan.samples(cases) / plan.repetitions * (plan.repetitions + 1);
    let costs = match (costs, quick) {
        (false, _) => 0,
        (true, true) => 21,
        (true, false) => 276,
    };
    each * samples as u32 + Duration::from_secs(costs)
}

fn runner() -> anyhow::Result<Runner> {
    Runner::new(&std::env::current_exe()?, &["peer"])
}

fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
}

/// What was measured with: the compiler and the commit where they can be asked.
fn versions(built: Built<'_>) -> Vec<(String, String)> {
    let said = |program: &str, args: &[&str]| {
        let output = Command::new(program).args(args).output().ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        output.status.success().then(|| text.trim().to_owned())
    };
    let mut versions = vec![(
        "aqueduct".to_owned(),
        said("git", &["rev-parse", "--short", "HEAD"])
            .map_or("of no known commit".to_owned(), |it| {
                format!("at commit {it}")
            }),
    )];
    for name in built.packages {
        let entry = format!("name = \"{name}\"\nversion = \"");
        let rest = built.lock.split_once(&entry);
        let version = rest.and_then(|(_, it)| it.split_once('"'));
        versions.push((
            (*name).to_owned(),
            version.map_or("?", |it| it.0).to_owned(),
        ));
    }
    let compiler = said("rustc", &["--version"]);
    versions.push(("compiler".to_owned(), compiler.unwrap_or_default()));
    versions
}

fn read(path: &Path) -> anyhow::Result<Results> {
    let text = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_slice(&text).with_context(|| format!("{} has no results", path.display()))
}

fn write(dir: &Path, results: &Results) -> anyhow::Result<()> {
    fs::write(dir.join("report.md"), markdown::report(results))?;
    fs::write(dir.join("report.html"), page::html(results))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the documentation says of both. Other libraries, which are not in this program, take about a
    /// fifth more, and building them some minutes.
    #[test]
    fn a_quick_run_is_under_two_minutes_and_a_full_one_under_20() {
        let cases = &implementations::all();
        let quick = expected(&Plan::quick(), cases, true, true);
        assert!(quick.as_secs() < 110, "{quick:?}");
        let full = expected(&Plan::full(), cases, true, false);
        assert!(full.as_secs() < 16 * 60, "{full:?}");
    }
}
