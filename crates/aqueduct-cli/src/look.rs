//! What there is to talk through: queues, FIFOs, Unix sockets and shared memory, and who has them open.

mod files;
mod opening;
mod prefix;
mod processes;
mod queues;
mod shared;
mod sock_diag;
mod sockets;
mod thing;

use std::fs;
use std::path::PathBuf;

use nix::unistd::geteuid;

pub(crate) use self::prefix::Prefix;
pub(crate) use self::processes::Processes;
pub(crate) use self::queues::MOUNT_POINT;
use self::sockets::Sockets;
pub(crate) use self::thing::{Found, Holder, Id, Kind, Side, State, Thing};

/// Where it is looked for, and for what.
#[derive(Default)]
pub(crate) struct Scope {
    /// Only in these directories, and at no queues; empty: wherever something may be.
    pub(crate) dirs: Vec<PathBuf>,
    /// Only what has an address that begins like one of these; empty: all.
    pub(crate) prefixes: Vec<Prefix>,
    /// What other users own, too.
    pub(crate) all: bool,
}

/// Everything in the scope, by address; and why something could not be looked at.
pub(crate) fn look(scope: &Scope) -> anyhow::Result<(Vec<Thing>, Vec<String>)> {
    let mut unseen = Vec::new();
    let everywhere = scope.dirs.is_empty();
    let mut files = files::find(&scope.dirs)?;
    if everywhere {
        let led_to = scope.prefixes.iter().filter_map(Prefix::dir);
        files.extend(led_to.flat_map(files::in_dir));
    }
    let processes = Processes::look();
    let sockets = Sockets::look()?;
    let mut things = Vec::new();
    if everywhere {
        files.extend(processes.fifos());
        files.extend(sockets.paths(&processes));
        if scope.prefixes.is_empty() || scope.prefixes.iter().any(Prefix::is_of_queues) {
            things.extend(queues::things(&processes, &mut unseen));
        }
        things.extend(sockets.abstract_things(&processes));
    }
    for (path, metadata) in files {
        things.extend(files::thing(path, &metadata, &processes, &sockets));
    }
    let dirs = scope.dirs.iter().filter_map(|it| fs::canonicalize(it).ok());
    let dirs: Vec<_> = dirs.collect();
    let connections = shared::things(&processes, &sockets).into_iter();
    things.extend(connections.filter_map(|(place, thing)| {
        let within = || dirs.iter().any(|dir| place.starts_with(dir));
        (everywhere || within()).then_some(thing)
    }));
    unseen.extend(processes.unread().iter().cloned());
    let own = geteuid().as_raw();
    things.retain(|it| scope.all || it.owner == Some(own));
    let wanted = |it: &Thing| scope.prefixes.iter().any(|prefix| prefix.begins(it));
    things.retain(|it| scope.prefixes.is_empty() || wanted(it));
    things.sort_by(|a, b| (a.kind(), &a.address).cmp(&(b.kind(), &b.address)));
    // Several connections have one address.
    things.dedup_by(|a, b| a.sides.is_empty() && a.address == b.address && a.kind() == b.kind());
    Ok((things, unseen))
}
