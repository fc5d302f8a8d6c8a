use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::io;
use std::os::fd::{OwnedFd, RawFd};
use std::sync::Arc;

use command_fds::{CommandFdExt, FdMapping};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::unistd::pipe2;
use tokio::runtime::Handle;

use super::process::Child;
use crate::connect::{OpenError, OpenErrorKind};
use crate::io::sys::{self, Number};
use crate::pipe;

/// A program to start, with pipes to any of its descriptors.
///
/// Standard streams, environment and working directory are inherited, as with
/// [`tokio::process::Command`]. Set them through [`as_tokio_mut`](Self::as_tokio_mut), or before
/// the conversion from one. Descriptors from 3 on are not inherited, unless [`pass`](Self::pass)
/// maps them.
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
    /// Creates a command that starts `program`, searched in `PATH` if it has no slash.
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

    /// Sets whether the child is killed when its [`Child`] is dropped (off by default).
    ///
    /// It is killed with `SIGKILL` at once and reaped by Tokio soon after. Its own children are not
    /// killed. Nothing is killed if this process dies without dropping the `Child`.
    pub fn kill_on_drop(&mut self, kill: bool) -> &mut Self {
        self.inner.kill_on_drop(kill);
        self
    }

    /// Creates a pipe that the child reads on descriptor `number`.
    ///
    /// [`Child::take_sender`] returns the parent's end.
    pub fn pipe_to_child(&mut self, number: RawFd) -> &mut Self {
        self.map(number, What::PipeToChild)
    }

    /// Creates a pipe that the child writes on descriptor `number`.
    ///
    /// [`Child::take_receiver`] returns the parent's end.
    pub fn pipe_from_child(&mut self, number: RawFd) -> &mut Self {
        self.map(number, What::PipeFromChild)
    }

    /// Passes a descriptor of any kind to the child as descriptor `number`.
    ///
    /// The open file description is shared: both sides see a mode such as `O_NONBLOCK`.
    pub fn pass(&mut self, number: RawFd, fd: impl Into<OwnedFd>) -> &mut Self {
        self.map(number, What::Pass(fd.into()))
    }

    /// Returns the inner command.
    ///
    /// Use it for environment, working directory and standard streams.
    ///
    /// A pipe takes precedence over a standard stream that is set there. A descriptor from 3 on
    /// that is to be inherited must be given to [`pass`](Self::pass): descriptors that a `pre_exec`
    /// hook maps are closed.
    ///
    /// # Examples
    ///
    /// ```
    /// use aqueduct::child::Command;
    /// use std::process::Stdio;
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> std::io::Result<()> {
    /// let mut command = Command::new("sort");
    /// command.as_tokio_mut().env("LC_ALL", "C").stdin(Stdio::null());
    /// assert!(command.spawn()?.wait().await?.success());
    /// # Ok(())
    /// # }
    /// ```
    pub fn as_tokio_mut(&mut self) -> &mut tokio::process::Command {
        &mut self.inner
    }

    /// Starts the program.
    ///
    /// It consumes the command, which holds the child's ends of the pipes: none of them stays open
    /// in this process, whether the start succeeds or not.
    ///
    /// # Errors
    ///
    /// - [`NotFound`](OpenErrorKind::NotFound) (`ENOENT`): the program or its interpreter does not
    ///   exist.
    /// - [`PermissionDenied`](OpenErrorKind::PermissionDenied) (`EACCES`): it is not executable.
    /// - [`InUse`](OpenErrorKind::InUse) (`ETXTBSY`): a process is writing it.
    /// - [`InvalidOption`](OpenErrorKind::InvalidOption): the working directory does not exist
    ///   (`ENOENT`), or a descriptor number was asked for twice or is not valid.
    /// - [`LimitReached`](OpenErrorKind::LimitReached) (`EMFILE`, `ENFILE`, `EAGAIN`, `ENOMEM`):
    ///   out of descriptors, processes or memory.
    /// - [`NoRuntime`](OpenErrorKind::NoRuntime).
    /// - [`Other`](OpenErrorKind::Other) (`E2BIG`, …): for example, the arguments are too long.
    ///
    /// Nothing was started in these cases.
    pub fn spawn(mut self) -> Result<Child, OpenError> {
        if Handle::try_current().is_err() {
            let cause = "there is no Tokio runtime";
            return Err(self
                .refused(OpenErrorKind::NoRuntime, cause)
                .with_cure("call this inside one"));
        }
        self.check_numbers()?;

        let mut senders = BTreeMap::new();
        let mut receivers = BTreeMap::new();
        let mut mappings = Vec::new();
        for Map { number, what } in self.maps.drain(..) {
            let failed = |source| no_pipe(number, source);
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
            .map_err(|failure| self.explain(failure))?;
        // With the child's ends.
        drop(self);
        Ok(Child::new(process, program, senders, receivers))
    }

    fn map(&mut self, number: RawFd, what: What) -> &mut Self {
        self.maps.push(Map { number, what });
        self
    }

    fn check_numbers(&self) -> Result<(), OpenError> {
        let mut seen = BTreeSet::new();
        for &Map { number, .. } in &self.maps {
            if number < 0 {
                return Err(self.bad_number(number));
            }
            if !seen.insert(number) {
                let cause = format!("descriptor {number} is asked for twice");
                return Err(self
                    .refused(OpenErrorKind::InvalidOption, cause)
                    .with_cure("give each pipe its own number"));
            }
        }
        Ok(())
    }

    fn bad_number(&self, number: RawFd) -> OpenError {
        let cause = format!("a process cannot have a descriptor {number}");
        let error = self.refused(OpenErrorKind::InvalidOption, cause);
        error.with_cure("take a number from 0 up to what `ulimit -n` allows")
    }

    fn refused(&self, kind: OpenErrorKind, cause: impl Into<Cow<'static, str>>) -> OpenError {
        let program = self.inner.as_std().get_program().to_string_lossy();
        OpenError::new("start program", program, kind, cause)
    }

    fn spawn_mapped(&mut self, mappings: Vec<FdMapping>) -> Result<tokio::process::Child, Failure> {
        // std keeps the standard streams occupied itself.
        let numbers = mappings.iter().map(|it| it.child_fd).filter(|it| *it > 2);
        let numbers: Arc<[Number]> = numbers.map(Number::new).collect();
        let filling = new_pipe()?.0;
        // Hooks run in this order: first everything is closed on exec, then the mapped descriptors
        // are not.
        sys::seal(&mut self.inner, sys::Seal::new()?, Arc::clone(&numbers));
        self.inner
            .fd_mappings(mappings)
            .map_err(|e| io::Error::new(io::ErrorKind::InvalidInput, e))?;
        let mut tries = 0;
        loop {
            // The numbers may be used for something else only when the child has begun.
            let _held = occupy(&filling, &numbers)?;
            match self.inner.spawn() {
                Err(e) if e.raw_os_error() == Some(sys::CHANGED_HANDS) && tries < MOST_TRIES => {
                    tries += 1;
                }
                spawned => return Ok(spawned?),
            }
        }
    }

    /// Explains a refusal of the system.
    fn explain(&self, failure: Failure) -> OpenError {
        let source = match failure {
            Failure::Start(source) => source,
            Failure::Number { number, source } => {
                return match source.raw_os_error() {
                    Some(libc::EINVAL) => self.bad_number(number),
                    _ => no_pipe(number, source),
                };
            }
        };
        let dir = self.inner.as_std().get_current_dir();
        let missing_dir = dir.filter(|dir| !dir.is_dir());
        let said = source.to_string();
        let (kind, cause, cure) = match source.raw_os_error().map(Errno::from_raw) {
            Some(Errno::ENOENT | Errno::ENOTDIR) => match missing_dir {
                Some(dir) => (
                    OpenErrorKind::InvalidOption,
                    format!("its working directory {} does not exist", dir.display()),
                    "create the directory, or set another one",
                ),
                None => (
                    OpenErrorKind::NotFound,
                    said,
                    "check the name, PATH and, for a script, the interpreter in its first line",
                ),
            },
            Some(Errno::EACCES) => (
                OpenErrorKind::PermissionDenied,
                said,
                "check that it is executable (chmod +x), and every directory above it accessible",
            ),
            Some(Errno::ETXTBSY) => (OpenErrorKind::InUse, said, "close it where it is written"),
            Some(Errno::EAGAIN) => (
                OpenErrorKind::LimitReached,
                said,
                "stop some processes, or raise `ulimit -u`",
            ),
            _ => {
                let program = self.inner.as_std().get_program().to_string_lossy();
                return OpenError::system("start program", program, source);
            }
        };
        let error = self.refused(kind, cause).with_cure(cure);
        error.with_source(source)
    }
}

impl From<tokio::process::Command> for Command {
    fn from(inner: tokio::process::Command) -> Self {
        Self {
            inner,
            maps: Vec::new(),
        }
    }
}

fn no_pipe(number: RawFd, source: io::Error) -> OpenError {
    let object = format!("the pipe for descriptor {number} of the child");
    OpenError::system("make", object, source)
}

/// The reading and the writing end, both blocking: the child gets one of them unchanged.
fn new_pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(pipe2(OFlag::O_CLOEXEC)?)
}

/// Makes sure that each number is in use in this process while the child is started, see
/// [`Number`]: by a duplicate of `filling`, which is returned, or by an existing descriptor.
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

/// How often a start is repeated because another thread has closed a descriptor with one of the
/// numbers.
const MOST_TRIES: u32 = 100;

/// The cause of a failed start.
enum Failure {
    Start(io::Error),
    /// Keeping a number occupied failed.
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
