//! [`info`]: one queue, looked at.

use std::fs;
use std::io;

use nix::libc;
use nix::sys::stat::fstat;
use nix::unistd::read;
use posixmq::{OpenOptions, PosixMq};

use crate::io::sys::QueueFd;
use crate::mq::list::{entry, field, is_mounted, notified};
use crate::mq::refusal::open_failed;
use crate::mq::{Entry, Error, MOUNT_POINT, check_name};

/// The text that a queue's descriptor gives is always 80 bytes: `FILENT_SIZE` in `ipc/mqueue.c`.
const STATUS_SIZE: usize = 80;

/// What there is to know of the queue of this name, whoever made it. No message is touched.
///
/// Unlike [`list`](crate::mq::list) this works without the mount on [`MOUNT_POINT`]: an open queue
/// gives its own status when it is read (`mqueue_read_file` in the kernel's `ipc/mqueue.c`).
///
/// # Errors
///
/// [`Error::Name`]; [`Error::NotFound`]; [`Error::PermissionDenied`] if this user may neither read
/// nor write it and it cannot be seen in the listing either, where its owner and mode are.
///
/// # Examples
///
/// ```
/// use aqueduct::mq;
///
/// let name = format!("/doc-info-{}", std::process::id());
/// let queue = mq::OpenOptions::new()
///     .create_new(true)
///     .capacity(2)
///     .max_message(8)
///     .unlink_on_drop(true)
///     .open(&name)?;
/// queue.try_send(0, b"four").unwrap();
///
/// let info = mq::info(&name)?;
/// assert_eq!((info.mode, info.bytes), (0o600, Some(4)));
/// assert_eq!(info.attributes.map(|it| it.messages), Some(1));
/// # Ok::<_, mq::Error>(())
/// ```
pub fn info(name: &str) -> Result<Entry, Error> {
    check_name(name)?;
    match open_to_look(name) {
        Ok(queue) => of_open(name, queue.into()),
        Err(error) if error.raw_os_error() == Some(libc::EACCES) && is_mounted() => {
            let path = format!("{MOUNT_POINT}{name}");
            match fs::metadata(&path) {
                Ok(metadata) => Ok(entry(path.as_ref(), &metadata)),
                Err(_) => Err(open_failed(name, "open", error)),
            }
        }
        Err(error) => Err(open_failed(name, "open", error)),
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

fn of_open(name: &str, queue: QueueFd) -> Result<Entry, Error> {
    let system = |source: io::Error| Error::System {
        name: name.to_owned(),
        action: "look at",
        source,
    };
    let stat = fstat(queue.fd()).map_err(|errno| system(errno.into()))?;
    let attributes = queue.attributes().map_err(system)?;
    // Not to be had of one that is open for writing only.
    let mut status = [0; STATUS_SIZE];
    let len = read(queue.fd(), &mut status).unwrap_or_default();
    let status = String::from_utf8_lossy(&status[..len]);
    Ok(Entry {
        name: name.to_owned(),
        owner: stat.st_uid,
        group: stat.st_gid,
        mode: stat.st_mode & 0o777,
        attributes: Some(attributes.into()),
        bytes: field(&status, "QSIZE"),
        notified: notified(&status),
    })
}
