//! A peer written by hand: its hello and its memory can be anything.

use std::fs::File;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::path::Path;

use aqueduct::unix::recv_with_fds;
use nix::fcntl::{FcntlArg, OFlag, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use nix::unistd::pipe2;

use crate::support::deadline;

pub(super) const MAGIC: [u8; 8] = *b"\0aq-shm\n";

pub(super) const MEMORY: u16 = 1;
pub(super) const FALLBACK: u16 = 2;

/// Offsets of the control words.
pub(super) const HEAD: u64 = 0x080;
pub(super) const SIZE: u64 = 0x088;
pub(super) const FIN: u64 = 0x090;
pub(super) const PASSED: u64 = 0x098;
pub(super) const TAIL: u64 = 0x100;
pub(super) const DATA_EPOCH: u64 = 0x180;
pub(super) const ROOM_EPOCH: u64 = 0x188;

/// Where the data begins.
pub(super) const DATA: u64 = 0x200;

pub(super) fn hello(version: u16, flags: u16, reads: u64) -> [u8; 32] {
    let mut wire = [0; 32];
    wire[..8].copy_from_slice(&MAGIC);
    wire[8..10].copy_from_slice(&version.to_le_bytes());
    wire[10..12].copy_from_slice(&flags.to_le_bytes());
    wire[16..24].copy_from_slice(&reads.to_le_bytes());
    wire
}

/// Memory of that size, with these seals.
pub(super) fn memory(len: u64, seals: SealFlag, flags: MFdFlags) -> File {
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING | flags;
    let file = File::from(memfd_create(c"hostile", flags).expect("memory"));
    file.set_len(len).expect("it grows");
    fcntl(&file, FcntlArg::F_ADD_SEALS(seals)).expect("it is sealed");
    file
}

/// Memory as it should be, but that write(2) can change it.
pub(super) fn good_memory() -> File {
    let seals = SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW;
    let file = memory(DATA + 65_536, seals, MFdFlags::empty());
    set(&file, SIZE, 65_536);
    file
}

pub(super) fn set(memory: &File, word: u64, value: u64) {
    memory
        .write_all_at(&value.to_le_bytes(), word)
        .expect("it is written");
}

pub(super) fn get(memory: &File, word: u64) -> u64 {
    let mut bytes = [0; 8];
    memory.read_exact_at(&mut bytes, word).expect("it is read");
    u64::from_le_bytes(bytes)
}

/// The reading and the writing end of a bell.
pub(super) fn bell() -> (OwnedFd, OwnedFd) {
    pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK).expect("a pipe")
}

pub(super) fn send(socket: &UnixStream, bytes: &[u8], fds: &[RawFd]) -> io::Result<()> {
    let rights = [ControlMessage::ScmRights(fds)];
    let rights = if fds.is_empty() { &[] } else { &rights[..] };
    let bytes = [IoSlice::new(bytes)];
    let flags = MsgFlags::MSG_NOSIGNAL;
    sendmsg::<()>(socket.as_raw_fd(), &bytes, rights, flags, None)?;
    Ok(())
}

/// A peer that has said a good hello.
pub(super) struct Raw {
    pub(super) socket: UnixStream,
    pub(super) memory: File,
    /// Rings the other side.
    pub(super) bell: OwnedFd,
    /// What the other side has passed, once it was received.
    pub(super) theirs: Option<(File, OwnedFd)>,
}

impl Raw {
    /// Connects and says hello.
    pub(super) fn connect(path: &Path) -> Self {
        Self::greet(UnixStream::connect(path).expect("it connects"))
    }

    pub(super) fn greet(socket: UnixStream) -> Self {
        let memory = good_memory();
        let (theirs, bell) = bell();
        let fds = [memory.as_raw_fd(), theirs.as_raw_fd()];
        send(&socket, &hello(1, MEMORY, 1 << 20), &fds).expect("it is sent");
        Self {
            socket,
            memory,
            bell,
            theirs: None,
        }
    }

    /// Receives the other side's hello and what it passes.
    pub(super) async fn receive(&mut self) -> (&File, &OwnedFd) {
        let socket = self.socket.try_clone().expect("a duplicate");
        socket.set_nonblocking(true).expect("it is set");
        let socket = tokio::net::UnixStream::from_std(socket).expect("a socket");
        let mut bytes = [0; 64];
        let (n, mut fds) = deadline(recv_with_fds(&socket, &mut bytes, 2))
            .await
            .expect("a hello");
        assert_eq!((n, &bytes[..8], fds.len()), (32, &MAGIC[..], 2));
        let bell = fds.pop().expect("a bell");
        let memory = File::from(fds.pop().expect("memory"));
        let (memory, bell) = self.theirs.insert((memory, bell));
        (memory, bell)
    }

    pub(super) fn ring(&self) {
        let _ = nix::unistd::write(self.bell.as_fd(), &[0]);
    }

    /// Says that so much was written.
    pub(super) fn write(&self, word: u64, value: u64) {
        set(&self.memory, word, value);
        self.ring();
    }
}
