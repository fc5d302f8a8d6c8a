//! [`Half`]: a reading half, and what becomes of the rest when nothing more of it is wanted.

use std::io;
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::task::{Context, Poll};

use socket2::SockRef;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::tcp;

use crate::latency::Polled;
use crate::{fifo, sys, unix};

/// A boxed [`Half`].
pub(super) type BoxHalf = Box<dyn Half + Send + Unpin>;

/// What becomes of what was not read yet, once no more is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rest {
    /// It is there for the next reader.
    Stays,
    /// The peer was cut off: what it has written still comes, and then an end that may lie inside
    /// a message, of which the peer knows that it was not taken.
    CutOff,
    /// It is lost if it is not read, up to the end that the peer makes.
    Comes,
}

/// The reading half of a byte stream.
pub(super) trait Half: AsyncRead {
    /// Says that no more is wanted. Asked again at each end of a message for as long as the rest
    /// [stays](Rest::Stays).
    fn stop(&mut self) -> Rest;

    /// How many bytes of the other direction have not arrived at the peer, where the system can
    /// tell; an error if they never will.
    fn undelivered(&self) -> io::Result<usize> {
        Ok(0)
    }
}

impl Half for BoxHalf {
    fn stop(&mut self) -> Rest {
        (**self).stop()
    }

    fn undelivered(&self) -> io::Result<usize> {
        (**self).undelivered()
    }
}

impl<R: Half + Unpin> Half for Polled<R> {
    fn stop(&mut self) -> Rest {
        self.get_mut().stop()
    }

    fn undelivered(&self) -> io::Result<usize> {
        self.get_ref().undelivered()
    }
}

/// One that others read as well, now or later.
pub(super) struct Shared<R>(pub(super) R);

impl<R: AsyncRead + Unpin> AsyncRead for Shared<R> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl<R: AsyncRead + Unpin> Half for Shared<R> {
    fn stop(&mut self) -> Rest {
        Rest::Stays
    }
}

/// A writer that has it open keeps what is in it. When the last one has gone, this end alone does.
impl Half for fifo::Receiver {
    fn stop(&mut self) -> Rest {
        if self.is_last() {
            Rest::Comes
        } else {
            Rest::Stays
        }
    }
}

/// A peer over TCP learns of nothing but an end of the other direction.
impl Half for tcp::OwnedReadHalf {
    fn stop(&mut self) -> Rest {
        Rest::Comes
    }

    fn undelivered(&self) -> io::Result<usize> {
        // A peer that has closed resets the connection when something arrives.
        let stream = self.as_ref();
        let waiting = sys::unsent(stream)?;
        stream.take_error()?.map_or(Ok(waiting), Err)
    }
}

impl Half for unix::ReadHalf {
    fn stop(&mut self) -> Rest {
        cut_off(self)
    }
}

/// Shuts a Unix socket down for reading: a write of the peer fails with `EPIPE` from now on, and
/// what the kernel has taken before is still read (`unix_shutdown` and `unix_stream_sendmsg` in
/// `net/unix/af_unix.c`).
pub(super) fn cut_off(socket: impl AsFd) -> Rest {
    let socket = socket.as_fd();
    if sys::has_ended(socket) {
        return Rest::Comes;
    }
    match SockRef::from(&socket).shutdown(Shutdown::Read) {
        Ok(()) => Rest::CutOff,
        // It has no peer any more.
        Err(_) => Rest::Comes,
    }
}
