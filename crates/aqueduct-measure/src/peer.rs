//! One of the two processes of a sample.

use std::io::{Read, Write};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use nix::sys::prctl;
use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};

use crate::case::{Case, Work};
use crate::exec::Exec;
use crate::placement::Placement;
use crate::session::{CountAllocations, Session};

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Side {
    /// It sends, or starts the round trips.
    First,
    /// It receives, or answers. It is started first, and binds if the mechanism requires it.
    Second,
}

/// What one side is to do.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Spec {
    /// The name of the case.
    pub case: String,
    /// Which side this is.
    pub side: Side,
    /// One way or round trip.
    pub work: Work,
    /// Bytes a message.
    pub size: usize,
    /// Where it runs.
    pub placement: Placement,
    /// How many milliseconds before what counts.
    pub warm_up_ms: u64,
    /// How many milliseconds count.
    pub run_ms: u64,
    /// Whether allocations are counted; it is not a timed sample then.
    pub count_allocations: bool,
    /// How many first sides there are.
    pub senders: u64,
    /// How many second sides there are.
    pub receivers: u64,
    /// How many microseconds pass from one message to the next, one way; none: as few as can be.
    pub pace_us: u64,
    /// A directory for what has a place in the file system.
    pub dir: PathBuf,
    /// A name that no other sample has: for queues.
    pub name: String,
    /// What the second side has said it is bound to.
    pub address: String,
}

impl Spec {
    pub(crate) fn warm_up(&self) -> Duration {
        Duration::from_millis(self.warm_up_ms)
    }

    pub(crate) fn run_time(&self) -> Duration {
        Duration::from_millis(self.run_ms)
    }

    /// A path in the directory of the sample.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }
}

/// What the second side says when the first may start, followed by its address.
pub(crate) const READY: &str = "ready ";
/// What a first side of several says when it has its end; it then waits for the end of its input.
pub(crate) const TOGETHER: &str = "together";

/// Says that the first side may start, and where it is to connect.
///
/// # Errors
///
/// Nobody listens.
pub fn ready(address: &str) -> anyhow::Result<()> {
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{READY}{address}")?;
    Ok(stdout.flush()?)
}

/// Says that this sender could begin, and waits until all of them can.
pub(crate) fn together() -> anyhow::Result<()> {
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{TOGETHER}")?;
    stdout.flush()?;
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}

/// Runs one side and prints its measurements.
///
/// This is the `main` of the process that a [`Runner`](crate::Runner) starts.
///
/// # Errors
///
/// The specification makes no sense; what the case reports.
pub fn run(spec: &str, cases: &[Case], count: CountAllocations) -> anyhow::Result<()> {
    // Whoever started this may be killed; this must not wait for ever then.
    prctl::set_pdeathsig(Signal::SIGKILL)?;
    let spec: Spec = serde_json::from_str(spec).context("not a specification")?;
    let case = cases.iter().find(|it| it.name == spec.case);
    let case = case.with_context(|| format!("there is no case {:?}", spec.case))?;
    spec.placement.apply(spec.side == Side::Second)?;
    let exec = Exec::new(case.runtime)?;
    let session = Session::new(spec, exec, count);
    let report = (case.run)(&session)?;
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{}", serde_json::to_string(&report)?)?;
    Ok(stdout.flush()?)
}
