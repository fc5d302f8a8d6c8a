//! Making one's own memory, and checking the peer's.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::atomic::Ordering;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::resource::{Resource, getrlimit};
use nix::sys::stat::{SFlag, fstat};
use nix::sys::statfs::{TMPFS_MAGIC, fstatfs};
use nix::unistd::ftruncate;

use super::error::PeerError;
use super::ring::{SMALLEST, START, Word};
use crate::io::sys::memory::{Own, Room, Theirs};

/// Where the data begins. The control words before it take cache lines of their own, and share a page with
/// the first data, since each page that is touched stays.
pub(super) const DATA: usize = 0x200;

/// The word that counts the messages whose descriptors this side has passed; 0 if it passes
/// none. It lies beside `Head`, which is read with it.
pub(super) const PASSED: usize = 0x098;

/// The name of the memory in `/proc/PID/maps` and `/proc/PID/fd`.
const NAME: &std::ffi::CStr = c"aqueduct-shm";

/// Words for tools that look at the memory from outside ([`Snapshot`](super::Snapshot)).
pub(super) mod label {
    /// The first word.
    pub(in crate::shm) const MAGIC: u64 = u64::from_le_bytes(*b"aqueduct");
    /// The version of the places of all words.
    pub(in crate::shm) const VERSION: u64 = 1;
    /// Where the version is.
    pub(in crate::shm) const VERSION_AT: usize = 0x08;
    /// Where the inode of the socket is, over which this side said hello.
    pub(in crate::shm) const SOCKET_AT: usize = 0x10;
    /// Where the inode of the peer's memory is, once that is known.
    pub(in crate::shm) const PEER_AT: usize = 0x18;
}

/// Not executable, and never will be (Linux 6.3). Missing in nix.
const NOEXEC_SEAL: MFdFlags = MFdFlags::from_bits_retain(libc::MFD_NOEXEC_SEAL);

impl Word {
    /// Its place in the memory of its process. Words that different processors write lie apart.
    pub(super) fn offset(self) -> usize {
        match self {
            Self::Head => 0x080,
            Self::Size => 0x088,
            Self::Fin => 0x090,
            Self::Tail => 0x100,
            Self::DataEpoch => 0x180,
            Self::RoomEpoch => 0x188,
        }
    }
}

/// The memory of this process for one connection.
pub(super) struct Made {
    /// Passed to the peer, and kept for tools that look at it.
    pub(super) fd: OwnedFd,
    pub(super) own: Own,
    pub(super) room: Room,
    /// The size with which the ring starts.
    pub(super) start: u64,
}

/// Makes sealed memory with a ring of up to `capacity` bytes, of which nothing is used yet, for a
/// connection over that socket.
pub(super) fn make(capacity: u64, socket: BorrowedFd<'_>) -> io::Result<Made> {
    let len = DATA as u64 + capacity;
    // ftruncate(2) would raise SIGXFSZ.
    if getrlimit(Resource::RLIMIT_FSIZE)?.0 < len {
        return Err(Errno::EFBIG.into());
    }
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    let fd = match memfd_create(NAME, flags | NOEXEC_SEAL) {
        // The kernel is older than 6.3.
        Err(Errno::EINVAL) => memfd_create(NAME, flags),
        made => made,
    }?;
    let len = i64::try_from(len).map_err(|_| Errno::EFBIG)?;
    ftruncate(&fd, len)?;
    let len = usize::try_from(len).map_err(|_| Errno::EFBIG)?;
    let (own, room) = Own::map(&fd, len, DATA)?;
    let start = START.min(capacity);
    own.store(0, label::MAGIC, Ordering::Relaxed);
    own.store(label::VERSION_AT, label::VERSION, Ordering::Relaxed);
    own.store(label::SOCKET_AT, fstat(socket)?.st_ino, Ordering::Relaxed);
    own.store(Word::Size.offset(), start, Ordering::Relaxed);
    // From here on only this mapping writes, and nobody changes the size.
    let seals = SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_FUTURE_WRITE;
    fcntl(&fd, FcntlArg::F_ADD_SEALS(seals | SealFlag::F_SEAL_SEAL))?;
    Ok(Made {
        fd,
        own,
        room,
        start,
    })
}

/// The memory of the peer.
pub(super) struct Taken {
    pub(super) memory: Theirs,
    pub(super) inode: u64,
    /// The largest ring that can be in it.
    pub(super) ring: u64,
}

/// Maps the peer's memory, up to a ring of `most` bytes.
pub(super) fn take(fd: BorrowedFd<'_>, most: u64) -> io::Result<Taken> {
    let refused = |why| io::Error::from(PeerError::Memory(why));
    let stat = fstat(fd)?;
    let kind = SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT;
    // Reading memory of hugetlbfs can raise SIGBUS, sealed or not.
    if kind != SFlag::S_IFREG || fstatfs(fd)?.filesystem_type() != TMPFS_MAGIC {
        return Err(refused("it was not made by memfd_create"));
    }
    let seals = match fcntl(fd, FcntlArg::F_GET_SEALS) {
        Ok(seals) => SealFlag::from_bits_retain(seals),
        Err(_) => return Err(refused("it was not made by memfd_create")),
    };
    if !seals.contains(SealFlag::F_SEAL_SHRINK) {
        return Err(refused("it is not sealed, so it could become shorter"));
    }
    let capacity = u64::try_from(stat.st_size).unwrap_or(0);
    let capacity = capacity.saturating_sub(DATA as u64);
    if !capacity.is_power_of_two() || capacity < SMALLEST {
        return Err(refused("its size is not that of a ring"));
    }
    let ring = capacity.min(most);
    let len = usize::try_from(DATA as u64 + ring).map_err(|_| Errno::EFBIG)?;
    match Theirs::map(fd, len, DATA) {
        Err(e) if e.raw_os_error() == Some(libc::EACCES) => {
            Err(refused("it is not open for reading"))
        }
        mapped => Ok(Taken {
            memory: mapped?,
            inode: stat.st_ino,
            ring,
        }),
    }
}
