//! [`list`] and [`info`]: the existing queues, and facts about one.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::libc;
use nix::sys::stat::fstat;
use nix::unistd::read;
use posixmq::{OpenOptions, PosixMq};

use crate::connect::{OpenError, OpenErrorKind};
use crate::io::sys::QueueFd;
use crate::mq::error::shown;
use crate::mq::mount::{MOUNT_POINT, attributes, field, is_mounted, notified};
use crate::mq::name::check;
use crate::mq::queue::Attributes;
use crate::mq::refusal::open_failed;
use crate::mq::system_limits::cost;

/// The text that a queue's descriptor returns is always 80 bytes: `FILENT_SIZE` in `ipc/mqueue.c`.
const STATUS_SIZE: usize = 80;

/// A queue, as [`list`] and [`info`] see it.
///
/// # Examples
///
/// ```
/// use aqueduct::mq;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let name = format!("/doc-entry-{}", std::process::id());
/// let mut options = mq::OpenOptions::new();
/// options.create_new(true).capacity(2).max_message(8).unlink_on_drop(true);
/// let _queue = options.open(&name)?;
/// let entry = mq::info(&name)?;
/// println!("{} belongs to user {}, mode {:04o}", entry.name, entry.owner, entry.mode);
/// # assert_eq!(entry.name, name);
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Entry {
    /// The name, with its slash.
    ///
    /// Queues of other programs may have any characters in it, including control characters.
    pub name: String,
    /// The owner's user ID.
    pub owner: u32,
    /// The owner's group ID.
    pub group: u32,
    /// The permission bits.
    pub mode: u32,
    /// Capacity, largest message and messages waiting.
    ///
    /// `None` if this user may not see them.
    pub attributes: Option<Attributes>,
    /// The total size of the waiting messages in bytes.
    ///
    /// `None` if this user may not see it.
    pub bytes: Option<u64>,
    /// What it [costs](cost) its owner; `None` if `attributes` is.
    pub cost: Option<u64>,
    /// The process that `mq_notify(3)` notifies, if there is one and it can be seen.
    pub notified: Option<u32>,
}

/// Lists the queues whose file system is mounted on `/dev/mqueue`, by name.
///
/// Each is opened for a moment. When a process closes a queue, by any descriptor, the kernel
/// cancels its [`mq_notify(3)`](https://man7.org/linux/man-pages/man3/mq_notify.3.html) for that
/// queue (`mqueue_flush_file` in `ipc/mqueue.c`). A process that uses it must call it again.
///
/// # Errors
///
/// `Unsupported` if no queue file system is mounted there; otherwise that of reading the directory.
///
/// # Examples
///
/// ```
/// use aqueduct::{OpenErrorKind, mq};
///
/// match mq::list() {
///     Ok(queues) => queues.iter().for_each(|it| println!("{} {:04o}", it.name, it.mode)),
///     Err(error) if *error.kind() == OpenErrorKind::Unsupported => println!("{error}"),
///     Err(error) => return Err(error),
/// }
/// # Ok::<_, aqueduct::OpenError>(())
/// ```
pub fn list() -> Result<Vec<Entry>, OpenError> {
    if !is_mounted() {
        let cause = format!("no queue file system is mounted on {MOUNT_POINT}");
        let cure = format!(
            "mount one, as root: mkdir -p {MOUNT_POINT} && mount -t mqueue none {MOUNT_POINT}"
        );
        let kind = OpenErrorKind::Unsupported;
        return Err(OpenError::new("list", "queues", kind, cause).with_cure(cure));
    }
    let system = |error| OpenError::system("list queues in", MOUNT_POINT, error);
    let mut entries = Vec::new();
    for found in fs::read_dir(MOUNT_POINT).map_err(system)? {
        let found = found.map_err(system)?;
        // A queue that has gone in the meantime is not an error.
        if let Ok(metadata) = found.metadata() {
            entries.push(listed(&found.path(), &metadata));
        }
    }
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(entries)
}

fn listed(path: &Path, metadata: &fs::Metadata) -> Entry {
    let status = fs::read_to_string(path).unwrap_or_default();
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    Entry {
        name: format!("/{name}"),
        owner: metadata.uid(),
        group: metadata.gid(),
        mode: metadata.mode() & 0o777,
        ..looked_into(attributes(path), &status)
    }
}

/// The part of an entry that needs permission to read the queue.
fn looked_into(attributes: Option<posixmq::Attributes>, status: &str) -> Entry {
    Entry {
        name: String::new(),
        owner: 0,
        group: 0,
        mode: 0,
        cost: attributes.map(|it| cost(it.capacity, it.max_msg_len)),
        attributes: attributes.map(Attributes::read),
        bytes: field(status, "QSIZE"),
        notified: notified(status),
    }
}

/// Returns facts about the queue of this name, without touching its messages.
///
/// Unlike [`list`] this works without a mount on `/dev/mqueue`: an open queue returns its status
/// when it is read (`mqueue_read_file` in the kernel's `ipc/mqueue.c`).
///
/// # Errors
///
/// `InvalidName`. `NotFound`. `PermissionDenied` if this user may neither read nor write it and the
/// listing, which has its owner and mode, does not show it either.
///
/// # Examples
///
/// ```
/// use aqueduct::mq;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let name = format!("/doc-info-{}", std::process::id());
/// let queue = mq::OpenOptions::new()
///     .create_new(true)
///     .capacity(2)
///     .max_message(8)
///     .unlink_on_drop(true)
///     .open(&name)?;
/// queue.try_send(0, b"four")?;
///
/// let info = mq::info(&name)?;
/// assert_eq!((info.mode, info.bytes), (0o600, Some(4)));
/// assert_eq!(info.attributes.map(|it| it.messages), Some(1));
/// # Ok(()) }
/// ```
pub fn info(name: &str) -> Result<Entry, OpenError> {
    const ACTION: &str = "look at queue";
    check(ACTION, name)?;
    match open_to_look(name) {
        Ok(queue) => of_open(name, queue.into())
            .map_err(|error| OpenError::system(ACTION, shown(name), error)),
        Err(error) if error.raw_os_error() == Some(libc::EACCES) && is_mounted() => {
            let path = format!("{MOUNT_POINT}{name}");
            match fs::metadata(&path) {
                Ok(metadata) => Ok(listed(path.as_ref(), &metadata)),
                Err(_) => Err(open_failed(ACTION, name, error)),
            }
        }
        Err(error) => Err(open_failed(ACTION, name, error)),
    }
}

/// For reading, or else for writing, as much as the mode allows.
fn open_to_look(name: &str) -> io::Result<PosixMq> {
    match OpenOptions::readonly().nonblocking().open(name) {
        Err(error) if error.raw_os_error() == Some(libc::EACCES) => {
            OpenOptions::writeonly().nonblocking().open(name)
        }
        opened => opened,
    }
}

fn of_open(name: &str, queue: QueueFd) -> io::Result<Entry> {
    let stat = fstat(queue.fd())?;
    let attributes = queue.attributes()?;
    // Not available from a queue that is open for writing only.
    let mut status = [0; STATUS_SIZE];
    let len = read(queue.fd(), &mut status).unwrap_or_default();
    let status = String::from_utf8_lossy(&status[..len]);
    Ok(Entry {
        name: name.to_owned(),
        owner: stat.st_uid,
        group: stat.st_gid,
        mode: stat.st_mode & 0o777,
        ..looked_into(Some(attributes), &status)
    })
}
