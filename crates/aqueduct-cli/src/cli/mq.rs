//! Arguments of `aqueduct mq`.

use clap::{Args, Subcommand};

use crate::quantity;

const MQ_EXAMPLES: &str = "\
Examples:
  aqueduct mq limits                                # what fits, what to change
  aqueduct mq create /jobs --capacity 10 --max-message 1KiB
  aqueduct mq list --json | jq -r 'select(.messages > 0).name'
  aqueduct mq unlink mq:/jobs

A queue is named /name or by its address, mq:/name.

On a terminal the output is a table. In a pipe or file it is a header and a line
for each row, its fields between tabs and - for unknown values. With --json it
is one object per line.";

const LIST_EXAMPLES: &str = "\
Examples:
  aqueduct mq list
  aqueduct mq list | cut -f 1,2                     # names and messages waiting
  aqueduct mq list --json | jq -r 'select(.owner_name == \"ann\").name'

This needs the queue file system on /dev/mqueue, which root can mount:
  mkdir -p /dev/mqueue && mount -t mqueue none /dev/mqueue";

const INFO_EXAMPLES: &str = "\
Examples:
  aqueduct mq info /jobs
  aqueduct mq info mq:/jobs --json | jq .messages";

const CREATE_EXAMPLES: &str = "\
Examples:
  aqueduct mq create /jobs
  aqueduct mq create /jobs --capacity 10 --max-message 64KiB
  aqueduct mq create 'mq:/jobs?capacity=4&max-message=256&mode=0620'

Flags take precedence over the address, and the address over the system's
defaults. A queue's cost counts against RLIMIT_MSGQUEUE until it is unlinked;
see aqueduct mq limits.";

const UNLINK_EXAMPLES: &str = "\
Examples:
  aqueduct mq unlink /jobs

Its messages are lost. Programs that have it open can still use it, and it
counts against RLIMIT_MSGQUEUE until the last of them closes it.";

const LIMITS_EXAMPLES: &str = "\
Examples:
  aqueduct mq limits
  aqueduct mq limits --json | jq .room.queues       # how many more fit
  aqueduct mq limits --measure                      # create them, to be sure

The prediction is based on the visible queues: those in /dev/mqueue and those
that a process has open.";

/// Manage the message queues of this system.
#[derive(Debug, Args)]
#[command(after_help = MQ_EXAMPLES)]
pub(crate) struct MqArgs {
    #[command(subcommand)]
    pub(crate) command: MqCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum MqCommand {
    /// List the queues and the messages waiting in them.
    #[command(after_help = LIST_EXAMPLES)]
    List(ListArgs),
    /// Show one queue: its size, waiting messages, owner and mode.
    #[command(after_help = INFO_EXAMPLES)]
    Info(NameArgs),
    /// Create a queue, which stays until it is unlinked.
    #[command(after_help = CREATE_EXAMPLES)]
    Create(CreateArgs),
    /// Remove a queue and its messages.
    #[command(after_help = UNLINK_EXAMPLES)]
    Unlink(NameArgs),
    /// Show every limit, its usage, and how many more queues fit.
    #[command(after_help = LIMITS_EXAMPLES)]
    Limits(LimitsArgs),
}

#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    pub(crate) format: Format,
}

#[derive(Debug, Args)]
pub(crate) struct NameArgs {
    /// The queue, /name or mq:/name.
    pub(crate) name: String,
    #[command(flatten)]
    pub(crate) format: Format,
}

#[derive(Debug, Args)]
pub(crate) struct CreateArgs {
    /// The queue, /name or mq:/name.
    pub(crate) name: String,
    /// How many messages it can hold [default: the sysctl fs.mqueue.msg_default].
    #[arg(long, value_name = "N", value_parser = quantity::count)]
    pub(crate) capacity: Option<usize>,
    /// The largest message, such as 1KiB [default: the sysctl fs.mqueue.msgsize_default].
    #[arg(long, value_name = "SIZE", value_parser = quantity::size_of_something)]
    pub(crate) max_message: Option<usize>,
    /// The mode in octal, whatever the umask [default: 0600].
    #[arg(long, value_name = "MODE", value_parser = quantity::mode)]
    pub(crate) mode: Option<u32>,
    #[command(flatten)]
    pub(crate) format: Format,
}

#[derive(Debug, Args)]
pub(crate) struct LimitsArgs {
    /// Create queues until no more fit, then remove them: exact, but for some milliseconds no other
    /// process of this user can create one.
    #[arg(long)]
    pub(crate) measure: bool,
    #[command(flatten)]
    pub(crate) format: Format,
}

#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct Format {
    /// Print JSON, one object per line.
    #[arg(long)]
    pub(crate) json: bool,
}
