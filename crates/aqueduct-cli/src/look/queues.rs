//! The message queues of this IPC namespace.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use aqueduct::is_marked;
use aqueduct::mq;

use super::processes::Processes;
use super::thing::{Found, Kind, State, Thing, address};

/// Where the queue file system is mounted.
pub(crate) const MOUNT_POINT: &str = "/dev/mqueue";

/// All of them; why there are none to see goes to `unseen`.
pub(super) fn things(processes: &Processes, unseen: &mut Vec<String>) -> Vec<Thing> {
    match mq::list() {
        Ok(queues) => queues
            .into_iter()
            .filter_map(|it| thing(it, processes))
            .collect(),
        Err(error) => {
            unseen.push(format!("queues are not shown: {error}"));
            Vec::new()
        }
    }
}

/// `None`: it has gone meanwhile.
fn thing(queue: mq::Entry, processes: &Processes) -> Option<Thing> {
    let path = Path::new(MOUNT_POINT).join(queue.name.strip_prefix('/')?);
    let metadata = fs::symlink_metadata(&path).ok()?;
    let id = (metadata.dev(), metadata.ino());
    let holders = processes.of(id);
    let messages = queue.attributes.map(|it| (it.messages, it.capacity));
    let state = match messages {
        _ if !holders.is_empty() => State::InUse,
        Some((0, _)) => State::Orphaned,
        Some(_) => State::Waiting,
        None => State::Unclear,
    };
    Some(Thing {
        address: address("mq", &queue.name),
        kind: Kind::Queue(queue.name, Found { path, id }),
        state,
        marked: is_marked(&metadata),
        owner: Some(queue.owner),
        messages,
        connections: None,
        holders,
        sides: Vec::new(),
    })
}
