//! [`Started`]: starting the program for a message.

use std::ffi::OsString;

use anyhow::Context;
use aqueduct::child::{self, Child, Command};
use aqueduct::connect::Message;
use aqueduct::pipe;

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
