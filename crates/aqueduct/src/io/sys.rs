//! The only module with `unsafe` code: system calls that no safe wrapper offers in the required
//! form.
#![allow(unsafe_code)]

use std::io;
use std::mem::{self, ManuallyDrop, MaybeUninit};
use std::ops::Deref;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::sync::Arc;

use bytes::{BufMut, BytesMut};
use posixmq::PosixMq;
use tokio::io::unix::AsyncFd;
use tokio::io::{Interest, ReadBuf};
use tokio::runtime::Handle;

mod datagram;
mod inherited;
pub(crate) mod memory;
mod start;

pub(crate) use self::datagram::recv_datagram;
pub use self::inherited::claim;
pub(crate) use self::inherited::{NotInherited, has_claimed, offer, take_inherited};
pub(crate) use self::start::{CHANGED_HANDS, Number, Seal, seal};

/// Registers a descriptor with the current runtime's I/O driver.
///
/// Without a runtime this is an error, not a panic. It still panics in a runtime that was built
/// without its I/O driver, as everything in `tokio::net` does: Tokio offers no way to ask.
pub(crate) fn register(fd: Arc<OwnedFd>, interest: Interest) -> io::Result<AsyncFd<Arc<OwnedFd>>> {
    Handle::try_current().map_err(io::Error::other)?;
    // SAFETY: an `OwnedFd` is open, and an `Arc` neither closes nor exchanges it: the number stays
    // valid and names the same open file description until the `AsyncFd` drops its `Arc`, which it
    // does after it has deregistered.
    unsafe { AsyncFd::register_with_interest(fd, interest) }.map_err(|e| e.into_parts().1)
}

/// Appends `head` and `body` to `dst`, with one check for room instead of two.
#[inline]
pub(crate) fn append<const N: usize>(dst: &mut BytesMut, head: [u8; N], body: &[u8]) {
    let len = N + body.len();
    dst.reserve(len);
    let room = dst.spare_capacity_mut().as_mut_ptr().cast::<u8>();
    // SAFETY: there is room for `len` bytes at `room`, and only `dst` borrows it, so `body` does
    // not overlap it; all of the `len` bytes are written before they count.
    unsafe {
        room.cast::<[u8; N]>().write_unaligned(head);
        room.add(N)
            .copy_from_nonoverlapping(body.as_ptr(), body.len());
        dst.set_len(dst.len() + len);
    }
}

/// Whether this process ignores a signal (`sigaction(2)`).
pub(crate) fn is_ignored(signal: libc::c_int) -> bool {
    let mut action = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: without a new action nothing changes, and the current one is written to memory that is
    // ours for the whole call.
    let result = unsafe { libc::sigaction(signal, std::ptr::null(), action.as_mut_ptr()) };
    // SAFETY: the structure is integers and an optional function pointer, all valid when zero.
    result == 0 && unsafe { action.assume_init() }.sa_sigaction == libc::SIG_IGN
}

/// `read(2)` into memory that need not be initialised; returns how many bytes were read.
pub(crate) fn read(fd: impl AsFd, buf: &mut [MaybeUninit<u8>]) -> io::Result<usize> {
    // SAFETY: the pointer and length describe memory that is ours to write for the whole call.
    let n = unsafe { libc::read(fd.as_fd().as_raw_fd(), buf.as_mut_ptr().cast(), buf.len()) };
    // A negative count is the error; any other fits `usize`.
    usize::try_from(n).map_err(|_| io::Error::last_os_error())
}

/// `read(2)` into the unfilled part of `buf`, which is advanced by the bytes read.
pub(crate) fn read_buf(fd: impl AsFd, buf: &mut ReadBuf<'_>) -> io::Result<usize> {
    // SAFETY: `read` only writes initialised bytes, so nothing is ever de-initialised.
    let n = read(fd, unsafe { buf.unfilled_mut() })?;
    // SAFETY: the kernel has just written the first `n` unfilled bytes.
    unsafe { buf.assume_init(n) };
    buf.advance(n);
    Ok(n)
}

/// `read(2)` into the spare capacity of `buf`, which is advanced by the bytes read.
///
/// The buffer chooses how much capacity one call sees; see [`BufMut::chunk_mut`].
pub(crate) fn read_spare(fd: impl AsFd, buf: &mut impl BufMut) -> io::Result<usize> {
    // SAFETY: `read` only writes initialised bytes, so nothing is ever de-initialised.
    let n = read(fd, unsafe { buf.chunk_mut().as_uninit_slice_mut() })?;
    // SAFETY: the kernel has just written the first `n` bytes of that chunk.
    unsafe { buf.advance_mut(n) };
    Ok(n)
}

/// `read(2)` that does not wait, not even for a disk, into the unfilled part of `buf`, which is
/// advanced by the bytes read; `RWF_NOWAIT` in readv(2). An error if it would have to wait, or if
/// the kind of file does not support it.
pub(crate) fn read_now(fd: impl AsFd, buf: &mut ReadBuf<'_>) -> io::Result<usize> {
    // SAFETY: the kernel only writes initialised bytes, so nothing is ever de-initialised.
    let room = unsafe { buf.unfilled_mut() };
    let iov = libc::iovec {
        iov_base: room.as_mut_ptr().cast(),
        iov_len: room.len(),
    };
    // By number, since some C libraries lack the function. -1: at the file's own position, which moves.
    // SAFETY: one slice, which is ours to write for the whole call.
    let n = unsafe {
        libc::syscall(
            libc::SYS_preadv2,
            fd.as_fd().as_raw_fd(),
            &raw const iov,
            1,
            -1_isize,
            -1_isize,
            libc::RWF_NOWAIT,
        )
    };
    // A negative count is the error; any other fits `usize`.
    let n = usize::try_from(n).map_err(|_| io::Error::last_os_error())?;
    // SAFETY: the kernel has just written the first `n` unfilled bytes.
    unsafe { buf.assume_init(n) };
    buf.advance(n);
    Ok(n)
}

/// `recv(2)` that does not wait, whatever the mode of the socket, into the unfilled part of `buf`,
/// which is advanced by the bytes read.
pub(crate) fn recv_buf(fd: impl AsFd, buf: &mut ReadBuf<'_>) -> io::Result<usize> {
    let fd = fd.as_fd().as_raw_fd();
    // SAFETY: `recv` only writes initialised bytes, so nothing is ever de-initialised.
    let room = unsafe { buf.unfilled_mut() };
    // SAFETY: the pointer and length describe memory that is ours to write for the whole call.
    let n = unsafe { libc::recv(fd, room.as_mut_ptr().cast(), room.len(), libc::MSG_DONTWAIT) };
    // A negative count is the error; any other fits `usize`.
    let n = usize::try_from(n).map_err(|_| io::Error::last_os_error())?;
    // SAFETY: the kernel has just written the first `n` unfilled bytes.
    unsafe { buf.assume_init(n) };
    buf.advance(n);
    Ok(n)
}

/// Sets `FD_CLOEXEC`.
fn mark(fd: RawFd) -> io::Result<()> {
    // SAFETY: changes a flag; a number that is not open is an error.
    result_of(unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) }.into()).map(drop)
}

/// Whether `FD_CLOEXEC` is set.
fn is_marked(fd: RawFd) -> io::Result<bool> {
    // SAFETY: reads a flag; a number that is not open is an error.
    let flags = result_of(unsafe { libc::fcntl(fd, libc::F_GETFD) }.into())?;
    Ok(flags & libc::c_long::from(libc::FD_CLOEXEC) != 0)
}

/// Duplicates `fd` to the number `number`, closed on `exec`; `None` if that number is in use.
pub(crate) fn duplicate_to(fd: impl AsFd, number: RawFd) -> io::Result<Option<OwnedFd>> {
    let fd = fd.as_fd().as_raw_fd();
    // SAFETY: duplicates an open descriptor to the lowest free number from `number` on.
    let got = result_of(unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, number) }.into())?;
    let got = RawFd::try_from(got).map_err(io::Error::other)?;
    // SAFETY: the kernel has just made it for us.
    let got = unsafe { OwnedFd::from_raw_fd(got) };
    Ok((got.as_raw_fd() == number).then_some(got))
}

/// Opens a descriptor that becomes readable when process `pid` exits; `pidfd_open(2)`.
pub(crate) fn pidfd_open(pid: u32) -> io::Result<OwnedFd> {
    let pid = libc::pid_t::try_from(pid).map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: takes two numbers; a process that does not exist is an error.
    let fd = result_of(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })?;
    let fd = RawFd::try_from(fd).map_err(io::Error::other)?;
    // SAFETY: the kernel has just made it for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Whether the peer of a socket has ended its direction, or has gone; `POLLRDHUP` in poll(2), which
/// nix does not know.
pub(crate) fn has_ended(fd: impl AsFd) -> bool {
    let mut poll = libc::pollfd {
        fd: fd.as_fd().as_raw_fd(),
        events: libc::POLLRDHUP,
        revents: 0,
    };
    // SAFETY: one structure, which lives through the call, and a descriptor that is borrowed.
    let n = unsafe { libc::poll(&raw mut poll, 1, 0) };
    n == 1 && poll.revents != 0
}

/// How many bytes can be read at once; `FIONREAD`, `ioctl_tty(2)` and `pipe(7)`.
pub(crate) fn unread(fd: impl AsFd) -> io::Result<usize> {
    let mut unread: libc::c_int = 0;
    // SAFETY: the kernel writes one `int` to the address, which is ours.
    let result = unsafe { libc::ioctl(fd.as_fd().as_raw_fd(), libc::FIONREAD, &mut unread) };
    result_of(result.into())?;
    Ok(usize::try_from(unread).unwrap_or(0))
}

/// How many bytes of a TCP socket the peer's system has not acknowledged, sent or not; `SIOCOUTQ`,
/// tcp(7).
pub(crate) fn unsent(fd: impl AsFd) -> io::Result<usize> {
    let mut unsent: libc::c_int = 0;
    // SAFETY: the kernel writes one `int` to the address, which is ours.
    let result = unsafe { libc::ioctl(fd.as_fd().as_raw_fd(), libc::TIOCOUTQ, &mut unsent) };
    result_of(result.into())?;
    Ok(usize::try_from(unsent).unwrap_or(0))
}

/// Takes flock(2)'s exclusive lock if it is free, and returns whether it did.
pub(crate) fn try_lock(fd: impl AsFd) -> io::Result<bool> {
    match flock(fd, libc::LOCK_EX | libc::LOCK_NB) {
        Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(false),
        result => result.map(|()| true),
    }
}

/// Releases flock(2)'s lock.
pub(crate) fn unlock(fd: impl AsFd) -> io::Result<()> {
    flock(fd, libc::LOCK_UN)
}

/// `flock(2)`.
///
/// (nix's guard panics in `drop` if unlocking fails, and std's needs Rust 1.89.)
fn flock(fd: impl AsFd, operation: libc::c_int) -> io::Result<()> {
    // SAFETY: a borrowed descriptor is open for the whole call, which takes no memory of ours.
    result_of(unsafe { libc::flock(fd.as_fd().as_raw_fd(), operation) }.into()).map(drop)
}

fn result_of(result: libc::c_long) -> io::Result<libc::c_long> {
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(result)
}

/// An open message queue, both as posixmq knows it and as the descriptor that epoll takes.
#[derive(Debug)]
pub(crate) struct QueueFd {
    // Never dropped, so that the queue is closed once: by `fd`.
    queue: ManuallyDrop<PosixMq>,
    fd: Arc<OwnedFd>,
}

impl QueueFd {
    /// The descriptor. Holding it keeps the queue open.
    pub(crate) fn fd(&self) -> &Arc<OwnedFd> {
        &self.fd
    }
}

impl From<OwnedFd> for QueueFd {
    fn from(fd: OwnedFd) -> Self {
        // SAFETY: on Linux a queue is a file descriptor. This one is open and stays so for as long
        // as the `PosixMq` can be reached, since `Self` owns both; `ManuallyDrop` leaves it to `fd`
        // to close it. If it were not a queue, every call would fail with `EBADF`.
        let queue = ManuallyDrop::new(unsafe { PosixMq::from_raw_fd(fd.as_raw_fd()) });
        let fd = Arc::new(fd);
        Self { queue, fd }
    }
}

impl From<PosixMq> for QueueFd {
    fn from(queue: PosixMq) -> Self {
        // SAFETY: `into_raw_fd` gives up an open descriptor that nobody else will close.
        unsafe { OwnedFd::from_raw_fd(queue.into_raw_fd()) }.into()
    }
}

impl Deref for QueueFd {
    type Target = PosixMq;

    fn deref(&self) -> &PosixMq {
        &self.queue
    }
}

/// The result of one `recvmsg(2)`.
#[derive(Debug)]
pub(crate) struct Received {
    /// The message's full length, which is more than the buffer's if it did not fit.
    pub(crate) len: usize,
    /// The descriptors that arrived with it, close-on-exec.
    pub(crate) fds: Vec<OwnedFd>,
    /// Whether more descriptors were sent than arrived. The kernel has closed those.
    pub(crate) fds_truncated: bool,
}

/// `recvmsg(2)` on a Unix socket, with room for `max_fds` descriptors.
///
/// Every descriptor that arrives is owned before anything else is looked at, so that none leaks.
/// (This is why nix's `recvmsg` is not used: it returns no control message at all once one was
/// truncated, and descriptors that did arrive would stay open.)
pub(crate) fn recv_with_fds(fd: impl AsFd, buf: &mut [u8], max_fds: usize) -> io::Result<Received> {
    let mut iov = libc::iovec {
        iov_base: buf.as_mut_ptr().cast(),
        iov_len: buf.len(),
    };
    // `u64`s, since a control message header must be aligned.
    let mut control: Vec<u64> = Vec::new();
    // SAFETY: a `msghdr` is integers and pointers, for all of which zero is a value.
    let mut header: libc::msghdr = unsafe { mem::zeroed() };
    header.msg_iov = &raw mut iov;
    header.msg_iovlen = 1;
    if max_fds > 0 {
        let bytes = u32::try_from(max_fds.saturating_mul(size_of::<RawFd>()))
            .map_err(|_| io::ErrorKind::InvalidInput)?;
        // SAFETY: these two only compute lengths.
        let (space, len) = unsafe { (libc::CMSG_SPACE(bytes), libc::CMSG_LEN(bytes)) };
        control.resize((space as usize).div_ceil(size_of::<u64>()), 0);
        header.msg_control = control.as_mut_ptr().cast();
        // Not the whole space: its padding would have room for one descriptor too many.
        header.msg_controllen = len as _;
    }
    let flags = libc::MSG_CMSG_CLOEXEC | libc::MSG_DONTWAIT | libc::MSG_TRUNC;
    // SAFETY: the header points to one buffer and one control buffer, both ours to write for the
    // whole call, with their true lengths.
    let n = unsafe { libc::recvmsg(fd.as_fd().as_raw_fd(), &raw mut header, flags) };
    // A negative count is the error; any other fits `usize`.
    let len = usize::try_from(n).map_err(|_| io::Error::last_os_error())?;
    Ok(Received {
        len,
        fds: take_fds(&header),
        fds_truncated: header.msg_flags & libc::MSG_CTRUNC != 0,
    })
}

/// Takes ownership of every descriptor in the control messages of `header`, once.
fn take_fds(header: &libc::msghdr) -> Vec<OwnedFd> {
    let mut fds = Vec::new();
    // SAFETY: `recvmsg` has filled the header and its control buffer, which is still alive.
    let mut next = unsafe { libc::CMSG_FIRSTHDR(header) };
    while !next.is_null() {
        // SAFETY: the macros only give pointers to whole, aligned headers in the buffer.
        let message = unsafe { &*next };
        let is_fds = message.cmsg_type == libc::SCM_RIGHTS || message.cmsg_type == SCM_PIDFD;
        if message.cmsg_level == libc::SOL_SOCKET && is_fds {
            // SAFETY: this only computes a length.
            let before = unsafe { libc::CMSG_LEN(0) } as usize;
            let count = (message.cmsg_len as usize).saturating_sub(before) / size_of::<RawFd>();
            // SAFETY: the header is in the buffer, and its data follows it.
            let data = unsafe { libc::CMSG_DATA(next) }.cast::<RawFd>();
            for i in 0..count {
                // SAFETY: the kernel has written `count` descriptor numbers there; they need not
                // be aligned.
                let raw = unsafe { data.add(i).read_unaligned() };
                if raw >= 0 {
                    // SAFETY: the kernel has just opened it for us and nobody else knows it.
                    fds.push(unsafe { OwnedFd::from_raw_fd(raw) });
                }
            }
        }
        // SAFETY: as for the first header.
        next = unsafe { libc::CMSG_NXTHDR(header, next) };
    }
    fds
}

/// The control message of `SO_PASSPIDFD`, which carries a descriptor too
/// (`include/linux/socket.h`). Only a socket on which others have set that option has it.
const SCM_PIDFD: i32 = 0x04;
