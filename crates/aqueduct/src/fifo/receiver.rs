//! [`Receiver`]: the receiving end.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use nix::errno::Errno;
use nix::poll::PollFlags;
use tokio::io::{AsyncRead, ReadBuf};
use tracing::Span;

use super::TARGET;
use super::name::Name;
use super::sole::Sole;
use crate::frame::{FramedRead, Framing, Pace};
use crate::io::fd::{self, Access};
use crate::io::watch::NameWatch;
use crate::pipe;

/// The receiving end of a FIFO.
///
/// # End of stream
///
/// A read of 0 bytes means that the last writer has closed the FIFO and every byte has been read.
/// It does not happen before there has been a writer. It is not final: once another writer has
/// opened the FIFO, reading waits and delivers again. Writers that follow one another without a
/// gap, or faster than this end reads, look like one.
///
/// A [`persistent`](super::OpenOptions::persist) receiver opens the FIFO for writing too
/// (`O_RDWR`, see fifo(7)), so it counts as a writer itself:
///
/// - Its stream never ends, nor does that of any other reader of the FIFO while it lives.
/// - It never notices that a writer has closed the FIFO. If that matters, send a last message that
///   says so.
/// - It needs permission to write to the FIFO as well.
///
/// A writer that is killed inside a frame leaves the first part of it, and the next writer's bytes
/// follow directly. A [`SharedSender`](super::SharedSender) writes each frame with one write
/// wherever it can, so a killed one leaves all of it or nothing.
///
/// # Errors
///
/// [`OpenErrorKind::Replaced`](crate::OpenErrorKind::Replaced), with
/// [`watch_name`](super::OpenOptions::watch_name).
///
/// # Cancel safety
///
/// Dropping a future of `read` loses nothing: bytes that it has not returned are still in the FIFO.
/// `read_exact` and similar methods keep bytes that they have read only in the caller's buffer.
///
/// # Examples
///
/// ```
/// use aqueduct::fifo::{OpenOptions, Sender};
/// use aqueduct::frame::Framing;
/// use futures_util::{SinkExt, StreamExt};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("lines");
/// let receiver = OpenOptions::new().create(true).open_receiver(&path)?;
/// let mut lines = receiver.framed(Framing::lines());
/// # let mut sender = Sender::open(&path).await?.framed(Framing::lines());
/// # sender.send("hello".into()).await?;
/// # drop(sender);
/// while let Some(line) = lines.next().await.transpose()? {
///     println!("{line:?}");
/// }
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Receiver {
    // First, as `Name` requires.
    name: Name,
    inner: pipe::Receiver,
    /// Keeps other receivers away, if the options ask for it.
    sole: Option<Sole>,
    persistent: bool,
    /// Until the path names another file, if that is watched.
    watch: Option<NameWatch>,
    /// Set when the path names another file, instead of an error.
    lost: Option<Arc<AtomicBool>>,
    span: Span,
}

impl Receiver {
    pub(super) fn new(
        name: Name,
        fd: OwnedFd,
        persistent: bool,
        watch: Option<NameWatch>,
    ) -> io::Result<Self> {
        let span = tracing::debug_span!(target: TARGET, "fifo receiver", path = ?name.path());
        let inner = pipe::Receiver::within(fd)?;
        tracing::debug!(target: TARGET, parent: &span, persistent, "opened");
        Ok(Self {
            name,
            inner,
            sole: None,
            persistent,
            watch,
            lost: None,
            span,
        })
    }

    /// Holds the sign that there is this receiver.
    pub(super) fn holding(mut self, sole: Option<Sole>) -> Self {
        self.sole = sole;
        self
    }

    /// Splits the stream into frames, reading in steps that suit a pipe.
    pub fn framed(self, framing: Framing) -> FramedRead<Self> {
        FramedRead::new(self, framing).with_pace(Pace::pipe())
    }

    /// Whether no writer has it open: then unread bytes are lost if this end does not read them. A
    /// persistent end stops being a writer itself.
    pub(super) fn is_last(&mut self) -> bool {
        self.leave_the_writers();
        let hung_up = fd::poll_now(self.as_fd(), PollFlags::empty());
        hung_up.is_ok_and(|it| it.contains(PollFlags::POLLHUP))
    }

    /// From now on a path that names another file sets the flag and is not an error: the end goes
    /// on for the writers that remain, and its stream ends with the last of them.
    pub(super) fn outlive_its_name(&mut self) -> Arc<AtomicBool> {
        let flag = Arc::default();
        self.lost = Some(Arc::clone(&flag));
        flag
    }

    fn leave_the_writers(&mut self) {
        if self.persistent
            && let Ok(fd) = fd::reopen(&self.inner, Access::Read)
            && let Ok(inner) = pipe::Receiver::within(fd)
        {
            self.inner = inner;
            self.persistent = false;
        }
    }

    /// Whether there is anything to read now, the end of the stream included, once the path names
    /// another file; then it is in `buf`.
    fn poll_lost(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Some(watch) = &mut self.watch else {
            return Poll::Pending;
        };
        ready!(self.name.poll_lost(cx, watch, &self.inner))?;
        self.watch = None;
        let was_persistent = self.persistent;
        self.leave_the_writers();
        if let Some(lost) = &self.lost {
            lost.store(true, Ordering::Release);
            tracing::debug!(target: TARGET, parent: &self.span, "the path names another file");
        } else if was_persistent {
            return Poll::Ready(Err(self.name.lost("receive from fifo")));
        }
        // Unlike readiness, a read distinguishes a FIFO that never had a writer from one that has
        // one.
        let mut byte = [0];
        match nix::unistd::read(&self.inner, &mut byte) {
            Ok(0) if self.lost.is_some() => Poll::Ready(Ok(())),
            Ok(0) => Poll::Ready(Err(self.name.lost("receive from fifo"))),
            Ok(_) => {
                buf.put_slice(&byte);
                Poll::Ready(Ok(()))
            }
            // A writer has it open: the stream goes on, and ends with it.
            Err(Errno::EAGAIN | Errno::EINTR) => Pin::new(&mut self.inner).poll_read(cx, buf),
            Err(e) => Poll::Ready(Err(e.into())),
        }
    }
}

impl AsyncRead for Receiver {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        let result = match Pin::new(&mut this.inner).poll_read(cx, buf) {
            Poll::Ready(result) => result,
            Poll::Pending => ready!(this.poll_lost(cx, buf)),
        };
        match &result {
            Ok(()) if buf.filled().len() == before && buf.remaining() > 0 => {
                tracing::debug!(target: TARGET, parent: &this.span, "end of stream: the last writer has gone");
            }
            Ok(()) => {}
            Err(error) => {
                tracing::debug!(target: TARGET, parent: &this.span, %error, "read failed");
            }
        }
        Poll::Ready(result)
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        tracing::debug!(target: TARGET, parent: &self.span, "closed");
    }
}

impl AsFd for Receiver {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inner.as_fd()
    }
}

impl AsRawFd for Receiver {
    fn as_raw_fd(&self) -> RawFd {
        self.inner.as_raw_fd()
    }
}
