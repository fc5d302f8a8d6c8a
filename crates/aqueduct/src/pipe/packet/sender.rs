//! [`Sender`]: the sending end of a packet pipe.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::pin::Pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_sink::Sink;
use tokio::io::Interest;
use tokio::task::coop::poll_proceed;

use super::super::descriptor::check;
use super::super::log::Log;
use crate::frame::FrameError;
use crate::io::fd::{self, Access};
use crate::io::source::{Direction, Source};

/// The sending end of a packet pipe.
///
/// As a [`Sink`] it sends each item as one message. It holds at most one message that the pipe had
/// no room for, so flush before dropping. [`send`](Self::send) takes `&self`, and any number of
/// tasks may use it at once. (It hides `SinkExt::send`; call that as `SinkExt::send(&mut sender,
/// item)`.)
///
/// # Examples
///
/// ```
/// use aqueduct::bytes::Bytes;
/// use aqueduct::pipe::packet;
/// use futures_util::SinkExt;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> std::io::Result<()> {
/// let (mut sender, receiver) = packet::pipe()?;
/// sender.feed(Bytes::from("one")).await?;
/// sender.feed(Bytes::from("two")).await?;
/// sender.flush().await?;
/// assert_eq!(receiver.recv().await?.as_deref(), Some(&b"one"[..]));
/// # Ok(()) }
/// ```
#[must_use = "a sink sends nothing by itself"]
pub struct Sender {
    source: Source,
    log: Log,
    pending: Pending,
}

impl Sender {
    pub(super) fn new(fd: OwnedFd) -> io::Result<Self> {
        let source = Source::new(fd, Interest::WRITABLE)?;
        let log = Log::sender(&source);
        Ok(Self {
            source,
            log,
            pending: Pending(Mutex::new(None)),
        })
    }

    /// Takes over the writing end of a pipe or FIFO and sets it to packet mode.
    ///
    /// It becomes non-blocking too. Both modes belong to the open file description, so a process
    /// that shares it is affected.
    ///
    /// # Errors
    ///
    /// - `InvalidInput` with [`WrongType`](crate::OpenErrorKind::WrongType): it is not a pipe; with
    ///   [`Unsupported`](crate::OpenErrorKind::Unsupported): it is the other end of one.
    /// - There is no Tokio runtime.
    ///
    /// The descriptor is closed on error.
    pub fn from_owned_fd(owned_fd: OwnedFd) -> io::Result<Self> {
        check(&owned_fd, Access::Write)?;
        fd::set_direct(&owned_fd, true)?;
        fd::set_nonblocking(&owned_fd, true)?;
        Self::new(owned_fd)
    }

    /// Sends one message, waiting for room.
    ///
    /// # Errors
    ///
    /// - `InvalidInput` with [`FrameError::TooLarge`] or [`FrameError::Empty`]: nothing was sent,
    ///   and the sender goes on.
    /// - `EPIPE`: every receiver has closed the pipe.
    /// - The runtime is shutting down.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a dropped future has not sent the message.
    pub async fn send(&self, message: &[u8]) -> io::Result<()> {
        check_size(message)?;
        let write = |fd: BorrowedFd<'_>| self.write_in_turn(fd, message);
        let sent = self.source.io(Interest::WRITABLE, write).await;
        self.log.write(sent)
    }

    /// Sends one message if there is room now.
    ///
    /// # Errors
    ///
    /// - `WouldBlock`: the pipe is full; [`send`](Self::send) waits for room.
    /// - Those of [`send`](Self::send).
    pub fn try_send(&self, message: &[u8]) -> io::Result<()> {
        check_size(message)?;
        let write = |fd: BorrowedFd<'_>| self.write_in_turn(fd, message);
        self.log
            .write(self.source.try_io(Interest::WRITABLE, write))
    }

    /// Writes the sink's pending message, then `message`. If the first fails it stays, for the
    /// sink's own flush to report.
    fn write_in_turn(&self, fd: BorrowedFd<'_>, message: &[u8]) -> io::Result<()> {
        let mut pending = self.pending.lock();
        if let Some(earlier) = pending.as_ref() {
            write(fd, earlier)?;
            *pending = None;
        }
        write(fd, message)
    }

    /// Writes the sink's pending message.
    fn poll_pending(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(message) = self.pending.get_mut().clone() else {
            return Poll::Ready(Ok(()));
        };
        let written = ready!(
            self.source
                .poll_io(cx, Direction::Write, |fd| write(fd, &message))
        );
        // Also when it failed; otherwise every later message would fail with it.
        *self.pending.get_mut() = None;
        Poll::Ready(self.log.write(written))
    }
}

/// # Errors
///
/// As for [`Sender::send`]. A message that cannot be written is dropped when its error is returned;
/// the next one is not affected.
impl Sink<Bytes> for Sender {
    type Error = io::Error;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // A message that is sent at once never waits, so it is counted here.
        let proceed = ready!(poll_proceed(cx));
        ready!(self.poll_pending(cx))?;
        proceed.made_progress();
        Poll::Ready(Ok(()))
    }

    fn start_send(mut self: Pin<&mut Self>, message: Bytes) -> io::Result<()> {
        check_size(&message)?;
        if self.pending.get_mut().is_some() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "start_send without a poll_ready before it",
            ));
        }
        match write(self.as_fd(), &message) {
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                *self.pending.get_mut() = Some(message);
                Ok(())
            }
            result => self.log.write(result),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Pending where `poll_ready` is, also for lack of budget: some callers flush until there is
        // room, and would spin.
        drop(ready!(poll_proceed(cx)));
        self.poll_pending(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_pending(cx)
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

impl std::fmt::Debug for Sender {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("packet::Sender")
            .field("fd", &self.as_fd().as_raw_fd())
            .finish_non_exhaustive()
    }
}

/// A message that the sink has accepted and the pipe had no room for. It is under a lock so that
/// `send` through a shared reference cannot overtake it.
struct Pending(Mutex<Option<Bytes>>);

impl Pending {
    fn lock(&self) -> MutexGuard<'_, Option<Bytes>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn get_mut(&mut self) -> &mut Option<Bytes> {
        self.0.get_mut().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if let Some(message) = self.get_mut() {
            tracing::warn!(
                target: "aqueduct::unsent",
                bytes = message.len(),
                "packet sender dropped with an unsent message; flush or close it first"
            );
        }
    }
}

fn check_size(message: &[u8]) -> Result<(), FrameError> {
    match message.len() {
        0 => Err(FrameError::Empty),
        len if len > MAX_MESSAGE => Err(FrameError::TooLarge {
            len,
            max: MAX_MESSAGE,
        }),
        _ => Ok(()),
    }
}

/// Up to `PIPE_BUF` bytes are written whole or not at all, `pipe(7)`, so the count needs no check.
fn write(fd: BorrowedFd<'_>, message: &[u8]) -> io::Result<()> {
    nix::unistd::write(fd, message)?;
    Ok(())
}

/// The largest message: a larger one would arrive in pieces, `pipe(7)`.
const MAX_MESSAGE: usize = libc::PIPE_BUF;
