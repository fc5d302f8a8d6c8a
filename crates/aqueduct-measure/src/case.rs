//! Cases: an implementation on a mechanism, and what it can do.

use std::fmt::{self, Display, Formatter};

use serde::{Deserialize, Serialize};

use crate::sample::SideReport;
use crate::session::Session;

/// A mechanism that moves messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mechanism {
    /// An anonymous pipe, both ends inherited.
    Pipe,
    /// A named FIFO.
    Fifo,
    /// A Unix stream socket.
    Unix,
    /// Shared memory, set up over a Unix socket.
    Shm,
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
    /// Returns its name, as it appears in the name of a case.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pipe => "pipe",
            Self::Fifo => "fifo",
            Self::Unix => "unix",
            Self::Shm => "shm",
            Self::UnixPacket => "unixpacket",
            Self::Tcp => "tcp",
            Self::Mq => "mq",
            Self::Own => "own",
        }
    }
}

/// The runtime of both processes.
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

/// Runs one side of a case.
pub type Run = fn(&Session) -> anyhow::Result<SideReport>;

/// One implementation on one mechanism.
#[derive(Clone, Debug)]
pub struct Case {
    /// The name, such as `tokio/unix/feed`.
    pub name: &'static str,
    /// The mechanism.
    pub mechanism: Mechanism,
    /// The runtime.
    pub runtime: Runtime,
    /// The work that it can do.
    pub works: &'static [Work],
    /// The sizes that it supports; empty: any.
    pub sizes: &'static [usize],
    /// Runs one side.
    pub run: Run,
}

/// Both kinds of work.
pub const BOTH: &[Work] = &[Work::OneWay, Work::RoundTrip];
/// One way only: round trips would be the same as those of a related case.
pub const ONE_WAY: &[Work] = &[Work::OneWay];
/// Round trips only.
pub const ROUND_TRIP: &[Work] = &[Work::RoundTrip];

impl Case {
    /// Returns whether this includes `work`.
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
