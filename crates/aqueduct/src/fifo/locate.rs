use std::fs::{self, File, Permissions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat};
use nix::unistd::{Uid, mkfifo};

use super::OpenOptions;
use super::error::Error;
use super::name::{Name, PathState};
use super::watch::proc_path;
use crate::io::fd::{self, Access, Kind};
use crate::io::mark::MARK;

/// The nine permission bits.
pub(super) const PERMISSIONS: u32 = 0o777;

/// The longest name in a path and the longest path, in bytes: limits.h(0p), path_resolution(7).
const NAME_MAX: usize = 255;
const PATH_MAX: usize = 4095;

/// A FIFO that was found or made and checked, and is not yet open.
///
/// The name goes first: see [`Name`].
#[derive(Debug)]
pub(super) struct Located {
    pub(super) name: Name,
    /// Opened with `O_PATH`: it names the inode and is invisible to the FIFO's other users.
    fd: OwnedFd,
    stat: FileStat,
}

impl Located {
    /// Finds or makes the FIFO that `path` names and checks it as `options` ask.
    ///
    /// `None`: it was exchanged meanwhile, and looking again may help.
    pub(super) fn find(options: &OpenOptions, path: &Path) -> Result<Option<Self>, Error> {
        if options.mode & !PERMISSIONS != 0 {
            return Err(Error::InvalidMode { mode: options.mode });
        }
        check_path(path)?;
        if options.create_new {
            return Self::make(options, path)?.map_or_else(
                || {
                    Err(Error::AlreadyExists {
                        path: path.to_owned(),
                    })
                },
                |made| Ok(Some(made)),
            );
        }
        match Self::existing(options, path) {
            Err(Error::NotFound { .. }) if options.create => {}
            found => return found.map(Some),
        }
        if let Some(made) = Self::make(options, path)? {
            return Ok(Some(made));
        }
        // Made by another process in this moment; or there is a link to nowhere.
        match fs::read_link(path) {
            Ok(target) if options.allow_symlink => Err(Error::DanglingSymlink {
                path: path.to_owned(),
                target,
            }),
            _ => Ok(None),
        }
    }

    fn existing(options: &OpenOptions, path: &Path) -> Result<Self, Error> {
        let fd = open_path(path, options.allow_symlink).map_err(|e| explain(path, e, "open"))?;
        let found = Self::of(path, options.allow_symlink, fd)?;
        found.check(options)?;
        Ok(found)
    }

    /// Makes a FIFO; `None` if there is something at the path already.
    fn make(options: &OpenOptions, path: &Path) -> Result<Option<Self>, Error> {
        // A FIFO that cannot be looked at once it is made could not be told from another's, and so
        // not be removed. So what is scarce is had first.
        let spare = open_path(Path::new("/"), false).map_err(|e| Error::io(path, "open", e))?;
        match mkfifo(path, Mode::from_bits_truncate(options.mode | MARK)) {
            Err(Errno::EEXIST) => return Ok(None),
            result => result.map_err(|e| explain(path, e, "mkfifo"))?,
        }
        drop(spare);
        let opened = match open_path(path, false) {
            Err(Errno::ENOENT) => return Ok(None),
            Err(e) => Err(explain(path, e, "open")),
            Ok(fd) => Self::of(path, false, fd),
        };
        let mut made = opened.inspect_err(|_| remove_made(options, path))?;
        if !made.can_be_ours(options) {
            return Ok(None);
        }
        // What does not get the mode that was asked for does not stay.
        made.name.set_unlink(true);
        if made.mode() != options.mode {
            // The umask has taken bits away. Through the descriptor, so that it is this inode; and
            // not by opening the FIFO, which would release a waiting peer and then hang up on it.
            let permissions = Permissions::from_mode(options.mode | MARK);
            fs::set_permissions(proc_path(made.fd.as_fd()), permissions)
                .map_err(|e| Error::io(path, "chmod", e))?;
        }
        made.name.set_unlink(options.unlink_on_drop);
        tracing::debug!(target: super::TARGET, ?path, mode = %format_args!("{:#o}", options.mode), "made");
        Ok(Some(made))
    }

    fn of(path: &Path, follow: bool, fd: OwnedFd) -> Result<Self, Error> {
        let stat = fstat(&fd).map_err(|e| Error::io(path, "fstat", e))?;
        Ok(Self {
            name: Name::new(path, follow, &stat),
            fd,
            stat,
        })
    }

    /// Whether this can be what a `mkfifo` of ours has just made: nobody exchanged it since.
    fn can_be_ours(&self, options: &OpenOptions) -> bool {
        self.kind() == SFlag::S_IFIFO
            && self.stat.st_uid == Uid::effective().as_raw()
            && self.mode() & !options.mode == 0
    }

    fn check(&self, options: &OpenOptions) -> Result<(), Error> {
        let path = self.name.path();
        match self.kind() {
            SFlag::S_IFIFO => {}
            SFlag::S_IFLNK => {
                return Err(Error::Symlink {
                    path: path.to_owned(),
                    target: fs::read_link(path).unwrap_or_default(),
                });
            }
            _ => {
                return Err(Error::NotAFifo {
                    path: path.to_owned(),
                    kind: Kind::of(&self.fd).unwrap_or(Kind::Other),
                });
            }
        }
        let owner = self.stat.st_uid;
        let euid = Uid::effective().as_raw();
        // Root could read and write it in any case, so a FIFO of root's is no more of a risk.
        if owner != euid && owner != 0 && !options.allow_foreign_owner {
            return Err(Error::ForeignOwner {
                path: path.to_owned(),
                owner,
                euid,
            });
        }
        let mode = self.mode();
        if mode & !options.mode != 0 {
            if options.strict {
                return Err(Error::ModeTooWide {
                    path: path.to_owned(),
                    mode,
                    allowed: options.mode,
                });
            }
            tracing::warn!(
                target: super::TARGET,
                ?path,
                mode = %format_args!("{mode:#o}"),
                asked = %format_args!("{:#o}", options.mode),
                "more users than asked for may open this FIFO: chmod it, or ask for that mode",
            );
        }
        Ok(())
    }

    /// Opens it. `None`: for writing, and there is no reader; or it is no longer at its path.
    pub(super) fn open(&self, access: Access) -> Result<Option<OwnedFd>, Error> {
        // By descriptor, so that it is the inode that was checked.
        let opened = match fd::reopen(&self.fd, access) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => self.open_by_name(access),
            result => result,
        };
        let error = match opened {
            Ok(fd) => return Ok(Some(fd)),
            Err(error) => error,
        };
        match error.raw_os_error() {
            Some(libc::ENXIO) if access == Access::Write => Ok(None),
            Some(libc::ESTALE) => Ok(None),
            Some(libc::EACCES) => Err(Error::AccessDenied {
                path: self.name.path().to_owned(),
                access,
                mode: self.mode(),
                owner: self.stat.st_uid,
                euid: Uid::effective().as_raw(),
            }),
            _ => Err(Error::io(self.name.path(), "open", error)),
        }
    }

    /// Opens it where /proc is not mounted. What is opened then can be another file.
    fn open_by_name(&self, access: Access) -> io::Result<OwnedFd> {
        let mut flags = OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
        if !self.name.follows_symlink() {
            flags |= OFlag::O_NOFOLLOW;
        }
        let file = File::options()
            .read(access.can_read())
            .write(access.can_write())
            .custom_flags(flags.bits())
            .open(self.name.path())?;
        if self.name.is(&fstat(&file)?) {
            Ok(file.into())
        } else {
            Err(Errno::ESTALE.into())
        }
    }

    /// What the path names by now.
    pub(super) fn state(&self) -> Result<PathState, Error> {
        let state = self.name.state(&self.fd);
        state.map_err(|e| Error::io(self.name.path(), "lstat", e))
    }

    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    fn kind(&self) -> SFlag {
        SFlag::from_bits_truncate(self.stat.st_mode) & SFlag::S_IFMT
    }

    fn mode(&self) -> u32 {
        self.stat.st_mode & PERMISSIONS
    }
}

/// Removes the FIFO that was just made and cannot be opened, if the name still is that of one.
fn remove_made(options: &OpenOptions, path: &Path) {
    let Ok(found) = fs::symlink_metadata(path) else {
        return;
    };
    let ours = found.file_type().is_fifo()
        && found.uid() == Uid::effective().as_raw()
        && found.mode() & PERMISSIONS & !options.mode == 0;
    if ours && let Err(error) = fs::remove_file(path) {
        tracing::warn!(target: super::TARGET, ?path, %error, "left behind");
    }
}

fn open_path(path: &Path, follow: bool) -> nix::Result<OwnedFd> {
    let flags = OFlag::O_PATH | OFlag::O_CLOEXEC;
    let flags = if follow {
        flags
    } else {
        flags | OFlag::O_NOFOLLOW
    };
    open(path, flags, Mode::empty())
}

fn check_path(path: &Path) -> Result<(), Error> {
    let bytes = path.as_os_str().as_bytes();
    let reason = if bytes.is_empty() {
        "it is empty"
    } else if bytes.contains(&0) {
        "it holds a NUL byte"
    } else {
        return Ok(());
    };
    Err(Error::InvalidPath {
        path: path.to_owned(),
        reason,
    })
}

/// Turns the errno of a call on `path` into what is wrong and where.
fn explain(path: &Path, errno: Errno, call: &'static str) -> Error {
    let found = match errno {
        Errno::ENOENT => missing(path),
        Errno::ENOTDIR => not_a_directory(path),
        Errno::EACCES => denied(path),
        Errno::EROFS => Some(Error::ReadOnlyFilesystem {
            path: path.to_owned(),
        }),
        Errno::ENAMETOOLONG => Some(too_long(path)),
        _ => None,
    };
    found.unwrap_or_else(|| Error::io(path, call, errno))
}

fn missing(path: &Path) -> Option<Error> {
    let is_missing =
        |dir: &PathBuf| fs::metadata(dir).is_err_and(|e| e.kind() == io::ErrorKind::NotFound);
    let path = path.to_owned();
    Some(match directories(&path).into_iter().find(is_missing) {
        Some(directory) => Error::DirectoryMissing { path, directory },
        None if path.as_os_str().as_bytes().ends_with(b"/") => Error::InvalidPath {
            path,
            reason: "it ends in a slash, as only a directory's path may",
        },
        None => Error::NotFound { path },
    })
}

fn not_a_directory(path: &Path) -> Option<Error> {
    let mut components = directories(path);
    // Without the slash that may end it.
    components.push(path.components().as_path().to_owned());
    components.into_iter().find_map(|component| {
        let found = fs::metadata(&component).ok()?;
        (!found.is_dir()).then(|| Error::NotADirectory {
            path: path.to_owned(),
            component,
        })
    })
}

fn denied(path: &Path) -> Option<Error> {
    let path = path.to_owned();
    let directories = directories(&path);
    let below = directories.iter().skip(1).chain([&path]);
    let unsearchable = directories.iter().zip(below).find(|(_, entry)| {
        fs::symlink_metadata(entry).is_err_and(|e| e.kind() == io::ErrorKind::PermissionDenied)
    });
    if let Some((directory, _)) = unsearchable {
        let directory = directory.clone();
        return Some(Error::DirectoryNotSearchable { path, directory });
    }
    let directory = directories.last()?.clone();
    Some(Error::DirectoryNotWritable { path, directory })
}

fn too_long(path: &Path) -> Error {
    let longest = path.components().map(|it| it.as_os_str().len()).max();
    let (part, len, max) = match longest {
        Some(len) if len > NAME_MAX => ("one name", len, NAME_MAX),
        _ => ("all", path.as_os_str().len(), PATH_MAX),
    };
    Error::NameTooLong {
        path: path.to_owned(),
        part,
        len,
        max,
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Between the look at what is there and its opening by name, another FIFO takes the place. It may
    /// have gone again when the path is looked at next.
    #[test]
    fn what_is_opened_by_name_is_the_fifo_that_was_looked_at_or_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let [path, aside, other] = ["fifo", "aside", "other"].map(|it| dir.path().join(it));
        for path in [&path, &other] {
            mkfifo(path, Mode::from_bits_truncate(0o600)).unwrap();
        }
        let options = OpenOptions::new();
        let located = Located::find(&options, &path).unwrap().unwrap();
        for access in [Access::Read, Access::ReadWrite] {
            located.open_by_name(access).expect("it is there");
        }
        fs::rename(&path, &aside).unwrap();
        fs::rename(&other, &path).unwrap();
        for access in [Access::Read, Access::ReadWrite] {
            let error = located.open_by_name(access).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::ESTALE), "{access:?}");
        }
        fs::rename(&aside, &path).unwrap();
        located.open_by_name(Access::Read).expect("it is back");
    }
}
