//! Processes that send and receive over every mechanism while others are killed, stopped and told to
//! hang up, senders die inside a line, connections are cut, names are removed and replaced, and bits of
//! recordings are flipped. Every message is numbered and has a checksum, every process records what it
//! has sent and received in files that survive it, and all is compared with what the contract allows.
//!
//! ```sh
//! cargo run --release -p aqueduct-soak                  # 60 seconds
//! cargo run --release -p aqueduct-soak -- --seconds 600
//! ```
//!
//! The exit status is 1 if anything was lost beyond the contract, doubled, torn, hung or left behind, or
//! if a kind of fault never happened. Cargo also builds the command, which some lanes run.

mod fault;
mod figures;
mod lane;
mod ledger;
mod message;
mod peer;
mod process;
mod tool;

use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::Parser;
use futures_util::future::{LocalBoxFuture, try_join_all};
use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::wait::{WaitPidFlag, waitpid};
use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};

use crate::figures::Figures;
use crate::lane::{HangUp, Lane, Pair, Place, Recording, Replaced, Shared, Sockets, Torn};
use crate::peer::Part;
use crate::tool::Program;

/// Everything at work at once, and everything going wrong.
#[derive(Debug, Parser)]
struct Args {
    /// How long new sessions are begun; those that are under way then are finished.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Where the randomness begins. (What the kernel's scheduler adds is not repeatable.)
    #[arg(long)]
    seed: Option<u64>,
    /// What a process of the soak does.
    #[arg(long, hide = true)]
    part: Option<String>,
    /// Whether this is the process whose children are measured.
    #[arg(long, hide = true)]
    begun: bool,
}

#[allow(unsafe_code)]
fn main() -> anyhow::Result<ExitCode> {
    // SAFETY: nothing in this program has opened a descriptor yet.
    unsafe { aqueduct::inherited::claim() };
    let args = Args::parse();
    if let Some(part) = args.part {
        let part: Part = serde_json::from_str(&part)?;
        fastrand::seed(u64::from(part.id));
        peer::run(&part)?;
        return Ok(ExitCode::SUCCESS);
    }
    if !args.begun {
        Program::build()?;
        // In a process whose children are those of the soak alone: this one has had those of cargo,
        // which has become it by exec, and getrusage(2) would tell how much the compiler took.
        let status = Command::new(std::env::current_exe()?)
            .args(std::env::args_os().skip(1))
            .arg("--begun")
            .status()?;
        let code = status.code().and_then(|it| it.try_into().ok());
        return Ok(ExitCode::from(code.unwrap_or(1)));
    }
    let seed = args.seed.unwrap_or_else(|| fastrand::u64(..));
    fastrand::seed(seed);
    println!("soak for {} s, seed {seed}", args.seconds);
    let program = Program::find()?;
    // Orphans become children of this process.
    prctl::set_child_subreaper(true)?;
    let mut before = peer::descriptors()?;
    before.extend(peer::standing()?);
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let directory = tempfile::Builder::new()
        .prefix("aqueduct-soak-")
        .tempdir()?;
    let until = Instant::now() + Duration::from_secs(args.seconds);
    let start = Instant::now();
    let mut lanes = runtime.block_on(run(directory.path(), &program, until))?;
    let took = start.elapsed();
    drop(runtime);

    let mut all = Figures::default();
    for (_, figures) in &lanes {
        all.add(figures);
    }
    let leaked = peer::leaked(&before)?;
    if !leaked.is_empty() {
        all.leaked += leaked.len() as u64;
        all.wrong(format!("the soak itself leaked {leaked:?}"));
    }
    if !directory.path().exists() {
        all.wrong("the directory has gone".into());
    }
    match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
        Err(Errno::ECHILD) => {}
        left => {
            all.leaked += 1;
            all.wrong(format!("a process was left behind: {left:?}"));
        }
    }
    for (fault, times) in all.faults.each() {
        if times == 0 {
            all.wrong
                .push(format!("this fault never happened: {fault}"));
        }
    }
    lanes.push(("all", all));
    print!("{}", table(&lanes));
    let Some((_, all)) = lanes.last() else {
        unreachable!("it was just pushed")
    };
    // In KiB, getrusage(2).
    let largest = getrusage(UsageWho::RUSAGE_CHILDREN)?.max_rss();
    println!(
        "{} messages in {:.1} s; largest process {:.1} MiB; a path that was replaced was noticed within \
         {:.2} s",
        all.messages,
        took.as_secs_f64(),
        largest as f64 / 1024.0,
        all.slowest.as_secs_f64(),
    );
    let faults = all
        .faults
        .each()
        .map(|(name, times)| format!("{name} {times}"));
    println!("{}", faults.collect::<Vec<_>>().join(", "));
    if all.wrong.is_empty() {
        println!("nothing beyond what the contract allows");
        return Ok(ExitCode::SUCCESS);
    }
    for what in all.wrong.iter().take(20) {
        println!("wrong: {what}");
    }
    println!("{} things beyond what the contract allows", all.wrong.len());
    println!("notes are kept in {}", directory.keep().display());
    Ok(ExitCode::FAILURE)
}

/// Runs all lanes at the same time.
async fn run(
    directory: &Path,
    program: &Program,
    until: Instant,
) -> anyhow::Result<Vec<(&'static str, Figures)>> {
    use lane::Over;

    // A caught signal gets its default action in new processes, even under nohup(1).
    let _caught = signal(SignalKind::hangup())?;
    let place = |name| Place::new(name, directory, program, until);
    let mut lanes = Vec::new();
    for (name, fifo) in [("pipe", false), ("fifo", true)] {
        lanes.push(run_lane(name, Pair::new(place(name)?, fifo)));
    }
    for (name, over) in [
        ("packets", Over::Packets),
        ("shared-fifo", Over::Fifo),
        ("mq-pool", Over::Queue("pool")),
        ("mq-asyncfd", Over::Queue("asyncfd")),
    ] {
        lanes.push(run_lane(name, Shared::new(place(name)?, over)));
    }
    for name in ["unix", "unixpacket", "shm", "tcp"] {
        lanes.push(run_lane(name, Sockets::new(place(name)?, name)));
    }
    lanes.push(run_lane("sighup", HangUp::new(place("sighup")?)));
    lanes.push(run_lane("torn", Torn::new(place("torn")?)));
    lanes.push(run_lane("replaced", Replaced::new(place("replaced")?)));
    lanes.push(run_lane("recording", Recording::new(place("recording")?)));
    try_join_all(lanes).await
}

/// Runs a lane, for its figures.
fn run_lane(
    name: &'static str,
    lane: impl Lane + 'static,
) -> LocalBoxFuture<'static, anyhow::Result<(&'static str, Figures)>> {
    Box::pin(async move { Ok((name, lane::run(lane).await.context(name)?)) })
}

/// One line for each lane.
fn table(lanes: &[(&str, Figures)]) -> String {
    let mut rows = Vec::new();
    for (name, figures) in lanes {
        let columns = figures.columns();
        if rows.is_empty() {
            let header = columns.iter().map(|(name, _)| (*name).to_owned());
            rows.push((&"lane", header.collect::<Vec<_>>()));
        }
        let numbers = columns.iter().map(|(_, number)| number.to_string());
        rows.push((name, numbers.collect()));
    }
    let mut text = String::new();
    for (name, row) in &rows {
        text += &format!("{name:<12}");
        for (column, cell) in row.iter().enumerate() {
            let width = rows.iter().map(|(_, row)| row[column].len()).max();
            text += &format!(" {cell:>0$}", width.unwrap_or_default());
        }
        text.push('\n');
    }
    text
}
