//! Arguments of `aqueduct call`.

use std::ffi::OsString;
use std::time::Duration;

use clap::Args;

use super::address::Address;
use super::link::{Input, Link, Output};
use crate::quantity;

const EXAMPLES: &str = r#"Examples:
  aqueduct call unix:/tmp/upper hello
  aqueduct call unix:/tmp/upper < words.txt         # a reply to each line
  aqueduct call unix:/run/haproxy.sock --all 'show info'
  aqueduct call tcp://127.0.0.1:11211 --until END stats   # memcached
  aqueduct call tcp://127.0.0.1:6379 --frame crlf PING    # Redis
  aqueduct call tcp://127.0.0.1:25 --frame crlf --greeting NOOP   # SMTP
  aqueduct call unix:/run/varlink --frame nul '{"method":"a.b.C"}'
  aqueduct call unix:/tmp/mpv --idle 200ms '{"command":["stop"]}'
  aqueduct call 'exec:gopls?frame=headers' --input lines --all < lsp.jsonl
  aqueduct call unix:/run/docker.sock --frame raw --keep-open < http-request
  aqueduct call tcp://127.0.0.1:7000 --frame raw hello   # no framing
  aqueduct call 'exec:tr a-z A-Z' hello

A reply is one message unless --replies, --until, --idle or --all is given. With
one of these, all of standard input is one request: it is sent without waiting,
then one reply is read. Otherwise each message of standard input is a request,
and is answered before the next one is sent.

With --frame raw the reply is everything that arrives until the peer closes.
With --frame raw, with --all and for exec: the sending direction ends after the
request, unless --keep-open is given.

If more bytes arrive within 50ms after the last reply, a warning says how many,
and the exit code is 1."#;

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct CallArgs {
    /// The address to call, such as unix:/tmp/upper.
    #[arg(value_parser = Address, hide_possible_values = true)]
    pub(crate) address: OsString,
    /// The message; without one, messages are read from standard input.
    pub(crate) message: Option<OsString>,
    /// How standard input is split into messages [default: lines with --frame lines, else whole;
    /// not split where --frame raw has an effect]. Empty input is one empty message.
    #[arg(long, value_enum)]
    pub(crate) input: Option<Input>,
    /// How the reply is printed.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) output: Output,
    /// The reply is N messages.
    #[arg(long, value_name = "N", value_parser = quantity::count, group = "ending")]
    pub(crate) replies: Option<usize>,
    /// The reply ends with a message that is exactly TEXT, such as END. An empty TEXT stands for an
    /// empty line.
    #[arg(
        long,
        value_name = "TEXT",
        group = "ending",
        allow_hyphen_values = true
    )]
    pub(crate) until: Option<OsString>,
    /// The reply ends when, once begun, nothing more arrives for this long, such as 300ms.
    #[arg(long, value_name = "DURATION", value_parser = quantity::duration, group = "ending")]
    pub(crate) idle: Option<Duration>,
    /// The reply is everything that arrives until the peer closes.
    #[arg(long, group = "ending")]
    pub(crate) all: bool,
    /// Wait for the greeting, the first message of the peer, before sending; do not print it.
    #[arg(long)]
    pub(crate) greeting: bool,
    /// Do not end the sending direction before the reply is complete: some peers hang up when they see
    /// its end.
    #[arg(long)]
    pub(crate) keep_open: bool,
    /// Bind a socket and call the first client, instead of connecting.
    #[arg(long)]
    pub(crate) bind: bool,
    #[command(flatten)]
    pub(crate) link: Link,
}
