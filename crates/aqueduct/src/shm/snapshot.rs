//! [`Snapshot`]: what can be seen of a connection from outside.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use nix::sys::statfs::{TMPFS_MAGIC, fstatfs};

use super::error::PeerError;
use super::memory::{DATA, label};
use super::ring::{GONE, SMALLEST, Word};

/// One side of a connection, as its memory says at one moment, for tools.
///
/// Each side of a connection has its own memory open, under the name `aqueduct-shm`: in
/// `/proc/PID/fd` it is a link to `/memfd:aqueduct-shm (deleted)`. Reading it takes the right to trace
/// the process (ptrace(2), "Ptrace access mode checking") and disturbs neither side. `aqueduct list`
/// shows all connections like this.
///
/// The words are those of the process that made the memory, which can write anything there. Two sides
/// belong together if each names the other one's memory as its [`peer`](Self::peer). A client that has
/// not read or written since it was accepted does not know its peer yet; whether its socket is
/// connected to that of the other side, sock_diag(7) tells.
///
/// # Examples
///
/// ```
/// use aqueduct::Endpoint;
/// use aqueduct::shm::Snapshot;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = tempfile::tempdir()?;
/// # let address: Endpoint = format!("shm:{}/app", dir.path().display()).parse()?;
/// # let _ = r#"
/// let address: Endpoint = "shm:/run/app".parse()?;
/// # "#;
/// let listener = address.bind().await?;
/// let client = address.connect().await?;
/// for entry in std::fs::read_dir("/proc/self/fd")? {
///     let path = entry?.path();
///     let Ok(link) = std::fs::read_link(&path) else { continue };
///     if link.to_string_lossy().starts_with("/memfd:aqueduct-shm")
///         && let Some(side) = Snapshot::read(&path)?
///     {
///         assert_eq!((side.capacity, side.written), (2 << 20, 0));
///         assert_eq!(side.peer, None, "the listener has not accepted it yet");
///     }
/// }
/// # drop((listener, client));
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Snapshot {
    /// The inode of this memory.
    pub memory: u64,
    /// The inode of the other side's memory, once this side has received it.
    pub peer: Option<u64>,
    /// The inode of this side's socket, as in `/proc/PID/fd`.
    pub socket: u64,
    /// The largest ring that this side writes, in bytes.
    pub capacity: u64,
    /// How many bytes this side has written in total.
    pub written: u64,
    /// How many bytes this side has read in total, as far as it has told the writer.
    pub read: u64,
    /// It sleeps until there is something to read.
    pub waits_for_data: bool,
    /// It sleeps until there is room to write.
    pub waits_for_room: bool,
    /// It writes no more.
    pub finished: bool,
}

impl Snapshot {
    /// Reads the memory that a process has open, at a path such as `/proc/PID/fd/7`.
    ///
    /// Returns `None` if something else is there. Nothing that is not memory is opened, so the path
    /// may lead to any file.
    ///
    /// # Errors
    ///
    /// `EACCES` or `ENOENT`, if the process cannot be looked into or has closed it. An error with
    /// [`PeerError::Version`], if another version of this library made the memory.
    pub fn read(path: impl AsRef<Path>) -> io::Result<Option<Self>> {
        // This opens no device and waits for no FIFO.
        let there = File::options()
            .read(true)
            .custom_flags(libc::O_PATH)
            .open(path)?;
        let metadata = there.metadata()?;
        let capacity = metadata.size().saturating_sub(DATA as u64);
        let is_ring = capacity.is_power_of_two() && capacity >= SMALLEST;
        if !(metadata.is_file() && is_ring && fstatfs(&there)?.filesystem_type() == TMPFS_MAGIC) {
            return Ok(None);
        }
        let memory = File::open(format!("/proc/self/fd/{}", there.as_raw_fd()))?;
        let mut words = [0; DATA];
        memory.read_exact_at(&mut words, 0)?;
        let word = |at: usize| {
            let word = words[at..].first_chunk().copied();
            word.map_or(0, u64::from_ne_bytes)
        };
        if word(0) != label::MAGIC {
            return Ok(None);
        }
        let theirs = word(label::VERSION_AT);
        if theirs != label::VERSION {
            let theirs = u16::try_from(theirs).unwrap_or(u16::MAX);
            let ours = label::VERSION as u16;
            return Err(PeerError::Version { theirs, ours }.into());
        }
        let asleep = |word: u64| word & 1 == 1 && word != GONE;
        Ok(Some(Self {
            memory: metadata.ino(),
            peer: Some(word(label::PEER_AT)).filter(|it| *it != 0),
            socket: word(label::SOCKET_AT),
            capacity,
            written: word(Word::Head.offset()),
            read: word(Word::Tail.offset()),
            waits_for_data: asleep(word(Word::DataEpoch.offset())),
            waits_for_room: asleep(word(Word::RoomEpoch.offset())),
            finished: word(Word::Fin.offset()) != 0,
        }))
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixListener;
    use std::sync::atomic::Ordering;

    use nix::sys::stat::Mode;
    use nix::unistd::mkfifo;

    use super::*;

    fn path(fd: impl AsFd) -> String {
        format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd())
    }

    #[test]
    fn other_files_are_nothing_and_none_blocks() {
        let dir = tempfile::tempdir().unwrap();
        let fifo = dir.path().join("fifo");
        mkfifo(&fifo, Mode::S_IRWXU).unwrap();
        let socket = dir.path().join("socket");
        let _listener = UnixListener::bind(&socket).unwrap();
        let file = dir.path().join("file");
        std::fs::write(&file, vec![0; DATA + 65_536]).unwrap();
        for path in [&fifo, &socket, &file, Path::new("/dev/zero"), dir.path()] {
            assert_eq!(Snapshot::read(path).unwrap(), None, "{path:?}");
        }
        let missing = Snapshot::read(dir.path().join("missing")).unwrap_err();
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn memory_says_what_it_was_made_with() {
        let socket = std::os::unix::net::UnixDatagram::unbound().unwrap();
        let made = crate::shm::memory::make(1 << 16, socket.as_fd()).unwrap();
        let own = |at, word| made.own.store(at, word, Ordering::Relaxed);
        own(Word::Head.offset(), 7);
        own(Word::DataEpoch.offset(), 1);
        own(Word::RoomEpoch.offset(), GONE);
        let side = Snapshot::read(path(&made.fd)).unwrap().unwrap();
        let inode = |path: String| std::fs::metadata(path).unwrap().ino();
        let expected = Snapshot {
            memory: inode(path(&made.fd)),
            peer: None,
            socket: inode(path(&socket)),
            capacity: 1 << 16,
            written: 7,
            read: 0,
            waits_for_data: true,
            waits_for_room: false,
            finished: false,
        };
        assert_eq!(side, expected);
        own(label::VERSION_AT, 9);
        let error = Snapshot::read(path(&made.fd)).unwrap_err();
        let version = PeerError::Version { theirs: 9, ours: 1 };
        assert_eq!(PeerError::of(&error), Some(&version));
        own(0, 0);
        assert_eq!(Snapshot::read(path(&made.fd)).unwrap(), None);
    }
}
