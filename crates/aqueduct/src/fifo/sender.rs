//! [`Sender`]: the sending end, for one writer.

use std::future::Future;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use nix::poll::PollFlags;
use tokio::io::AsyncWrite;
use tracing::Span;

use super::TARGET;
use super::name::Name;
use super::returning::Returning;
use crate::connect::OpenError;
use crate::frame::{FramedWrite, Framing, Pace};
use crate::io::watch::NameWatch;
use crate::io::{fd, sys};
use crate::pipe;

/// Opens the FIFO that has taken the place of a sender's.
pub(super) type Again = Box<dyn Fn() -> Opening + Send + Sync>;
pub(super) type Opening = Pin<Box<dyn Future<Output = Result<Sender, OpenError>> + Send>>;

/// The sending end of a FIFO.
///
/// When the last reader has closed the FIFO, a write fails with `EPIPE` (`BrokenPipe`), waits, or
/// keeps the bytes; see [`ReaderGone`](super::ReaderGone). Written bytes are in the kernel. They
/// are lost if every process closes the FIFO before they are read.
///
/// A write above 4,096 bytes (`PIPE_BUF`, pipe(7)) can be mixed with those of other writers. With
/// several writers, use a [`SharedSender`](super::SharedSender).
///
/// # Errors
///
/// Besides errnos, [`OpenErrorKind::TimedOut`](crate::OpenErrorKind::TimedOut) and
/// [`OpenErrorKind::Replaced`](crate::OpenErrorKind::Replaced), if the options ask for them.
///
/// # Cancel safety
///
/// Dropping a future of `write` has written nothing. `write_all` and similar methods may have
/// written a part.
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
/// # let receiver = OpenOptions::new().create(true).open_receiver(&path)?;
/// let mut lines = Sender::open(&path).await?.framed(Framing::lines());
/// lines.send("hello".into()).await?;
/// lines.close().await?;
/// # let mut receiver = receiver.framed(Framing::lines());
/// # assert_eq!(receiver.next().await.transpose()?.as_deref(), Some(&b"hello"[..]));
/// # Ok(()) }
/// ```
pub struct Sender {
    // First, as `Name` requires.
    name: Name,
    inner: pipe::Sender,
    /// If it waits for the next reader.
    returning: Option<Returning>,
    again: Option<Again>,
    /// If it keeps the FIFO open for reading itself: whether anybody can still read.
    watch: Option<NameWatch>,
    span: Span,
}

impl Sender {
    pub(super) fn path(&self) -> &Path {
        self.name.path()
    }

    pub(super) fn new(name: Name, fd: OwnedFd) -> io::Result<Self> {
        let span = tracing::debug_span!(target: TARGET, "fifo sender", path = ?name.path());
        let inner = pipe::Sender::within(fd)?;
        tracing::debug!(target: TARGET, parent: &span, "opened");
        Ok(Self {
            name,
            inner,
            returning: None,
            again: None,
            watch: None,
            span,
        })
    }

    /// Waits for the next reader when the last has closed the FIFO.
    pub(super) fn waiting(mut self, returning: Returning, again: Again) -> Self {
        self.returning = Some(returning);
        self.again = Some(again);
        self
    }

    /// Watches its name while it waits for room.
    pub(super) fn watching(mut self, watch: Option<NameWatch>) -> Self {
        self.watch = watch;
        self
    }

    /// Opens the FIFO that has taken the place of this one, if this end is to go on then.
    pub(super) fn open_again(&self) -> Option<Opening> {
        self.again.as_ref().map(|again| again())
    }

    /// Sends frames, writing in steps that suit a pipe, for a single writer.
    pub fn framed(self, framing: Framing) -> FramedWrite<Self> {
        FramedWrite::new(self, framing).with_pace(Pace::pipe())
    }

    pub(super) fn span(&self) -> &Span {
        &self.span
    }

    /// Writes by `write`, again each time that the last reader has closed the FIFO and the next has
    /// opened it.
    fn poll_write_by(
        &mut self,
        cx: &mut Context<'_>,
        mut write: impl FnMut(Pin<&mut pipe::Sender>, &mut Context<'_>) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        let mut tried = false;
        loop {
            // Not tried again before there is a reason to.
            if tried || self.is_waiting() {
                ready!(self.poll_return(cx))?;
            }
            let Poll::Ready(result) = write(Pin::new(&mut self.inner), cx) else {
                // Full, if there is a reader: it is no longer waited for.
                if self.is_waiting() && !self.is_alone()? {
                    self.is_back();
                }
                return self.poll_lost(cx).map(Err);
            };
            self.note(&result);
            let gone = matches!(&result, Err(e) if e.kind() == io::ErrorKind::BrokenPipe);
            if !gone || self.returning.is_none() {
                self.is_back();
                return Poll::Ready(result);
            }
            tried = true;
        }
    }

    /// Waits for room, or until the path no longer names this FIFO, if that is watched. Then nobody
    /// else can open it for reading.
    pub(super) fn poll_lost(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        let Some(watch) = &mut self.watch else {
            return Poll::Pending;
        };
        Poll::Ready(match ready!(self.name.poll_lost(cx, watch, &self.inner)) {
            Ok(()) => self.name.lost("send to fifo"),
            Err(error) => error,
        })
    }

    fn is_waiting(&self) -> bool {
        self.returning.as_ref().is_some_and(Returning::is_waiting)
    }

    fn is_back(&mut self) {
        if let Some(returning) = &mut self.returning {
            returning.is_back();
        }
    }

    fn poll_return(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.returning {
            Some(returning) => returning.poll(cx, self.inner.as_fd(), &self.name),
            None => Poll::Ready(Ok(())),
        }
    }

    /// Whether bytes were written that nobody has read, and there is no reader.
    fn is_abandoned(&self) -> io::Result<bool> {
        Ok(self.is_alone()? && sys::unread(self)? > 0)
    }

    /// Whether nobody has it open for reading.
    pub(super) fn is_alone(&self) -> io::Result<bool> {
        let state = fd::poll_now(self.as_fd(), PollFlags::empty())?;
        Ok(state.contains(PollFlags::POLLERR))
    }

    fn note<T>(&self, result: &io::Result<T>) {
        match result {
            Err(e) if e.kind() == io::ErrorKind::BrokenPipe => {
                if !self.is_waiting() {
                    tracing::debug!(target: TARGET, parent: &self.span, "the last reader has gone");
                }
            }
            Err(error) => {
                tracing::debug!(target: TARGET, parent: &self.span, %error, "write failed");
            }
            Ok(_) => {}
        }
    }
}

impl AsyncWrite for Sender {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let write = |inner: Pin<&mut pipe::Sender>, cx: &mut Context<'_>| inner.poll_write(cx, buf);
        self.get_mut().poll_write_by(cx, write)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let write = |inner: Pin<&mut pipe::Sender>, cx: &mut Context<'_>| {
            inner.poll_write_vectored(cx, bufs)
        };
        self.get_mut().poll_write_by(cx, write)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.returning.is_some() {
            while this.is_abandoned()? {
                ready!(this.poll_return(cx))?;
            }
            this.is_back();
        }
        Pin::new(&mut this.inner).poll_shutdown(cx)
    }
}

impl std::fmt::Debug for Sender {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sender")
            .field("path", &self.name.path())
            .field("fd", &self.inner.as_raw_fd())
            .field("returning", &self.returning)
            .finish_non_exhaustive()
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        tracing::debug!(target: TARGET, parent: &self.span, "closed");
    }
}

impl AsFd for Sender {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inner.as_fd()
    }
}

impl AsRawFd for Sender {
    fn as_raw_fd(&self) -> RawFd {
        self.inner.as_raw_fd()
    }
}
