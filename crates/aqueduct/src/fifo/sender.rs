use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use nix::poll::PollFlags;
use tokio::io::AsyncWrite;
use tracing::Span;

use super::error::Error;
use super::log::Log;
use super::name::{Name, PathState};
use super::returning::Returning;
use super::{OpenOptions, TARGET};
use crate::frame::{FramedWrite, Framing, Pace};
use crate::io::{fd, sys};
use crate::pipe;

/// The sending end of a FIFO.
///
/// When the last reader has gone a write fails with `EPIPE` (`BrokenPipe`), or the bytes are kept:
/// see [`ReaderGone`](super::ReaderGone). What is written is in the kernel's hands; it is lost if
/// every process closes the FIFO before it is read.
///
/// A write above 4096 bytes (`PIPE_BUF`, pipe(7)) can be mixed with those of other writers. If there
/// are any, use a [`SharedSender`](super::SharedSender).
///
/// # Cancel safety
///
/// Dropping a future of `write` has written nothing. `write_all` and its like may have written a
/// part.
#[derive(Debug)]
pub struct Sender {
    // First, as `Name` asks.
    name: Name,
    inner: pipe::Sender,
    returning: Option<Returning>,
    log: Log,
}

impl Sender {
    pub(super) fn new(
        name: Name,
        fd: OwnedFd,
        returning: Option<Returning>,
    ) -> Result<Self, Error> {
        let span = tracing::debug_span!(target: TARGET, "fifo sender", path = ?name.path());
        match pipe::Sender::within(fd) {
            Ok(inner) => {
                tracing::debug!(target: TARGET, parent: &span, "opened");
                let log = Log(span);
                Ok(Self {
                    name,
                    inner,
                    returning,
                    log,
                })
            }
            Err(source) => Err(Error::Register {
                path: name.path().to_owned(),
                source,
            }),
        }
    }

    /// Opens a FIFO that is there as soon as it has a reader, with the settings of
    /// [`OpenOptions::new`].
    ///
    /// # Errors
    ///
    /// See [`OpenOptions::open_sender`].
    ///
    /// # Cancel safety
    ///
    /// See [`OpenOptions::open_sender`].
    pub async fn open(path: impl AsRef<Path>) -> Result<Self, Error> {
        OpenOptions::new().open_sender(path).await
    }

    /// The path it was opened by.
    pub fn path(&self) -> &Path {
        self.name.path()
    }

    /// What the path names now. If it is not this FIFO, readers that come will not meet this end.
    ///
    /// # Errors
    ///
    /// What stat(2) reports, except that there is nothing: that is [`PathState::Missing`].
    pub fn path_state(&self) -> io::Result<PathState> {
        self.name.state(self)
    }

    /// Waits until the path no longer names this FIFO, and says what became of it.
    ///
    /// It is noticed at once by inotify(7), or within a second where no event tells of it. It needs
    /// a runtime with Tokio's timer enabled.
    ///
    /// # Errors
    ///
    /// Those of [`path_state`](Self::path_state).
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: nothing is consumed.
    pub async fn orphaned(&self) -> io::Result<PathState> {
        self.name.lost(self).await
    }

    /// Sends frames, writing in steps that suit a pipe
    /// (8 KiB). For a FIFO with one writer.
    pub fn framed(self, framing: Framing) -> FramedWrite<Self> {
        FramedWrite::new(self, framing).with_pace(Pace::pipe())
    }

    /// The end underneath, with all that it can do.
    pub fn get_ref(&self) -> &pipe::Sender {
        &self.inner
    }

    /// The end underneath, with all that it can do.
    pub fn get_mut(&mut self) -> &mut pipe::Sender {
        &mut self.inner
    }

    /// Gives up the path: the FIFO stays there, even with `unlink_on_drop`.
    pub fn into_inner(self) -> pipe::Sender {
        let Self {
            mut name, inner, ..
        } = self;
        name.set_unlink(false);
        inner
    }

    pub(super) fn span(&self) -> &Span {
        &self.log
    }

    /// Writes by `write`, as often as the last reader has gone and another one is waited for.
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
                // Full, if there is a reader: it is not waited for any more.
                if self.is_waiting() && !self.is_alone()? {
                    self.is_back();
                }
                return Poll::Pending;
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
            Some(returning) => returning.poll(cx, self.inner.as_fd(), self.name.path()),
            None => Poll::Ready(Ok(())),
        }
    }

    /// Whether something was written that nobody has read, and nobody is there to read it.
    fn is_abandoned(&self) -> io::Result<bool> {
        Ok(self.is_alone()? && sys::unread(self)? > 0)
    }

    /// Whether nobody has it open for reading.
    fn is_alone(&self) -> io::Result<bool> {
        let state = fd::poll_now(self.as_fd(), PollFlags::empty())?;
        Ok(state.contains(PollFlags::POLLERR))
    }

    fn note<T>(&self, result: &io::Result<T>) {
        match result {
            Err(e) if e.kind() == io::ErrorKind::BrokenPipe => {
                if !self.is_waiting() {
                    tracing::debug!(target: TARGET, parent: &*self.log, "the last reader has gone");
                }
            }
            Err(error) => {
                tracing::debug!(target: TARGET, parent: &*self.log, %error, "write failed");
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
