//! Names of queues: for creating, for opening, and removing one.

use std::io;

use nix::errno::Errno;
use nix::libc;

use crate::connect::{OpenError, OpenErrorKind};
use crate::mq::error::{TARGET, shown};
use crate::mq::refusal::open_failed;

/// The longest name in bytes, without the slash: `NAME_MAX`.
const MAX_NAME: usize = 255;

/// Checks the name of a queue that is to be opened: every name that Linux allows passes.
pub(super) fn check(action: &'static str, name: &str) -> Result<(), OpenError> {
    problem(name).map_or(Ok(()), |it| Err(it.of(action, name)))
}

/// Whether a queue can have this name.
pub(super) fn is_possible(name: &str) -> bool {
    problem(name).is_none()
}

/// Checks the name of a queue that is to be created: a slash, then 1 to 255 letters, digits, dots,
/// underscores and hyphens.
///
/// Linux allows any byte but a slash, including newlines; such names break tables and logs.
pub(super) fn check_new(name: &str) -> Result<(), OpenError> {
    check("create queue", name)?;
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    match name.chars().skip(1).find(|c| !allowed(*c)) {
        None => Ok(()),
        Some(found) => Err(Problem::Character(found).of("create queue", name)),
    }
}

/// The problem of a queue's name.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Problem {
    NoSlash,
    Empty,
    Slashes,
    Dots,
    TooLong(usize),
    Nul,
    Character(char),
}

impl Problem {
    fn of(self, action: &'static str, name: &str) -> OpenError {
        // The errno of the system call, or the one it would have.
        let (cause, errno) = match self {
            Self::NoSlash => ("a name must start with a slash".into(), libc::EINVAL),
            Self::Empty => ("nothing follows the slash".into(), libc::ENOENT),
            Self::Slashes => (
                "a name has one slash only, the first character".into(),
                libc::EACCES,
            ),
            Self::Dots => ("\".\" and \"..\" are directories".into(), libc::EACCES),
            Self::TooLong(len) => (
                format!("the name has {len} bytes after the slash; {MAX_NAME} are allowed"),
                libc::ENAMETOOLONG,
            ),
            Self::Nul => ("a name cannot contain a NUL".into(), libc::EINVAL),
            Self::Character(found) => {
                (format!("a new name cannot contain {found:?}"), libc::EINVAL)
            }
        };
        let cure = match self {
            Self::Character(_) => "use letters, digits, '.', '_' and '-'",
            _ => "write it like /jobs",
        };
        OpenError::new(action, shown(name), OpenErrorKind::InvalidName, cause)
            .with_cure(cure)
            .with_source(io::Error::from_raw_os_error(errno))
    }
}

fn problem(name: &str) -> Option<Problem> {
    let Some(rest) = name.strip_prefix('/') else {
        return Some(Problem::NoSlash);
    };
    match rest {
        "" => Some(Problem::Empty),
        "." | ".." => Some(Problem::Dots),
        _ if rest.contains('/') => Some(Problem::Slashes),
        _ if rest.contains('\0') => Some(Problem::Nul),
        _ if rest.len() > MAX_NAME => Some(Problem::TooLong(rest.len())),
        _ => None,
    }
}

/// Removes the queue of this name, whichever program created it.
///
/// Processes that have it open can go on using it. It counts against its owner's limit until the
/// last of them has closed it.
///
/// # Errors
///
/// `NotFound`, `PermissionDenied` (it belongs to another user: the directory of queues is sticky),
/// `InvalidName`.
///
/// # Examples
///
/// ```
/// use aqueduct::{OpenErrorKind, mq};
///
/// let name = format!("/doc-unlink-{}", std::process::id());
/// let queue = mq::OpenOptions::new().create_new(true).capacity(1).max_message(8).open(&name)?;
/// mq::unlink(&name)?;
/// assert_eq!(mq::unlink(&name).unwrap_err().kind(), &OpenErrorKind::NotFound);
/// # Ok::<_, aqueduct::OpenError>(())
/// ```
pub fn unlink(name: &str) -> Result<(), OpenError> {
    const ACTION: &str = "unlink queue";
    check(ACTION, name)?;
    posixmq::remove_queue(name).map_err(|error| match error.raw_os_error() {
        // The sticky directory causes EPERM for another user's queue.
        Some(libc::EPERM) => open_failed(ACTION, name, Errno::EACCES.into()),
        _ => open_failed(ACTION, name, error),
    })?;
    tracing::debug!(target: TARGET, name, "queue unlinked");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked_before_the_kernel_sees_them() {
        let long = format!("/{}", "x".repeat(MAX_NAME));
        let too_long = format!("{long}x");
        for good in ["/a", "/jobs", "/a.b-c_D9", "/...", "/.hidden", &long] {
            assert!(check_new(good).is_ok(), "{good:?}");
        }
        for foreign in ["/a\nb", "/a b", "/a:b", "/x@1", "/café"] {
            assert!(check("open queue", foreign).is_ok(), "{foreign:?}");
            let error = check_new(foreign).unwrap_err();
            assert_eq!(error.kind(), &OpenErrorKind::InvalidName, "{foreign:?}");
            assert_eq!(error.raw_os_error(), Some(libc::EINVAL), "{foreign:?}");
        }
        for (bad, problem_, errno) in [
            ("", Problem::NoSlash, libc::EINVAL),
            ("jobs", Problem::NoSlash, libc::EINVAL),
            ("/", Problem::Empty, libc::ENOENT),
            ("//", Problem::Slashes, libc::EACCES),
            ("//jobs", Problem::Slashes, libc::EACCES),
            ("/a/b", Problem::Slashes, libc::EACCES),
            ("/.", Problem::Dots, libc::EACCES),
            ("/..", Problem::Dots, libc::EACCES),
            (&too_long, Problem::TooLong(256), libc::ENAMETOOLONG),
            ("/a\0b", Problem::Nul, libc::EINVAL),
        ] {
            assert_eq!(problem(bad), Some(problem_), "{bad:?}");
            let error = check("open queue", bad).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(errno), "{bad:?}");
        }
    }
}
