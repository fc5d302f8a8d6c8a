//! [`list`]: which queues there are.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::sys::statfs::{FsType, statfs};

use crate::mq::{Attributes, Error, usage};

/// Where the queue file system is looked for: where
/// [`mq_overview(7)`](https://man7.org/linux/man-pages/man7/mq_overview.7.html) and systemd mount
/// it. Queues work without it; only listing them does not.
pub const MOUNT_POINT: &str = "/dev/mqueue";

/// `MQUEUE_MAGIC`, in the kernel's `ipc/mqueue.c`.
pub(super) const MQUEUE_MAGIC: FsType = FsType(0x1980_0202);

/// A queue, as [`list`] and [`info`](crate::mq::info) see it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Entry {
    /// The name, with its slash. Other programs' queues may have names that
    /// [`check_name`](crate::mq::check_name) refuses.
    pub name: String,
    /// The owner's user id.
    pub owner: u32,
    /// The owner's group id.
    pub group: u32,
    /// The permission bits.
    pub mode: u32,
    /// Capacity, largest message and messages waiting; `None` if its mode keeps them from this
    /// user.
    pub attributes: Option<Attributes>,
    /// How many bytes the waiting messages have together; `None` if its mode keeps that from this
    /// user.
    pub bytes: Option<u64>,
    /// The process that waits for a signal or thread by `mq_notify(3)`, if any does and it can be
    /// seen.
    pub notified: Option<u32>,
}

impl Entry {
    /// What it costs its owner; see [`cost`](crate::mq::cost).
    pub fn cost(&self) -> Option<u64> {
        let attributes = self.attributes?;
        Some(crate::mq::cost(attributes.capacity, attributes.max_message))
    }
}

/// All queues of the IPC namespace whose queue file system is mounted on [`MOUNT_POINT`], by name.
///
/// Each is opened for a moment. When a process closes a queue, by whichever descriptor, the kernel
/// takes its [`mq_notify(3)`](https://man7.org/linux/man-pages/man3/mq_notify.3.html) for that queue
/// back (`mqueue_flush_file` in `ipc/mqueue.c`); so a process that uses that, too, has to ask for
/// it anew.
///
/// # Errors
///
/// [`Error::NotMounted`]; [`Error::System`] if the directory cannot be read.
///
/// # Examples
///
/// ```
/// use aqueduct::mq;
///
/// match mq::list() {
///     Ok(queues) => queues.iter().for_each(|it| println!("{} {:04o}", it.name, it.mode)),
///     Err(mq::Error::NotMounted) => println!("queues cannot be listed here"),
///     Err(error) => return Err(error),
/// }
/// # Ok::<_, mq::Error>(())
/// ```
pub fn list() -> Result<Vec<Entry>, Error> {
    if !is_mounted() {
        return Err(Error::NotMounted);
    }
    let system = |source: io::Error| Error::System {
        name: MOUNT_POINT.to_owned(),
        action: "list",
        source,
    };
    let mut entries = Vec::new();
    for found in fs::read_dir(MOUNT_POINT).map_err(system)? {
        let found = found.map_err(system)?;
        // One that has gone in the meantime is no error.
        if let Ok(metadata) = found.metadata() {
            entries.push(entry(&found.path(), &metadata));
        }
    }
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(entries)
}

/// Whether there is a queue file system on [`MOUNT_POINT`].
pub(super) fn is_mounted() -> bool {
    statfs(MOUNT_POINT).is_ok_and(|it| it.filesystem_type() == MQUEUE_MAGIC)
}

pub(super) fn entry(path: &Path, metadata: &fs::Metadata) -> Entry {
    let status = fs::read_to_string(path).unwrap_or_default();
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    Entry {
        name: format!("/{name}"),
        owner: metadata.uid(),
        group: metadata.gid(),
        mode: metadata.mode() & 0o777,
        attributes: usage::attributes(path).map(Attributes::from),
        bytes: field(&status, "QSIZE"),
        notified: notified(&status),
    }
}

/// The process to be notified, in the same text.
pub(crate) fn notified(status: &str) -> Option<u32> {
    let pid = u32::try_from(field(status, "NOTIFY_PID")?).ok()?;
    (pid != 0).then_some(pid)
}

/// A number in the text that reading a queue's file gives: `QSIZE:10 NOTIFY:0 SIGNO:0
/// NOTIFY_PID:0`, with spaces of any number between.
pub(crate) fn field(status: &str, name: &str) -> Option<u64> {
    let of_name = |it: &str| Some(it.strip_prefix(name)?.strip_prefix(':')?.parse());
    status.split_whitespace().find_map(of_name)?.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queues_status_is_read() {
        let status = "QSIZE:10         NOTIFY:0     SIGNO:0     NOTIFY_PID:1234  \n";
        assert_eq!(field(status, "QSIZE"), Some(10));
        assert_eq!(field(status, "NOTIFY"), Some(0));
        assert_eq!(field(status, "NOTIFY_PID"), Some(1234));
        assert_eq!(field("", "QSIZE"), None);
        assert_eq!(field("QSIZE:x", "QSIZE"), None);
    }
}
