//! What a refusal of the kernel means: which of the values, or which of the limits, and whose.

use std::io;
use std::os::fd::OwnedFd;

use nix::fcntl::OFlag;
use nix::libc;
use nix::sys::resource::Resource;
use nix::sys::stat::{Mode, stat};

use crate::mq::limits::{self, Limits, cost};
use crate::mq::{Error, MOUNT_POINT};

/// Says what a failure to open or unlink an existing queue means.
pub(super) fn open_failed(name: &str, action: &'static str, source: io::Error) -> Error {
    let name = name.to_owned();
    match source.raw_os_error() {
        Some(libc::ENOENT) => Error::NotFound { name },
        Some(libc::EEXIST) => Error::AlreadyExists { name },
        Some(libc::EMFILE) => descriptors(name),
        Some(libc::EACCES) => {
            let found = stat(format!("{MOUNT_POINT}{name}").as_str()).ok();
            let owner = found.map(|it| (it.st_uid, it.st_mode & 0o777));
            Error::PermissionDenied { name, owner }
        }
        _ => Error::System {
            name,
            action,
            source,
        },
    }
}

/// Says what a failure to make a queue means: which of the values, or which of the limits.
pub(super) fn create_failed(
    name: &str,
    capacity: usize,
    max_message: usize,
    source: io::Error,
) -> Error {
    match source.raw_os_error() {
        Some(libc::EINVAL) => invalid(name, capacity, max_message, source),
        // Two limits share this number. If a descriptor can be had it was not that one.
        Some(libc::EMFILE) if another_descriptor() => Error::QueueBytes {
            name: name.to_owned(),
            cost: cost(capacity, max_message),
            limit: limits::soft_limit(Resource::RLIMIT_MSGQUEUE),
        },
        Some(libc::ENOSPC) => Error::TooManyQueues {
            name: name.to_owned(),
            max: Limits::read_system().queues_max,
        },
        _ => open_failed(name, "create", source),
    }
}

/// Says which of the values the kernel did not like.
fn invalid(name: &str, capacity: usize, max_message: usize, source: io::Error) -> Error {
    let limits = Limits::read_system();
    let over = |asked: usize, max: u64| u64::try_from(asked).map_or(true, |asked| asked > max);
    // The sysctls too: should this process not be exempt from them after all, it is one of those.
    for (max_capacity, largest) in [limits.largest(), (limits.msg_max, limits.msgsize_max)] {
        let name = name.to_owned();
        if over(capacity, max_capacity) {
            return Error::Capacity {
                name,
                asked: capacity,
                max: max_capacity,
            };
        }
        if over(max_message, largest) {
            return Error::MaxMessage {
                name,
                asked: max_message,
                max: largest,
            };
        }
    }
    Error::System {
        name: name.to_owned(),
        action: "create",
        source,
    }
}

fn descriptors(name: String) -> Error {
    let limit = limits::soft_limit(Resource::RLIMIT_NOFILE);
    Error::Descriptors { name, limit }
}

/// Whether the process can have one more descriptor.
fn another_descriptor() -> bool {
    let fd: nix::Result<OwnedFd> =
        nix::fcntl::open("/", OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty());
    fd.is_ok()
}
