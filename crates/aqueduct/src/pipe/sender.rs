//! [`Sender`]: the writing end of a pipe.

use std::fs::File;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::pin::Pin;
use std::task::{Context, Poll};

use nix::sys::uio::writev;
use tokio::io::{AsyncWrite, Interest, Ready};

use super::descriptor::{MAX_SLICES, capacity, check, reopen, set_capacity};
use super::log::Log;
use crate::io::fd::{self, Access};
use crate::io::source::{Direction, Source};

/// A write of at most this many bytes after one of more is the rest of a frame.
const REST: usize = 4096;

/// The writing end of a pipe or FIFO.
///
/// When every reader has closed the pipe, a write fails with `EPIPE` (`BrokenPipe`). On a FIFO this
/// is not final: when a new reader opens it, writes work again.
///
/// Up to `PIPE_BUF` (4096) bytes are written whole or not at all. A larger write may be partial,
/// and mixed with those of other writers, `pipe(7)`.
///
/// If `SIGPIPE` is not ignored, a write without a reader kills the process. Rust programs ignore
/// it; a C program that loads a Rust library may not.
///
/// # Cancel safety
///
/// A dropped future has written nothing, except those of `write_all` and similar methods: they may
/// have written a part.
///
/// # Examples
///
/// ```
/// use tokio::io::{AsyncReadExt, AsyncWriteExt};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> std::io::Result<()> {
/// let (mut sender, mut receiver) = aqueduct::pipe::pipe()?;
/// sender.write_all(b"hello").await?;
/// let mut buf = [0; 5];
/// receiver.read_exact(&mut buf).await?;
/// drop(receiver);
/// let error = sender.write_all(b"hello").await.unwrap_err();
/// assert_eq!(error.kind(), std::io::ErrorKind::BrokenPipe);
/// # Ok(()) }
/// ```
pub struct Sender {
    source: Source,
    log: Log,
    /// The last write was of more than [`REST`].
    was_large: bool,
}

impl Sender {
    /// Takes over an open pipe or FIFO and sets it to non-blocking mode.
    ///
    /// The mode belongs to the open file description: a process or duplicate that shares it becomes
    /// non-blocking too. [`from_shared_fd`](Self::from_shared_fd) avoids that.
    ///
    /// # Errors
    ///
    /// - `InvalidInput` with [`WrongType`](crate::OpenErrorKind::WrongType): it is not a pipe; with
    ///   [`Unsupported`](crate::OpenErrorKind::Unsupported): it is the other end of one.
    /// - There is no Tokio runtime.
    ///
    /// The file is closed on error.
    pub fn from_file(file: File) -> io::Result<Self> {
        Self::from_owned_fd(file.into())
    }

    /// Takes over an open pipe or FIFO and sets it to non-blocking mode.
    ///
    /// # Errors
    ///
    /// As for [`from_file`](Self::from_file).
    ///
    /// # Examples
    ///
    /// ```
    /// use aqueduct::pipe::Sender;
    /// use tokio::io::AsyncWriteExt;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> std::io::Result<()> {
    /// let (_reader, writer) = std::io::pipe()?;
    /// let mut sender = Sender::from_owned_fd(writer.into())?;
    /// sender.write_all(b"hi").await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn from_owned_fd(owned_fd: OwnedFd) -> io::Result<Self> {
        check(&owned_fd, Access::Write)?;
        fd::set_nonblocking(&owned_fd, true)?;
        Self::from_owned_fd_unchecked(owned_fd)
    }

    /// Opens a pipe or FIFO again for writing, with a separate open file description.
    ///
    /// For a file descriptor that others share, such as standard output: it stays unchanged and in
    /// blocking mode for them. (`O_NONBLOCK` belongs to the open file description, `open(2)`, which
    /// duplicates and child processes share.) Both descriptions lead to one pipe. While the one
    /// passed in is open, its process counts as a writer of that pipe.
    ///
    /// # Errors
    ///
    /// - `InvalidInput` with [`WrongType`](crate::OpenErrorKind::WrongType): it is not a pipe; with
    ///   [`Unsupported`](crate::OpenErrorKind::Unsupported): it is the other end of one.
    /// - `ENOENT`: `/proc` is not mounted. `EACCES`: another user created the pipe. `ENXIO`: it is
    ///   a FIFO without a reader.
    /// - There is no Tokio runtime.
    ///
    /// # Examples
    ///
    /// Standard output, if it is a pipe:
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> std::io::Result<()> {
    /// match aqueduct::pipe::Sender::from_shared_fd(std::io::stdout()) {
    ///     Ok(stdout) => eprintln!("a pipe of {} bytes", stdout.capacity()?),
    ///     Err(error) => eprintln!("{error}"),
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn from_shared_fd(fd: impl AsFd) -> io::Result<Self> {
        Self::from_owned_fd_unchecked(reopen(&fd, Access::Write)?)
    }

    /// Takes over a file that is known to be a non-blocking pipe, open for writing.
    ///
    /// Nothing is checked. A file in blocking mode would stop its whole runtime thread.
    ///
    /// # Errors
    ///
    /// - `EPERM`: epoll does not support such a file (a regular file, a directory).
    /// - There is no Tokio runtime.
    pub fn from_file_unchecked(file: File) -> io::Result<Self> {
        Self::from_owned_fd_unchecked(file.into())
    }

    /// Takes over a known non-blocking pipe descriptor, open for writing.
    ///
    /// Nothing is checked. A descriptor in blocking mode would stop its whole runtime thread.
    ///
    /// # Errors
    ///
    /// As for [`from_file_unchecked`](Self::from_file_unchecked).
    pub fn from_owned_fd_unchecked(owned_fd: OwnedFd) -> io::Result<Self> {
        let source = Source::new(owned_fd, Interest::WRITABLE)?;
        let log = Log::sender(&source);
        Ok(Self::with(source, log))
    }

    /// An end that is part of another one, which logs for both.
    pub(crate) fn within(owned_fd: OwnedFd) -> io::Result<Self> {
        let source = Source::new(owned_fd, Interest::WRITABLE)?;
        let log = Log::silent();
        Ok(Self::with(source, log))
    }

    fn with(source: Source, log: Log) -> Self {
        Self {
            source,
            log,
            was_large: false,
        }
    }

    /// Waits for any readiness in `interest`.
    ///
    /// The result can be outdated, for example if another task was faster. Expect `WouldBlock` and
    /// wait again.
    ///
    /// # Errors
    ///
    /// The runtime is shutting down.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: nothing is consumed.
    pub async fn ready(&self, interest: Interest) -> io::Result<Ready> {
        self.source.ready(interest).await
    }

    /// Waits until the pipe has room, or the last reader has closed it.
    ///
    /// The kernel counts pages: a full pipe has room again only when a whole page of it has been
    /// read. So a write of more than one byte can still return `WouldBlock`: wait again.
    ///
    /// # Errors
    ///
    /// The runtime is shutting down.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: nothing is consumed.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> std::io::Result<()> {
    /// let (sender, _receiver) = aqueduct::pipe::pipe()?;
    /// loop {
    ///     sender.writable().await?;
    ///     match sender.try_write(b"hello") {
    ///         Ok(_) => break,
    ///         Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => {}
    ///         Err(e) => return Err(e),
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn writable(&self) -> io::Result<()> {
        self.ready(Interest::WRITABLE).await.map(drop)
    }

    /// Polls for room. Only the last task that polled is woken.
    ///
    /// # Errors
    ///
    /// The runtime is shutting down.
    pub fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.source.poll_ready(cx, Direction::Write)
    }

    /// Writes as much of `buf` as there is room for, and returns how much.
    ///
    /// # Errors
    ///
    /// - `WouldBlock`: there is no room now.
    /// - `EPIPE`: every reader has closed the pipe.
    pub fn try_write(&self, buf: &[u8]) -> io::Result<usize> {
        let written = self
            .source
            .try_io(Interest::WRITABLE, |fd| Ok(nix::unistd::write(fd, buf)?));
        self.log.write(written)
    }

    /// Writes as much of several buffers as there is room for, and returns how much.
    ///
    /// # Errors
    ///
    /// - `WouldBlock`: there is no room now.
    /// - `EPIPE`: every reader has closed the pipe.
    pub fn try_write_vectored(&self, buf: &[IoSlice<'_>]) -> io::Result<usize> {
        let written = self
            .source
            .try_io(Interest::WRITABLE, |fd| write_vectored(fd, buf));
        self.log.write(written)
    }

    /// Runs `f`, a non-blocking operation on this descriptor, if it is writable.
    ///
    /// When `f` returns `WouldBlock` the readiness is cleared. Return it only if the descriptor
    /// itself did.
    ///
    /// # Errors
    ///
    /// `WouldBlock` if it is not writable now, otherwise the error of `f`.
    pub fn try_io<R>(&self, f: impl FnOnce() -> io::Result<R>) -> io::Result<R> {
        self.source.try_io(Interest::WRITABLE, |_| f())
    }

    /// Returns how many bytes the pipe holds if each of its pages is full.
    ///
    /// The kernel counts pages: many small writes that do not fit together into pages fill it
    /// sooner, `pipe(7)`.
    ///
    /// # Errors
    ///
    /// Any error of `fcntl(2)`; none is expected.
    pub fn capacity(&self) -> io::Result<usize> {
        capacity(self)
    }

    /// Changes how many bytes the pipe holds, and returns the actual capacity.
    ///
    /// The kernel rounds up to a power of two of pages. Bytes in the pipe stay.
    ///
    /// # Errors
    ///
    /// An [`OpenError`](crate::OpenError) inside the [`io::Error`] has the cause and the cure:
    ///
    /// - [`LimitReached`](crate::OpenErrorKind::LimitReached) (`EPERM`): it exceeds
    ///   `/proc/sys/fs/pipe-max-size` (1 MiB by default), the limit for an unprivileged process. Or
    ///   all pipes of this user together would exceed `pipe-user-pages-soft`: close some.
    /// - `EBUSY`: the pipe holds more than that now. Read first.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> std::io::Result<()> {
    /// let (sender, _receiver) = aqueduct::pipe::pipe()?;
    /// let got = sender.set_capacity(5000)?;
    /// assert!(got >= 5000);
    /// assert_eq!(got, sender.capacity()?);
    /// # Ok(())
    /// # }
    /// ```
    pub fn set_capacity(&self, bytes: usize) -> io::Result<usize> {
        set_capacity(self, bytes)
    }

    /// Returns the file descriptor in blocking mode, as other processes expect it.
    ///
    /// # Errors
    ///
    /// Any error of `fcntl(2)`; none is expected.
    pub fn into_blocking_fd(self) -> io::Result<OwnedFd> {
        let fd = self.into_nonblocking_fd()?;
        fd::set_nonblocking(&fd, false)?;
        Ok(fd)
    }

    /// Returns the file descriptor, still in non-blocking mode.
    ///
    /// # Errors
    ///
    /// None is expected.
    pub fn into_nonblocking_fd(self) -> io::Result<OwnedFd> {
        self.source.into_fd()
    }

    /// Polls a write of `len` bytes. The rest of a frame that does not fit the pipe is tried once more
    /// before it waits: a frame of 64 KiB and its header has one of some bytes.
    fn poll_write_by(
        &mut self,
        cx: &mut Context<'_>,
        len: usize,
        mut write: impl FnMut(BorrowedFd<'_>) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        let mut written = self.source.poll_io(cx, Direction::Write, &mut write);
        let is_rest = std::mem::replace(&mut self.was_large, len > REST) && len <= REST;
        if written.is_pending()
            && is_rest
            && let Some(result) = self.source.write_again(write)
        {
            written = Poll::Ready(result);
        }
        written.map(|written| self.log.write(written))
    }
}

impl AsyncWrite for Sender {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let write = |fd: BorrowedFd<'_>| Ok(nix::unistd::write(fd, buf)?);
        self.get_mut().poll_write_by(cx, buf.len(), write)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let len = bufs.iter().map(|buf| buf.len()).sum();
        let write = |fd: BorrowedFd<'_>| write_vectored(fd, bufs);
        self.get_mut().poll_write_by(cx, len, write)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// Returns at once: written bytes are already in the pipe.
    ///
    /// If other processes wait for room that is left, one of them is woken.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.source.pass_on();
        Poll::Ready(Ok(()))
    }

    /// The same as `poll_flush`: a pipe is closed by dropping its end.
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_flush(cx)
    }
}

impl TryFrom<OwnedFd> for Sender {
    type Error = io::Error;

    /// The same as [`Sender::from_owned_fd`].
    fn try_from(fd: OwnedFd) -> io::Result<Self> {
        Self::from_owned_fd(fd)
    }
}

impl AsFd for Sender {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.source.as_fd()
    }
}

impl AsRawFd for Sender {
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}

impl std::fmt::Debug for Sender {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sender")
            .field("fd", &self.as_raw_fd())
            .finish_non_exhaustive()
    }
}

fn write_vectored(fd: BorrowedFd<'_>, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
    Ok(writev(fd, &bufs[..bufs.len().min(MAX_SLICES)])?)
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;
    use crate::pipe;

    /// Writes so much after a write of `before` bytes. The first try finds no room, the next one does.
    async fn write_after(before: usize, len: usize) -> bool {
        let (mut tx, _rx) = pipe::pipe().unwrap();
        tx.writable().await.unwrap();
        let mut cx = Context::from_waker(Waker::noop());
        assert!(tx.poll_write_by(&mut cx, before, |_| Ok(before)).is_ready());
        let mut tries = 0;
        let written = tx.poll_write_by(&mut cx, len, |_| {
            tries += 1;
            match tries {
                1 => Err(io::ErrorKind::WouldBlock.into()),
                _ => Ok(len),
            }
        });
        written.is_ready()
    }

    #[tokio::test]
    async fn the_rest_of_a_frame_is_tried_again_before_it_waits() {
        assert!(write_after(65_536, 4).await);
        assert!(write_after(REST + 1, REST).await);
        assert!(!write_after(REST, 4).await, "the frame before fitted");
        assert!(!write_after(65_536, REST + 1).await, "more than a rest");
    }

    /// There the other side may run on another processor, or this thread have other tasks.
    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn in_a_multi_thread_runtime_the_rest_waits() {
        assert!(!write_after(65_536, 4).await);
    }
}
