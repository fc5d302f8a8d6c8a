use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{OwnedFd, RawFd};
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;

use command_fds::{CommandFdExt, FdMapping};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::unistd::pipe2;
use tokio::runtime::Handle;

use crate::child::{Child, Error};
use crate::io::sys::{self, Number};
use crate::pipe;

/// A program to start, with pipes to any of its descriptors.
///
/// What is not set is inherited, as by [`tokio::process::Command`]: standard streams, environment,
/// working directory. Descriptors from 3 on are not, unless [`pass`](Self::pass) maps them.
///
/// # Examples
///
/// ```
/// use aqueduct::child::Command;
/// use tokio::io::AsyncReadExt;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> std::io::Result<()> {
/// let mut command = Command::new("sh");
/// command.args(["-c", "echo to five >&5"]).pipe_from_child(5);
/// let mut child = command.spawn()?;
/// let mut five = String::new();
/// child.take_receiver(5)?.read_to_string(&mut five).await?;
/// assert_eq!(five, "to five\n");
/// assert!(child.wait().await?.success());
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "a command does nothing until it is spawned"]
pub struct Command {
    inner: tokio::process::Command,
    maps: Vec<Map>,
    /// Standard streams that were set through this value.
    stdio: BTreeSet<RawFd>,
}

#[derive(Debug)]
struct Map {
    number: RawFd,
    what: What,
}

#[derive(Debug)]
enum What {
    PipeToChild,
    PipeFromChild,
    Pass(OwnedFd),
}

impl Command {
    /// A command that starts `program`, which is looked for in `PATH` if it has no slash.
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        tokio::process::Command::new(program).into()
    }

    /// Adds one argument.
    pub fn arg(&mut self, arg: impl AsRef<OsStr>) -> &mut Self {
        self.inner.arg(arg);
        self
    }

    /// Adds several arguments.
    pub fn args<S: AsRef<OsStr>>(&mut self, args: impl IntoIterator<Item = S>) -> &mut Self {
        self.inner.args(args);
        self
    }

    /// Sets an environment variable.
    pub fn env(&mut self, key: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> &mut Self {
        self.inner.env(key, value);
        self
    }

    /// Sets the working directory.
    pub fn current_dir(&mut self, dir: impl AsRef<Path>) -> &mut Self {
        self.inner.current_dir(dir);
        self
    }

    /// Sets standard input. Not together with a pipe on 0.
    pub fn stdin(&mut self, stdin: impl Into<Stdio>) -> &mut Self {
        self.stdio.insert(0);
        self.inner.stdin(stdin);
        self
    }

    /// Sets standard output. Not together with a pipe on 1.
    pub fn stdout(&mut self, stdout: impl Into<Stdio>) -> &mut Self {
        self.stdio.insert(1);
        self.inner.stdout(stdout);
        self
    }

    /// Sets standard error. Not together with a pipe on 2.
    pub fn stderr(&mut self, stderr: impl Into<Stdio>) -> &mut Self {
        self.stdio.insert(2);
        self.inner.stderr(stderr);
        self
    }

    /// Sets whether the child is killed when its [`Child`] is dropped. It is not by default.
    ///
    /// It is then killed with `SIGKILL` at once and reaped by Tokio soon after; its own children are
    /// not killed. Nothing is killed when this process dies without dropping the `Child`.
    pub fn kill_on_drop(&mut self, kill: bool) -> &mut Self {
        self.inner.kill_on_drop(kill);
        self
    }

    /// Makes a pipe which the child reads on descriptor `number`;
    /// [`Child::take_sender`] has the parent's end.
    pub fn pipe_to_child(&mut self, number: RawFd) -> &mut Self {
        self.map(number, What::PipeToChild)
    }

    /// Makes a pipe to which the child writes on descriptor `number`;
    /// [`Child::take_receiver`] has the parent's end.
    pub fn pipe_from_child(&mut self, number: RawFd) -> &mut Self {
        self.map(number, What::PipeFromChild)
    }

    /// Gives the child a descriptor of any kind as its descriptor `number`.
    ///
    /// The open file description is shared: a mode such as `O_NONBLOCK` is seen on both sides.
    pub fn pass(&mut self, number: RawFd, fd: impl Into<OwnedFd>) -> &mut Self {
        self.map(number, What::Pass(fd.into()))
    }

    /// The command underneath, for all that has no method here.
    ///
    /// A pipe wins over a standard stream that was set there. A descriptor from 3 on that is to be
    /// inherited must be given to [`pass`](Self::pass): what a `pre_exec` hook maps is closed.
    pub fn as_tokio_mut(&mut self) -> &mut tokio::process::Command {
        &mut self.inner
    }

    /// Starts the program.
    ///
    /// It takes the command, since that holds the child's ends of the pipes: none of them is left
    /// open in this process, whether the start succeeds or not.
    ///
    /// # Errors
    ///
    /// - [`Error::NotFound`], [`Error::NotExecutable`], [`Error::NoDirectory`]: the program cannot be
    ///   started as it is named. Nothing was started.
    /// - [`Error::Duplicate`], [`Error::StdioTaken`], [`Error::BadNumber`]: a descriptor number was
    ///   asked for twice, or cannot be.
    /// - [`Error::Pipe`] (`EMFILE`, `ENFILE`): out of descriptors.
    /// - [`Error::Spawn`] (`EAGAIN`, `ENOMEM`, `E2BIG`, …): out of processes or memory, or the
    ///   arguments are too long.
    /// - [`Error::NoRuntime`].
    pub fn spawn(mut self) -> Result<Child, Error> {
        Handle::try_current().map_err(|_| Error::NoRuntime)?;
        self.check_numbers()?;

        let mut senders = BTreeMap::new();
        let mut receivers = BTreeMap::new();
        let mut mappings = Vec::new();
        for Map { number, what } in self.maps.drain(..) {
            let failed = |source| Error::Pipe { number, source };
            let theirs = match what {
                What::PipeToChild => {
                    let (theirs, ours) = new_pipe().map_err(failed)?;
                    let ours = pipe::Sender::from_owned_fd(ours).map_err(failed)?;
                    senders.insert(number, ours);
                    theirs
                }
                What::PipeFromChild => {
                    let (ours, theirs) = new_pipe().map_err(failed)?;
                    let ours = pipe::Receiver::from_owned_fd(ours).map_err(failed)?;
                    receivers.insert(number, ours);
                    theirs
                }
                What::Pass(fd) => fd,
            };
            mappings.push(FdMapping {
                parent_fd: theirs,
                child_fd: number,
            });
        }
        let program = self.inner.as_std().get_program().to_owned();
        let process = self
            .spawn_mapped(mappings)
            .map_err(|failure| self.explain(program.clone(), failure))?;
        // With the child's ends.
        drop(self);
        Ok(Child::new(process, program, senders, receivers))
    }

    fn map(&mut self, number: RawFd, what: What) -> &mut Self {
        self.maps.push(Map { number, what });
        self
    }

    fn check_numbers(&self) -> Result<(), Error> {
        let mut seen = BTreeSet::new();
        for &Map { number, .. } in &self.maps {
            if number < 0 {
                return Err(Error::BadNumber { number });
            }
            if !seen.insert(number) {
                return Err(Error::Duplicate { number });
            }
            if self.stdio.contains(&number) {
                return Err(Error::StdioTaken { number });
            }
        }
        Ok(())
    }

    fn spawn_mapped(&mut self, mappings: Vec<FdMapping>) -> Result<tokio::process::Child, Failure> {
        // std keeps the standard streams occupied itself.
        let numbers = mappings.iter().map(|it| it.child_fd).filter(|it| *it > 2);
        let numbers: Arc<[Number]> = numbers.map(Number::new).collect();
        let filling = new_pipe()?.0;
        // Hooks run in this order: first everything is closed on exec, then the mapped are not.
        sys::seal(&mut self.inner, sys::Seal::new()?, Arc::clone(&numbers));
        self.inner
            .fd_mappings(mappings)
            .map_err(|e| io::Error::new(io::ErrorKind::InvalidInput, e))?;
        let mut tries = 0;
        loop {
            // Only when the child has begun may the numbers be used for something else.
            let _held = occupy(&filling, &numbers)?;
            match self.inner.spawn() {
                Err(e) if e.raw_os_error() == Some(sys::CHANGED_HANDS) && tries < MOST_TRIES => {
                    tries += 1;
                }
                spawned => return Ok(spawned?),
            }
        }
    }

    /// Finds out what a refusal of the system means.
    fn explain(&self, program: OsString, failure: Failure) -> Error {
        let source = match failure {
            Failure::Start(source) => source,
            Failure::Number { number, source } => {
                return match source.raw_os_error() {
                    Some(libc::EINVAL) => Error::BadNumber { number },
                    _ => Error::Pipe { number, source },
                };
            }
        };
        let dir = self.inner.as_std().get_current_dir();
        match source.raw_os_error().map(Errno::from_raw) {
            Some(Errno::ENOENT | Errno::ENOTDIR) => match dir.filter(|dir| !dir.is_dir()) {
                Some(dir) => Error::NoDirectory {
                    program,
                    dir: dir.to_owned(),
                    source,
                },
                None => Error::NotFound { program, source },
            },
            Some(Errno::EACCES | Errno::ENOEXEC | Errno::ETXTBSY) => {
                Error::NotExecutable { program, source }
            }
            _ => Error::Spawn { program, source },
        }
    }
}

impl From<tokio::process::Command> for Command {
    fn from(inner: tokio::process::Command) -> Self {
        Self {
            inner,
            maps: Vec::new(),
            stdio: BTreeSet::new(),
        }
    }
}

/// The reading and the writing end, both blocking: the child gets one of them as it is.
fn new_pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(pipe2(OFlag::O_CLOEXEC)?)
}

/// Makes sure that each number is in use in this process while the child is started, see [`Number`]: by
/// a duplicate of `filling`, which is returned, or by whatever has it already.
fn occupy(filling: &OwnedFd, numbers: &[Number]) -> Result<Vec<OwnedFd>, Failure> {
    let mut held = Vec::new();
    for it in numbers {
        let number = it.number();
        loop {
            let duplicate = sys::duplicate_to(filling, number);
            held.extend(duplicate.map_err(|source| Failure::Number { number, source })?);
            // Unless another thread, which had it, has just closed it.
            if it.note().is_ok() {
                break;
            }
        }
    }
    Ok(held)
}

/// How often a child is started anew because another thread has closed what had one of its numbers.
const MOST_TRIES: u32 = 100;

/// What went wrong.
enum Failure {
    Start(io::Error),
    /// In keeping a number occupied.
    Number {
        number: RawFd,
        source: io::Error,
    },
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Start(error)
    }
}
