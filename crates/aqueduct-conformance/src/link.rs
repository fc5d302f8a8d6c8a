use std::future::Future;
use std::io;
use std::process::ExitStatus;

use aqueduct::child::{Child, Command};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::{End, Place, Promises, Side, Transport, deadline};

/// A transport with a process at its other end.
///
/// Every [`Transport`] is one: the process opens [`Side::There`].
pub trait Link {
    /// Returns the promises in which transports differ.
    fn promises(&self) -> Promises;

    /// Opens this end, and starts the process at the other end.
    fn start(&self, place: &Place, far: Far) -> impl Future<Output = io::Result<(End, Process)>>;

    /// Opens the other end, in that process.
    fn far(&self, place: &Place) -> impl Future<Output = io::Result<End>>;
}

impl<T: Transport> Link for T {
    fn promises(&self) -> Promises {
        Transport::promises(self)
    }

    async fn start(&self, place: &Place, far: Far) -> io::Result<(End, Process)> {
        let process = far.spawn()?;
        Ok((self.open(place, Side::Here).await?, process))
    }

    async fn far(&self, place: &Place) -> io::Result<End> {
        self.open(place, Side::There).await
    }
}

/// How to start the process at the other end.
#[derive(Debug)]
pub struct Far(std::process::Command);

impl Far {
    pub(crate) fn new(command: std::process::Command) -> Self {
        Self(command)
    }

    /// Returns the command that does so. Its standard input and output are `/dev/null`; the
    /// environment that it sets must reach the process.
    pub fn into_command(self) -> std::process::Command {
        self.0
    }

    /// Starts the process.
    ///
    /// # Errors
    ///
    /// As for any process.
    pub fn spawn(self) -> io::Result<Process> {
        let command = tokio::process::Command::from(self.0);
        let child = Command::from(command).spawn();
        Ok(Process::from(child.map_err(io::Error::from)?))
    }
}

/// The process at the other end. It is killed when this is dropped.
#[derive(Debug)]
pub struct Process(Child);

impl From<Child> for Process {
    fn from(child: Child) -> Self {
        Self(child)
    }
}

impl Process {
    pub(crate) fn id(&self) -> u32 {
        self.0.id().expect("it was not reaped")
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.id().cast_signed());
        kill(pid, signal).expect("it is ours");
    }

    pub(crate) async fn exit(&mut self) -> ExitStatus {
        deadline(self.0.wait()).await.expect("it can be waited for")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.as_tokio_mut().start_kill();
    }
}
