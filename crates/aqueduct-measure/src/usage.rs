//! What a process has cost.

use std::ops::{AddAssign, Sub};

use nix::sys::resource::{Resource, UsageWho, getrlimit, getrusage, setrlimit};
use nix::sys::time::TimeValLike;
use serde::{Deserialize, Serialize};

/// Processor time, page faults and waits of this process, by `getrusage(2)`, and its writes, by
/// `/proc/self/io`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Usage {
    /// Microseconds of processor time, user and system, of all threads.
    pub cpu_us: f64,
    /// Page faults that needed no I/O.
    pub faults: u64,
    /// How often a thread waited.
    pub waits: u64,
    /// Calls of `write(2)` and its like, those of `send(2)` left out; none where the kernel does not
    /// count them.
    pub writes: u64,
}

impl Usage {
    /// What it has cost so far.
    ///
    /// # Errors
    ///
    /// Those of `getrusage(2)`.
    pub fn now() -> nix::Result<Self> {
        let usage = getrusage(UsageWho::RUSAGE_SELF)?;
        let cpu = usage.user_time() + usage.system_time();
        Ok(Self {
            cpu_us: cpu.num_microseconds() as f64,
            faults: usage.minor_page_faults().unsigned_abs(),
            waits: usage.voluntary_context_switches().unsigned_abs(),
            writes: writes().unwrap_or(0),
        })
    }
}

fn writes() -> Option<u64> {
    let io = std::fs::read_to_string("/proc/self/io").ok()?;
    let count = io.lines().find_map(|it| it.strip_prefix("syscw: "))?;
    count.parse().ok()
}

/// Allows this process as many descriptors as the system lets it; returns how many.
///
/// # Errors
///
/// Those of `setrlimit(2)`.
pub fn allow_descriptors() -> nix::Result<u64> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    Ok(hard)
}

impl AddAssign for Usage {
    fn add_assign(&mut self, other: Self) {
        self.cpu_us += other.cpu_us;
        self.faults += other.faults;
        self.waits += other.waits;
        self.writes += other.writes;
    }
}

impl Sub for Usage {
    type Output = Self;

    fn sub(self, before: Self) -> Self {
        Self {
            cpu_us: self.cpu_us - before.cpu_us,
            faults: self.faults.saturating_sub(before.faults),
            waits: self.waits.saturating_sub(before.waits),
            writes: self.writes.saturating_sub(before.writes),
        }
    }
}
