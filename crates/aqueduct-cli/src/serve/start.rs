//! [`Started`]: starting the program for a message.

use std::error::Error;
use std::ffi::OsString;
use std::fmt::{self, Display, Formatter};
use std::io;

use anyhow::Context;
use aqueduct::child::{self, Child, Command};
use aqueduct::connect::Message;
use aqueduct::{OpenError, pipe};
use nix::errno::Errno;

use super::facts::Facts;
use super::group::Group;

/// A program at work on a message.
pub(super) struct Started {
    pub(super) child: Child,
    pub(super) group: Group,
    pub(super) input: pipe::Sender,
    pub(super) stdout: child::Receiver,
}

impl Started {
    pub(super) fn try_new(
        command: &[OsString],
        facts: &Facts,
        message: &Message,
        attempt: u32,
    ) -> anyhow::Result<Self> {
        let (program, args) = command.split_first().context("there is no CMD")?;
        let mut command = Command::new(program);
        command.args(args).pipe_to_child(0).pipe_from_child(1);
        facts.tell(&mut command, message, attempt);
        command.kill_on_drop(true);
        // Ctrl-C at the terminal is for this process, which lets those at work finish.
        command.as_tokio_mut().process_group(0);
        let mut child = command.spawn()?;
        Ok(Self {
            group: Group::of(&child),
            input: child.take_sender(0)?,
            stdout: child.take_receiver(1)?,
            child,
        })
    }
}

/// The service was stopped while no program could be started.
#[derive(Debug)]
pub(super) struct GivenUp;

impl Display for GivenUp {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("stopped before it could be started")
    }
}

impl Error for GivenUp {}

/// What helps, if an error is a shortage of this process or system, which may pass.
pub(super) fn shortage(error: &anyhow::Error) -> Option<&'static str> {
    let errno = error.chain().find_map(|cause| {
        let opening = cause.downcast_ref::<OpenError>();
        let io = cause.downcast_ref::<io::Error>();
        opening
            .or(io.and_then(OpenError::of))
            .and_then(OpenError::raw_os_error)
            .or(io.and_then(io::Error::raw_os_error))
    })?;
    match Errno::from_raw(errno) {
        Errno::EMFILE => Some("raise its limit on open files (ulimit -n)"),
        Errno::ENFILE => Some("raise the system's limit on open files (sysctl fs.file-max)"),
        Errno::EAGAIN => {
            Some("raise the limit on processes (ulimit -u, or pids.max of its cgroup)")
        }
        Errno::ENOMEM => Some("free some memory"),
        Errno::ENOSPC => Some("raise the limit on watches (sysctl fs.epoll.max_user_watches)"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shortage_is_recognised_in_any_error() {
        for (errno, cure) in [
            (Errno::EMFILE, Some("ulimit -n")),
            (Errno::EAGAIN, Some("ulimit -u")),
            (Errno::ENOMEM, Some("memory")),
            (Errno::ENOENT, None),
            (Errno::EACCES, None),
        ] {
            let error = anyhow::Error::new(io::Error::from(errno)).context("cannot start it");
            let found = shortage(&error);
            assert_eq!(found.is_some(), cure.is_some(), "{errno}");
            assert!(found.unwrap_or_default().contains(cure.unwrap_or_default()));
        }
    }
}
