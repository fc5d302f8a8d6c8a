//! Removing queues, and finding out what a name stands for.

use std::io;
use std::os::fd::OwnedFd;

use nix::errno::Errno;
use nix::libc;
use nix::sys::stat::{fstat, stat};
use posixmq::PosixMq;

use crate::mq::open::open_failed;
use crate::mq::queue::identity;
use crate::mq::{Error, MOUNT_POINT, NameState, TARGET, check_name};
use crate::sys::QueueFd;

/// Removes the queue of this name, whoever made it. All who have it open can go on to use it; it
/// counts against its owner's limit until the last of them has closed it.
///
/// [`Queue::unlink`](crate::mq::Queue::unlink) removes one certain queue only.
///
/// # Errors
///
/// [`Error::NotFound`], [`Error::PermissionDenied`] (it is another user's: the directory of queues
/// is sticky), [`Error::Name`].
///
/// # Examples
///
/// ```
/// use aqueduct::mq;
///
/// let name = format!("/doc-unlink-{}", std::process::id());
/// let queue = mq::OpenOptions::new().create_new(true).capacity(1).max_message(8).open(&name)?;
/// mq::unlink(&name)?;
/// assert!(matches!(mq::unlink(&name), Err(mq::Error::NotFound { .. })));
/// # Ok::<_, mq::Error>(())
/// ```
pub fn unlink(name: &str) -> Result<(), Error> {
    check_name(name)?;
    posixmq::remove_queue(name).map_err(|error| match error.raw_os_error() {
        // The sticky directory says EPERM where another user's queue is meant.
        Some(libc::EPERM) => open_failed(name, "unlink", Errno::EACCES.into()),
        _ => open_failed(name, "unlink", error),
    })?;
    tracing::debug!(target: TARGET, name, "queue unlinked");
    Ok(())
}

/// What `name` stands for, seen from the open queue `fd` that was opened by it.
pub(super) fn state(name: &str, fd: &QueueFd, id: (u64, u64)) -> Result<NameState, Error> {
    let system = |source: io::Error| Error::System {
        name: name.to_owned(),
        action: "look up",
        source,
    };
    let linked = fstat(fd.fd())
        .map_err(|errno| system(errno.into()))?
        .st_nlink
        > 0;
    match named(name, id.0) {
        Ok(found) if found == id => Ok(NameState::Linked),
        Ok(_) => Ok(NameState::Replaced),
        Err(error) => match error.raw_os_error() {
            Some(libc::ENOENT) => Ok(NameState::Unlinked),
            // It cannot be opened: the name is there. A queue is never renamed and has one name,
            // so if ours is linked it is ours.
            Some(libc::EACCES) if linked => Ok(NameState::Linked),
            Some(libc::EACCES) => Ok(NameState::Replaced),
            _ => Err(system(error)),
        },
    }
}

/// Device and inode of the queue that has this name now.
fn named(name: &str, device: u64) -> io::Result<(u64, u64)> {
    // Where the queues of this very namespace are mounted a look is enough.
    if let Ok(mount) = stat(MOUNT_POINT)
        && mount.st_dev == device
    {
        let found = stat(format!("{MOUNT_POINT}{name}").as_str())?;
        return Ok((found.st_dev, found.st_ino));
    }
    let mut last = io::Error::from(Errno::EACCES);
    for mut options in [
        posixmq::OpenOptions::readonly(),
        posixmq::OpenOptions::writeonly(),
    ] {
        match options.nonblocking().open(name) {
            Ok(queue) => return Ok(open_identity(queue)?),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn open_identity(queue: PosixMq) -> nix::Result<(u64, u64)> {
    let queue = QueueFd::from(queue);
    let fd: &OwnedFd = queue.fd();
    identity(fd)
}
