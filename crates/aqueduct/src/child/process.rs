use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::os::fd::RawFd;
use std::process::ExitStatus;
use std::sync::{Arc, OnceLock};

use tracing::Span;

use super::receiver::{Exit, Receiver, StreamEnd, TARGET};
use crate::channel::Channel;
use crate::codec::{Decode, Encode};
use crate::connect::{OpenError, OpenErrorKind};
use crate::frame::Framing;
use crate::pipe;

/// A process that [`Command::spawn`](crate::child::Command::spawn) started.
///
/// Dropping it closes the pipes that were not taken. It does not kill the process, unless
/// [`kill_on_drop`](crate::child::Command::kill_on_drop) is set. Tokio reaps the process when it
/// has exited, as long as this process has a running runtime.
///
/// # Examples
///
/// ```
/// use aqueduct::child::Command;
/// use tokio::io::AsyncReadExt;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> std::io::Result<()> {
/// let mut command = Command::new("echo");
/// command.arg("hello").pipe_from_child(1);
/// let mut child = command.spawn()?;
/// let mut text = String::new();
/// child.take_receiver(1)?.read_to_string(&mut text).await?;
/// assert_eq!(text, "hello\n");
/// assert!(child.wait().await?.success());
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Child {
    process: tokio::process::Child,
    senders: BTreeMap<RawFd, pipe::Sender>,
    receivers: BTreeMap<RawFd, pipe::Receiver>,
    ends: BTreeMap<RawFd, Arc<OnceLock<StreamEnd>>>,
    span: Span,
}

impl Child {
    pub(super) fn new(
        process: tokio::process::Child,
        program: OsString,
        senders: BTreeMap<RawFd, pipe::Sender>,
        receivers: BTreeMap<RawFd, pipe::Receiver>,
    ) -> Self {
        let pid = process.id();
        let span = tracing::debug_span!(target: TARGET, "child", ?program, pid);
        tracing::debug!(target: TARGET, parent: &span, "started");
        Self {
            process,
            senders,
            receivers,
            ends: BTreeMap::new(),
            span,
        }
    }

    /// Returns the process ID; `None` once the exit was waited for.
    #[must_use]
    pub fn id(&self) -> Option<u32> {
        self.process.id()
    }

    /// Takes the writing end of the pipe that the child reads on descriptor `number`.
    ///
    /// The child sees the end of its input when this end is dropped.
    ///
    /// # Errors
    ///
    /// [`NotFound`](OpenErrorKind::NotFound): there was no
    /// [`pipe_to_child`](crate::child::Command::pipe_to_child) of that number, or it was already
    /// taken.
    pub fn take_sender(&mut self, number: RawFd) -> Result<pipe::Sender, OpenError> {
        let sender = self.senders.remove(&number);
        sender.ok_or_else(|| no_pipe(number, "to"))
    }

    /// Takes the reading end of the pipe that the child writes on descriptor `number`.
    ///
    /// It ends soon after the child has exited even if another process holds the pipe open; see
    /// [`Receiver`].
    ///
    /// # Errors
    ///
    /// - [`NotFound`](OpenErrorKind::NotFound): there was no
    ///   [`pipe_from_child`](crate::child::Command::pipe_from_child) of that number, or it was
    ///   already taken.
    /// - `ENOSYS` (before Linux 5.3), `EMFILE`: the exit cannot be watched. The pipe is still there
    ///   for [`take_unbounded_receiver`](Self::take_unbounded_receiver).
    pub fn take_receiver(&mut self, number: RawFd) -> Result<Receiver, OpenError> {
        if !self.receivers.contains_key(&number) {
            return Err(no_pipe(number, "from"));
        }
        let exit = Exit::of(&self.process).map_err(|source| {
            let error = OpenError::system("watch for the exit of", self.object(), source);
            error.with_cure("take the pipe without a bound on its end")
        })?;
        let pipe = self.take_unbounded_receiver(number)?;
        let end = Arc::new(OnceLock::new());
        self.ends.insert(number, Arc::clone(&end));
        Ok(Receiver::new(pipe, exit, end, self.span.clone()))
    }

    /// Takes the reading end without a bound.
    ///
    /// It ends when every process that has the child's end open has closed it, however long after
    /// the child's exit that is.
    ///
    /// # Errors
    ///
    /// [`NotFound`](OpenErrorKind::NotFound), as for [`take_receiver`](Self::take_receiver).
    pub fn take_unbounded_receiver(&mut self, number: RawFd) -> Result<pipe::Receiver, OpenError> {
        let receiver = self.receivers.remove(&number);
        receiver.ok_or_else(|| no_pipe(number, "from"))
    }

    /// Joins two pipes into a typed channel.
    ///
    /// It sends on the child's descriptor `to` and receives from its descriptor `from`. The
    /// receiving side ends as for [`take_receiver`](Self::take_receiver);
    /// [`stream_end`](Self::stream_end) says which end it was.
    ///
    /// # Errors
    ///
    /// As for [`take_sender`](Self::take_sender) and [`take_receiver`](Self::take_receiver); then
    /// neither was taken.
    ///
    /// # Examples
    ///
    /// ```
    /// use aqueduct::child::Command;
    /// use aqueduct::codec::Text;
    /// use aqueduct::frame::Framing;
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> std::io::Result<()> {
    /// let mut command = Command::new("cat");
    /// command.pipe_to_child(0).pipe_from_child(1);
    /// let mut child = command.spawn()?;
    /// let mut cat = child.channel::<String, String, _>(0, 1, Framing::lines(), Text)?;
    /// cat.send("meow".into()).await?;
    /// assert_eq!(cat.recv().await.transpose()?, Some("meow".into()));
    /// cat.close().await?;
    /// assert!(cat.recv().await.is_none());
    /// assert!(child.wait().await?.success());
    /// # Ok(())
    /// # }
    /// ```
    pub fn channel<Out, In, C>(
        &mut self,
        to: RawFd,
        from: RawFd,
        framing: Framing,
        codec: C,
    ) -> Result<Channel<Out, In>, OpenError>
    where
        C: Encode<Out> + Decode<In> + Clone + 'static,
    {
        let sender = self.take_sender(to)?;
        let receiver = match self.take_receiver(from) {
            Ok(receiver) => receiver,
            Err(e) => {
                self.senders.insert(to, sender);
                return Err(e);
            }
        };
        Ok(Channel::new(
            sender.framed(framing.clone()).typed(codec.clone()),
            receiver.framed(framing).typed(codec),
        ))
    }

    /// Returns how the stream from descriptor `number` ended.
    ///
    /// `None` while it goes on, if it was not taken, or if it was dropped before its end.
    #[must_use]
    pub fn stream_end(&self, number: RawFd) -> Option<StreamEnd> {
        self.ends.get(&number)?.get().copied()
    }

    /// Waits until the process has exited, and reaps it.
    ///
    /// Later calls return the same status. `tokio::time::timeout` limits the wait.
    ///
    /// Pipes *to* the child that were not taken are closed first, so that a child that reads its
    /// input to the end can exit. Pipes *from* it must be read meanwhile, or a child that fills one
    /// never exits: join this with the reading.
    ///
    /// # Errors
    ///
    /// `ECHILD`: something else in this process reaped the child, or `SIGCHLD` is ignored;
    /// `waitpid(2)`.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    ///
    /// # Examples
    ///
    /// Wait for the exit and the end of the streams together, and no longer than the grace:
    ///
    /// ```
    /// use std::time::Duration;
    /// use aqueduct::child::{Command, StreamEnd};
    /// use tokio::io::AsyncReadExt;
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> std::io::Result<()> {
    /// // A shell that leaves a process behind which holds its standard output.
    /// let mut command = Command::new("sh");
    /// command.args(["-c", "echo done; sleep 2 &"]).pipe_from_child(1);
    /// let mut child = command.spawn()?;
    /// let mut output = child.take_receiver(1)?;
    /// output.set_grace(Duration::from_millis(10));
    ///
    /// let mut text = String::new();
    /// let (status, read) = tokio::join!(child.wait(), output.read_to_string(&mut text));
    /// read?;
    /// assert!(status?.success());
    /// assert_eq!(text, "done\n");
    /// assert_eq!(output.end(), Some(StreamEnd::Abandoned));
    /// # Ok(())
    /// # }
    /// ```
    pub async fn wait(&mut self) -> io::Result<ExitStatus> {
        self.senders.clear();
        let running = self.process.id();
        let status = self.process.wait().await?;
        if running.is_some() {
            self.log_exit(status);
        }
        Ok(status)
    }

    /// Reaps the process if it has exited, without waiting; `None` while it runs.
    ///
    /// It closes nothing.
    ///
    /// # Errors
    ///
    /// As for [`wait`](Self::wait).
    pub fn try_wait(&mut self) -> io::Result<Option<ExitStatus>> {
        let running = self.process.id();
        let status = self.process.try_wait()?;
        if let (Some(_), Some(status)) = (running, status) {
            self.log_exit(status);
        }
        Ok(status)
    }

    /// Sends `SIGKILL` and waits for the exit.
    ///
    /// Bytes that the child had written can still be read. If the process has already exited this
    /// returns its status.
    ///
    /// # Errors
    ///
    /// `EPERM`: it has changed its user since it was started, `kill(2)`. Otherwise as for
    /// [`wait`](Self::wait).
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: the signal is sent at the first poll; continue with [`wait`](Self::wait).
    pub async fn kill(&mut self) -> io::Result<ExitStatus> {
        self.process.start_kill()?;
        self.wait().await
    }

    /// Returns the inner process, for standard streams that were set to
    /// [`Stdio::piped`](std::process::Stdio::piped).
    pub fn as_tokio_mut(&mut self) -> &mut tokio::process::Child {
        &mut self.process
    }

    /// Its name in errors.
    fn object(&self) -> String {
        match self.id() {
            Some(pid) => format!("process {pid}"),
            None => "a process that was reaped".into(),
        }
    }

    fn log_exit(&self, status: ExitStatus) {
        tracing::debug!(target: TARGET, parent: &self.span, %status, "exited");
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if self.process.id().is_some() {
            tracing::debug!(target: TARGET, parent: &self.span, "dropped before its exit was seen");
        }
    }
}

fn no_pipe(number: RawFd, direction: &str) -> OpenError {
    let object = format!("the pipe {direction} descriptor {number} of the child");
    let cause = "it does not exist, or it was already taken";
    OpenError::new("take", object, OpenErrorKind::NotFound, cause)
        .with_cure("ask for it before the child is spawned, and take it once")
}
