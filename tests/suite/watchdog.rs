//! No test hangs unnoticed: `aqueduct-watchdog`, which `main.rs` starts.

use std::process::Command;
use std::thread;

use crate::support::is_peer;

const HANGS: &str = "watchdog::it_hangs";

/// Blocks its thread, where no timer of a runtime could end it.
#[test]
#[ignore = "it hangs"]
fn it_hangs() {
    while is_peer(HANGS) {
        thread::park();
    }
}

#[test]
fn a_test_that_hangs_ends_the_program_with_its_name() {
    for threads in ["1", "4"] {
        let mut program = Command::new(std::env::current_exe().expect("it has a path"));
        program.args(["--exact", HANGS, "--ignored", "--test-threads", threads]);
        program.env("AQUEDUCT_TEST_PEER", HANGS);
        program.env(aqueduct_watchdog::VARIABLE, "1");
        let output = program.output().expect("it can be run again");
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success());
        assert!(told.contains(HANGS), "{told}");
        assert!(told.contains("still runs after 1 s"), "{told}");
    }
}
