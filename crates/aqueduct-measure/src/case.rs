//! Cases: which implementation does what on which mechanism.

use std::fmt::{self, Display, Formatter};

use serde::{Deserialize, Serialize};

use crate::sample::SideReport;
use crate::session::Session;

/// A mechanism that messages move by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mechanism {
    /// An anonymous pipe, both ends inherited.
    Pipe,
    /// A named FIFO.
    Fifo,
    /// A Unix stream socket.
    Unix,
    /// A Unix `SOCK_SEQPACKET` socket.
    UnixPacket,
    /// TCP over loopback.
    Tcp,
    /// A POSIX message queue.
    Mq,
    /// Whatever a peer uses inside.
    Own,
}

impl Mechanism {
    /// Its name, as in that of a case.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pipe => "pipe",
            Self::Fifo => "fifo",
            Self::Unix => "unix",
            Self::UnixPacket => "unixpacket",
            Self::Tcp => "tcp",
            Self::Mq => "mq",
            Self::Own => "own",
        }
    }
}

/// What both processes run on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Runtime {
    /// No runtime: blocking calls.
    Blocking,
    /// Tokio's current-thread runtime.
    CurrentThread,
    /// Tokio's multi-thread runtime.
    MultiThread,
}

/// What the two processes do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Work {
    /// The first sends as fast as it can, the second receives.
    OneWay,
    /// The first sends one message at a time, the second answers.
    RoundTrip,
}

/// What runs one side of a case.
pub type Run = fn(&Session) -> anyhow::Result<SideReport>;

/// One implementation on one mechanism.
#[derive(Clone, Debug)]
pub struct Case {
    /// Such as `tokio/unix/feed`.
    pub name: &'static str,
    /// What it moves messages by.
    pub mechanism: Mechanism,
    /// What it runs on.
    pub runtime: Runtime,
    /// What it can do: one way, round trips.
    pub works: &'static [Work],
    /// The sizes that it is for; empty: any.
    pub sizes: &'static [usize],
    /// Runs one side.
    pub run: Run,
}

/// Both kinds of work.
pub const BOTH: &[Work] = &[Work::OneWay, Work::RoundTrip];
/// One way only: in round trips it would do the same as its sibling.
pub const ONE_WAY: &[Work] = &[Work::OneWay];
/// Round trips only.
pub const ROUND_TRIP: &[Work] = &[Work::RoundTrip];

impl Case {
    /// Whether it can do this.
    pub fn does(&self, work: Work, size: usize) -> bool {
        self.works.contains(&work) && (self.sizes.is_empty() || self.sizes.contains(&size))
    }
}

/// A case of both kinds of work and any size, on the current-thread runtime.
pub(crate) const fn case(name: &'static str, mechanism: Mechanism, run: Run) -> Case {
    Case {
        name,
        mechanism,
        runtime: Runtime::CurrentThread,
        works: BOTH,
        sizes: &[],
        run,
    }
}

/// A case of one-way work.
pub(crate) const fn one_way(name: &'static str, mechanism: Mechanism, run: Run) -> Case {
    Case {
        works: ONE_WAY,
        ..case(name, mechanism, run)
    }
}

/// A case on the multi-thread runtime.
pub(crate) const fn multi(name: &'static str, mechanism: Mechanism, run: Run) -> Case {
    Case {
        runtime: Runtime::MultiThread,
        ..case(name, mechanism, run)
    }
}

impl Display for Case {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}
