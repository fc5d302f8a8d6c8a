//! [`ReadHalf`], [`WriteHalf`]: the two directions of a stream socket, each waited for separately.

use std::fmt::Debug;
use std::future::Future;
use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::UnixStream;
use tokio::runtime::Handle;
use tokio::task::coop;

use crate::connect::{Half, Rest, SocketHalf};
use crate::io::polling;
use crate::io::source::{Direction, Source};
use crate::io::sys;
use crate::io::timer::{Sleep, sleep};

/// Neither waits nor raises a signal, whatever the mode of the descriptor (`send(2)`).
const NOW: libc::c_int = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;

/// After this many writes that did not wait, the registration for writing is dropped.
const CALM: u32 = 64;

/// How many pieces one call sends; `sendmsg(2)` refuses more (`IOV_MAX`).
const MAX_SLICES: usize = 1024;

/// How long a write waits before it tries again if no descriptor is free to wait with.
const PAUSE: Duration = Duration::from_millis(10);

/// Splits a stream into its two directions, for two tasks.
///
/// Tokio's `UnixStream::into_split` does the same but is slower for conversations: a `UnixStream` is
/// registered for both directions and is woken whenever the peer has read what it wrote. Here each
/// direction is registered while it waits. A writer that has to wait holds a duplicate of the file
/// descriptor.
///
/// # Errors
///
/// Whatever `epoll_ctl(2)` reports, such as `ENOSPC` or `ENOMEM`, and an error outside a Tokio runtime.
///
/// # Examples
///
/// ```
/// use tokio::io::{AsyncReadExt, AsyncWriteExt};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> std::io::Result<()> {
/// let (here, there) = tokio::net::UnixStream::pair()?;
/// let (_, mut write) = aqueduct::unix::into_split(here)?;
/// let (mut read, _write) = aqueduct::unix::into_split(there)?;
/// write.write_all(b"hello").await?;
/// drop(write);
/// let mut received = String::new();
/// read.read_to_string(&mut received).await?;
/// assert_eq!(received, "hello");
/// # Ok(())
/// # }
/// ```
pub fn into_split(
    stream: UnixStream,
) -> io::Result<(
    impl AsyncRead + AsFd + Debug + Send + Sync + Unpin + use<>,
    impl AsyncWrite + AsFd + Debug + Send + Sync + Unpin + use<>,
)> {
    split(stream.into_std()?.into())
}

/// Splits a connected stream socket of any family. Its mode stays unchanged, since no call here
/// depends on it: its open file description may be shared.
pub(crate) fn split(fd: OwnedFd) -> io::Result<(ReadHalf, WriteHalf)> {
    let source = Source::socket(fd, Interest::READABLE)?.looking_again();
    let fd = source.share();
    let write = WriteHalf {
        fd,
        waiting: None,
        calm: 0,
        pause: None,
        runtime: source.runtime().clone(),
        ends: true,
    };
    Ok((ReadHalf(source), write))
}

/// The reading half of a stream; see [`split`].
///
/// # Cancel safety
///
/// A dropped read has taken nothing, except those of `read_exact` and similar methods, which may
/// have taken a part.
#[derive(Debug)]
pub(crate) struct ReadHalf(Source);

/// The writing half of a stream; see [`split`].
///
/// Shutting it down, or dropping it, ends this direction: the peer reads the written bytes, then
/// the end of stream.
///
/// # Cancel safety
///
/// A dropped write has written nothing, except those of `write_all` and similar methods, which may
/// have written a part.
#[derive(Debug)]
pub(crate) struct WriteHalf {
    fd: Arc<OwnedFd>,
    /// A duplicate, since epoll takes each descriptor once, registered for writing only.
    waiting: Option<Source>,
    /// How many writes in a row did not wait.
    calm: u32,
    pause: Option<Pin<Box<Sleep>>>,
    /// The runtime of the reading half, whichever thread or executor polls this one.
    runtime: Handle,
    /// Dropping it ends its direction, which has not ended yet.
    ends: bool,
}

impl AsyncRead for ReadHalf {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // Nobody sleeps on this answer.
        if polling::is_glancing() && self.0.is_drained() {
            return Poll::Pending;
        }
        let step = |fd: BorrowedFd<'_>| sys::recv_buf(fd, buf);
        let read = ready!(self.0.poll_io(cx, Direction::Read, step));
        self.0.note_drained(buf.remaining() > 0);
        Poll::Ready(read.map(drop))
    }
}

impl WriteHalf {
    fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        send: impl Fn(BorrowedFd<'_>) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            if let Some(source) = &self.waiting {
                let Poll::Ready(sent) = source.poll_io(cx, Direction::Write, &send) else {
                    self.calm = 0;
                    return Poll::Pending;
                };
                self.calm += 1;
                if self.calm >= CALM {
                    self.waiting = None;
                }
                return Poll::Ready(sent);
            }
            if let Some(pause) = &mut self.pause {
                ready!(pause.as_mut().poll(cx));
                self.pause = None;
            }
            let budget = ready!(coop::poll_proceed(cx));
            match send(self.fd.as_fd()) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => self.wait()?,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                sent => {
                    polling::wrote();
                    budget.made_progress();
                    return Poll::Ready(sent);
                }
            }
        }
    }

    /// Makes the next try wait for room.
    fn wait(&mut self) -> io::Result<()> {
        let _guard = self.runtime.enter();
        let registered = self.fd.try_clone();
        let registered = registered.and_then(|fd| Source::socket(fd, Interest::WRITABLE));
        match registered {
            Ok(source) => {
                self.calm = 0;
                self.waiting = Some(source);
            }
            Err(e) if is_shortage(&e) => self.pause = Some(Box::pin(sleep(PAUSE))),
            Err(e) => return Err(e),
        }
        Ok(())
    }
}

/// Whether descriptors, memory or epoll watches are short, which is temporary.
fn is_shortage(error: &io::Error) -> bool {
    let short = [libc::EMFILE, libc::ENFILE, libc::ENOMEM, libc::ENOSPC];
    error.raw_os_error().is_some_and(|it| short.contains(&it))
}

impl AsyncWrite for WriteHalf {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let send = |fd: BorrowedFd<'_>| SockRef::from(&fd).send_with_flags(buf, NOW);
        self.get_mut().poll_send(cx, send)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let bufs = &bufs[..bufs.len().min(MAX_SLICES)];
        let send = |fd: BorrowedFd<'_>| SockRef::from(&fd).send_vectored_with_flags(bufs, NOW);
        self.get_mut().poll_send(cx, send)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        Poll::Ready(match SockRef::from(&this.fd).shutdown(Shutdown::Write) {
            Ok(()) => {
                this.ends = false;
                Ok(())
            }
            // The peer has already gone.
            Err(e) if e.kind() == io::ErrorKind::NotConnected => Ok(()),
            error => error,
        })
    }
}

/// As Tokio's write halves do: the peer sees the end, even if others hold a duplicate.
impl Drop for WriteHalf {
    fn drop(&mut self) {
        if self.ends {
            // It fails only if there is no peer any more.
            let _ = SockRef::from(&self.fd).shutdown(Shutdown::Write);
        }
    }
}

impl Half for ReadHalf {
    fn stop(&mut self) -> Rest {
        cut_off(self)
    }

    fn duplicate(&self) -> Option<OwnedFd> {
        self.as_fd().try_clone_to_owned().ok()
    }
}

impl SocketHalf for ReadHalf {
    type Writer = WriteHalf;

    fn descriptor(&self) -> BorrowedFd<'_> {
        self.as_fd()
    }

    fn keep_open(mut writer: WriteHalf) {
        writer.ends = false;
    }
}

/// Shuts a Unix socket down for reading: from now on a write of the peer fails with `EPIPE`, and
/// bytes that the kernel has already taken are still read (`unix_shutdown` and
/// `unix_stream_sendmsg` in `net/unix/af_unix.c`).
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

impl AsFd for ReadHalf {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsFd for WriteHalf {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

#[cfg(test)]
mod tests;
