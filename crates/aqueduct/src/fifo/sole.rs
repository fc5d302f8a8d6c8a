//! [`Sole`]: a lock that keeps a FIFO to one receiver.

use std::os::fd::OwnedFd;
use std::path::Path;

use nix::fcntl::{FcntlArg, fcntl};

use super::explain::failed;
use super::locate::Located;
use super::name::shown;
use crate::connect::{OpenError, OpenErrorKind};
use crate::io::fd::Access;

/// The byte of the FIFO that is locked. Senders lock the first.
const BYTE: libc::off_t = 1;

/// A sign to other receivers that a FIFO has one. Two receivers would each get parts of messages,
/// and neither would notice.
///
/// It is a record lock for reading (fcntl(2), `F_OFD_SETLK`) on a descriptor that is only held.
/// Such locks do not exclude each other, and a lock for writing is not possible on a descriptor
/// that is open for reading. So each receiver locks first and then checks for locks of others. The
/// descriptor is not the receiver's: a persistent one, opened and closed again, would look like a
/// sender that came and left.
#[derive(Debug)]
pub(super) struct Sole(#[expect(dead_code, reason = "it is there to be held")] OwnedFd);

impl Sole {
    /// Takes the lock. `None`: the FIFO is no longer at its path.
    ///
    /// Fails with [`InUse`](OpenErrorKind::InUse) if there is another receiver.
    pub(super) fn take(located: &Located, path: &Path) -> Result<Option<Self>, OpenError> {
        let Some(fd) = located.open(Access::Read)? else {
            return Ok(None);
        };
        let locked = fcntl(&fd, FcntlArg::F_OFD_SETLK(&byte(libc::F_RDLCK)));
        let mut others = byte(libc::F_WRLCK);
        let asked = locked.and_then(|_| fcntl(&fd, FcntlArg::F_OFD_GETLK(&mut others)));
        match asked {
            Ok(_) if i32::from(others.l_type) == libc::F_UNLCK => Ok(Some(Self(fd))),
            Ok(_) => Err(in_use(path)),
            Err(errno) => Err(OpenError::system("open fifo", shown(path), errno.into())),
        }
    }
}

fn in_use(path: &Path) -> OpenError {
    let cause = "another receiver reads it, and each would get parts of the messages";
    failed(path, OpenErrorKind::InUse, cause)
        .with_cure("stop that receiver, or use a queue, which several may read")
}

fn byte(kind: i32) -> libc::flock {
    libc::flock {
        // The kinds and `SEEK_SET` are 0, 1 and 2.
        l_type: kind as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: BYTE,
        l_len: 1,
        // Must be 0 for these locks.
        l_pid: 0,
    }
}
