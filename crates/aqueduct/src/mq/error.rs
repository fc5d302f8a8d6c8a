//! Errors that several files of this folder use, and how names are shown in them.

use std::io;

use crate::connect::{OpenError, OpenErrorKind};
use crate::io::reactor::Trouble;

/// The target of this module's events and spans.
pub(super) const TARGET: &str = "aqueduct::mq";

/// The queue was opened for the other direction only (`EBADF`).
pub(super) fn one_way(action: &'static str, name: &str, other: &str, needed: &str) -> OpenError {
    let cause = format!("it is open for {other} only");
    OpenError::new(action, shown(name), OpenErrorKind::Unsupported, cause)
        .with_cure(format!("open it for {needed}"))
        .with_source(io::Error::from_raw_os_error(libc::EBADF))
}

/// The queue was unlinked: its name refers to another queue, or to none.
pub(super) fn replaced(name: &str, anew: bool) -> OpenError {
    let cause = match anew {
        true => "it was unlinked and created again",
        false => "it was unlinked",
    };
    OpenError::new("use queue", shown(name), OpenErrorKind::Replaced, cause)
        .with_cure("open it again")
        .with_source(io::Error::from_raw_os_error(libc::ESTALE))
}

/// Nothing can wait for a queue here.
pub(super) fn cannot_wait(kind: OpenErrorKind, cause: impl Into<String>, cure: &str) -> OpenError {
    OpenError::new("wait for", "a queue", kind, cause.into()).with_cure(cure.to_owned())
}

pub(super) fn no_runtime() -> OpenError {
    let cause = "there is no Tokio runtime here";
    cannot_wait(OpenErrorKind::NoRuntime, cause, "call it from one")
}

pub(super) fn runtime_gone() -> OpenError {
    cannot_wait(
        OpenErrorKind::NoRuntime,
        "its Tokio runtime has shut down",
        "",
    )
}

/// Why the pool driver cannot wait, and what to do.
pub(super) fn explained(trouble: Trouble) -> io::Error {
    const OTHER: &str = "use the driver asyncfd";
    let limit = |cause, cure| cannot_wait(OpenErrorKind::LimitReached, cause, cure);
    let error = match trouble {
        Trouble::System(error) => return error,
        Trouble::Gone => runtime_gone(),
        Trouble::NoThread(reason) => limit(
            format!("the system gives the driver pool no thread ({reason})"),
            "use the driver asyncfd, or raise the limit on threads (ulimit -u, pids.max of the \
             control group)",
        )
        .with_source(io::Error::from_raw_os_error(libc::EAGAIN)),
        Trouble::Busy(waited) => limit(
            format!("no thread of Tokio's blocking pool became free in {waited:?}"),
            "use the driver asyncfd, let blocking tasks end, or give the runtime more threads for \
             them (max_blocking_threads)",
        ),
        Trouble::Failed(errno) => {
            let source = io::Error::from_raw_os_error(errno);
            let cause = format!("the driver pool has failed: {source}");
            cannot_wait(OpenErrorKind::Other, cause, OTHER).with_source(source)
        }
    };
    error.into()
}

/// A name as it is shown: quoted and escaped if it has characters that control a terminal.
pub(super) fn shown(name: &str) -> String {
    match name.is_empty() || name.chars().any(|c| c == ' ' || c.escape_debug().len() > 1) {
        true => format!("{name:?}"),
        false => name.to_owned(),
    }
}
