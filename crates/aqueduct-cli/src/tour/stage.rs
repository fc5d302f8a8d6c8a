//! Where the steps are shown, and where their processes come from.

use std::fmt::Display;
use std::io::{self, IsTerminal, PipeReader, PipeWriter, Write};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context;
use indicatif::HumanCount;
use tokio::process::{Child, Command};

use super::tally::Tally;
use crate::report::colors_wanted;

const BOLD: &str = "\x1b[1m";
const GREEN: &str = "\x1b[32m";
const RED: &str = "\x1b[31m";
const DIM: &str = "\x1b[2m";
const PLAIN: &str = "\x1b[0m";

/// The widest line, for a terminal of 80 columns.
const WIDTH: usize = 79;

/// A place to show things, and a directory of one's own.
pub(super) struct Stage {
    program: PathBuf,
    dir: PathBuf,
    colors: bool,
    /// Standard input of the processes that are started.
    lifeline: PipeReader,
    /// Held by this process alone: however it ends, the lifeline ends with it.
    _lifeline: PipeWriter,
}

impl Stage {
    pub(super) fn new(dir: &Path) -> anyhow::Result<Self> {
        let (lifeline, _lifeline) = io::pipe().context("cannot make a pipe")?;
        Ok(Self {
            program: std::env::current_exe().context("cannot find this program's own file")?,
            dir: dir.to_owned(),
            colors: io::stdout().is_terminal() && colors_wanted(),
            lifeline,
            _lifeline,
        })
    }

    /// A path in the private directory.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// This program, to be started once more.
    pub(super) fn program(&self) -> &Path {
        &self.program
    }

    /// Starts this program once more, to play a part of its own. What it prints is collected by
    /// [`tally`].
    pub(super) fn start(&self, role: &str, args: &[&str]) -> anyhow::Result<Child> {
        let mut command = Command::new(&self.program);
        command.args(["tour-peer", role, "--"]).args(args);
        let lifeline = self.lifeline.try_clone();
        let lifeline = lifeline.context("cannot duplicate a descriptor")?;
        command.stdin(lifeline).stdout(Stdio::piped());
        // It must not outlive the step.
        command.kill_on_drop(true);
        command.spawn().context("cannot start a process")
    }

    pub(super) fn title(&self, number: usize, title: &str) -> anyhow::Result<()> {
        self.line(BOLD, &format!("\n{number}. {title}"))
    }

    /// A sentence of explanation.
    pub(super) fn say(&self, text: &str) -> anyhow::Result<()> {
        self.line("", &format!("   {text}"))
    }

    pub(super) fn sent(&self, what: impl Display) -> anyhow::Result<()> {
        self.fact(DIM, "sent", what)
    }

    pub(super) fn received(&self, what: impl Display) -> anyhow::Result<()> {
        self.fact(DIM, "received", what)
    }

    pub(super) fn verified(&self, what: impl Display) -> anyhow::Result<()> {
        self.fact(GREEN, "verified", what)
    }

    pub(super) fn speed(&self, messages: u64, bytes: u64, time: Duration) -> anyhow::Result<()> {
        let seconds = time.as_secs_f64().max(1e-6);
        let rate = HumanCount((messages as f64 / seconds) as u64);
        let mib = bytes as f64 / seconds / f64::from(1 << 20);
        let what = format!("{rate} messages/s, {mib:.1} MiB/s (in {seconds:.2} s)");
        self.fact(DIM, "speed", what)
    }

    pub(super) fn failed(&self, error: &anyhow::Error) -> anyhow::Result<()> {
        self.fact(RED, "FAILED", format_args!("{error:#}"))
    }

    pub(super) fn text(&self, text: &str) -> anyhow::Result<()> {
        self.line("", text)
    }

    fn fact(&self, color: &str, name: &str, what: impl Display) -> anyhow::Result<()> {
        let what = what.to_string();
        // What fits; an error is told whole.
        let room = if color == RED { usize::MAX } else { WIDTH - 15 };
        let mut shown: String = what.chars().take(room).collect();
        if shown.len() < what.len() {
            shown.truncate(shown.char_indices().nth(room - 3).map_or(0, |it| it.0));
            shown.push_str("...");
        }
        if self.colors && !color.is_empty() {
            self.line("", &format!("     {color}{name:<8}{PLAIN}  {shown}"))
        } else {
            self.line("", &format!("     {name:<8}  {shown}"))
        }
    }

    fn line(&self, color: &str, text: &str) -> anyhow::Result<()> {
        let line = if self.colors && !color.is_empty() {
            format!("{color}{text}{PLAIN}\n")
        } else {
            format!("{text}\n")
        };
        let mut stdout = io::stdout().lock();
        let written = stdout.write_all(line.as_bytes());
        match written.and_then(|()| stdout.flush()) {
            // Nobody looks any more: the exit code still says whether all was verified.
            Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            result => result.context("cannot write to standard output"),
        }
    }
}

/// Waits until a process has ended well, and reads its tally.
pub(super) async fn tally(child: Child) -> anyhow::Result<Tally> {
    let output = child.wait_with_output().await?;
    anyhow::ensure!(
        output.status.success(),
        "a process ended with {}",
        output.status
    );
    serde_json::from_slice(&output.stdout).context("a process printed something else")
}

/// A number of messages, as it is shown.
pub(super) fn count(n: u64) -> HumanCount {
    HumanCount(n)
}
