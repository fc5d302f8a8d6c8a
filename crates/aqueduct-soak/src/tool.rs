//! The command `aqueduct`.

use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use aqueduct::child::{Child, Command};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::fault::Fault;
use crate::figures::Figures;
use crate::ledger::Record;
use crate::message;
use crate::process::PATIENCE;

/// The path of the command.
#[derive(Clone, Debug)]
pub(crate) struct Program(Arc<Path>);

impl Program {
    /// Finds it in the directory of the soak.
    pub(crate) fn find() -> anyhow::Result<Self> {
        let program = std::env::current_exe()?.with_file_name("aqueduct");
        let path = program.display();
        anyhow::ensure!(
            program.exists(),
            "{path} is missing: cargo build -p aqueduct-cli"
        );
        Ok(Self(program.into()))
    }

    /// Builds it in the profile of the soak, if Cargo has started the soak.
    pub(crate) fn build() -> anyhow::Result<()> {
        let program = std::env::current_exe()?;
        if let Some(cargo) = std::env::var_os("CARGO")
            && let Some(target) = program.ancestors().nth(2)
        {
            let mut build = std::process::Command::new(cargo);
            build.args(["build", "--quiet", "--package", "aqueduct-cli"]);
            build.arg("--target-dir").arg(target);
            if !cfg!(debug_assertions) {
                build.arg("--release");
            }
            let built = build.status().context("cannot run cargo")?;
            anyhow::ensure!(built.success(), "the command aqueduct cannot be built");
        }
        Ok(())
    }

    /// Starts the command. Its output goes to `name.out` and `name.err` in `notes`.
    pub(crate) fn start(&self, notes: &Path, name: &str, args: &[&str]) -> anyhow::Result<Tool> {
        self.start_with_input(notes, name, args, Stdio::null())
    }

    pub(crate) fn start_with_input(
        &self,
        notes: &Path,
        name: &str,
        args: &[&str],
        input: impl Into<Stdio>,
    ) -> anyhow::Result<Tool> {
        let out = notes.join(format!("{name}.out"));
        let err = notes.join(format!("{name}.err"));
        let append = |path| OpenOptions::new().append(true).create(true).open(path);
        let mut command = Command::new(&*self.0);
        command.args(args).kill_on_drop(true);
        let streams = command.as_tokio_mut();
        streams.stdin(input.into());
        streams.stdout(append(&out)?).stderr(append(&err)?);
        Ok(Tool {
            what: args.join(" "),
            child: command.spawn().context("the command cannot be started")?,
            out,
            err,
        })
    }
}

/// A running command. Its output is appended to what an earlier one has printed.
#[derive(Debug)]
pub(crate) struct Tool {
    what: String,
    child: Child,
    out: PathBuf,
    err: PathBuf,
}

impl Tool {
    fn pid(&self) -> anyhow::Result<Pid> {
        let pid = self.child.id().context("it has ended")?;
        Ok(Pid::from_raw(pid.try_into()?))
    }

    pub(crate) fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        Ok(kill(self.pid()?, signal)?)
    }

    /// Sends `SIGHUP` once the command handles it.
    pub(crate) async fn hang_up(&mut self, figures: &mut Figures) -> anyhow::Result<()> {
        let status = PathBuf::from(format!("/proc/{}/status", self.pid()?));
        let waited = tokio::time::timeout(PATIENCE, async {
            while !catches_hangup(&status) && self.child.try_wait()?.is_none() {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            anyhow::Ok(())
        });
        waited.await.unwrap_or(Ok(()))?;
        if self.child.try_wait()?.is_none() {
            self.signal(Signal::SIGHUP)?;
            figures.did(Fault::HangUp);
        }
        Ok(())
    }

    /// Waits for its exit status.
    pub(crate) async fn code(&mut self, figures: &mut Figures) -> anyhow::Result<Option<i32>> {
        match tokio::time::timeout(PATIENCE, self.child.wait()).await {
            Ok(status) => Ok(status?.code()),
            Err(_) => {
                figures.hung += 1;
                figures.wrong(format!("aqueduct {} hangs: {}", self.what, self.told()));
                self.child.kill().await?;
                Ok(None)
            }
        }
    }

    /// Waits for its exit status, which must be 0.
    pub(crate) async fn finish(&mut self, figures: &mut Figures) -> anyhow::Result<()> {
        let code = self.code(figures).await?;
        if code != Some(0) {
            let (what, told) = (&self.what, self.told());
            figures.wrong(format!("aqueduct {what} ended with {code:?}: {told}"));
        }
        Ok(())
    }

    /// The messages that it and earlier ones have printed.
    pub(crate) fn printed(&self) -> Vec<Record> {
        messages(&self.out)
    }

    /// What it has written to standard error.
    pub(crate) fn told(&self) -> String {
        std::fs::read_to_string(&self.err).unwrap_or_default()
    }

    /// Waits until `lines` are printed, or no more come.
    pub(crate) async fn prints(&mut self, lines: u64) -> anyhow::Result<()> {
        let out = self.out.clone();
        self.until(|| messages(&out).len() as u64, lines).await
    }

    /// Waits until `count` is `enough`, or does not grow any more.
    pub(crate) async fn until(
        &mut self,
        count: impl Fn() -> u64,
        enough: u64,
    ) -> anyhow::Result<()> {
        let (mut before, mut since) = (count(), Instant::now());
        while before < enough && since.elapsed() < PATIENCE && self.child.try_wait()?.is_none() {
            tokio::time::sleep(Duration::from_millis(10)).await;
            let now = count();
            if now != before {
                (before, since) = (now, Instant::now());
            }
        }
        Ok(())
    }
}

/// The lines of a file, read as messages.
pub(crate) fn messages(path: &Path) -> Vec<Record> {
    let text = std::fs::read(path).unwrap_or_default();
    let lines = text.split_inclusive(|it| *it == b'\n');
    // An unterminated line is torn.
    let body = lines.map(|line| line.strip_suffix(b"\n"));
    body.map(|it| it.and_then(message::read)).collect()
}

/// Whether a process handles `SIGHUP`, by its `proc_pid_status(5)`.
fn catches_hangup(status: &Path) -> bool {
    let status = std::fs::read_to_string(status).unwrap_or_default();
    let mask = status.lines().find_map(|it| it.strip_prefix("SigCgt:"));
    let mask = mask.and_then(|it| u64::from_str_radix(it.trim(), 16).ok());
    mask.is_some_and(|it| it >> (Signal::SIGHUP as i32 - 1) & 1 == 1)
}
