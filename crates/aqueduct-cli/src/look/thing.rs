//! [`Thing`]: something with a name that messages can go through.

use std::ffi::OsStr;
use std::path::PathBuf;

use aqueduct::Endpoint;

/// A process that has something open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Holder {
    pub(crate) pid: u32,
    pub(crate) command: String,
    pub(crate) reads: bool,
    pub(crate) writes: bool,
    /// It waits in open(2) for somebody at the other side of a FIFO.
    pub(crate) opening: bool,
}

/// Something with a name that messages can go through.
pub(crate) struct Thing {
    pub(crate) kind: Kind,
    /// The address that leads to it; the name alone if none does.
    pub(crate) address: String,
    pub(crate) state: State,
    /// Made by this library, as its mark says.
    pub(crate) marked: bool,
    /// `None`: an abstract socket whose process cannot be seen.
    pub(crate) owner: Option<u32>,
    /// The messages in a queue and how many it holds; `None` if its mode hides that.
    pub(crate) messages: Option<(usize, usize)>,
    /// The connections to a listening socket.
    pub(crate) connections: Option<usize>,
    pub(crate) holders: Vec<Holder>,
    /// The sides of a connection by shared memory that may be looked into, the server's first.
    pub(crate) sides: Vec<Side>,
}

/// One side of a connection by shared memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Side {
    pub(crate) pid: u32,
    pub(crate) command: String,
    /// The largest ring that it writes.
    pub(crate) capacity: u64,
    /// The bytes that it has written and the other side has not read; `None` if that cannot be seen,
    /// or what both say does not fit together.
    pub(crate) unread: Option<u64>,
    pub(crate) waits_for_data: bool,
    pub(crate) waits_for_room: bool,
    /// It writes no more.
    pub(crate) finished: bool,
}

#[derive(Clone, Debug)]
pub(crate) enum Kind {
    Fifo(Found),
    /// Its name, and its file in the queue file system.
    Queue(String, Found),
    Socket(Found),
    AbstractSocket,
    /// By shared memory. It disappears with its processes.
    Connection,
}

/// A file as it was found.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub(crate) path: PathBuf,
    pub(crate) id: Id,
}

/// Device and inode.
pub(crate) type Id = (u64, u64);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// A process has it open, or is about to.
    InUse,
    /// A queue that no process has open, and messages in it; a connection that is not accepted yet.
    Waiting,
    /// No process has it open, and nothing is in it.
    Orphaned,
    /// It may be in use by what cannot be seen.
    Unclear,
}

impl Thing {
    pub(crate) fn kind(&self) -> &'static str {
        match self.kind {
            Kind::Fifo(_) => "fifo",
            Kind::Queue(..) => "queue",
            Kind::Socket(_) | Kind::AbstractSocket => "socket",
            Kind::Connection => "connection",
        }
    }
}

impl State {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::InUse => "in use",
            Self::Waiting => "waiting",
            Self::Orphaned => "orphaned",
            Self::Unclear => "unclear",
        }
    }
}

/// The address of a path or name; the name alone if no address can lead there.
pub(super) fn address(scheme: &str, rest: impl AsRef<OsStr>) -> String {
    let rest = rest.as_ref();
    match Endpoint::new(scheme, rest) {
        Ok(endpoint) => endpoint.to_string(),
        Err(_) => rest.to_string_lossy().into_owned(),
    }
}
