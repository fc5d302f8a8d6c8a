//! What can be typed behind `aqueduct call`.

use std::ffi::OsString;
use std::time::Duration;

use clap::Args;

use super::address::Address;
use super::link::{Input, Link, Output};
use crate::quantity;

const EXAMPLES: &str = "\
Examples:
  aqueduct call unix:/tmp/upper hello
  aqueduct call unix:/tmp/upper < words.txt         # a reply to each line
  aqueduct call unix:/run/haproxy.sock --all 'show info'
  aqueduct call tcp://127.0.0.1:11211 --until END stats   # memcached
  aqueduct call unix:/tmp/events --idle 300ms subscribe
  aqueduct call tcp://127.0.0.1:7000 --frame raw hello   # no framing
  aqueduct call 'exec:tr a-z A-Z' hello

A reply is one message, unless --replies, --until, --idle or --all says
otherwise. With one of these all of standard input is one request: it is sent
without waiting, and then the reply is read. Without, each message of standard
input is a request, which is answered before the next one is sent.

With --frame raw the reply is all the bytes that come until the peer closes.
The end of the request is sent then, and with --all, and to a program; see
--keep-open.

Bytes that come within 50ms after the last reply were not asked for: a warning
says how many they are, and the exit code is 1.";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct CallArgs {
    /// Where to, such as unix:/tmp/upper.
    #[arg(value_parser = Address, hide_possible_values = true)]
    pub(crate) address: OsString,
    /// The message; without one, messages come from standard input.
    pub(crate) message: Option<OsString>,
    /// How standard input is cut into messages
    /// [default: lines with --frame lines, else whole; with --frame raw it is not cut].
    #[arg(long, value_enum)]
    pub(crate) input: Option<Input>,
    /// How the reply is printed.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) output: Output,
    /// The reply is N messages.
    #[arg(long, value_name = "N", value_parser = quantity::count, group = "ending")]
    pub(crate) replies: Option<usize>,
    /// The reply ends with a message that is exactly TEXT, such as END; an empty TEXT is an empty
    /// line.
    #[arg(long, value_name = "TEXT", group = "ending")]
    pub(crate) until: Option<OsString>,
    /// The reply ends when nothing more of it has come for this long, such as 300ms.
    #[arg(long, value_name = "DURATION", value_parser = quantity::duration, group = "ending")]
    pub(crate) idle: Option<Duration>,
    /// The reply is all that comes until the peer closes.
    #[arg(long, group = "ending")]
    pub(crate) all: bool,
    /// Wait for a first message of the peer before sending, and do not print it.
    #[arg(long)]
    pub(crate) greeting: bool,
    /// Keep the sending direction open until the reply is complete: some peers hang up when they see
    /// its end.
    #[arg(long)]
    pub(crate) keep_open: bool,
    /// Bind a socket and call the first who connects, rather than connect.
    #[arg(long)]
    pub(crate) bind: bool,
    #[command(flatten)]
    pub(crate) link: Link,
}
