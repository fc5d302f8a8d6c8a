//! Aqueduct's benchmarks with other libraries in the same run, each in its natural fastest use.

mod interprocess;
mod ipc_channel;

use aqueduct_measure::Case;
use aqueduct_measure::results::Missing;

/// Those that are not here, and why.
const ABSENT: &[(&str, &str)] = &[
    (
        "zmq, nng",
        "their C libraries are built with cmake, which not every machine has",
    ),
    (
        "tarpc, remoc, zeromq, iceoryx2, async-mqueue",
        "their cases are not written yet",
    ),
];

fn main() -> anyhow::Result<()> {
    let cases: Vec<Case> = [ipc_channel::CASES, interprocess::CASES].concat();
    let absent = ABSENT.iter().map(|(case, reason)| Missing {
        case: (*case).to_owned(),
        reason: (*reason).to_owned(),
    });
    aqueduct_bench::run(&cases, &absent.collect::<Vec<_>>())
}
