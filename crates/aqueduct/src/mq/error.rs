//! [`Error`]: what can go wrong with a queue, and what to do about it.

use std::io;
use std::time::Duration;

use nix::libc;
use thiserror::Error as ThisError;

use crate::mq::limits::{HARD_MSG_MAX, HARD_MSGSIZE_MAX, show_limit};
use crate::mq::name::NameProblem;
use crate::mq::{AttributeMismatch, MAX_PRIORITY, Priority};

/// Why a queue could not be opened, or a message not be sent or received.
///
/// Sending and receiving return [`io::Error`]; where one of these is the reason it travels inside
/// and [`Error::find`] gets it out.
#[derive(Debug, ThisError)]
#[non_exhaustive]
pub enum Error {
    /// The name cannot be a queue's.
    #[error("{name:?} cannot name a message queue: {problem}")]
    Name {
        /// The name as given.
        name: String,
        /// What is wrong with it.
        problem: NameProblem,
    },

    /// The capacity asked for is zero or too large (`EINVAL`).
    #[error(
        "queue {name} cannot hold {asked} messages: allowed are 1 to {max}; \
         choose one of these, or raise the sysctl fs.mqueue.msg_max, to {HARD_MSG_MAX} at most"
    )]
    Capacity {
        /// The queue.
        name: String,
        /// How many messages it was to hold.
        asked: usize,
        /// How many it may hold.
        max: u64,
    },

    /// The size asked for the largest message is zero or too large (`EINVAL`).
    #[error(
        "queue {name} cannot have messages of {asked} bytes: allowed are 1 to {max}; \
         choose one of these, or raise the sysctl fs.mqueue.msgsize_max, to {HARD_MSGSIZE_MAX} \
         at most"
    )]
    MaxMessage {
        /// The queue.
        name: String,
        /// How large a message was to be.
        asked: usize,
        /// How large it may be.
        max: u64,
    },

    /// The user has too many bytes in queues (`EMFILE`).
    ///
    /// The limit is the user's, not the process's: every queue the user ever made counts until it
    /// is unlinked and closed everywhere.
    #[error(
        "queue {name} would cost {cost} bytes, more than this user's queues may still take \
         (RLIMIT_MSGQUEUE is {}): make it smaller, remove a queue, or raise the limit \
         (ulimit -q, LimitMSGQUEUE=)", show_limit(*limit)
    )]
    QueueBytes {
        /// The queue.
        name: String,
        /// What it would cost, see [`cost`](crate::mq::cost).
        cost: u64,
        /// The soft limit; `None` is no limit.
        limit: Option<u64>,
    },

    /// The process has too many open descriptors (`EMFILE`).
    #[error(
        "queue {name} needs a descriptor and all {} of this process are open: close some, or \
         raise RLIMIT_NOFILE (ulimit -n)", show_limit(*limit)
    )]
    Descriptors {
        /// The queue.
        name: String,
        /// The soft limit; `None` is no limit.
        limit: Option<u64>,
    },

    /// The system has too many queues (`ENOSPC`).
    #[error(
        "queue {name} would be one more than the system allows ({max}): remove a queue, or raise \
         the sysctl fs.mqueue.queues_max"
    )]
    TooManyQueues {
        /// The queue.
        name: String,
        /// How many there may be, in this IPC namespace.
        max: u64,
    },

    /// There is no such queue (`ENOENT`).
    #[error("there is no queue {name}: create it, or check the name and the IPC namespace")]
    NotFound {
        /// The queue.
        name: String,
    },

    /// The queue exists and was to be made (`EEXIST`).
    #[error("there is a queue {name} already: use it as it is, or unlink it first")]
    AlreadyExists {
        /// The queue.
        name: String,
    },

    /// The queue's mode does not allow this use (`EACCES`).
    #[error("access to queue {name} is denied{}: ask its owner for another mode", show_owner(*owner))]
    PermissionDenied {
        /// The queue.
        name: String,
        /// Its owner and mode, where they could be found.
        owner: Option<(u32, u32)>,
    },

    /// The queue belongs to another user, who may have made it to be found here.
    #[error(
        "queue {name} belongs to user {owner}, not to user {euid}: use another name, work as that \
         user, or allow a foreign owner if that one is to be trusted"
    )]
    ForeignOwner {
        /// The queue.
        name: String,
        /// The queue's owner.
        owner: u32,
        /// The user this process works as.
        euid: u32,
    },

    /// The queue gives more access than asked for, and `strict` refuses that.
    #[error(
        "queue {name} has mode {mode:04o}, wider than {allowed:04o}: chmod or make it again, or \
         open it without strict"
    )]
    WiderMode {
        /// The queue.
        name: String,
        /// Its mode.
        mode: u32,
        /// What was asked for.
        allowed: u32,
    },

    /// The queue has other attributes than asked for, and `strict` refuses that.
    #[error("queue {name} {mismatch}: unlink it first, or open it without strict")]
    Attributes {
        /// The queue.
        name: String,
        /// What was asked for, and what is there.
        mismatch: AttributeMismatch,
    },

    /// The name stands for another queue by now, or for none.
    #[error("queue {name} was unlinked{}: open it again", if *replaced { " and made anew" } else { "" })]
    Replaced {
        /// The queue.
        name: String,
        /// Whether there is another queue of that name.
        replaced: bool,
    },

    /// The descriptor is not a message queue's.
    #[error("the descriptor is not a message queue")]
    NotAQueue,

    /// The message is larger than the queue takes (`EMSGSIZE`). Nothing was sent.
    #[error(
        "a message of {len} bytes does not fit queue {name}, whose largest is {max}: send less, \
         or unlink the queue and make it for larger messages"
    )]
    MessageTooLarge {
        /// The queue.
        name: String,
        /// The message's size.
        len: usize,
        /// The queue's largest.
        max: usize,
    },

    /// The buffer to receive into is smaller than the queue's largest message (`EMSGSIZE`).
    /// Nothing was received.
    #[error(
        "a buffer of {len} bytes is too small to receive from queue {name}: it takes {needed}, \
         whatever the message's length"
    )]
    BufferTooSmall {
        /// The queue.
        name: String,
        /// The buffer's size.
        len: usize,
        /// The queue's largest message.
        needed: usize,
    },

    /// The priority is above [`MAX_PRIORITY`] (`EINVAL`). Nothing was sent.
    #[error("priority {asked} is too high: at most {MAX_PRIORITY} is allowed")]
    Priority {
        /// The priority.
        asked: Priority,
    },

    /// The queue was not opened for receiving (`EBADF`).
    #[error("queue {name} is open for sending only: open it for receiving")]
    NotReadable {
        /// The queue.
        name: String,
    },

    /// The queue was not opened for sending (`EBADF`).
    #[error("queue {name} is open for receiving only: open it for sending")]
    NotWritable {
        /// The queue.
        name: String,
    },

    /// An empty message was to be sent where it would mean the end.
    #[error("an empty message on queue {name} means the end, as both ends agreed: send a byte")]
    EmptyMessage {
        /// The queue.
        name: String,
    },

    /// The sink was closed before.
    #[error("the sender on queue {name} is closed")]
    Closed {
        /// The queue.
        name: String,
    },

    /// Waiting needs a Tokio runtime and there is none here.
    #[error("waiting for a queue needs a Tokio runtime: call it from one")]
    NoRuntime,

    /// The runtime shut down during the wait, or before it. Nothing was sent or received.
    #[error("the Tokio runtime that waited for the queue has shut down")]
    RuntimeGone,

    /// No thread of the blocking pool became free for the driver. Nothing was sent or received.
    #[error(
        "no thread of Tokio's blocking pool became free in {waited:?}: use the driver asyncfd, let \
         blocking tasks end, or give the runtime more threads for them (max_blocking_threads)"
    )]
    PoolExhausted {
        /// How long was waited.
        waited: Duration,
    },

    /// The system refused the driver its thread (`EAGAIN`, `pthread_create(3)`). Nothing was sent
    /// or received.
    #[error(
        "the system gives the driver pool no thread ({reason}): use the driver asyncfd, or raise \
         the limit on threads (ulimit -u, pids.max of the control group)"
    )]
    NoThread {
        /// What Tokio said.
        reason: String,
    },

    /// The driver's thread has ended since a system call failed, and so has the one that was begun in
    /// its place. Nothing was sent or received.
    #[error("the driver pool, which waits for queues, has failed: use the driver asyncfd")]
    DriverFailed {
        /// Why: an error of `epoll_wait(2)`.
        source: io::Error,
    },

    /// The queue file system is not mounted where queues are looked up for listing.
    #[error(
        "queues cannot be listed: no queue file system is mounted on {}; mount one, as root: \
         mkdir -p {0} && mount -t mqueue none {0}",
        crate::mq::MOUNT_POINT
    )]
    NotMounted,

    /// Any other failure of a system call.
    #[error("cannot {action} queue {name}")]
    System {
        /// The queue.
        name: String,
        /// What was tried.
        action: &'static str,
        /// Why it failed.
        source: io::Error,
    },
}

impl Error {
    /// The error number the system has for this, or would have had if it had been asked.
    pub fn raw_os_error(&self) -> Option<i32> {
        match self {
            Self::Name { problem, .. } => Some(match problem {
                NameProblem::TooLong { .. } => libc::ENAMETOOLONG,
                NameProblem::Slashes | NameProblem::Dots => libc::EACCES,
                _ => libc::EINVAL,
            }),
            Self::Capacity { .. } | Self::MaxMessage { .. } | Self::Priority { .. } => {
                Some(libc::EINVAL)
            }
            Self::QueueBytes { .. } | Self::Descriptors { .. } => Some(libc::EMFILE),
            Self::TooManyQueues { .. } => Some(libc::ENOSPC),
            Self::NotFound { .. } => Some(libc::ENOENT),
            Self::AlreadyExists { .. } => Some(libc::EEXIST),
            Self::PermissionDenied { .. } => Some(libc::EACCES),
            Self::MessageTooLarge { .. } | Self::BufferTooSmall { .. } => Some(libc::EMSGSIZE),
            Self::NotReadable { .. } | Self::NotWritable { .. } | Self::NotAQueue => {
                Some(libc::EBADF)
            }
            Self::NoThread { .. } => Some(libc::EAGAIN),
            Self::System { source, .. } | Self::DriverFailed { source } => source.raw_os_error(),
            _ => None,
        }
    }

    /// The kind an [`io::Error`] made of this has.
    pub fn kind(&self) -> io::ErrorKind {
        use io::ErrorKind as Kind;
        match self {
            Self::QueueBytes { .. }
            | Self::Descriptors { .. }
            | Self::PoolExhausted { .. }
            | Self::NoThread { .. } => Kind::QuotaExceeded,
            Self::TooManyQueues { .. } => Kind::StorageFull,
            Self::NotFound { .. } | Self::Replaced { .. } => Kind::NotFound,
            Self::AlreadyExists { .. } => Kind::AlreadyExists,
            Self::PermissionDenied { .. } | Self::ForeignOwner { .. } | Self::WiderMode { .. } => {
                Kind::PermissionDenied
            }
            Self::Closed { .. } => Kind::BrokenPipe,
            Self::NoRuntime | Self::RuntimeGone => Kind::NotConnected,
            Self::NotMounted => Kind::Unsupported,
            Self::System { source, .. } | Self::DriverFailed { source } => source.kind(),
            _ => Kind::InvalidInput,
        }
    }

    /// The `Error` inside an [`io::Error`], if that is what it is about.
    pub fn find(error: &io::Error) -> Option<&Self> {
        error.get_ref()?.downcast_ref()
    }
}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        Self::new(error.kind(), error)
    }
}

fn show_owner(owner: Option<(u32, u32)>) -> String {
    match owner {
        Some((uid, mode)) => format!(" (owner {uid}, mode {mode:04o})"),
        None => String::new(),
    }
}

/// Until each says its own kind.
impl From<Error> for crate::connect::OpenError {
    fn from(error: Error) -> Self {
        let kind = match error.kind() {
            io::ErrorKind::NotFound => crate::connect::OpenErrorKind::NotFound,
            io::ErrorKind::AlreadyExists => crate::connect::OpenErrorKind::AlreadyExists,
            io::ErrorKind::PermissionDenied => crate::connect::OpenErrorKind::PermissionDenied,
            io::ErrorKind::AddrInUse => crate::connect::OpenErrorKind::InUse,
            io::ErrorKind::ConnectionRefused => crate::connect::OpenErrorKind::Refused,
            io::ErrorKind::InvalidInput => crate::connect::OpenErrorKind::InvalidName,
            io::ErrorKind::Unsupported => crate::connect::OpenErrorKind::Unsupported,
            _ => crate::connect::OpenErrorKind::Other,
        };
        Self::adopt(kind, error)
    }
}
