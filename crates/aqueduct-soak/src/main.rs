//! Processes that send and receive over every mechanism while others are killed with `SIGKILL`,
//! stopped and continued, connections are cut and names are removed. Every message is numbered and
//! has a checksum, every process notes down what it has sent and received in files that survive it,
//! and all is compared with what the contract allows.
//!
//! ```sh
//! cargo run --release -p aqueduct-soak                  # 60 seconds
//! cargo run --release -p aqueduct-soak -- --seconds 600
//! ```
//!
//! Exit status 1 if anything was lost beyond the contract, doubled, torn, hung or left behind.

mod figures;
mod lane;
mod ledger;
mod message;
mod peer;
mod process;

use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::Parser;
use nix::sys::resource::{UsageWho, getrusage};
use tokio::runtime::Builder;

use crate::figures::Figures;
use crate::lane::{Pair, Place, Shared, Sockets};
use crate::peer::Part;

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
    let mut before = peer::descriptors()?;
    before.extend(peer::standing()?);
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let directory = tempfile::Builder::new()
        .prefix("aqueduct-soak-")
        .tempdir()?;
    let until = Instant::now() + Duration::from_secs(args.seconds);
    let start = Instant::now();
    let mut lanes = runtime.block_on(run(directory.path(), until))?;
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
    lanes.push(("all", all));
    println!("{}", table(&lanes));
    let Some((_, all)) = lanes.last() else {
        unreachable!("it was just pushed")
    };
    // In KiB, getrusage(2).
    let largest = getrusage(UsageWho::RUSAGE_CHILDREN)?.max_rss();
    println!(
        "{} messages and {} kills in {:.1} s; largest process {:.1} MiB",
        all.messages,
        all.kills,
        took.as_secs_f64(),
        largest as f64 / 1024.0
    );
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

async fn run(
    directory: &std::path::Path,
    until: Instant,
) -> anyhow::Result<Vec<(&'static str, Figures)>> {
    use lane::Over;

    let place = |name| Place::new(name, directory, until);
    let pair = async |name, fifo| {
        let mut figures = Figures::default();
        let ran = Pair::new(place(name)?, fifo).run(&mut figures).await;
        ran.context(name)?;
        anyhow::Ok((name, figures))
    };
    let shared = async |name, over| {
        let mut figures = Figures::default();
        let ran = Shared::new(place(name)?, over).run(&mut figures).await;
        ran.context(name)?;
        anyhow::Ok((name, figures))
    };
    let sockets = async |name| {
        let mut figures = Figures::default();
        let ran = Sockets::new(place(name)?, name).run(&mut figures).await;
        ran.context(name)?;
        anyhow::Ok((name, figures))
    };
    let (pipe, fifo, packets, shared_fifo, pool, async_fd, unix, unixpacket, tcp) = tokio::try_join!(
        pair("pipe", false),
        pair("fifo", true),
        shared("packets", Over::Packets),
        shared("shared-fifo", Over::Fifo),
        shared("mq-pool", Over::Queue("pool")),
        shared("mq-asyncfd", Over::Queue("asyncfd")),
        sockets("unix"),
        sockets("unixpacket"),
        sockets("tcp"),
    )?;
    Ok(vec![
        pipe,
        fifo,
        packets,
        shared_fifo,
        pool,
        async_fd,
        unix,
        unixpacket,
        tcp,
    ])
}

/// One line for each mechanism.
fn table(lanes: &[(&str, Figures)]) -> String {
    const HEADER: [&str; 14] = [
        "sessions", "messages", "kills", "stops", "cuts", "breaks", "unlinked", "lost", "may lose",
        "beyond", "doubled", "torn", "hung", "leaked",
    ];
    let mut text = format!("{:<12}", "mechanism");
    for name in HEADER {
        text += &format!(" {name:>8}");
    }
    for (name, it) in lanes {
        text += &format!("\n{name:<12}");
        let numbers: [u64; HEADER.len()] = [
            it.sessions,
            it.messages,
            it.kills,
            it.stops,
            it.cuts,
            it.breaks,
            it.unlinked,
            it.lost,
            it.may_lose,
            it.lost_beyond,
            it.doubled,
            it.torn,
            it.hung,
            it.leaked,
        ];
        for number in numbers {
            text += &format!(" {number:>8}");
        }
    }
    text
}
