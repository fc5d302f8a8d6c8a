//! [`Claim`]: the exclusive right, among users of this library, to bind one path.

use std::fs::{Metadata, OpenOptions, Permissions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::unistd::{Gid, getegid, geteuid};
use socket2::{Domain, SockAddr, Socket, Type};

use super::address::{Address, Attempt};
use super::lock::{Holder, LockFile, Locked};
use super::trust::Trust;
use super::watch::SocketWatch;
use crate::connect::group::give_to_group;
use crate::connect::{OpenError, OpenErrorKind};
use crate::io::mark::MARK;

const STICKY: u32 = 0o1000;
const GROUP_WRITE: u32 = 0o020;
const OTHER_WRITE: u32 = 0o002;

/// The lock on `<path>.lock`, and the socket's file once there is one.
#[derive(Debug)]
pub(crate) struct Claim {
    path: PathBuf,
    /// Device and inode of the socket's file.
    made: Option<(u64, u64)>,
    // Dropped, and with it unlocked, after the socket's file is removed.
    _lock: LockFile,
}

impl Claim {
    /// Takes the lock, without waiting for it.
    pub(super) fn take(attempt: &Attempt, path: &Path) -> Result<Self, OpenError> {
        check_directory(attempt, path)?;
        check_kind(attempt, path)?;
        // Absolute, since the working directory may be another one when the files are removed.
        let path = std::path::absolute(path).map_err(|e| attempt.failed(e))?;
        let mut lock_path = path.clone().into_os_string();
        lock_path.push(".lock");
        let lock_path = PathBuf::from(lock_path);
        let object = format!("lock file {}", lock_path.display());
        let failed = |source| {
            let error = OpenError::system("use", &object, source);
            match error.kind() {
                OpenErrorKind::LimitReached => error,
                _ => error
                    .with_cure("make its directory writable, and it a regular file of this user"),
            }
        };
        // Another user may have created it, or hold it, to keep the server from starting.
        let (trust, _) = Trust::of_path(directory_of(&path)).map_err(failed)?;
        let locked = match LockFile::take(&lock_path) {
            // Other processes keep taking and releasing it.
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Err(in_use(attempt)),
            locked => locked.map_err(failed)?,
        };
        match locked {
            Locked::Ours(LockFile { owner, .. }) | Locked::Busy(Holder { owner, .. })
                if !trust.placed(owner) =>
            {
                let error = OpenError::foreign_owner("use", object, owner);
                Err(error.with_cure("remove it, or choose another directory"))
            }
            Locked::Ours(lock) => Ok(Self {
                path,
                made: None,
                _lock: lock,
            }),
            Locked::Busy(Holder {
                process: Some((process, user)),
                ..
            }) if !trust.includes(user) => {
                let cause = format!("process {process} of user {user} holds the {object}");
                let error = attempt.error(OpenErrorKind::InUse, cause);
                Err(error.with_cure(
                    "end that process, and remove the lock file's permissions for others",
                ))
            }
            Locked::Busy(_) => Err(in_use(attempt)),
        }
    }

    /// Removes the socket's file at the path if its server is gone; returns whether it did.
    pub(super) fn clear(&self, attempt: &Attempt) -> Result<bool, OpenError> {
        let Some(before) = check_kind(attempt, &self.path)? else {
            return Ok(false);
        };
        if is_alive(&attempt.address.kernel).map_err(|e| attempt.failed(e))? {
            return Err(in_use(attempt));
        }
        // Only the file that was found dead: a server without our lock may have come in between.
        if check_kind(attempt, &self.path)? != Some(before) {
            return Ok(false);
        }
        match std::fs::remove_file(&self.path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(e) => Err(attempt.failed(e)),
            Ok(()) => {
                tracing::info!(path = %self.path.display(), "removed the socket of a server that is gone");
                Ok(true)
            }
        }
    }

    /// Watches whether the path still leads to the socket's file, checking at least this often.
    pub(crate) fn watch(&self, every: Duration) -> Option<SocketWatch> {
        let made = self.made?;
        Some(SocketWatch::new(self.path.clone(), made, every))
    }

    /// Records the new socket's file, and gives it `group`, exactly `mode` and the [`MARK`].
    ///
    /// `inode` is the one that the kernel names for the socket. The path may lead to another file
    /// by now, which is left alone.
    ///
    /// The file was created with that mode less the umask. So this can only add permissions, before
    /// the socket listens.
    pub(super) fn made(
        &mut self,
        attempt: &Attempt,
        mode: u32,
        group: Option<Gid>,
        inode: io::Result<u32>,
    ) -> Result<(), OpenError> {
        let failed = |e| attempt.failed(e);
        let inode = match inode {
            Ok(inode) => inode,
            Err(error) if group.is_some() => return Err(failed(error)),
            Err(error) => {
                tracing::warn!(
                    path = %self.path.display(), %error,
                    "the kernel does not say which file is the socket's (sock_diag): the file stays \
                     when the listener is dropped, and its mode is subject to the umask"
                );
                return Ok(());
            }
        };
        // By name, since no descriptor may be free: the file has to be known before anything fails.
        let metadata = std::fs::symlink_metadata(&self.path).map_err(failed)?;
        if !is_made(&metadata, inode) {
            return Err(replaced(attempt));
        }
        let made = (metadata.dev(), metadata.ino());
        self.made = Some(made);
        let mode = mode | MARK;
        if group.is_some() || metadata.mode() & 0o7777 != mode {
            // The file itself, so that the mode cannot go to another one that took its name.
            let file = OpenOptions::new()
                .read(true)
                .custom_flags(libc::O_PATH | libc::O_NOFOLLOW)
                .open(&self.path)
                .map_err(failed)?;
            let opened = file.metadata().map_err(failed)?;
            if (opened.dev(), opened.ino()) != made {
                return Err(replaced(attempt));
            }
            if let Some(group) = group {
                give_to_group("bind", &attempt.object, &file, group)?;
            }
            // fchmod does not work on a descriptor opened with O_PATH; its name in /proc does
            // (open(2), O_PATH).
            let own = format!("/proc/self/fd/{}", file.as_raw_fd());
            std::fs::set_permissions(own, Permissions::from_mode(mode)).map_err(failed)?;
        }
        Ok(())
    }
}

impl Drop for Claim {
    /// Removes the socket's file if it is still the one created.
    ///
    /// The listening socket must still be open: it keeps its inode alive, so that the number is not
    /// given to another file.
    fn drop(&mut self) {
        if let Some(made) = self.made {
            match std::fs::symlink_metadata(&self.path) {
                Ok(now) if (now.dev(), now.ino()) == made => {
                    if let Err(error) = std::fs::remove_file(&self.path) {
                        tracing::warn!(path = %self.path.display(), %error, "not removed");
                    }
                }
                _ => {
                    tracing::warn!(path = %self.path.display(), "no longer names our socket");
                }
            }
        }
    }
}

/// Returns whether a process has a socket bound to the socket file at `path`.
///
/// The socket may be listening or not. The kernel is asked by connecting with a datagram socket,
/// which a server of another type does not notice.
///
/// # Errors
///
/// - [`WrongType`](OpenErrorKind::WrongType) if something else is there.
/// - [`NotFound`](OpenErrorKind::NotFound) (`ENOENT`) if nothing is.
/// - [`PermissionDenied`](OpenErrorKind::PermissionDenied) (`EACCES`) without write permission on
///   the file.
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = tempfile::tempdir()?;
/// let path = dir.path().join("socket");
/// // The standard library leaves the file behind.
/// let listener = std::os::unix::net::UnixListener::bind(&path)?;
/// assert!(aqueduct::unix::is_served(&path)?);
/// drop(listener);
/// assert!(!aqueduct::unix::is_served(&path)?);
/// # Ok(())
/// # }
/// ```
pub fn is_served(path: impl AsRef<Path>) -> Result<bool, OpenError> {
    let path = path.as_ref();
    let address = Address::Path(path.to_owned());
    let attempt = Attempt::new("find the server of", Type::STREAM, address)?;
    if check_kind(&attempt, path)?.is_none() {
        return Err(attempt.failed(io::Error::from_raw_os_error(libc::ENOENT)));
    }
    is_alive(&attempt.address.kernel).map_err(|e| attempt.failed(e))
}

/// Removes the socket file at `path` if its server is gone.
///
/// The lock file beside it is removed too. Returns whether there was such a file. A new server does
/// the same before it binds, under the same lock: a server of this library that is just starting
/// does not lose its file.
///
/// # Errors
///
/// - [`InUse`](OpenErrorKind::InUse) if there is a server, or one is just starting.
/// - [`WrongType`](OpenErrorKind::WrongType) if something else is there.
/// - [`PermissionDenied`](OpenErrorKind::PermissionDenied) (`EACCES`) if the directory is not
///   writable.
///
/// # Examples
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// let path = dir.path().join("socket");
/// // The standard library leaves the file behind.
/// drop(std::os::unix::net::UnixListener::bind(&path)?);
/// assert!(aqueduct::unix::remove_stale(&path)?);
/// assert!(!path.exists());
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn remove_stale(path: impl AsRef<Path>) -> Result<bool, OpenError> {
    let path = path.as_ref();
    let attempt = Attempt::new("remove", Type::STREAM, Address::Path(path.to_owned()))?;
    Claim::take(&attempt, path)?.clear(&attempt)
}

/// Whether that is the file of our socket. The kernel reports 32 bits of the inode number; a file
/// of another user is never ours.
fn is_made(metadata: &Metadata, inode: u32) -> bool {
    metadata.file_type().is_socket()
        && metadata.ino() as u32 == inode
        && metadata.uid() == geteuid().as_raw()
}

fn replaced(attempt: &Attempt) -> OpenError {
    let cause = "another process removed or replaced its file while it was created";
    attempt
        .error(OpenErrorKind::Replaced, cause)
        .with_cure("choose a directory that no other user can write to")
}

fn in_use(attempt: &Attempt) -> OpenError {
    attempt
        .error(OpenErrorKind::InUse, "a running server uses it")
        .with_cure("stop that server or choose another address")
}

fn wrong_type(attempt: &Attempt, metadata: &Metadata) -> OpenError {
    let found = kind_of(metadata);
    attempt
        .error(
            OpenErrorKind::WrongType { found },
            format!("it is a {found}, not a socket"),
        )
        .with_cure("move it away or choose another path")
}

/// Refuses anything at the path that is not a socket. Symbolic links are followed.
pub(super) fn check_is_socket(attempt: &Attempt) -> Result<(), OpenError> {
    match attempt.path().map(std::fs::metadata) {
        Some(Ok(metadata)) if !metadata.file_type().is_socket() => {
            Err(wrong_type(attempt, &metadata))
        }
        _ => Ok(()),
    }
}

/// Device and inode of the socket at `path`; `None` if nothing is there.
fn check_kind(attempt: &Attempt, path: &Path) -> Result<Option<(u64, u64)>, OpenError> {
    match std::fs::symlink_metadata(path) {
        Ok(metadata) if metadata.file_type().is_socket() => {
            Ok(Some((metadata.dev(), metadata.ino())))
        }
        Ok(metadata) => Err(wrong_type(attempt, &metadata)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(attempt.failed(e)),
    }
}

fn kind_of(metadata: &Metadata) -> &'static str {
    let kind = metadata.file_type();
    if kind.is_file() {
        "regular file"
    } else if kind.is_dir() {
        "directory"
    } else if kind.is_symlink() {
        "symbolic link"
    } else if kind.is_fifo() {
        "FIFO"
    } else if kind.is_socket() {
        "socket of another process"
    } else {
        "device"
    }
}

/// Warns of a directory in which others could replace the socket: its owner can, and so can users
/// with write permission unless the sticky bit is set.
fn check_directory(attempt: &Attempt, path: &Path) -> Result<(), OpenError> {
    let directory = directory_of(path);
    let metadata = std::fs::metadata(directory).map_err(|e| attempt.failed(e))?;
    if !metadata.is_dir() {
        return Err(attempt.failed(io::Error::from_raw_os_error(libc::ENOTDIR)));
    }
    let (owner, mode) = (metadata.uid(), metadata.mode() & 0o7777);
    let foreign = owner != 0 && owner != geteuid().as_raw();
    let mut writers = mode & (GROUP_WRITE | OTHER_WRITE);
    if metadata.gid() == getegid().as_raw() {
        // Many systems give each user a private group and make directories group-writable.
        writers &= !GROUP_WRITE;
    }
    if foreign || (writers != 0 && mode & STICKY == 0) {
        tracing::warn!(
            directory = %directory.display(),
            owner,
            mode = format_args!("{mode:04o}"),
            "others could replace a socket in this directory"
        );
    }
    Ok(())
}

fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Whether an open socket is bound to the file of `kernel`.
///
/// It connects with a socket of a type that nobody here binds. The kernel looks for the socket
/// first and compares the types after (`unix_find_bsd` in `net/unix/af_unix.c`), so a living one
/// causes `EPROTOTYPE`, whatever it does at the moment. Connecting with the right type would cause
/// `ECONNREFUSED` also for one that is bound but does not listen yet, and would leave a connection
/// in the backlog of a living one.
fn is_alive(kernel: &SockAddr) -> io::Result<bool> {
    let probe = Socket::new(Domain::UNIX, Type::DGRAM.nonblocking(), None)?;
    match probe.connect(kernel) {
        Ok(()) => Ok(true),
        Err(e) => match e.raw_os_error() {
            Some(libc::ECONNREFUSED | libc::ENOENT) => Ok(false),
            // EPERM: a datagram socket that is connected to another one.
            Some(libc::EPROTOTYPE | libc::EAGAIN | libc::EPERM) => Ok(true),
            _ => Err(e),
        },
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::super::diag::Diag;
    use super::*;

    fn bound(dir: &Path) -> (Claim, Attempt, Socket, io::Result<u32>) {
        let path = dir.join("socket");
        let address = Address::Path(path.clone());
        let attempt = Attempt::new("bind", Type::STREAM, address).expect("an address");
        let claim = Claim::take(&attempt, &path).expect("it is free");
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None).expect("a socket");
        socket.bind(&attempt.address.kernel).expect("bound");
        let inode = Diag::open().and_then(|it| it.file_of(&socket));
        (claim, attempt, socket, inode)
    }

    fn mode(path: &Path) -> u32 {
        let metadata = std::fs::symlink_metadata(path).expect("it is there");
        metadata.mode() & 0o7777
    }

    /// It used to get the mode of ours, and to be removed with the listener.
    #[test]
    fn a_file_swapped_in_while_binding_is_left_alone() {
        let dir = tempfile::tempdir().expect("a directory");
        let (mut claim, attempt, socket, inode) = bound(dir.path());
        let foreign = UnixListener::bind(dir.path().join("foreign")).expect("bound");
        let path = dir.path().join("socket");
        std::fs::rename(dir.path().join("foreign"), &path).expect("swapped");
        let before = mode(&path);
        let error = claim
            .made(&attempt, 0o400, None, inode)
            .expect_err("not ours");
        assert_eq!(error.kind(), &OpenErrorKind::Replaced, "{error}");
        assert_eq!(mode(&path), before);
        drop((claim, socket));
        assert_eq!(mode(&path), before, "it is still there");
        drop(foreign);
    }

    #[test]
    fn the_kernel_names_the_file_of_a_socket() {
        let dir = tempfile::tempdir().expect("a directory");
        let (mut claim, attempt, _socket, inode) = bound(dir.path());
        let path = dir.path().join("socket");
        let metadata = std::fs::metadata(&path).expect("it is there");
        assert_eq!(inode.as_ref().ok(), Some(&(metadata.ino() as u32)));
        claim.made(&attempt, 0o640, None, inode).expect("ours");
        assert_eq!(mode(&path), MARK | 0o640);
        drop(claim);
        assert!(!path.exists());
    }

    #[test]
    fn without_sock_diag_the_file_is_left_as_it_is() {
        let dir = tempfile::tempdir().expect("a directory");
        let (mut claim, attempt, socket, _) = bound(dir.path());
        let path = dir.path().join("socket");
        let before = mode(&path);
        let missing = Err(io::Error::from_raw_os_error(libc::EPROTONOSUPPORT));
        claim.made(&attempt, 0o640, None, missing).expect("bound");
        assert_eq!(mode(&path), before);
        drop((claim, socket));
        assert!(path.exists());
    }
}
