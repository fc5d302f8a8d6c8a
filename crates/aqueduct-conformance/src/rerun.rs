//! The test program once more, as a process of its own.

use std::process::Command;

const ROLE: &str = "AQUEDUCT_CONFORMANCE";

/// The path of a test as the harness lists it, from its module's path.
pub(crate) fn listed(module: &str, test: &str) -> String {
    match module.split_once("::") {
        Some((_crate, path)) => format!("{path}::{test}"),
        None => test.to_owned(),
    }
}

/// The command that runs nothing but `test`, which finds that [`is`] says so.
pub(crate) fn command(test: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("a test has a path"));
    command
        .args([
            "--exact",
            test,
            "--nocapture",
            "--test-threads=1",
            "--quiet",
        ])
        .env(ROLE, test);
    command
}

/// Whether this process was started by [`command`] for `test`.
pub(crate) fn is(test: &str) -> bool {
    std::env::var_os(ROLE).is_some_and(|role| role == test)
}

/// Runs `test` alone and gives what it printed.
pub(crate) fn alone(test: &str, configure: impl FnOnce(&mut Command)) -> String {
    let mut command = command(test);
    configure(&mut command);
    let output = command.output().expect("the test can be run again");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{test} alone:\n{text}\n{errors}");
    text
}
