//! Arguments of `aqueduct relay`.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;

use super::address::Address;
use super::link::{Clients, Link, Unfit};

const EXAMPLES: &str = "\
Examples:
  aqueduct relay fifo:/tmp/jobs mq:/jobs          # a script feeds a queue
  aqueduct relay mq:/jobs tcp://build.lan:7000 --wait forever
  aqueduct relay tcp://127.0.0.1:7000 unix:/run/app/log --frame length
  aqueduct relay mq:/jobs mq:/work --tee jobs.rec # and send --replay jobs.rec
  aqueduct relay unix:/tmp/a unix:/tmp/b --bind   # for a reader who connects

A relay is one-way: replies from TO are discarded. Use proxy for both ways.

A message is taken only when TO has room for it, so a slow reader slows the
senders down. Boundaries are kept, and from queue to queue priorities too. When
the reader of TO is gone, the relay waits for the next one, as long as --wait
allows. It ends when FROM ends. A FIFO ends with its last sender, unless its
address says persist=true; with --connect a socket ends with its server, unless
--reconnect is given; a queue or bound socket never ends.

Ctrl-C, SIGTERM and SIGHUP: messages in hand are delivered, for 10 seconds at
most; a second signal gives up. A relay that is stopped and started again loses
nothing from FIFOs, queues and Unix sockets, and nothing over TCP between
relays, recv, and send with --reconnect. A SIGKILL loses the messages in hand,
from a queue at most 8, and those unread in its sockets, but none of a NATS
stream. Nothing arrives twice, except from a NATS stream to another mechanism.

From a NATS stream, messages that a killed relay had in hand come first: the
next one waits for them, up to the consumer's ack-wait and 2 seconds.

With --spool each message is in the file from before it is sent until it is
delivered, and the next relay with that file sends first what a killed one left
there. So a SIGKILL loses at most the one message that was received and not yet
written. A NATS stream stores each message once, within its duplicate window;
other addresses may get up to 1,024 messages again. Give each relay its own
file. Messages from a NATS stream are not written: their server has them.

A message that TO cannot carry, as one that is too large or has a newline in it
where newlines end messages, is dropped with a warning. The relay goes on, and
in the end exits with 1. One from a NATS stream ends it, and is given back.

On a terminal, messages to stdio: are printed as recv prints them.

With --tee each message is written to the file before it is sent. An existing
recording is appended to: a record that a killed relay left incomplete is cut
off, and any other damage is refused. If the file cannot be written, as on a
full disk, the relay takes no more messages, delivers those it has taken, says
how many are not in the file, and exits with 1. Each record has a checksum; the
documentation of the library, aqueduct::record, has the format.";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct RelayArgs {
    /// The address to receive from, such as fifo:/tmp/jobs.
    #[arg(value_parser = Address, hide_possible_values = true)]
    pub(crate) from: OsString,
    /// The address to send to, such as mq:/jobs.
    #[arg(value_parser = Address, hide_possible_values = true)]
    pub(crate) to: OsString,
    /// Connect to the socket FROM, instead of binding it and receiving from all clients.
    #[arg(long)]
    pub(crate) connect: bool,
    /// When the server of FROM is gone, wait for the next one (see --wait) and connect to it.
    #[arg(long, requires = "connect")]
    pub(crate) reconnect: bool,
    /// Bind the socket TO and send to one client after another, instead of connecting.
    #[arg(long)]
    pub(crate) bind: bool,
    /// Record every message with its time to a file, for send --replay.
    #[arg(long, value_name = "FILE")]
    pub(crate) tee: Option<PathBuf>,
    /// Keep messages in a file until they are delivered, for the case that the relay is killed.
    #[arg(long, value_name = "FILE")]
    pub(crate) spool: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) unfit: Unfit,
    #[command(flatten)]
    pub(crate) clients: Clients,
    #[command(flatten)]
    pub(crate) link: Link,
}
