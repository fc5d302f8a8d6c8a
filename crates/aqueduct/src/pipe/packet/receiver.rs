//! [`Receiver`]: the receiving end of a packet pipe.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_core::Stream;
use futures_core::stream::FusedStream;
use tokio::io::{Interest, ReadBuf};

use super::super::descriptor::check;
use super::super::log::Log;
use crate::io::fd::{self, Access};
use crate::io::source::{Direction, Source};
use crate::io::sys;

/// The receiving end of a packet pipe.
///
/// As a [`Stream`] it ends when every sender has closed the pipe, or after an error.
/// [`recv`](Self::recv) takes `&self`, and any number of tasks may use it at once: each message
/// goes to one of them.
///
/// The sender decides whether a pipe carries messages. Bytes from a sender that is not in packet
/// mode arrive split at arbitrary places.
///
/// # Examples
///
/// ```
/// use aqueduct::pipe::packet;
/// use futures_util::StreamExt;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> std::io::Result<()> {
/// let (sender, mut receiver) = packet::pipe()?;
/// sender.send(b"one").await?;
/// sender.send(b"two").await?;
/// drop(sender);
/// while let Some(message) = receiver.next().await.transpose()? {
///     println!("{message:?}");
/// }
/// # Ok(()) }
/// ```
#[must_use = "a stream does nothing unless it is polled"]
pub struct Receiver {
    source: Source,
    log: Log,
    ended: bool,
}

impl Receiver {
    pub(super) fn new(fd: OwnedFd) -> io::Result<Self> {
        let source = Source::new(fd, Interest::READABLE)?.looking_again();
        let log = Log::receiver(&source);
        Ok(Self {
            source,
            log,
            ended: false,
        })
    }

    /// Takes over the reading end of a pipe or FIFO whose writers are in packet mode.
    ///
    /// It becomes non-blocking.
    ///
    /// # Errors
    ///
    /// - `InvalidInput` with [`WrongType`](crate::OpenErrorKind::WrongType): it is not a pipe; with
    ///   [`Unsupported`](crate::OpenErrorKind::Unsupported): it is the other end of one.
    /// - There is no Tokio runtime.
    ///
    /// The descriptor is closed on error.
    pub fn from_owned_fd(owned_fd: OwnedFd) -> io::Result<Self> {
        check(&owned_fd, Access::Read)?;
        fd::set_nonblocking(&owned_fd, true)?;
        Self::new(owned_fd)
    }

    /// Waits for one message and receives it.
    ///
    /// `None` means that every sender has closed the pipe.
    ///
    /// # Errors
    ///
    /// The runtime is shutting down.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a dropped future has taken no message.
    pub async fn recv(&self) -> io::Result<Option<Bytes>> {
        let received = self.source.io(Interest::READABLE, read).await;
        self.log.receive(received)
    }

    /// Receives one message if there is one now.
    ///
    /// `None` means that every sender has closed the pipe.
    ///
    /// # Errors
    ///
    /// `WouldBlock`: there is none; [`recv`](Self::recv) waits for one.
    pub fn try_recv(&self) -> io::Result<Option<Bytes>> {
        self.log
            .receive(self.source.try_io(Interest::READABLE, read))
    }
}

impl Stream for Receiver {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let received = ready!(self.source.poll_io(cx, Direction::Read, read));
        let message = self.log.receive(received).transpose();
        self.ended = !matches!(message, Some(Ok(_)));
        Poll::Ready(message)
    }
}

impl FusedStream for Receiver {
    fn is_terminated(&self) -> bool {
        self.ended
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

impl std::fmt::Debug for Receiver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("packet::Receiver")
            .field("fd", &self.as_fd().as_raw_fd())
            .finish_non_exhaustive()
    }
}

fn read(fd: BorrowedFd<'_>) -> io::Result<Option<Bytes>> {
    let mut room = [const { MaybeUninit::uninit() }; LARGEST_PACKET];
    let mut buf = ReadBuf::uninit(&mut room);
    let n = sys::read_buf(fd, &mut buf)?;
    // A copy, so that a small message that is kept pins nothing larger.
    Ok((n > 0).then(|| Bytes::copy_from_slice(buf.filled())))
}

/// Another program's packets can be as large as a page (the kernel splits writes there,
/// `pipe_write()` in `fs/pipe.c`), and a read with less room discards the rest. No page size of
/// Linux on machines that Rust supports is larger than this.
const LARGEST_PACKET: usize = 64 * 1024;
