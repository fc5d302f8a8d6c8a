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

/// The writing end of a pipe or FIFO.
///
/// When every reader has gone a write fails with `EPIPE` (`BrokenPipe`). On a FIFO that is not
/// final: when a new reader comes, writes work again.
///
/// Up to `PIPE_BUF` (4096) bytes are written whole or not at all; more may be written in part, and
/// mixed with what other writers write, `pipe(7)`.
///
/// Where `SIGPIPE` is not ignored a write without a reader kills the process. Rust programs ignore
/// it; a C program that loads a Rust library may not.
///
/// # Cancel safety
///
/// A future that is dropped has written nothing, `write_all` and its like excepted: they may have
/// written a part.
pub struct Sender {
    source: Source,
    log: Log,
}

impl Sender {
    /// Takes over an open pipe or FIFO and sets it to non-blocking mode.
    ///
    /// The mode belongs to the open file description: if another process or another duplicate
    /// shares it, that one becomes non-blocking too. [`from_shared_fd`](Self::from_shared_fd) avoids
    /// that.
    ///
    /// # Errors
    ///
    /// - `InvalidInput` with [`WrongType`](crate::OpenErrorKind::WrongType): it is no pipe;
    ///   with [`Unsupported`](crate::OpenErrorKind::Unsupported): it is the other end of one.
    /// - There is no Tokio runtime.
    ///
    /// The file is closed in every case.
    pub fn from_file(file: File) -> io::Result<Self> {
        Self::from_owned_fd(file.into())
    }

    /// Takes over an open pipe or FIFO and sets it to non-blocking mode.
    ///
    /// # Errors
    ///
    /// Those of [`from_file`](Self::from_file).
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

    /// Opens a pipe or FIFO once more, for writing through an open file description of our own.
    ///
    /// For a descriptor that others share, such as standard output: it is left as it is, and it stays
    /// in blocking mode for them. (`O_NONBLOCK` lives in the open file description, `open(2)`, which
    /// duplicates and child processes share.) The two descriptions lead to one pipe. As long as the
    /// one passed in is open, its process counts as a writer of that pipe.
    ///
    /// # Errors
    ///
    /// - `InvalidInput` with [`WrongType`](crate::OpenErrorKind::WrongType): it is no pipe;
    ///   with [`Unsupported`](crate::OpenErrorKind::Unsupported): it is the other end of one.
    /// - `ENOENT`: `/proc` is not mounted. `EACCES`: another user made the pipe. `ENXIO`: it is a
    ///   FIFO that no process reads.
    /// - There is no Tokio runtime.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> std::io::Result<()> {
    /// let stdout = aqueduct::pipe::Sender::from_shared_fd(std::io::stdout())?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn from_shared_fd(fd: impl AsFd) -> io::Result<Self> {
        Self::from_owned_fd_unchecked(reopen(&fd, Access::Write)?)
    }

    /// Takes over a file that is known to be a pipe open for writing in non-blocking mode.
    ///
    /// Nothing of that is checked. In blocking mode it would stop its whole runtime thread.
    ///
    /// # Errors
    ///
    /// - `EPERM`: epoll does not take such a file (a regular file, a directory).
    /// - There is no Tokio runtime.
    pub fn from_file_unchecked(file: File) -> io::Result<Self> {
        Self::from_owned_fd_unchecked(file.into())
    }

    /// Takes over a descriptor that is known to be a pipe open for writing in non-blocking mode.
    ///
    /// Nothing of that is checked. In blocking mode it would stop its whole runtime thread.
    ///
    /// # Errors
    ///
    /// Those of [`from_file_unchecked`](Self::from_file_unchecked).
    pub fn from_owned_fd_unchecked(owned_fd: OwnedFd) -> io::Result<Self> {
        let source = Source::new(owned_fd, Interest::WRITABLE)?;
        let log = Log::sender(&source);
        Ok(Self { source, log })
    }

    /// An end that is a part of another one, which logs for both.
    pub(crate) fn within(owned_fd: OwnedFd) -> io::Result<Self> {
        let source = Source::new(owned_fd, Interest::WRITABLE)?;
        let log = Log::silent();
        Ok(Self { source, log })
    }

    /// Waits for any readiness in `interest`.
    ///
    /// It can be wrong, as when another task was quicker: be ready for `WouldBlock` and wait again.
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

    /// Waits until the pipe has room, or the last reader has gone.
    ///
    /// Room is counted in pages: a full pipe has room again only when a whole page of it has been
    /// read. So a write of more than one byte can still say `WouldBlock`: wait again.
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

    /// Writes as much of `buf` as there is room for, and says how much that was.
    ///
    /// # Errors
    ///
    /// - `WouldBlock`: there is no room now.
    /// - `EPIPE`: every reader has gone.
    pub fn try_write(&self, buf: &[u8]) -> io::Result<usize> {
        let written = self
            .source
            .try_io(Interest::WRITABLE, |fd| Ok(nix::unistd::write(fd, buf)?));
        self.log.write(written)
    }

    /// Writes as much of several buffers as there is room for, and says how much that was.
    ///
    /// # Errors
    ///
    /// - `WouldBlock`: there is no room now.
    /// - `EPIPE`: every reader has gone.
    pub fn try_write_vectored(&self, buf: &[IoSlice<'_>]) -> io::Result<usize> {
        let written = self
            .source
            .try_io(Interest::WRITABLE, |fd| write_vectored(fd, buf));
        self.log.write(written)
    }

    /// Runs `f`, a non-blocking operation on this descriptor, if it is known to be writable.
    ///
    /// When `f` returns `WouldBlock` the readiness is cleared: return that only if the descriptor
    /// itself said so.
    ///
    /// # Errors
    ///
    /// `WouldBlock` if it is not writable now, else what `f` returns.
    pub fn try_io<R>(&self, f: impl FnOnce() -> io::Result<R>) -> io::Result<R> {
        self.source.try_io(Interest::WRITABLE, |_| f())
    }

    /// How many bytes the pipe holds, if each of its pages is filled.
    ///
    /// Pages are what is counted: many small writes that do not fit together into pages fill it
    /// sooner, `pipe(7)`.
    ///
    /// # Errors
    ///
    /// What `fcntl(2)` says; nothing is expected.
    pub fn capacity(&self) -> io::Result<usize> {
        capacity(self)
    }

    /// Changes how many bytes the pipe holds, and returns what the kernel has made of that: it
    /// rounds up to a power of two of pages. What is in the pipe stays.
    ///
    /// # Errors
    ///
    /// With the cause and the cure in an [`OpenError`](crate::OpenError) inside the [`io::Error`]:
    ///
    /// - [`LimitReached`](crate::OpenErrorKind::LimitReached) (`EPERM`): it exceeds
    ///   `/proc/sys/fs/pipe-max-size` (1 MiB by default), the limit for an unprivileged process; or
    ///   all pipes of this user together would exceed `pipe-user-pages-soft`: close some.
    /// - `EBUSY`: the pipe holds more than that at present; read first.
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

    /// Gives the descriptor back in blocking mode, as other processes expect it.
    ///
    /// # Errors
    ///
    /// What `fcntl(2)` says; nothing is expected.
    pub fn into_blocking_fd(self) -> io::Result<OwnedFd> {
        let fd = self.into_nonblocking_fd()?;
        fd::set_nonblocking(&fd, false)?;
        Ok(fd)
    }

    /// Gives the descriptor back, still in non-blocking mode.
    ///
    /// # Errors
    ///
    /// None is expected.
    pub fn into_nonblocking_fd(self) -> io::Result<OwnedFd> {
        self.source.into_fd()
    }
}

impl AsyncWrite for Sender {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = self
            .source
            .poll_io(cx, Direction::Write, |fd| Ok(nix::unistd::write(fd, buf)?));
        written.map(|written| self.log.write(written))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = self
            .source
            .poll_io(cx, Direction::Write, |fd| write_vectored(fd, bufs));
        written.map(|written| self.log.write(written))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// Nothing to do: what was written is in the pipe.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// Nothing to do: a pipe is closed by dropping its end.
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
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
