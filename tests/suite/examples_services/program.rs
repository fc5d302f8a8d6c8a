use std::ffi::OsStr;
use std::process::{ExitStatus, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};

use crate::support::{deadline, example};

/// A running example whose three standard streams the test holds. Killed when it is dropped.
pub(super) struct Program {
    name: &'static str,
    process: Child,
    input: Option<ChildStdin>,
    output: Lines<BufReader<ChildStdout>>,
    errors: Lines<BufReader<ChildStderr>>,
}

impl Program {
    pub(super) fn start<S: AsRef<OsStr>>(
        name: &'static str,
        arguments: impl IntoIterator<Item = S>,
    ) -> Self {
        let mut process = Command::from(example(name))
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let output = process.stdout.take().unwrap();
        let errors = process.stderr.take().unwrap();
        Self {
            name,
            input: process.stdin.take(),
            output: BufReader::new(output).lines(),
            errors: BufReader::new(errors).lines(),
            process,
        }
    }

    /// The next line of its standard output; `None` at the end.
    pub(super) async fn line(&mut self) -> Option<String> {
        deadline(self.output.next_line()).await.unwrap()
    }

    /// Reads standard error up to the line that begins so, and returns the rest of that.
    pub(super) async fn error(&mut self, beginning: &str) -> String {
        let mut before = Vec::new();
        while let Some(line) = deadline(self.errors.next_line()).await.unwrap() {
            if let Some(rest) = line.strip_prefix(beginning) {
                return rest.to_owned();
            }
            before.push(line);
        }
        panic!("{}: no {beginning:?} in {before:#?}", self.name);
    }

    /// Types a line.
    pub(super) async fn say(&mut self, line: &str) {
        let input = self.input.as_mut().unwrap();
        let line = format!("{line}\n");
        deadline(input.write_all(line.as_bytes())).await.unwrap();
    }

    /// Ctrl-D.
    pub(super) fn end_input(&mut self) {
        self.input = None;
    }

    pub(super) fn signal(&self, signal: Signal) {
        let pid = self.process.id().unwrap();
        kill(Pid::from_raw(pid as i32), signal).unwrap();
    }

    pub(super) async fn exit(&mut self) -> ExitStatus {
        deadline(self.process.wait()).await.unwrap()
    }

    /// Waits for the exit, which has to be a success, and returns what it had still to print.
    pub(super) async fn succeeds(mut self) -> Vec<String> {
        let status = self.exit().await;
        let mut errors = Vec::new();
        while let Some(line) = deadline(self.errors.next_line()).await.unwrap() {
            errors.push(line);
        }
        assert!(status.success(), "{}: {status}, {errors:#?}", self.name);
        let mut output = Vec::new();
        while let Some(line) = self.line().await {
            output.push(line);
        }
        output
    }
}
