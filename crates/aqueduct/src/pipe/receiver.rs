//! [`Receiver`]: the reading end of a pipe.

use std::fs::File;
use std::io::{self, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::BufMut;
use nix::poll::PollFlags;
use nix::sys::uio::readv;
use tokio::io::{AsyncRead, Interest, ReadBuf, Ready};

use super::descriptor::{MAX_SLICES, capacity, check, reopen, set_capacity};
use super::log::Log;
use crate::io::fd::{self, Access};
use crate::io::source::{Direction, Source};
use crate::io::sys;

/// The reading end of a pipe or FIFO.
///
/// A read of zero bytes is the end of the stream: every writer has closed the pipe. On a FIFO this
/// is not final: when a new writer opens it, reads wait and deliver again.
///
/// Reading through [`AsyncRead`] needs `&mut` and is for one task. [`readable`](Self::readable)
/// with [`try_read`](Self::try_read) takes `&self`, and any number of tasks may wait at once.
///
/// # Cancel safety
///
/// A dropped future has read nothing, except those of `read_exact` and similar methods: they lose
/// the bytes that are already in the caller's buffer.
///
/// # Examples
///
/// ```
/// use tokio::io::{AsyncReadExt, AsyncWriteExt};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> std::io::Result<()> {
/// let (mut sender, mut receiver) = aqueduct::pipe::pipe()?;
/// sender.write_all(b"over and out").await?;
/// drop(sender);
/// let mut text = String::new();
/// receiver.read_to_string(&mut text).await?;
/// assert_eq!(text, "over and out");
/// # Ok(()) }
/// ```
pub struct Receiver {
    source: Source,
    log: Log,
}

impl Receiver {
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
    /// use std::io::Write;
    /// use aqueduct::pipe::Receiver;
    /// use tokio::io::AsyncReadExt;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> std::io::Result<()> {
    /// let (reader, mut writer) = std::io::pipe()?;
    /// let mut receiver = Receiver::from_owned_fd(reader.into())?;
    /// writer.write_all(b"hi")?;
    /// let mut buf = [0; 2];
    /// receiver.read_exact(&mut buf).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn from_owned_fd(owned_fd: OwnedFd) -> io::Result<Self> {
        check(&owned_fd, Access::Read)?;
        fd::set_nonblocking(&owned_fd, true)?;
        Self::from_owned_fd_unchecked(owned_fd)
    }

    /// Opens a pipe or FIFO again for reading, with a separate open file description.
    ///
    /// For a file descriptor that others share, such as standard input: it stays unchanged and in
    /// blocking mode for them. (`O_NONBLOCK` belongs to the open file description, `open(2)`, which
    /// duplicates and child processes share.) Both descriptions lead to one pipe. While the one
    /// passed in is open, its process counts as a reader of that pipe.
    ///
    /// # Errors
    ///
    /// - `InvalidInput` with [`WrongType`](crate::OpenErrorKind::WrongType): it is not a pipe; with
    ///   [`Unsupported`](crate::OpenErrorKind::Unsupported): it is the other end of one.
    /// - `ENOENT`: `/proc` is not mounted. `EACCES`: another user created the pipe.
    /// - There is no Tokio runtime.
    ///
    /// # Examples
    ///
    /// Standard input, if it is a pipe:
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> std::io::Result<()> {
    /// match aqueduct::pipe::Receiver::from_shared_fd(std::io::stdin()) {
    ///     Ok(stdin) => println!("a pipe of {} bytes", stdin.capacity()?),
    ///     Err(error) => println!("{error}"),
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn from_shared_fd(fd: impl AsFd) -> io::Result<Self> {
        let receiver = Self::from_owned_fd_unchecked(reopen(&fd, Access::Read)?)?;
        // A FIFO opened for reading after its last writer has closed it does not report that:
        // fifo_open() in the kernel's fs/pipe.c. The description passed in does.
        if fd::poll_now(fd.as_fd(), PollFlags::empty())?.contains(PollFlags::POLLHUP) {
            receiver.source.assume_closed();
        }
        Ok(receiver)
    }

    /// Takes over a file that is known to be a non-blocking pipe, open for reading.
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

    /// Takes over a known non-blocking pipe descriptor, open for reading.
    ///
    /// Nothing is checked. A descriptor in blocking mode would stop its whole runtime thread.
    ///
    /// # Errors
    ///
    /// As for [`from_file_unchecked`](Self::from_file_unchecked).
    pub fn from_owned_fd_unchecked(owned_fd: OwnedFd) -> io::Result<Self> {
        let source = Source::new(owned_fd, Interest::READABLE)?.looking_again();
        let log = Log::receiver(&source);
        Ok(Self { source, log })
    }

    /// An end that is part of another one, which logs for both.
    pub(crate) fn within(owned_fd: OwnedFd) -> io::Result<Self> {
        let source = Source::new(owned_fd, Interest::READABLE)?.looking_again();
        let log = Log::silent();
        Ok(Self { source, log })
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

    /// Waits until there are bytes to read, or the last writer has closed the pipe.
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
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> std::io::Result<()> {
    /// let (sender, receiver) = aqueduct::pipe::pipe()?;
    /// sender.writable().await?;
    /// sender.try_write(b"hi")?;
    /// drop(sender);
    ///
    /// let mut all = Vec::new();
    /// loop {
    ///     receiver.readable().await?;
    ///     match receiver.try_read_buf(&mut all) {
    ///         Ok(0) => break,
    ///         Ok(_) => {}
    ///         Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => {}
    ///         Err(e) => return Err(e),
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn readable(&self) -> io::Result<()> {
        self.ready(Interest::READABLE).await.map(drop)
    }

    /// Polls for bytes to read. Only the last task that polled is woken.
    ///
    /// # Errors
    ///
    /// The runtime is shutting down.
    pub fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.source.poll_ready(cx, Direction::Read)
    }

    /// Reads available bytes; zero is the end of the stream (or an empty `buf`).
    ///
    /// # Errors
    ///
    /// `WouldBlock`: there is nothing to read now.
    pub fn try_read(&self, buf: &mut [u8]) -> io::Result<usize> {
        let room = buf.len();
        let read = self
            .source
            .try_io(Interest::READABLE, |fd| Ok(nix::unistd::read(fd, buf)?));
        self.log.read(read, room)
    }

    /// Reads available bytes into several buffers, each filled before the next.
    ///
    /// # Errors
    ///
    /// `WouldBlock`: there is nothing to read now.
    pub fn try_read_vectored(&self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        let count = bufs.len().min(MAX_SLICES);
        let room = bufs.iter().map(|buf| buf.len()).sum();
        let read = self
            .source
            .try_io(Interest::READABLE, |fd| Ok(readv(fd, &mut bufs[..count])?));
        self.log.read(read, room)
    }

    /// Reads available bytes into the spare capacity of `buf`, and advances it.
    ///
    /// The spare capacity need not be initialised.
    ///
    /// # Errors
    ///
    /// `WouldBlock`: there is nothing to read now.
    pub fn try_read_buf<B: BufMut>(&self, buf: &mut B) -> io::Result<usize> {
        let room = buf.remaining_mut();
        let read = self
            .source
            .try_io(Interest::READABLE, |fd| sys::read_spare(fd, buf));
        self.log.read(read, room)
    }

    /// Runs `f`, a non-blocking operation on this descriptor, if it is readable.
    ///
    /// When `f` returns `WouldBlock` the readiness is cleared. Return it only if the descriptor
    /// itself did.
    ///
    /// # Errors
    ///
    /// `WouldBlock` if it is not readable now, otherwise the error of `f`.
    pub fn try_io<R>(&self, f: impl FnOnce() -> io::Result<R>) -> io::Result<R> {
        self.source.try_io(Interest::READABLE, |_| f())
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
}

impl AsyncRead for Receiver {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let room = buf.remaining();
        let read = this
            .source
            .poll_io(cx, Direction::Read, |fd| sys::read_buf(fd, buf));
        if buf.remaining() == 0 {
            this.source.expect_more();
        }
        Poll::Ready(this.log.read(ready!(read), room).map(drop))
    }
}

impl TryFrom<OwnedFd> for Receiver {
    type Error = io::Error;

    /// The same as [`Receiver::from_owned_fd`].
    fn try_from(fd: OwnedFd) -> io::Result<Self> {
        Self::from_owned_fd(fd)
    }
}

impl AsFd for Receiver {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.source.as_fd()
    }
}

impl AsRawFd for Receiver {
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}

impl std::fmt::Debug for Receiver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Receiver")
            .field("fd", &self.as_raw_fd())
            .finish_non_exhaustive()
    }
}
