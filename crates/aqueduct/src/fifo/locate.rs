//! [`Located`]: a FIFO that was found or created, and checked, before it is opened.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat};
use nix::unistd::{Uid, mkfifo};

use super::TARGET;
use super::explain::{Failure, check_path, explain, failed};
use super::name::{Name, PathState, shown};
use crate::connect::group::{OWNER_BITS, find_group, give_to_group};
use crate::connect::{OpenError, OpenErrorKind};
use crate::io::fd::{self, Access, Kind};
use crate::io::mark::MARK;
use crate::io::owner::said;
use crate::io::watch::proc_path;

/// The nine permission bits.
const PERMISSIONS: u32 = 0o777;

/// What to create, and what to accept.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    pub(super) create: bool,
    /// The mode of a new FIFO, and the widest that is accepted without a warning.
    pub(super) mode: u32,
    /// The group of a new FIFO: its name or number.
    pub(super) group: Option<String>,
    pub(super) allow_foreign_owner: bool,
    pub(super) unlink_on_drop: bool,
}

/// A FIFO that was found or created and checked, and is not yet open.
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
    /// Finds or creates the FIFO that `path` names, and checks it.
    ///
    /// `None`: it was replaced meanwhile, and looking again may help.
    pub(super) fn find(wanted: &Wanted, path: &Path) -> Result<Option<Self>, OpenError> {
        if wanted.mode & !PERMISSIONS != 0 {
            let cause = format!("mode {:04o} is not a FIFO's", wanted.mode);
            return Err(failed(path, OpenErrorKind::InvalidOption, cause)
                .with_cure("use the nine permission bits, such as 0o600"));
        }
        check_path(path)?;
        match Self::existing(wanted, path) {
            Err(Failure::Absent(_)) if wanted.create => Self::make(wanted, path),
            Err(Failure::Absent(error) | Failure::Other(error)) => Err(error),
            Ok(found) => Ok(Some(found)),
        }
    }

    fn existing(wanted: &Wanted, path: &Path) -> Result<Self, Failure> {
        let fd = open_path(path).map_err(|e| explain(path, e))?;
        let found = Self::of(path, fd)?;
        found.check(wanted)?;
        Ok(found)
    }

    /// Creates a FIFO; `None` if there is already something at the path.
    fn make(wanted: &Wanted, path: &Path) -> Result<Option<Self>, OpenError> {
        // A FIFO that cannot be inspected after its creation could not be distinguished from
        // another process's, and so not be removed. So a descriptor is secured first.
        let spare = open_path(Path::new("/")).map_err(|e| system(path, e))?;
        let group = wanted
            .group
            .as_deref()
            .map(|it| find_group("open fifo", shown(path), it));
        let group = group.transpose()?;
        // Before it has its group only its owner may open it.
        let first_mode = match group {
            Some(_) => wanted.mode & OWNER_BITS,
            None => wanted.mode,
        };
        match mkfifo(path, Mode::from_bits_truncate(first_mode | MARK)) {
            Err(Errno::EEXIST) => return Ok(None),
            result => result.map_err(|e| explain(path, e).into_error())?,
        }
        drop(spare);
        let opened = match open_path(path) {
            Err(Errno::ENOENT) => return Ok(None),
            Err(e) => Err(explain(path, e).into_error()),
            Ok(fd) => Self::of(path, fd),
        };
        let mut made = opened.inspect_err(|_| remove_made(wanted, path))?;
        if !made.can_be_ours(wanted) {
            return Ok(None);
        }
        // If it does not get what was asked for, it is removed.
        made.name.set_unlink(true);
        if let Some(group) = group {
            give_to_group("open fifo", shown(path), &made.fd, group)?;
        }
        if made.mode() != wanted.mode {
            // The umask has removed bits. They are restored through the descriptor, so that it is
            // this inode. Opening the FIFO instead would release a waiting peer and then hang up on
            // it.
            let permissions = Permissions::from_mode(wanted.mode | MARK);
            fs::set_permissions(proc_path(made.fd.as_fd()), permissions).map_err(|e| {
                OpenError::system("set the mode of fifo", shown(path), e)
                    .with_cure("mount /proc, or use a umask that leaves the mode alone")
            })?;
        }
        made.name.set_unlink(wanted.unlink_on_drop);
        tracing::debug!(target: TARGET, ?path, mode = %format_args!("{:04o}", wanted.mode), "made");
        Ok(Some(made))
    }

    fn of(path: &Path, fd: OwnedFd) -> Result<Self, OpenError> {
        let stat = fstat(&fd).map_err(|e| system(path, e))?;
        Ok(Self {
            name: Name::new(path, &stat),
            fd,
            stat,
        })
    }

    /// Whether this can be the FIFO of our own `mkfifo`, not replaced since.
    fn can_be_ours(&self, wanted: &Wanted) -> bool {
        self.kind() == SFlag::S_IFIFO
            && self.stat.st_uid == Uid::effective().as_raw()
            && self.mode() & !wanted.mode == 0
    }

    fn check(&self, wanted: &Wanted) -> Result<(), OpenError> {
        let path = self.name.path();
        match self.kind() {
            SFlag::S_IFIFO => {}
            SFlag::S_IFLNK => {
                let found = "a symbolic link";
                let cause = match fs::read_link(path) {
                    Ok(target) => format!("it is a symbolic link to {}", shown(&target)),
                    Err(_) => "it is a symbolic link".to_owned(),
                };
                return Err(failed(path, OpenErrorKind::WrongType { found }, cause)
                    .with_cure("use the path it leads to"));
            }
            _ => {
                let found = Kind::of(&self.fd).unwrap_or(Kind::Other).words();
                let cause = format!("it is {found}, not a FIFO");
                return Err(failed(path, OpenErrorKind::WrongType { found }, cause)
                    .with_cure("remove it, or use another path"));
            }
        }
        let owner = self.stat.st_uid;
        let euid = Uid::effective().as_raw();
        // Root could read and write it in any case, so root's FIFO is no greater risk.
        if owner != euid && owner != 0 && !wanted.allow_foreign_owner {
            let cause = said(owner, euid);
            return Err(failed(path, OpenErrorKind::ForeignOwner { owner }, cause)
                .with_cure("if that user is not to be trusted, use another path; otherwise allow foreign owners"));
        }
        let mode = self.mode();
        if mode & !wanted.mode != 0 {
            let mode = format!("{mode:04o}");
            let asked = format!("{:04o}", wanted.mode);
            tracing::warn!(
                target: TARGET, ?path, %mode, %asked,
                "more users than expected can open this FIFO; to accept that, ask for its mode"
            );
        }
        Ok(())
    }

    /// Opens it. `None`: for writing, and there is no reader; or it is no longer at its path.
    pub(super) fn open(&self, access: Access) -> Result<Option<OwnedFd>, OpenError> {
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
            Some(libc::EACCES) => Err(self.denied(access, error)),
            _ => Err(OpenError::system(
                "open fifo",
                shown(self.name.path()),
                error,
            )),
        }
    }

    fn denied(&self, access: Access, error: io::Error) -> OpenError {
        let (mode, owner) = (self.mode(), self.stat.st_uid);
        let euid = Uid::effective().as_raw();
        let path = self.name.path();
        let cause = format!(
            "user {euid} may not open it for {access} (owner is user {owner}, mode {mode:04o})"
        );
        let error = failed(path, OpenErrorKind::PermissionDenied, cause).with_source(error);
        if owner == euid {
            return error.with_cure(format!("give yourself access: chmod u+rw {}", shown(path)));
        }
        // The owner decides about the mode.
        error.with_cure(format!(
            "run as user {owner}, or have the program that creates it grant access by its mode and group"
        ))
    }

    /// Opens it if /proc is not mounted. The path can name another file by then.
    fn open_by_name(&self, access: Access) -> io::Result<OwnedFd> {
        let flags = OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_NOFOLLOW;
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

    /// What the path names now.
    pub(super) fn state(&self) -> Result<PathState, OpenError> {
        let state = self.name.state(&self.fd);
        state.map_err(|e| OpenError::system("open fifo", shown(self.name.path()), e))
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

/// Removes a new FIFO that cannot be opened, if the path still names it.
fn remove_made(wanted: &Wanted, path: &Path) {
    let Ok(found) = fs::symlink_metadata(path) else {
        return;
    };
    let ours = found.file_type().is_fifo()
        && found.uid() == Uid::effective().as_raw()
        && found.mode() & PERMISSIONS & !wanted.mode == 0;
    if ours && let Err(error) = fs::remove_file(path) {
        tracing::warn!(target: TARGET, ?path, %error, "not removed");
    }
}

fn open_path(path: &Path) -> nix::Result<OwnedFd> {
    let flags = OFlag::O_PATH | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
    open(path, flags, Mode::empty())
}

fn system(path: &Path, errno: Errno) -> OpenError {
    OpenError::system("open fifo", shown(path), errno.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Between the check and opening by name, another FIFO takes the place. It may have gone again
    /// when the path is looked up next.
    #[test]
    fn opening_by_name_gives_the_checked_fifo_or_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let [path, aside, other] = ["fifo", "aside", "other"].map(|it| dir.path().join(it));
        for path in [&path, &other] {
            mkfifo(path, Mode::from_bits_truncate(0o600)).unwrap();
        }
        let wanted = Wanted {
            create: false,
            mode: 0o600,
            group: None,
            allow_foreign_owner: false,
            unlink_on_drop: false,
        };
        let located = Located::find(&wanted, &path).unwrap().unwrap();
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
