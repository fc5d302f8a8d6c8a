//! What is short is used with care: memory, processes, descriptors, lines on standard error.

use std::process::Stdio;

use nix::sys::signal::Signal;

use crate::support::{Dir, aqueduct, expect, run, start, until_open};

/// The most memory that a process has had, in KiB.
fn peak(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|it| it.strip_prefix("VmHWM:"));
    let words = line.and_then(|it| it.split_whitespace().next());
    words.and_then(|it| it.parse().ok()).expect("it is there")
}

/// Outputs are printed in the order of the messages, so those behind a slow job wait in memory.
#[test]
fn outputs_that_wait_for_a_slow_job_are_bounded_by_bytes() {
    const BIG: usize = 96;
    let dir = Dir::new();
    let fifo = dir.fifo("x");
    let script = "read -r what; case $what in slow) sleep 2;; \
                  *) head -c 1000000 /dev/zero; echo;; esac";
    let mut serve = aqueduct(&["serve", &fifo, "--jobs", "2", "--", "sh", "-c", script]);
    let serve = start(serve.stdin(Stdio::null()));
    until_open(serve.pid(), &dir.path("x"));
    let mut send = aqueduct(&["send", &fifo, "slow"]);
    expect(run(send.args(vec!["big"; BIG])), 0);
    serve.printed(BIG * 1_000_001);
    let peak = peak(serve.pid());
    serve.signal(Signal::SIGTERM);
    let (stdout, _) = expect(serve.finish(), 0);
    assert_eq!(stdout.len(), BIG * 1_000_001);
    assert!(peak < 60_000, "{peak} KiB");
}
