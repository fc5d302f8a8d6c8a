//! Arguments that all commands that move messages have in common.

use std::time::Duration;

use aqueduct::frame::Framing;
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use clap::{Args, ValueEnum};

use crate::quantity::{self, Wait};

/// How to open an address and move messages.
#[derive(Debug, Args)]
pub(crate) struct Link {
    /// How a byte stream is split into messages; both sides must agree. One of lines, crlf, nul, raw
    /// (no boundaries), netstring, headers (Content-Length), cobs, length (4 bytes, big-endian), or u8,
    /// u16be, u16le, u32be, u32le, u64be, u64le, each also with +header where the length counts its
    /// own bytes. Message-oriented addresses ignore it [default: as the address says, else lines].
    #[arg(long, value_name = "FRAMING", value_parser = framing(), hide_possible_values = true)]
    pub(crate) frame: Option<Framing>,
    /// The largest message, such as 64KiB; with --frame raw there is no limit.
    #[arg(long, value_name = "SIZE", value_parser = quantity::size, default_value = "1MiB")]
    pub(crate) max_frame: usize,
    /// How long to wait for the peer to appear: a duration, or forever
    /// [default: forever for a FIFO, 5s for the rest].
    #[arg(long, value_name = "DURATION", value_parser = quantity::wait)]
    pub(crate) wait: Option<Wait>,
    /// Give up when no data has moved for this long, such as 5s. The wait for the peer counts too.
    #[arg(long, value_name = "DURATION", value_parser = quantity::duration)]
    pub(crate) timeout: Option<Duration>,
    /// Use a FIFO, queue or socket of another user; by default it must be this user's or root's.
    #[arg(long)]
    pub(crate) allow_foreign_owner: bool,
}

/// Limits on the clients of a bound socket.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct Clients {
    /// The most clients that a bound socket has at a time [default: 1024].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) max_connections: Option<u32>,
    /// Disconnect a client that has sent nothing for this long after connecting: a duration, or
    /// forever [default: 5m by serve, else forever].
    #[arg(long, value_name = "DURATION", value_parser = quantity::wait)]
    pub(crate) first_timeout: Option<Wait>,
    /// Disconnect a client that is silent for this long after it has sent something: a duration, or
    /// forever [default: 5m by serve, else forever].
    #[arg(long, value_name = "DURATION", value_parser = quantity::wait)]
    pub(crate) idle_timeout: Option<Wait>,
}

/// How to treat incomplete or oversized messages, with --frame lines, crlf and nul.
#[derive(Debug, Args)]
pub(crate) struct Unfit {
    /// How to treat a last message without its delimiter: as a message, or as what a killed sender
    /// left [default: drop by serve and relay, and from listening sockets and persistent FIFOs;
    /// keep from one finite input, such as exec: and stdio:].
    #[arg(long, value_enum, value_name = "HOW")]
    pub(crate) partial: Option<Partial>,
    /// How to treat a message over --max-frame [default: skip from persistent FIFOs and from the
    /// senders of a listening socket, else fail].
    #[arg(long, value_enum, value_name = "HOW")]
    pub(crate) too_long: Option<TooLong>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Partial {
    /// Keep it as the last message.
    Keep,
    /// Drop it, with a warning that gives its size.
    Drop,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum TooLong {
    /// End the connection, or the command, with an error.
    Fail,
    /// Drop it, with a warning.
    Skip,
    /// Cut it off at the limit, with a warning.
    Truncate,
}

/// The framings that a command treats differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Frame {
    Lines,
    Crlf,
    Nul,
    Raw,
    /// Any bytes, behind a length or otherwise marked.
    Binary,
}

impl From<&Framing> for Frame {
    fn from(framing: &Framing) -> Self {
        match &*framing.to_string() {
            "lines" => Self::Lines,
            "crlf" => Self::Crlf,
            "nul" => Self::Nul,
            "raw" => Self::Raw,
            _ => Self::Binary,
        }
    }
}

impl Frame {
    /// Whether messages are lines of text.
    pub(crate) fn is_lines(self) -> bool {
        matches!(self, Self::Lines | Self::Crlf)
    }
}

/// Takes a framing by its name.
fn framing() -> impl TypedValueParser<Value = Framing> {
    let names = Framing::names().iter().map(|name| match *name {
        "length" => PossibleValue::new(name).alias("u32be"),
        name => PossibleValue::new(name),
    });
    PossibleValuesParser::new(names).try_map(|name| name.parse())
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Input {
    /// Each line is a message.
    Lines,
    /// Messages end at NUL bytes.
    Nul,
    /// All input is one message.
    Whole,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Pace {
    /// With the recorded pauses.
    #[default]
    Recorded,
    /// As fast as possible.
    Fast,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// The message and a newline, with --frame raw only the bytes; on a terminal control characters
    /// are escaped.
    #[default]
    Text,
    /// One object per line: time, address, size, priority of a queue's message, text or base64.
    Json,
    /// The message in hexadecimal and a newline.
    Hex,
    /// Only the bytes, even on a terminal.
    Raw,
}
