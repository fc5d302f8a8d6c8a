//! [`QueueError`]: facts about waiting for a queue, inside an [`io::Error`].

use std::io;
use std::time::Duration;

use thiserror::Error as ThisError;

use crate::connect::{OpenError, OpenErrorKind};

/// The target of this module's events and spans.
pub(super) const TARGET: &str = "aqueduct::mq";

/// Why an open queue can no longer be used, or not be waited for.
///
/// Travels inside the [`io::Error`] of sending and receiving; [`of`](Self::of) finds it there.
/// Nothing was sent or received when one of these is returned. Opening a queue fails with
/// [`OpenError`], and a message that is refused with [`FrameError`](crate::frame::FrameError).
///
/// # Examples
///
/// ```
/// use aqueduct::mq::{OpenOptions, QueueError};
///
/// let name = format!("/doc-replaced-{}", std::process::id());
/// let queue = OpenOptions::new().create_new(true).capacity(1).max_message(8).open(&name)?;
/// aqueduct::mq::unlink(&name)?;
/// let error = queue.check_name().unwrap_err();
/// let Some(QueueError::Replaced { replaced, .. }) = QueueError::of(&error) else { panic!() };
/// assert!(!replaced, "no other queue has the name");
/// # Ok::<_, aqueduct::OpenError>(())
/// ```
#[derive(Debug, ThisError)]
#[non_exhaustive]
pub enum QueueError {
    /// The queue was unlinked: its name stands for another queue, or for none.
    #[error("queue {name} was unlinked{}: open it again", if *replaced { " and made anew" } else { "" })]
    Replaced {
        /// The queue.
        name: String,
        /// Whether another queue has that name.
        replaced: bool,
    },

    /// Waiting needs a Tokio runtime and there is none here.
    #[error("waiting for a queue needs a Tokio runtime: call it from one")]
    NoRuntime,

    /// The runtime shut down before or during the wait.
    #[error("the Tokio runtime that waited for the queue has shut down")]
    RuntimeGone,

    /// No thread of the blocking pool became free for the driver in time.
    #[error(
        "no thread of Tokio's blocking pool became free in {waited:?}: use the driver asyncfd, let \
         blocking tasks end, or give the runtime more threads for them (max_blocking_threads)"
    )]
    PoolExhausted {
        /// How long was waited.
        waited: Duration,
    },

    /// The system refused the driver its thread (`EAGAIN`, `pthread_create(3)`).
    #[error(
        "the system gives the driver pool no thread ({reason}): use the driver asyncfd, or raise \
         the limit on threads (ulimit -u, pids.max of the control group)"
    )]
    NoThread {
        /// Tokio's words.
        reason: String,
    },

    /// The driver's thread ended because a system call failed, and so did its replacement.
    #[error("the driver pool, which waits for queues, has failed: use the driver asyncfd")]
    DriverFailed {
        /// The error of `epoll_wait(2)`.
        source: io::Error,
    },
}

impl QueueError {
    /// Finds the fact inside an [`io::Error`].
    pub fn of(error: &io::Error) -> Option<&Self> {
        error.get_ref()?.downcast_ref()
    }
}

impl From<QueueError> for io::Error {
    fn from(error: QueueError) -> Self {
        use io::ErrorKind as Kind;
        let kind = match &error {
            QueueError::Replaced { .. } => Kind::NotFound,
            QueueError::NoRuntime | QueueError::RuntimeGone => Kind::NotConnected,
            QueueError::PoolExhausted { .. } | QueueError::NoThread { .. } => Kind::QuotaExceeded,
            QueueError::DriverFailed { source } => source.kind(),
        };
        Self::new(kind, error)
    }
}

/// The queue was opened for the other direction only (`EBADF`).
pub(super) fn one_way(action: &'static str, name: &str, other: &str, needed: &str) -> OpenError {
    let cause = format!("it is open for {other} only");
    OpenError::new(action, shown(name), OpenErrorKind::Unsupported, cause)
        .with_cure(format!("open it for {needed}"))
        .with_source(io::Error::from_raw_os_error(libc::EBADF))
}

/// A name as it is shown: quoted and escaped where it has characters that a terminal acts upon.
pub(super) fn shown(name: &str) -> String {
    match name.is_empty() || name.chars().any(|c| c == ' ' || c.escape_debug().len() > 1) {
        true => format!("{name:?}"),
        false => name.to_owned(),
    }
}
