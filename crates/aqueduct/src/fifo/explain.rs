//! Explains a failed call on a path: what is wrong, and where.

use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;

use super::name::shown;
use crate::connect::{OpenError, OpenErrorKind};

/// The longest name in a path and the longest path, in bytes: limits.h(0p), path_resolution(7).
const NAME_MAX: usize = 255;
const PATH_MAX: usize = 4095;

/// Why there is no FIFO to open.
pub(super) enum Failure {
    /// Nothing is there, and it can be created.
    Absent(OpenError),
    Other(OpenError),
}

impl Failure {
    pub(super) fn into_error(self) -> OpenError {
        match self {
            Self::Absent(error) | Self::Other(error) => error,
        }
    }
}

impl From<OpenError> for Failure {
    fn from(error: OpenError) -> Self {
        Self::Other(error)
    }
}

/// Refuses a path that can name nothing.
pub(super) fn check_path(path: &Path) -> Result<(), OpenError> {
    let bytes = path.as_os_str().as_bytes();
    let cause = if bytes.is_empty() {
        "the path is empty"
    } else if bytes.contains(&0) {
        "the path contains a NUL byte"
    } else {
        return Ok(());
    };
    Err(failed(path, OpenErrorKind::InvalidName, cause).with_cure("correct the path"))
}

/// Turns the errno of a call on `path` into what is wrong and where.
pub(super) fn explain(path: &Path, errno: Errno) -> Failure {
    let system = || OpenError::system("open fifo", shown(path), errno.into());
    let found = match errno {
        Errno::ENOENT => return missing(path),
        Errno::ENOTDIR => not_a_directory(path),
        Errno::EACCES => denied(path),
        Errno::EROFS => Some(
            failed(path, OpenErrorKind::Other, "the file system is read-only")
                .with_cure("use a directory on another one"),
        ),
        Errno::ENAMETOOLONG => Some(too_long(path)),
        _ => None,
    };
    let with_errno = |error: OpenError| error.with_source(io::Error::from(errno));
    Failure::Other(found.map_or_else(system, with_errno))
}

fn missing(path: &Path) -> Failure {
    let is_missing =
        |dir: &PathBuf| fs::metadata(dir).is_err_and(|e| e.kind() == io::ErrorKind::NotFound);
    let absent = io::Error::from(Errno::ENOENT);
    if let Some(directory) = directories(path).into_iter().find(is_missing) {
        let cause = format!("directory {} does not exist", shown(&directory));
        let error = failed(path, OpenErrorKind::NotFound, cause).with_source(absent);
        return Failure::Other(error.with_cure("create it first"));
    }
    if path.as_os_str().as_bytes().ends_with(b"/") {
        let cause = "the path ends in a slash, which only a directory's path may";
        let error = failed(path, OpenErrorKind::InvalidName, cause);
        return Failure::Other(error.with_cure("correct the path"));
    }
    let error = failed(path, OpenErrorKind::NotFound, "it does not exist").with_source(absent);
    Failure::Absent(error.with_cure("start the program that creates it, or let it be created"))
}

fn not_a_directory(path: &Path) -> Option<OpenError> {
    let mut components = directories(path);
    // Without a trailing slash.
    components.push(path.components().as_path().to_owned());
    components.into_iter().find_map(|component| {
        let found = fs::metadata(&component).ok()?;
        (!found.is_dir()).then(|| {
            let cause = format!("{} is not a directory", shown(&component));
            failed(path, OpenErrorKind::InvalidName, cause).with_cure("correct the path")
        })
    })
}

fn denied(path: &Path) -> Option<OpenError> {
    let directories = directories(path);
    let whole = path.to_owned();
    let below = directories.iter().skip(1).chain([&whole]);
    let unsearchable = directories.iter().zip(below).find(|(_, entry)| {
        fs::symlink_metadata(entry).is_err_and(|e| e.kind() == io::ErrorKind::PermissionDenied)
    });
    let (cause, cure) = match unsearchable {
        Some((directory, _)) => (
            format!(
                "this user may not search directory {} (x permission)",
                shown(directory)
            ),
            "use another directory, or have its owner grant that",
        ),
        None => (
            format!(
                "this user may not write to directory {}",
                shown(directories.last()?)
            ),
            "use one that is writable, such as $XDG_RUNTIME_DIR",
        ),
    };
    Some(failed(path, OpenErrorKind::PermissionDenied, cause).with_cure(cure))
}

fn too_long(path: &Path) -> OpenError {
    let longest = path.components().map(|it| it.as_os_str().len()).max();
    let cause = match longest {
        Some(len) if len > NAME_MAX => {
            format!("one name in the path has {len} bytes, and {NAME_MAX} are allowed")
        }
        _ => {
            let len = path.as_os_str().len();
            format!("the path has {len} bytes, and {PATH_MAX} are allowed")
        }
    };
    failed(path, OpenErrorKind::InvalidName, cause).with_cure("use a shorter path")
}

/// The directories on the way to `path`, outermost first; never empty.
fn directories(path: &Path) -> Vec<PathBuf> {
    let named = path.ancestors().skip(1).map(|it| {
        if it.as_os_str().is_empty() {
            PathBuf::from(".")
        } else {
            it.to_owned()
        }
    });
    let mut directories: Vec<_> = named.collect();
    directories.reverse();
    directories
}

/// The error of a FIFO that could not be opened, for this reason.
pub(super) fn failed(
    path: &Path,
    kind: OpenErrorKind,
    cause: impl Into<std::borrow::Cow<'static, str>>,
) -> OpenError {
    OpenError::new("open fifo", shown(path), kind, cause)
}
