//! A hundred writers and twenty readers on one queue and a hundred writers on one FIFO, while processes
//! are killed and stopped and waits are dropped at random.
//!
//! ```sh
//! cargo run --release -p aqueduct-soak --bin aqueduct-crowd                # 60 seconds
//! cargo run --release -p aqueduct-soak --bin aqueduct-crowd -- --seconds 5
//! ```
//!
//! Messages are numbered, and each process notes what it has sent and received in a file that survives
//! it. The exit status is 1 if a message was lost beyond the contract or came twice, or if a process
//! slept beside room or messages for more than 100 ms. For that the traffic pauses again and again:
//! with all writers (or readers) asleep the supervisor makes room (or sends), kills or stops one of
//! them, and waits until the others have used it.

mod crowd;
mod member;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::{Parser, ValueEnum};
use nix::sys::signal::Signal;

use crate::crowd::Crowd;
use crate::member::Member;

/// When a busy machine counts as one on which nothing happens.
const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Debug, Parser)]
struct Args {
    /// For how long.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// How many processes write to each.
    #[arg(long, default_value_t = 100)]
    writers: usize,
    /// How many processes read the queue.
    #[arg(long, default_value_t = 20)]
    readers: usize,
    /// What a process of the crowd does, with its number.
    #[arg(long, hide = true, requires = "number")]
    role: Option<Role>,
    #[arg(long, hide = true)]
    number: Option<u32>,
    #[arg(long, hide = true)]
    directory: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
enum Role {
    QueueWriter,
    QueueReader,
    FifoWriter,
}

/// What all are to do now: the first byte of a file.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Phase {
    Run = 0,
    /// Readers pause: the queue is full.
    Full = 1,
    /// Writers pause: the queue is empty.
    Empty = 2,
    /// Writers end, and readers when nothing is left.
    End = 3,
}

fn main() -> anyhow::Result<ExitCode> {
    let args = Args::parse();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    if let (Some(role), Some(number), Some(directory)) = (args.role, args.number, &args.directory) {
        nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
        fastrand::seed(number.into());
        runtime.block_on(Member::new(directory, number)?.play(role))?;
        return Ok(ExitCode::SUCCESS);
    }
    let directory = tempfile::Builder::new()
        .prefix("aqueduct-crowd-")
        .tempdir()?;
    let mut crowd = Crowd::new(&args, directory.path())?;
    let wrong = runtime.block_on(crowd.run(&args));
    drop(crowd);
    let wrong = wrong?;
    for what in wrong.iter().take(20) {
        println!("wrong: {what}");
    }
    if wrong.is_empty() {
        println!("nothing beyond what the contract allows");
        return Ok(ExitCode::SUCCESS);
    }
    println!("notes are kept in {}", directory.keep().display());
    Ok(ExitCode::FAILURE)
}

fn queue_name(directory: &Path) -> String {
    let name = directory.file_name().unwrap_or_default();
    format!("/{}", name.to_string_lossy())
}

fn message(writer: u32, number: u64) -> [u8; 16] {
    let mut body = [0; 16];
    body[..4].copy_from_slice(&writer.to_le_bytes());
    body[4..12].copy_from_slice(&number.to_le_bytes());
    let check = crc32fast::hash(&body[..12]);
    body[12..].copy_from_slice(&check.to_le_bytes());
    body
}

/// The writer and the number of a message.
fn parse(body: &[u8]) -> anyhow::Result<(u32, u64)> {
    let body: &[u8; 16] = body.try_into().context("a message was cut")?;
    let writer = u32::from_le_bytes(body[..4].try_into()?);
    let number = u64::from_le_bytes(body[4..12].try_into()?);
    anyhow::ensure!(*body == message(writer, number), "a message was damaged");
    Ok((writer, number))
}
