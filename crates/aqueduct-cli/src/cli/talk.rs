//! What can be typed behind `aqueduct talk`.

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
  aqueduct talk tcp://127.0.0.1:0 --bind            # wait for one who connects
  aqueduct talk unix:/tmp/x < request > reply       # byte for byte
  tail -f app.log | aqueduct talk tcp://127.0.0.1:7000 --output json
  aqueduct talk 'exec:bc -q'

At a terminal a line is sent when Enter is typed, and what the peer says is
shown above the line that is being typed. Arrow keys and Ctrl-A, E, K, U, W, Y
edit it, up and down bring earlier lines back, and Ctrl-D ends this side.

The end of standard input ends the sending direction; the conversation goes on
until the peer ends its own, or has closed altogether. With --linger it ends
that long after standard input, with --keep-open the peer is not told.

Ctrl-C, SIGTERM and SIGHUP: what was read of standard input is sent, for 5
seconds at most, and the exit code is 0.";

/// It has another default here.
const FRAME: &str = "\
How a byte stream is split into messages: a framing, as for send [default: as the address says, else \
raw: what is said, as it is said]";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
#[command(mut_arg("frame", |arg| arg.help(FRAME)))]
pub(crate) struct TalkArgs {
    /// Whom to talk to, such as unix:/run/app.sock.
    #[arg(value_parser = Address, hide_possible_values = true)]
    pub(crate) address: OsString,
    /// How standard input is cut into messages [default: lines; with --frame raw it is not cut].
    #[arg(long, value_enum)]
    pub(crate) input: Option<Input>,
    /// How what the peer says is printed; json also has what is sent, with the direction of each.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) output: Output,
    /// Send each newline as CRLF, as text protocols of the Internet have it.
    #[arg(long)]
    pub(crate) crlf: bool,
    /// How long after the end of standard input the conversation may go on
    /// [default: until the peer ends it].
    #[arg(long, value_name = "DURATION", value_parser = quantity::duration)]
    pub(crate) linger: Option<Duration>,
    /// Keep the sending direction open at the end of standard input: some peers hang up when they see
    /// its end.
    #[arg(long)]
    pub(crate) keep_open: bool,
    /// Bind a socket and talk to the first who connects, rather than connect.
    #[arg(long)]
    pub(crate) bind: bool,
    #[command(flatten)]
    pub(crate) link: Link,
}
