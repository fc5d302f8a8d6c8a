use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use nix::poll::PollFlags;
use tokio::io::{AsyncRead, ReadBuf};

use super::error::Error;
use super::log::Log;
use super::name::{Name, PathState};
use super::{OpenOptions, TARGET};
use crate::frame::{FramedRead, Framing, Pace};
use crate::io::fd::{self, Access};
use crate::pipe;

/// The receiving end of a FIFO.
///
/// # End of stream
///
/// A read of 0 bytes says that the last writer has gone, and everything that was written has been
/// read. It does not come before there has been a writer. It is not final: once another writer has
/// come, reading waits and delivers again. Writers that follow one another without a gap, or
/// faster than this end reads, look like one.
///
/// A [`persistent`](OpenOptions::persistent) receiver opens the FIFO for writing too (`O_RDWR`, see
/// fifo(7)), and so is itself a writer that stays:
///
/// - Its stream never ends, nor does that of any other reader of the FIFO while it lives.
/// - It never learns that a writer has gone. Where that matters, send a last message that says so.
/// - It needs permission to write to the FIFO as well.
///
/// A writer that is killed in the middle of a frame leaves the first part of it behind, and the
/// next writer's bytes follow right after. Frames that are written by one write of at most 4096
/// bytes are whole or not there at all; a [`SharedSender`](super::SharedSender) sees to that.
///
/// # Cancel safety
///
/// Dropping a future of `read` loses nothing: bytes that it has not returned are still in the FIFO.
/// `read_exact` and its like keep what they have read in the caller's buffer alone.
#[derive(Debug)]
pub struct Receiver {
    // First, as `Name` asks.
    name: Name,
    inner: pipe::Receiver,
    persistent: bool,
    log: Log,
}

impl Receiver {
    pub(super) fn new(name: Name, fd: OwnedFd, persistent: bool) -> Result<Self, Error> {
        let span = tracing::debug_span!(target: TARGET, "fifo receiver", path = ?name.path());
        match pipe::Receiver::within(fd) {
            Ok(inner) => {
                tracing::debug!(target: TARGET, parent: &span, persistent, "opened");
                Ok(Self {
                    name,
                    inner,
                    persistent,
                    log: Log(span),
                })
            }
            Err(source) => Err(Error::Register {
                path: name.path().to_owned(),
                source,
            }),
        }
    }

    /// Opens a FIFO that is there, with the settings of [`OpenOptions::new`].
    ///
    /// # Errors
    ///
    /// See [`OpenOptions::open_receiver`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Error> {
        OpenOptions::new().open_receiver(path)
    }

    /// The path it was opened by.
    pub fn path(&self) -> &Path {
        self.name.path()
    }

    /// Whether it outlives its writers.
    pub fn is_persistent(&self) -> bool {
        self.persistent
    }

    /// Whether no writer has it open: then what is in it is lost if this end does not read it. One
    /// that was persistent is no more, so that it does not count as a writer itself.
    pub(crate) fn is_last(&mut self) -> bool {
        if self.persistent
            && let Ok(fd) = fd::reopen(&*self, Access::Read)
            && let Ok(inner) = pipe::Receiver::within(fd)
        {
            self.inner = inner;
            self.persistent = false;
        }
        let hung_up = fd::poll_now(self.as_fd(), PollFlags::empty());
        hung_up.is_ok_and(|it| it.contains(PollFlags::POLLHUP))
    }

    /// What the path names now. If it is not this FIFO, writers that come will not meet this end.
    ///
    /// # Errors
    ///
    /// What stat(2) reports, except that there is nothing: that is [`PathState::Missing`].
    pub fn path_state(&self) -> io::Result<PathState> {
        self.name.state(self)
    }

    /// Waits until the path no longer names this FIFO, and says what became of it.
    ///
    /// For a service whose receiver is [persistent](Self::is_persistent): it would otherwise wait
    /// for ever on a FIFO that nobody can find any more. It is noticed at once by inotify(7), or
    /// within a second where no event tells of it (a directory above was renamed). It needs a
    /// runtime with Tokio's timer enabled.
    ///
    /// # Errors
    ///
    /// Those of [`path_state`](Self::path_state).
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: nothing is consumed.
    ///
    /// # Examples
    ///
    /// ```
    /// use aqueduct::fifo::{OpenOptions, PathState};
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("jobs");
    /// let receiver = OpenOptions::new().create(true).persistent(true).open_receiver(&path)?;
    /// std::fs::remove_file(&path)?;
    /// assert_eq!(receiver.orphaned().await?, PathState::Missing);
    /// # Ok(()) }
    /// ```
    pub async fn orphaned(&self) -> io::Result<PathState> {
        self.name.lost(self).await
    }

    /// Cuts the stream into frames, reading in steps that suit a pipe
    /// (8 KiB).
    pub fn framed(self, framing: Framing) -> FramedRead<Self> {
        FramedRead::new(self, framing).with_pace(Pace::pipe())
    }

    /// The end underneath, with all that it can do.
    pub fn get_ref(&self) -> &pipe::Receiver {
        &self.inner
    }

    /// The end underneath, with all that it can do.
    pub fn get_mut(&mut self) -> &mut pipe::Receiver {
        &mut self.inner
    }

    /// Gives up the path: the FIFO stays there, even with `unlink_on_drop`.
    pub fn into_inner(self) -> pipe::Receiver {
        let Self {
            mut name, inner, ..
        } = self;
        name.set_unlink(false);
        inner
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
        let result = ready!(Pin::new(&mut this.inner).poll_read(cx, buf));
        match &result {
            Ok(()) if buf.filled().len() == before && buf.remaining() > 0 => {
                tracing::debug!(target: TARGET, parent: &*this.log, "end of stream: the last writer has gone");
            }
            Ok(()) => {}
            Err(error) => {
                tracing::debug!(target: TARGET, parent: &*this.log, %error, "read failed");
            }
        }
        Poll::Ready(result)
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
