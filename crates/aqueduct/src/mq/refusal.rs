//! Explains a refusal of the kernel: which of the values, or which of the limits, and whose.

use std::io;
use std::os::fd::OwnedFd;

use nix::fcntl::OFlag;
use nix::libc;
use nix::sys::resource::Resource;
use nix::sys::stat::{Mode, stat};

use crate::connect::{OpenError, OpenErrorKind};
use crate::mq::error::shown;
use crate::mq::mount::MOUNT_POINT;
use crate::mq::system_limits::{
    HARD_MSG_MAX, HARD_MSGSIZE_MAX, Limits, RoomEnd, cost, show_limit, soft_limit,
};

/// Explains a failure to open or unlink an existing queue.
pub(super) fn open_failed(action: &'static str, name: &str, source: io::Error) -> OpenError {
    let (kind, cause, cure) = match source.raw_os_error() {
        Some(libc::ENOENT) => (
            OpenErrorKind::NotFound,
            "it does not exist".to_owned(),
            match action {
                "open queue" => "create it, or check the name and the IPC namespace".to_owned(),
                _ => "check the name and the IPC namespace".to_owned(),
            },
        ),
        Some(libc::EEXIST) => (
            OpenErrorKind::AlreadyExists,
            "it already exists".to_owned(),
            "open it without create_new, or unlink it first".to_owned(),
        ),
        Some(libc::EMFILE) => {
            let limit = show_limit(soft_limit(Resource::RLIMIT_NOFILE));
            (
                OpenErrorKind::LimitReached,
                format!("all {limit} file descriptors of this process are in use"),
                "close some, or raise RLIMIT_NOFILE (ulimit -n)".to_owned(),
            )
        }
        Some(libc::EACCES) => {
            let found = stat(format!("{MOUNT_POINT}{name}").as_str()).ok();
            let owner = found.map(|it| (it.st_uid, it.st_mode & 0o777));
            let owner = owner.map_or_else(String::new, |(uid, mode)| {
                format!(" (owner {uid}, mode {mode:04o})")
            });
            (
                OpenErrorKind::PermissionDenied,
                format!("permission denied{owner}"),
                "ask its owner for another mode".to_owned(),
            )
        }
        _ => return OpenError::system(action, shown(name), source),
    };
    OpenError::new(action, shown(name), kind, cause)
        .with_cure(cure)
        .with_source(source)
}

/// A queue that cannot be created, and the limit that it met, if that limit ends the room for
/// queues.
pub(super) struct NotMade {
    pub(super) error: OpenError,
    pub(super) limit: Option<RoomEnd>,
}

/// Explains a failure to create a queue: which of the values, or which of the limits.
pub(super) fn create_failed(
    name: &str,
    capacity: usize,
    max_message: usize,
    source: io::Error,
) -> NotMade {
    let (kind, cause, cure, limit) = match source.raw_os_error() {
        Some(libc::EINVAL) => {
            let error = invalid(name, capacity, max_message, source);
            return NotMade { error, limit: None };
        }
        // Two limits share this number. If a descriptor is available it was not that one.
        Some(libc::EMFILE) if another_descriptor() => {
            let needed = cost(capacity, max_message);
            let limit = soft_limit(Resource::RLIMIT_MSGQUEUE);
            (
                OpenErrorKind::OverQuota { needed, limit },
                format!(
                    "it would cost {needed} bytes, more than this user's queues may still take \
                     (RLIMIT_MSGQUEUE is {})",
                    show_limit(limit)
                ),
                "make it smaller, remove a queue, or raise the limit (ulimit -q, LimitMSGQUEUE=)",
                RoomEnd::Bytes,
            )
        }
        Some(libc::ENOSPC) => {
            let max = Limits::read_system().queues_max;
            (
                OpenErrorKind::LimitReached,
                format!("it would be one more than the system allows ({max})"),
                "remove a queue, or raise the sysctl fs.mqueue.queues_max",
                RoomEnd::Queues,
            )
        }
        errno => {
            let limit = (errno == Some(libc::EMFILE)).then_some(RoomEnd::Descriptors);
            let error = open_failed("create queue", name, source);
            return NotMade { error, limit };
        }
    };
    let error = OpenError::new("create queue", shown(name), kind, cause);
    NotMade {
        error: error.with_cure(cure).with_source(source),
        limit: Some(limit),
    }
}

/// Finds out which of the values the kernel refused.
fn invalid(name: &str, capacity: usize, max_message: usize, source: io::Error) -> OpenError {
    let limits = Limits::read_system();
    let over = |asked: usize, max: u64| u64::try_from(asked).map_or(true, |asked| asked > max);
    // The sysctls too: if this process is not exempt from them after all, it is one of those.
    for (max_capacity, largest) in [limits.largest(), (limits.msg_max, limits.msgsize_max)] {
        if over(capacity, max_capacity) {
            return bad_capacity(name, capacity, max_capacity);
        }
        if over(max_message, largest) {
            return bad_max_message(name, max_message, largest);
        }
    }
    OpenError::system("create queue", shown(name), source)
}

pub(super) fn bad_capacity(name: &str, asked: usize, max: u64) -> OpenError {
    let cause = format!("its capacity cannot be {asked} messages, allowed are 1 to {max}");
    let cure = format!(
        "choose one of these, or raise the sysctl fs.mqueue.msg_max, to {HARD_MSG_MAX} at most"
    );
    bad_value(name, cause, cure)
}

pub(super) fn bad_max_message(name: &str, asked: usize, max: u64) -> OpenError {
    let cause = format!("its largest message cannot be {asked} bytes, allowed are 1 to {max}");
    let cure = format!(
        "choose one of these, or raise the sysctl fs.mqueue.msgsize_max, to {HARD_MSGSIZE_MAX} \
         at most"
    );
    bad_value(name, cause, cure)
}

fn bad_value(name: &str, cause: String, cure: String) -> OpenError {
    OpenError::new(
        "create queue",
        shown(name),
        OpenErrorKind::InvalidOption,
        cause,
    )
    .with_cure(cure)
    .with_source(io::Error::from_raw_os_error(libc::EINVAL))
}

/// Whether the process can open one more descriptor.
fn another_descriptor() -> bool {
    let fd: nix::Result<OwnedFd> =
        nix::fcntl::open("/", OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty());
    fd.is_ok()
}
