//! Which processors the two processes run on.

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

/// Where the two processes run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Placement {
    /// Both on one processor: what the software costs, the figure that repeats best.
    OneCpu,
    /// Each on one of its own: a wake-up crosses over.
    Apart,
    /// Where the scheduler puts them.
    Free,
}

impl Placement {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::OneCpu, Self::Apart, Self::Free];

    /// Puts this process where its side belongs.
    ///
    /// # Errors
    ///
    /// Those of `sched_setaffinity(2)`; there are too few processors.
    pub fn apply(self, second: bool) -> anyhow::Result<()> {
        let nth = match self {
            Self::Free => return Ok(()),
            Self::OneCpu => 0,
            Self::Apart => usize::from(second),
        };
        let this = Pid::from_raw(0);
        let allowed = sched_getaffinity(this)?;
        let mut cpus = (0..CpuSet::count()).filter(|it| allowed.is_set(*it).unwrap_or(false));
        let cpu = cpus.nth(nth);
        let cpu = cpu.ok_or_else(|| anyhow::anyhow!("this needs two processors"))?;
        let mut only = CpuSet::new();
        only.set(cpu)?;
        Ok(sched_setaffinity(this, &only)?)
    }

    /// Its name, as in a file of results.
    pub fn name(self) -> &'static str {
        match self {
            Self::OneCpu => "one-cpu",
            Self::Apart => "apart",
            Self::Free => "free",
        }
    }
}
