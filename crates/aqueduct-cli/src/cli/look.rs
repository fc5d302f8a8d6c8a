//! What can be typed behind `aqueduct list`, `clean` and `doctor`.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, ValueEnum, ValueHint};

use super::mq::Format;

const LIST_EXAMPLES: &str = "\
Examples:
  aqueduct list
  aqueduct list /run/app                            # what is in this directory
  aqueduct list unix:                               # addresses that begin so
  aqueduct list fifo:/run/app/job mq: --sort depth
  aqueduct list --mine --orphaned                   # what clean would remove
  aqueduct list --json | jq -r 'select(.state == \"orphaned\").address'

It looks for FIFOs and sockets in $XDG_RUNTIME_DIR, $TMPDIR and /tmp, in the
directories of this user in them, where the path of a PREFIX leads, and wherever
a process has one open; for queues in /dev/mqueue. A directory whose name begins
like an address is written ./unix:name.

A process is shown as name[number], with r or w if it has a FIFO or queue open
for reading or writing, and opening if it waits for the other side.

State:
  in use     a process has it open, or a socket is bound to it
  waiting    a queue that no process has open, with messages in it
  orphaned   no process has it open, and nothing is in it
  unclear    its mode, or a process that may not be looked into, hides it

Depth is the messages in a queue and how many it holds, or the clients that a
socket has. What is in a FIFO cannot be seen without disturbing it. Processes of
other users can be seen by root alone.";

const CLEAN_EXAMPLES: &str = "\
Examples:
  aqueduct clean                                    # what would be removed
  aqueduct clean --yes
  aqueduct clean --yes /run/app                     # in this directory alone

Removed is what aqueduct list shows as orphaned and made by aqueduct. All that
Aqueduct makes with a name has the sticky bit in its mode; what lacks it is left
alone, and so is a queue with messages in it, unless a killed tour has left it,
and whatever another user owns. It is looked at once more just before it is
removed, under the server's own lock if it is a socket. What root has open can
be seen by root alone; the readers of a FIFO are noticed all the same.";

const DOCTOR_EXAMPLES: &str = "\
Examples:
  aqueduct doctor
  aqueduct doctor --json | jq -r 'select(.state != \"ok\").advice'
  aqueduct doctor || echo something does not work here

Low: it works, but there is little left or it is less than usual. Bad: something
does not work until that is changed; then the exit code is 1.";

#[derive(Debug, Args)]
#[command(after_help = LIST_EXAMPLES)]
pub(crate) struct LookArgs {
    /// Only what is in these directories, and no queues; or what has an address that begins so, such as
    /// unix: or fifo:/run/app.
    #[arg(value_name = "DIR|PREFIX", value_hint = ValueHint::DirPath)]
    pub(crate) places: Vec<OsString>,
    /// What other users own, too.
    #[arg(short, long)]
    pub(crate) all: bool,
    /// Only what this user has made with Aqueduct.
    #[arg(long, conflicts_with = "all")]
    pub(crate) mine: bool,
    /// Only what no process has open and nothing is in.
    #[arg(long)]
    pub(crate) orphaned: bool,
    /// The sort order.
    #[arg(long, value_enum, value_name = "KEY", default_value_t)]
    pub(crate) sort: Sort,
    #[command(flatten)]
    pub(crate) format: Format,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Sort {
    /// By kind, then by address.
    #[default]
    Address,
    /// In use, waiting, orphaned, unclear.
    State,
    /// The most messages or clients first.
    Depth,
}

#[derive(Debug, Args)]
#[command(after_help = CLEAN_EXAMPLES)]
pub(crate) struct CleanArgs {
    /// Only what is in these directories, and no queues.
    #[arg(value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) dirs: Vec<PathBuf>,
    /// Remove it, rather than show what would be removed.
    #[arg(short, long)]
    pub(crate) yes: bool,
    #[command(flatten)]
    pub(crate) format: Format,
}

#[derive(Debug, Args)]
#[command(after_help = DOCTOR_EXAMPLES)]
pub(crate) struct DoctorArgs {
    #[command(flatten)]
    pub(crate) format: Format,
}
