//! [`unlink`]: removing queues.

use nix::errno::Errno;
use nix::libc;

use crate::mq::refusal::open_failed;
use crate::mq::{Error, TARGET, check_name};

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
