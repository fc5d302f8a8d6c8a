//! The one module with `unsafe` code: system calls that no safe wrapper offers in the form needed.
#![allow(unsafe_code)]

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;

use bytes::BufMut;
use tokio::io::unix::AsyncFd;
use tokio::io::{Interest, ReadBuf};
use tokio::runtime::Handle;

/// Registers a descriptor with the current runtime's I/O driver.
///
/// Where there is no runtime this is an error, not a panic. It still panics in a runtime that was
/// built without its I/O driver, as everything in `tokio::net` does: Tokio offers no way to ask.
pub(crate) fn register(fd: Arc<OwnedFd>, interest: Interest) -> io::Result<AsyncFd<Arc<OwnedFd>>> {
    Handle::try_current().map_err(io::Error::other)?;
    // SAFETY: an `OwnedFd` is open, and an `Arc` never lets go of it nor exchanges it: the number
    // stays valid and names the same open file description until the `AsyncFd` drops its `Arc`,
    // which it does after it has deregistered.
    unsafe { AsyncFd::register_with_interest(fd, interest) }.map_err(|e| e.into_parts().1)
}

/// `read(2)` into memory that need not be initialised; returns how many bytes were.
pub(crate) fn read(fd: impl AsFd, buf: &mut [MaybeUninit<u8>]) -> io::Result<usize> {
    // SAFETY: the pointer and length describe memory that is ours to write for the whole call.
    let n = unsafe { libc::read(fd.as_fd().as_raw_fd(), buf.as_mut_ptr().cast(), buf.len()) };
    // A negative count is the error; any other fits `usize`.
    usize::try_from(n).map_err(|_| io::Error::last_os_error())
}

/// `read(2)` into the unfilled part of `buf`, which is advanced by what came.
pub(crate) fn read_buf(fd: impl AsFd, buf: &mut ReadBuf<'_>) -> io::Result<usize> {
    // SAFETY: `read` only writes initialised bytes, so nothing is ever de-initialised.
    let n = read(fd, unsafe { buf.unfilled_mut() })?;
    // SAFETY: the kernel has just written the first `n` unfilled bytes.
    unsafe { buf.assume_init(n) };
    buf.advance(n);
    Ok(n)
}

/// `read(2)` into the spare room of `buf`, which is advanced by what came.
///
/// How much room that is in one call is the buffer's choice; see [`BufMut::chunk_mut`].
pub(crate) fn read_spare(fd: impl AsFd, buf: &mut impl BufMut) -> io::Result<usize> {
    // SAFETY: `read` only writes initialised bytes, so nothing is ever de-initialised.
    let n = read(fd, unsafe { buf.chunk_mut().as_uninit_slice_mut() })?;
    // SAFETY: the kernel has just written the first `n` bytes of that chunk.
    unsafe { buf.advance_mut(n) };
    Ok(n)
}
