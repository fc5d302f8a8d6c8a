//! A stream socket whose open file description others share: never made non-blocking.

use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::pin::Pin;
use std::task::{Context, Poll};

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};

use crate::source::{Direction, Source};
use crate::sys;

/// Neither waits nor raises a signal, whatever the mode of the descriptor (`send(2)`).
const NOW: libc::c_int = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;

pub(super) struct SharedReader(Source);

pub(super) struct SharedWriter(Source);

/// The two directions of a connected stream socket.
pub(super) fn split(fd: OwnedFd) -> io::Result<(SharedReader, SharedWriter)> {
    // A duplicate, since epoll takes each descriptor once, and a registration for both directions
    // would be woken for reading by its own writes.
    let write = Source::socket(fd.try_clone()?, Interest::WRITABLE)?;
    Ok((
        SharedReader(Source::socket(fd, Interest::READABLE)?),
        SharedWriter(write),
    ))
}

impl AsyncRead for SharedReader {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let step = |fd: BorrowedFd<'_>| sys::recv_buf(fd, buf);
        self.0.poll_io(cx, Direction::Read, step).map_ok(drop)
    }
}

impl AsyncWrite for SharedWriter {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let step = |fd: BorrowedFd<'_>| SockRef::from(&fd).send_with_flags(buf, NOW);
        self.0.poll_io(cx, Direction::Write, step)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let step = |fd: BorrowedFd<'_>| SockRef::from(&fd).send_vectored_with_flags(bufs, NOW);
        self.0.poll_io(cx, Direction::Write, step)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(match SockRef::from(&self.0).shutdown(Shutdown::Write) {
            // The peer has gone already.
            Err(e) if e.kind() == io::ErrorKind::NotConnected => Ok(()),
            result => result,
        })
    }
}

/// As tokio's write halves do: the peer sees the end, whoever else holds a duplicate.
impl Drop for SharedWriter {
    fn drop(&mut self) {
        // It fails only where there is no peer any more.
        let _ = SockRef::from(&self.0).shutdown(Shutdown::Write);
    }
}
