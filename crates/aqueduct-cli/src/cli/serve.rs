//! Arguments of `aqueduct serve`.

use std::ffi::OsString;

use clap::{Args, ValueEnum};

use super::address::Address;
use super::link::{Clients, Link, Unfit};

const EXAMPLES: &str = "\
Examples:
  aqueduct serve unix:/tmp/upper -- tr a-z A-Z
  aqueduct serve tcp://127.0.0.1:0                # echo; it says which port
  aqueduct serve tcp://127.0.0.1:7000 --frame raw -- rev    # for C clients
  aqueduct serve unix:/tmp/s --per connection -- sha256sum
  aqueduct serve mq:/jobs --jobs 4 --retry 2 --on-fail mq:/failed -- ./work

CMD gets the message, and nothing else, on its standard input. Its output is the
reply; on queues and FIFOs, which take no reply, it is printed in the order of
the messages. With --frame lines its last newline is left out of the reply. The
environment of CMD has:
  AQUEDUCT_ADDRESS   what is served
  AQUEDUCT_ATTEMPT   1, and one more with each --retry
  AQUEDUCT_PRIORITY  the message's priority, on a queue
  AQUEDUCT_PEER_UID, AQUEDUCT_PEER_GID, AQUEDUCT_PEER_PID
                     the process that connected to the Unix socket or sent the
                     datagram, as the kernel reports it
  AQUEDUCT_PEER_ADDRESS
                     the client's host and port, with TCP, TLS and UDP
  AQUEDUCT_PEER_SUBJECT
                     the subject of the client's certificate, with TLS

A CMD that exits with a status other than 0, or that does not exist, has failed.
The failure is reported and the service goes on. What CMD printed is still the
reply; with --frame raw, if it printed nothing, the connection is closed. Over
unixpacket: there are no empty messages: a CMD that prints nothing closes the
connection, and this is reported. If CMD cannot be started for lack of
descriptors, processes or memory, its message waits until it can. Meanwhile no
more messages are taken from a queue or FIFO, and at most one from each
connected client. If the service is stopped meanwhile, such a client is
disconnected without a reply.

Without --on-fail the message of a failed CMD is dropped. One of a NATS stream,
which is settled once CMD succeeds, is given back and delivered again. With
--on-fail the message goes to that address; a queue also gets its priority. If
there is no receiver or the queue is full, the job waits and says so; while all
--jobs wait, no more messages are taken. A message that the address cannot carry
is reported, and the exit code is 1.

Outputs are printed in the order of the messages. While 16 MiB of them wait for
an earlier one, no more messages are taken.

With --per connection CMD is run for each client and gets the connection as its
standard input and output, as from inetd: the socket itself in blocking mode, or
two pipes where there is no socket to pass. Options for messages, such as
--frame and --jobs, are then refused, and so are limits on silence.

A client that is silent for 5 minutes is disconnected. A FIFO is served until
the command is stopped, unless its address says persist=false. A service of one
connection (stdio:, exec:, or with --connect) ends with it; if it fails, the
exit code is 1.

Ctrl-C, SIGTERM and SIGHUP: no more messages are taken, those in hand are
finished, retries start at once, and clients get at most 10 seconds. A second
signal kills the running CMDs; their messages go to --on-fail, or else are
counted and the exit code is 1. A SIGKILL loses the messages being processed, at
most --jobs, and one waiting message of each connected client; those of a NATS
stream are delivered again.";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ServeArgs {
    /// The address to serve, such as unix:/tmp/upper.
    #[arg(value_parser = Address, hide_possible_values = true)]
    pub(crate) address: OsString,
    /// The program to run for each message, and its arguments; without one, each message is its own
    /// reply.
    #[arg(last = true, value_name = "CMD")]
    pub(crate) command: Vec<OsString>,
    /// What to run the program for.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) per: Per,
    /// How many messages to process at a time [default: one for each processor].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) jobs: Option<u32>,
    /// Retry a failed CMD up to N times: after 100ms, then twice as long each time, up to 10s. Its
    /// message keeps its place among --jobs.
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    pub(crate) retry: u32,
    /// Send messages whose CMD failed to this address, such as mq:/failed.
    #[arg(long, value_name = "ADDRESS", value_parser = Address, hide_possible_values = true)]
    pub(crate) on_fail: Option<OsString>,
    /// Connect to a socket and serve its other end, instead of binding it.
    #[arg(long)]
    pub(crate) connect: bool,
    #[command(flatten)]
    pub(crate) unfit: Unfit,
    #[command(flatten)]
    pub(crate) clients: Clients,
    #[command(flatten)]
    pub(crate) link: Link,
}

/// What a program of a service is run for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Per {
    /// Run it for each message, which is its standard input; its output is the reply.
    #[default]
    Message,
    /// Run it for each connection, which is its standard input and output.
    Connection,
}
