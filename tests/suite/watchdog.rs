//! No test hangs unnoticed: `aqueduct-watchdog`, which `main.rs` starts.

use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};
use std::thread;

use crate::support::{Peer, is_peer};

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

#[test]
fn a_process_whose_tests_are_killed_ends() {
    let mut between = Command::new("sh");
    between.args(["-c", "\"$0\" \"$@\" & wait"]);
    between.arg(std::env::current_exe().expect("it has a path"));
    between.args(["--exact", HANGS, "--ignored"]);
    between.env("AQUEDUCT_TEST_PEER", HANGS);
    // It looks every 5 seconds.
    between.env(aqueduct_watchdog::VARIABLE, "20");
    between.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut between = Peer::spawn(&mut between);
    let stdout = between.0.stdout.take().expect("it is a pipe");
    let stdout = BufReader::new(stdout).lines().map_while(Result::ok);
    assert!(stdout.into_iter().any(|it| it == "running 1 test"));
    between.kill();
    let mut told = String::new();
    let mut stderr = between.0.stderr.take().expect("it is a pipe");
    stderr.read_to_string(&mut told).expect("it is text");
    assert_eq!(told, "watchdog: the tests of this process have gone\n");
}
