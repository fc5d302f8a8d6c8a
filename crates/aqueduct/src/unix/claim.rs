//! [`Claim`]: the sole right, among users of this library, to bind one path.

use std::fs::{OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use socket2::{Domain, SockAddr, Socket, Type};

use super::lock::LockFile;
use super::{Address, Error};
use crate::io::mark::MARK;

/// The lock on `<path>.lock`, and the socket's file once there is one.
#[derive(Debug)]
pub(super) struct Claim {
    path: PathBuf,
    /// Device and inode of the socket's file.
    made: Option<(u64, u64)>,
    // Dropped, and with it unlocked, after the socket's file is removed.
    _lock: LockFile,
}

impl Claim {
    /// Takes the lock, without waiting for it.
    pub(super) fn take(address: &Address, path: &Path) -> Result<Self, Error> {
        check_kind(address, path)?;
        // Absolute, since the process may be elsewhere when the files are to be removed.
        let path = std::path::absolute(path)
            .map_err(|e| Error::from_io(address, "finding the current directory", e))?;
        let mut lock_path = path.clone().into_os_string();
        lock_path.push(".lock");
        let lock_path = PathBuf::from(lock_path);
        match LockFile::take(&lock_path) {
            Ok(Some(lock)) => Ok(Self {
                path,
                made: None,
                _lock: lock,
            }),
            Ok(None) => Err(Error::InUse {
                address: address.clone(),
                source: None,
            }),
            Err(source) => Err(Error::Lock {
                path: lock_path,
                source,
            }),
        }
    }

    /// Removes the socket's file at the path if its server is dead; whether it has done so.
    pub(super) fn clear(
        &self,
        address: &Address,
        kernel: &SockAddr,
        replace: bool,
    ) -> Result<bool, Error> {
        let Some(before) = check_kind(address, &self.path)? else {
            return Ok(false);
        };
        if is_alive(kernel).map_err(|e| Error::from_io(address, "asking for its server", e))? {
            return Err(Error::InUse {
                address: address.clone(),
                source: None,
            });
        }
        if !replace {
            return Err(Error::Stale {
                path: self.path.clone(),
            });
        }
        // Only what has been found dead; a server without our lock may have come in between.
        if check_kind(address, &self.path)? != Some(before) {
            return Ok(false);
        }
        match std::fs::remove_file(&self.path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(e) => Err(Error::from_io(address, "removing a dead socket", e)),
            Ok(()) => {
                tracing::info!(%address, "removed the socket of a server that is gone");
                Ok(true)
            }
        }
    }

    /// Remembers the socket's file just made, and gives it exactly `mode` and the [`MARK`].
    ///
    /// It was made with that mode less the umask. So this can only add permissions, before the
    /// socket listens.
    pub(super) fn made(&mut self, address: &Address, mode: u32) -> Result<(), Error> {
        let failed = |e| Error::from_io(address, "setting its mode", e);
        // By name, since no descriptor may be free: the file has to be known before anything fails.
        let metadata = std::fs::symlink_metadata(&self.path).map_err(failed)?;
        if !metadata.file_type().is_socket() {
            return Err(Error::NotASocket {
                path: self.path.clone(),
                kind: kind(&metadata),
            });
        }
        let made = (metadata.dev(), metadata.ino());
        self.made = Some(made);
        let mode = mode | MARK;
        if metadata.mode() & 0o7777 != mode {
            // The file itself, so that the mode cannot go to another one that took its name.
            let file = OpenOptions::new()
                .read(true)
                .custom_flags(libc::O_PATH | libc::O_NOFOLLOW)
                .open(&self.path)
                .map_err(failed)?;
            let opened = file.metadata().map_err(failed)?;
            if (opened.dev(), opened.ino()) != made {
                return Err(Error::NotASocket {
                    path: self.path.clone(),
                    kind: "file of another",
                });
            }
            // What is open with O_PATH takes no fchmod; its name in /proc does (open(2), O_PATH).
            let own = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file));
            std::fs::set_permissions(own, Permissions::from_mode(mode)).map_err(failed)?;
        }
        Ok(())
    }
}

impl Drop for Claim {
    /// Removes the socket's file if it is still the one made.
    ///
    /// The listening socket must still be open: it keeps its inode alive, and so its number from
    /// being given to another file.
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

/// Device and inode of the socket at `path`; `None` if nothing is there.
pub(super) fn check_kind(address: &Address, path: &Path) -> Result<Option<(u64, u64)>, Error> {
    match std::fs::symlink_metadata(path) {
        Ok(metadata) if metadata.file_type().is_socket() => {
            Ok(Some((metadata.dev(), metadata.ino())))
        }
        Ok(metadata) => Err(Error::NotASocket {
            path: path.into(),
            kind: kind(&metadata),
        }),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Error::from_io(address, "looking at the path", e)),
    }
}

/// What a file is, in words.
pub(super) fn kind(metadata: &std::fs::Metadata) -> &'static str {
    let kind = metadata.file_type();
    if kind.is_file() {
        "regular file"
    } else if kind.is_dir() {
        "directory"
    } else if kind.is_symlink() {
        "symbolic link"
    } else if kind.is_fifo() {
        "FIFO"
    } else {
        "device"
    }
}

/// Whether an open socket is bound to the file of `kernel`.
///
/// Asked by connecting with a socket of a type that nobody here binds: the kernel looks for the
/// socket first and compares the types after (`unix_find_bsd` in `net/unix/af_unix.c`), so a living
/// one says `EPROTOTYPE`, whatever it does at the moment. Connecting with the right type would say
/// `ECONNREFUSED` for one that is bound but does not listen yet as well, and would leave a
/// connection in the backlog of a living one.
pub(super) fn is_alive(kernel: &SockAddr) -> io::Result<bool> {
    let probe = Socket::new(Domain::UNIX, Type::DGRAM.nonblocking(), None)?;
    match probe.connect(kernel) {
        Ok(()) => Ok(true),
        Err(e) => match e.raw_os_error() {
            Some(libc::ECONNREFUSED | libc::ENOENT) => Ok(false),
            Some(libc::EPROTOTYPE | libc::EAGAIN) => Ok(true),
            _ => Err(e),
        },
    }
}
