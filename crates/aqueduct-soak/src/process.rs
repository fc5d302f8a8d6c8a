//! A process of the soak, as its supervisor sees it.

use std::os::fd::{OwnedFd, RawFd};
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use aqueduct::child::{Child, Command};
use aqueduct::pipe;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::fault::Fault;
use crate::figures::Figures;
use crate::ledger::{self, Progress, Received, Record, Sent};
use crate::peer::{End, Part, Report, Role, STOP_FD};

/// How long a process may take to end by itself before it counts as hung. Generous, since all
/// mechanisms share the machine; only a hang takes as long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(40);

#[derive(Debug)]
pub(crate) struct Process {
    part: Part,
    child: Child,
    stop: Option<pipe::Sender>,
    pub(crate) killed: bool,
}

impl Process {
    /// Starts process `id` with the given descriptors.
    pub(crate) fn start(
        notes: &Path,
        id: u32,
        role: Role,
        pass: impl IntoIterator<Item = (RawFd, OwnedFd)>,
    ) -> anyhow::Result<Self> {
        let part = Part {
            id,
            notes: notes.to_owned(),
            role,
        };
        let mut command = Command::new(std::env::current_exe()?);
        command
            .args(["--part", &serde_json::to_string(&part)?])
            .kill_on_drop(true);
        for (number, fd) in pass {
            command.pass(number, fd);
        }
        let serves = matches!(part.role, Role::Serve { .. } | Role::Collect { .. });
        if serves {
            command.pipe_to_child(STOP_FD);
        }
        let mut child = command.spawn().context("a process cannot be started")?;
        let stop = serves.then(|| child.take_sender(STOP_FD)).transpose()?;
        Ok(Self {
            part,
            child,
            stop,
            killed: false,
        })
    }

    pub(crate) fn id(&self) -> u32 {
        self.part.id
    }

    pub(crate) fn sent(&self) -> Progress {
        Sent::read(&self.note("sent"))
    }

    pub(crate) fn received(&self) -> Vec<Record> {
        self.received_since(0)
    }

    /// What it has received after the first `count` messages.
    pub(crate) fn received_since(&self, count: u64) -> Vec<Record> {
        Received::read(&self.note("received"), count)
    }

    pub(crate) fn answered(&self) -> Vec<Record> {
        Received::read(&self.note("answered"), 0)
    }

    /// How many messages it has taken so far.
    pub(crate) fn count(&self) -> u64 {
        Received::count(&self.note("received"))
    }

    /// How many messages it has handed over or taken so far.
    pub(crate) fn moved(&self) -> u64 {
        self.sent().done + self.count()
    }

    fn note(&self, what: &str) -> std::path::PathBuf {
        ledger::path(&self.part.notes, self.part.id, what)
    }

    /// `SIGKILL`, wherever it is.
    pub(crate) async fn kill(&mut self, figures: &mut Figures) -> anyhow::Result<()> {
        if self.child.try_wait()?.is_none() {
            self.child.kill().await?;
            self.killed = true;
            figures.did(Fault::Kill);
        }
        Ok(())
    }

    /// `SIGSTOP`, and after a moment `SIGCONT`.
    pub(crate) async fn pause(&mut self, figures: &mut Figures) -> anyhow::Result<()> {
        if self.signal(Signal::SIGSTOP)? {
            figures.did(Fault::Stop);
            tokio::time::sleep(Duration::from_millis(fastrand::u64(1..30))).await;
            self.signal(Signal::SIGCONT)?;
        }
        Ok(())
    }

    /// Sends a signal, unless it has ended.
    pub(crate) fn signal(&mut self, signal: Signal) -> anyhow::Result<bool> {
        if self.child.try_wait()?.is_none()
            && let Some(pid) = self.child.id()
        {
            kill(Pid::from_raw(pid.try_into()?), signal)?;
            return Ok(true);
        }
        Ok(false)
    }

    /// Waits until it has received so many messages, or no more come.
    pub(crate) async fn receives(&mut self, messages: u64) -> anyhow::Result<()> {
        while self.count() < messages && self.child.try_wait()?.is_none() {
            let before = self.count();
            self.moves(1).await?;
            if self.count() == before {
                break;
            }
        }
        Ok(())
    }

    /// Tells a server to stop once its clients have gone.
    pub(crate) fn stop(&mut self) {
        self.stop = None;
    }

    /// Waits until it has opened its end, or ended.
    pub(crate) async fn opens(&mut self) -> anyhow::Result<()> {
        let note = self.note(match self.part.role {
            Role::Send { .. } | Role::Call { .. } | Role::Record { .. } => "sent",
            Role::Receive { .. } | Role::Collect { .. } | Role::Serve { .. } => "received",
        });
        let waited = tokio::time::timeout(PATIENCE, async {
            while !note.exists() && self.child.try_wait()?.is_none() {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            anyhow::Ok(())
        });
        waited.await.unwrap_or(Ok(()))
    }

    /// Waits until at least `more` further messages have moved through it, or it has ended.
    pub(crate) async fn moves(&mut self, more: u64) -> anyhow::Result<()> {
        let enough = self.moved() + more;
        let waited = tokio::time::timeout(PATIENCE, async {
            while self.moved() < enough && self.child.try_wait()?.is_none() {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            anyhow::Ok(())
        });
        // One that stands still for so long is found to hang when its end is waited for.
        waited.await.unwrap_or(Ok(()))
    }

    /// Waits for the end of a process that was not killed, and checks what it says of itself.
    pub(crate) async fn finish(
        &mut self,
        figures: &mut Figures,
        allowed: &[End],
    ) -> anyhow::Result<()> {
        if self.killed {
            return Ok(());
        }
        let what = format!("process {} ({:?})", self.part.id, self.part.role);
        let Ok(status) = tokio::time::timeout(PATIENCE, self.child.wait()).await else {
            figures.hung += 1;
            figures.wrong(format!("{what} hangs after {:?}", self.sent()));
            self.child.kill().await?;
            self.killed = true;
            return Ok(());
        };
        let status = status?;
        let report = std::fs::read_to_string(self.note("report"));
        let report = report.ok().and_then(|it| serde_json::from_str(&it).ok());
        let Some(Report { end, leaked }) = report else {
            figures.wrong(format!("{what} ended with {status} and no report"));
            return Ok(());
        };
        if !allowed.contains(&end) {
            figures.wrong(format!("{what} ended as {end:?}, allowed is {allowed:?}"));
        }
        if !leaked.is_empty() {
            figures.leaked += leaked.len() as u64;
            figures.wrong(format!("{what} leaked {leaked:?}"));
        }
        Ok(())
    }
}
