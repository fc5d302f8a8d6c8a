//! What there is to talk through: queues, FIFOs and Unix sockets, and who has them open.

mod files;
mod opening;
mod processes;
mod queues;
mod sockets;

use std::ffi::OsStr;
use std::path::PathBuf;

use aqueduct::Endpoint;
use nix::unistd::geteuid;

pub(crate) use self::processes::{Holder, Processes};
use self::sockets::Sockets;

/// Where it is looked for.
pub(crate) struct Scope {
    /// Only in these directories, and at no queues; empty: wherever something may be.
    pub(crate) dirs: Vec<PathBuf>,
    /// What other users own, too.
    pub(crate) all: bool,
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
}

#[derive(Clone, Debug)]
pub(crate) enum Kind {
    Fifo(Found),
    /// Its name, and its file in the queue file system.
    Queue(String, Found),
    Socket(Found),
    AbstractSocket,
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
    /// A queue that no process has open, and messages in it.
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

/// Everything in the scope, by address; and why something could not be looked at.
pub(crate) fn look(scope: &Scope) -> anyhow::Result<(Vec<Thing>, Vec<String>)> {
    let mut unseen = Vec::new();
    let everywhere = scope.dirs.is_empty();
    let mut files = files::find(&scope.dirs)?;
    let processes = Processes::look();
    let sockets = Sockets::look()?;
    let mut things = Vec::new();
    if everywhere {
        files.extend(processes.fifos());
        files.extend(sockets.paths());
        things.extend(queues::things(&processes, &mut unseen));
        things.extend(sockets.abstract_things(&processes));
    }
    for (path, metadata) in files {
        things.extend(files::thing(path, &metadata, &processes, &sockets));
    }
    let own = geteuid().as_raw();
    things.retain(|it| scope.all || it.owner == Some(own));
    things.sort_by(|a, b| (a.kind(), &a.address).cmp(&(b.kind(), &b.address)));
    things.dedup_by(|a, b| a.address == b.address && a.kind() == b.kind());
    Ok((things, unseen))
}

/// The address of a path or name; the name alone if no address can lead there.
fn address(scheme: &str, rest: impl AsRef<OsStr>) -> String {
    let rest = rest.as_ref();
    match Endpoint::new(scheme, rest) {
        Ok(endpoint) => endpoint.to_string(),
        Err(_) => rest.to_string_lossy().into_owned(),
    }
}
