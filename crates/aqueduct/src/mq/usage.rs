//! Finds existing queues: in the listing, and among the descriptors of all processes.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use nix::sys::stat::stat;
use nix::sys::statfs::statfs;
use nix::unistd::getuid;

use crate::mq::mount::{MOUNT_POINT, MQUEUE_MAGIC, attributes, is_mounted};
use crate::mq::system_limits::{Usage, cost};

/// A queue by device and inode, so that its owner and cost count once however often it is found.
type Found = HashMap<(u64, u64), (u32, u64)>;

/// Adds up the queues that can be seen.
pub(super) fn look() -> Usage {
    let mut found = Found::new();
    let listed = is_mounted();
    // Each IPC namespace has a separate device.
    let device = stat(MOUNT_POINT).ok().filter(|_| listed);
    let device = device.map(|it| it.st_dev);
    if listed {
        each_entry(Path::new(MOUNT_POINT), |path| note(path, &mut found));
    }
    each_entry(Path::new("/proc"), |process| {
        if process
            .file_name()
            .is_some_and(|it| it.as_encoded_bytes()[0].is_ascii_digit())
        {
            each_entry(&process.join("fd"), |fd| {
                // A queue's link is its name; this alone rules out most descriptors.
                let link = fs::read_link(fd).unwrap_or_default();
                let flat = link.parent() == Some(Path::new("/"));
                if flat && statfs(fd).is_ok_and(|it| it.filesystem_type() == MQUEUE_MAGIC) {
                    note(fd, &mut found);
                }
            });
        }
    });
    // The kernel charges the real user.
    let own = getuid().as_raw();
    let own = found.values().filter(|(owner, _)| *owner == own);
    let (own_queues, own_bytes) = own.fold((0, 0), |(n, bytes), (_, cost)| (n + 1, bytes + cost));
    let here = |(found, _): &&(u64, u64)| device.is_none_or(|device| device == *found);
    Usage {
        listed,
        queues: found.keys().filter(here).count() as u64,
        own_queues,
        own_bytes,
    }
}

fn note(path: &Path, found: &mut Found) {
    let Ok(stat) = stat(path) else { return };
    found.entry((stat.st_dev, stat.st_ino)).or_insert_with(|| {
        let cost = attributes(path).map_or(0, |it| cost(it.capacity, it.max_msg_len));
        (stat.st_uid, cost)
    });
}

/// Calls `op` for each visible entry of a directory.
fn each_entry(directory: &Path, mut op: impl FnMut(&Path)) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        op(&entry.path());
    }
}
