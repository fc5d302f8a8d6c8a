//! The queue file system: where it is mounted, and the contents of its files.

use std::path::Path;

use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use nix::sys::statfs::{FsType, statfs};

use crate::io::sys::QueueFd;

/// Where the queue file system is expected: where
/// [`mq_overview(7)`](https://man7.org/linux/man-pages/man7/mq_overview.7.html) and systemd mount
/// it. Queues work without it; only listing them does not.
pub(super) const MOUNT_POINT: &str = "/dev/mqueue";

/// `MQUEUE_MAGIC`, in the kernel's `ipc/mqueue.c`.
pub(super) const MQUEUE_MAGIC: FsType = FsType(0x1980_0202);

/// Whether a queue file system is mounted on [`MOUNT_POINT`].
pub(super) fn is_mounted() -> bool {
    statfs(MOUNT_POINT).is_ok_and(|it| it.filesystem_type() == MQUEUE_MAGIC)
}

/// The attributes of the queue at a path in the queue file system, or of a link to one. Needs
/// permission to read or to write it.
pub(super) fn attributes(path: &Path) -> Option<posixmq::Attributes> {
    let flags = OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    let opened = open(path, OFlag::O_RDONLY | flags, Mode::empty());
    let opened = opened.or_else(|_| open(path, OFlag::O_WRONLY | flags, Mode::empty()));
    QueueFd::from(opened.ok()?).attributes().ok()
}

/// The process to be notified, in the text that [`field`] parses.
pub(crate) fn notified(status: &str) -> Option<u32> {
    let pid = u32::try_from(field(status, "NOTIFY_PID")?).ok()?;
    (pid != 0).then_some(pid)
}

/// A number in the text of a queue's file: `QSIZE:10 NOTIFY:0 SIGNO:0 NOTIFY_PID:0`, separated by
/// any number of spaces.
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
