//! Arguments of `aqueduct list`, `clean` and `doctor`.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, ValueEnum, ValueHint};

use super::address::Address;
use super::mq::Format;

const LIST_EXAMPLES: &str = "\
Examples:
  aqueduct list
  aqueduct list /run/app                            # what is in this directory
  aqueduct list unix:                               # addresses with this prefix
  aqueduct list fifo:/run/app/job mq: --sort depth
  aqueduct list --mine --orphaned                   # what clean would remove
  aqueduct list --json | jq -r 'select(.state == \"orphaned\").address'

FIFOs and sockets are looked for in $XDG_RUNTIME_DIR, $TMPDIR and /tmp, in this
user's directories in them, at the path of a PREFIX, and wherever a process has
one open; queues in /dev/mqueue. Write a directory whose name begins like an
address as ./unix:name.

A process is shown as name[number], with r or w if it has a FIFO or queue open
for reading or writing, and opening if it waits for the other side.

Each connection by shared memory is listed under its shm: address with both its
processes, the server first, asleep while they wait for data or room.

State:
  in use     a process has it open, or a socket is bound to it
  waiting    a queue that no process has open, with messages in it, or a
             connection that its server has not accepted yet
  orphaned   no process has it open, and nothing is in it
  unclear    its mode, or a process that cannot be inspected, hides its state

Depth is the number of messages in a queue and its capacity, or the number of
clients of a socket. Of a connection it is what each side has written that the
other has not read, and the most there is room for, in bytes. The contents of a
FIFO cannot be seen without disturbing it. Only root can see the processes of
other users.";

const CLEAN_EXAMPLES: &str = "\
Examples:
  aqueduct clean                                    # what would be removed
  aqueduct clean --yes
  aqueduct clean --yes /run/app                     # only in this directory

It removes what aqueduct list shows as orphaned and made by aqueduct. Everything
that Aqueduct creates by name has the sticky bit in its mode. Anything without
it is left alone, as is anything that another user owns, and a queue with
messages in it unless a killed tour left it. Each object is checked again just
before it is removed, a socket under the server's own lock. Only root can see
what root has open, but the readers of a FIFO are noticed in any case.";

const DOCTOR_EXAMPLES: &str = "\
Examples:
  aqueduct doctor
  aqueduct doctor --json | jq -r 'select(.state != \"ok\").advice'
  aqueduct doctor || echo something does not work here

With addresses of a server, such as nats:, it looks at that server, stream and
consumer, and says what each setting means for messages. Nothing is changed.

Low: it works, but little is left, or the value is lower than usual. Bad:
something does not work until this is changed; the exit code is then 1.";

#[derive(Debug, Args)]
#[command(after_help = LIST_EXAMPLES)]
pub(crate) struct LookArgs {
    /// Only objects in these directories, without queues; or only addresses with this prefix, such
    /// as unix: or fifo:/run/app.
    #[arg(value_name = "DIR|PREFIX", value_hint = ValueHint::DirPath)]
    pub(crate) places: Vec<OsString>,
    /// Include objects of other users.
    #[arg(short, long)]
    pub(crate) all: bool,
    /// Only objects that this user created with Aqueduct.
    #[arg(long, conflicts_with = "all")]
    pub(crate) mine: bool,
    /// Only empty objects that no process has open.
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
    /// Only objects in these directories, without queues.
    #[arg(value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) dirs: Vec<PathBuf>,
    /// Remove the objects, instead of showing what would be removed.
    #[arg(short, long)]
    pub(crate) yes: bool,
    #[command(flatten)]
    pub(crate) format: Format,
}

#[derive(Debug, Args)]
#[command(after_help = DOCTOR_EXAMPLES)]
pub(crate) struct DoctorArgs {
    /// Look at what these addresses lead to instead, such as nats://host/jobs?stream=JOBS.
    #[arg(value_parser = Address, hide_possible_values = true)]
    pub(crate) addresses: Vec<OsString>,
    #[command(flatten)]
    pub(crate) format: Format,
}
