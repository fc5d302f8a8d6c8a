//! The machine that ran the measurements.

use std::fs;

use serde::{Deserialize, Serialize};

/// The facts about a machine that figures depend on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    /// The processor's name.
    pub cpu: String,
    /// How many processors this process may use.
    pub cpus: usize,
    /// The kernel's release.
    pub kernel: String,
    /// Bytes of memory.
    pub memory: u64,
    /// The load of the last minute when it began.
    pub load: f64,
}

impl Machine {
    /// Describes this machine; unknown facts stay empty.
    pub fn here() -> Self {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        let cpuinfo = read("/proc/cpuinfo");
        let field = |text: &str, name: &str| {
            let line = text.lines().find(|it| it.starts_with(name));
            let value = line.and_then(|it| it.split_once(':'));
            value
                .map(|(_, it)| it.trim().to_owned())
                .unwrap_or_default()
        };
        let memory = field(&read("/proc/meminfo"), "MemTotal");
        let kib = memory
            .split(' ')
            .next()
            .and_then(|it| it.parse::<u64>().ok());
        let load = read("/proc/loadavg");
        Self {
            cpu: field(&cpuinfo, "model name"),
            cpus: std::thread::available_parallelism().map_or(0, usize::from),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            memory: kib.unwrap_or_default() << 10,
            load: load
                .split(' ')
                .next()
                .and_then(|it| it.parse().ok())
                .unwrap_or_default(),
        }
    }
}
