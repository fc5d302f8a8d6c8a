//! Arguments of `aqueduct talk`.

use std::ffi::OsString;
use std::time::Duration;

use clap::Args;

use super::address::Address;
use super::link::{Input, Link, Output};
use crate::quantity;

const EXAMPLES: &str = "\
Examples:
  aqueduct talk tcp://127.0.0.1:6379 --crlf         # redis, memcached, SMTP
  aqueduct talk unix:/run/app.sock
  aqueduct talk tcp://127.0.0.1:0 --bind            # wait for a client
  aqueduct talk unix:/tmp/x < request > reply       # byte for byte
  tail -f app.log | aqueduct talk tcp://127.0.0.1:7000 --output json
  aqueduct talk unix:/run/varlink --frame nul
  aqueduct talk 'exec:bc -q'

At a terminal, Enter sends the line, and received messages appear above the line
that you type. Arrow keys and Ctrl-A, E, K, U, W and Y edit it, Up and Down
recall earlier lines, and Ctrl-D ends the sending direction.

The end of standard input ends the sending direction. The conversation goes on
until the peer ends its own direction or closes the connection.

Ctrl-C, SIGTERM and SIGHUP: input that was already read is still sent, for at
most 5 seconds, and the exit code is 0.";

/// The default differs from that of other commands.
const FRAME: &str = "\
How a byte stream is split into messages: one of the framings of send [default: as the address says, \
else raw]";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
#[command(mut_arg("frame", |arg| arg.help(FRAME)))]
pub(crate) struct TalkArgs {
    /// The address to talk to, such as unix:/run/app.sock.
    #[arg(value_parser = Address, hide_possible_values = true)]
    pub(crate) address: OsString,
    /// How standard input is split into messages [default: lines; not split where
    /// --frame raw has an effect].
    #[arg(long, value_enum)]
    pub(crate) input: Option<Input>,
    /// How received messages are printed; json prints sent messages too, each with its direction.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) output: Output,
    /// Send each newline as CRLF, as Internet text protocols do.
    #[arg(long)]
    pub(crate) crlf: bool,
    /// How long the conversation may go on after standard input has ended
    /// [default: until the peer ends it; 1s with datagrams, which have no end].
    #[arg(long, value_name = "DURATION", value_parser = quantity::duration)]
    pub(crate) linger: Option<Duration>,
    /// Do not tell the peer that standard input has ended: some peers hang up when they see that.
    #[arg(long)]
    pub(crate) keep_open: bool,
    /// Bind a socket and talk to the first client, rather than connect.
    #[arg(long)]
    pub(crate) bind: bool,
    #[command(flatten)]
    pub(crate) link: Link,
}
