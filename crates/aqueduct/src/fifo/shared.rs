//! [`SharedSender`]: the sending end, for many writers.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_sink::Sink;
use sync_wrapper::SyncWrapper;
use tokio::io::AsyncWrite;
use tokio_util::codec::Encoder;

use super::TARGET;
use super::name::shown;
use super::sender::{Opening, Sender};
use crate::connect::{OpenError, OpenErrorKind};
use crate::frame::Framing;
use crate::io::sys;

mod lock;
mod room;
mod unsent;

use self::lock::Lock;
use self::room::Room;
use self::unsent::Unsent;

/// The most bytes that one write always takes whole or not at all: pipe(7).
const PIPE_BUF: usize = libc::PIPE_BUF;

/// How many bytes are gathered before they are written without being flushed.
const HIGH_WATER: usize = 64 * 1024;

/// Sends frames into a FIFO that several processes write to at the same time.
///
/// Small frames that wait together share a write of at most 4,096 bytes (`PIPE_BUF`). The kernel
/// puts such a write into the FIFO in one piece or not at all (pipe(7)). So frames of different
/// writers never mix, and a writer that is killed, even by `SIGKILL`, leaves no part of a frame.
/// `feed` many frames, then `flush`; 64 KiB are written without a flush.
///
/// All writers must do so and use the same framing: each with a `SharedSender`, or with plain
/// writes of one frame each within 4,096 bytes. Frames of one writer arrive in order. With
/// [`Framing::raw`] the bytes of one message arrive together, but nothing marks where it ends.
///
/// # Large frames
///
/// If the framing's [`max_frame`](Framing::max_frame) allows frames of more than 4,096 bytes with
/// their header, which it does by default, the sender writes under an advisory lock (flock(2), on
/// the FIFO itself). Small frames take the lock too: a small frame between two parts of a large one
/// would tear it. So **every** writer of the FIFO must allow large frames, or hold the same lock
/// (in a shell script: `exec 3>fifo; flock 3; ...`). With a smaller `max_frame` there is no lock,
/// and larger frames are refused.
///
/// A large frame is also written with one write, once there is room for all of it. The sender
/// enlarges the pipe (`F_SETPIPE_SZ`) up to `/proc/sys/fs/pipe-max-size`, 1 MiB by default. A
/// writer that is killed then leaves all of the frame or nothing. A frame **can** be torn
///
/// - if it is larger than `pipe-max-size`, or the user's quota of pipe pages
///   (`pipe-user-pages-soft`, pipe(7)) does not allow a pipe of that size. Then it is written in
///   parts, and a writer that is killed in between leaves the first part.
/// - by another program that writes without the lock.
///
/// After a torn frame the next frame follows directly. With length framing the receiver takes its
/// first bytes for the missing rest and reads garbage after that, most likely
/// [`FrameError::TooLarge`]. With lines or NUL framing the part and the next frame arrive as one
/// frame, and later frames are whole.
///
/// - A writer keeps the lock while it waits for room, and while a frame is partly written and the
///   sender is not flushed further. All other writers then wait. Dropping the sender releases the
///   lock.
/// - Waiting for the lock or for room takes no thread: both are checked again after a few
///   milliseconds (room that a reader does not make, after 100 ms). Which waiting writer gets the
///   lock next is random. A sender with much to send checks every 256 KiB whether others wait, and
///   lets them go first.
///
/// # Many writers
///
/// A sender that meets other writers at a full FIFO waits in a separate thread, one for all FIFOs of
/// the process, where room wakes one writer instead of all. It wakes the next one when it is flushed
/// and leaves room. If a writer is killed or stopped before it has used its wake-up, the others look
/// for themselves within 50 ms. The thread ends when the sender is dropped, or has met no other
/// writers for some time.
///
/// # Errors
///
/// - [`FrameError::TooLarge`] inside an [`io::Error`], with the size of the message and the largest
///   possible, or another refusal of the framing. Nothing of the frame is kept, and the sender goes
///   on.
/// - `EPIPE`: the last reader has closed the FIFO. Unwritten frames are kept; when a reader has
///   opened it again, the next flush writes them. A large frame of which a part was written
///   continues where it stopped, under the lock that is kept until then; a reader that has not seen
///   its beginning reads garbage. To start over, drop the sender and open another.
/// - With [`ReaderGone::Wait`](super::ReaderGone::Wait): [`TimedOut`](OpenErrorKind::TimedOut).
///   With [`watch_name`](super::OpenOptions::watch_name) as well, a FIFO that was replaced is
///   opened again by its path, and errors of opening are returned.
///
/// # Cancel safety
///
/// As for [`FramedWrite`](crate::frame::FramedWrite): a frame is either in the sink or not at all.
/// If the future that put it there is dropped, a later flush writes it whole.
///
/// # Dropping
///
/// Dropping does not write. Unflushed frames are lost with a `tracing` warning, unless the last
/// write has failed. Call `close` first.
///
/// [`FrameError::TooLarge`]: crate::frame::FrameError::TooLarge
///
/// # Examples
///
/// ```
/// use aqueduct::bytes::Bytes;
/// use aqueduct::fifo::{OpenOptions, SharedSender};
/// use aqueduct::frame::Framing;
/// use futures_util::{SinkExt, StreamExt};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("log");
/// let receiver = OpenOptions::new().create(true).open_receiver(&path)?;
/// let mut lines = receiver.framed(Framing::lines());
///
/// // Lines of at most 4,096 bytes with the newline need no lock.
/// let framing = Framing::lines().max_frame(4095);
/// let mut log = SharedSender::new(OpenOptions::new().open_sender(&path).await?, framing);
/// log.feed(Bytes::from("one")).await?;
/// log.feed(Bytes::from("two")).await?;
/// log.close().await?;
///
/// assert_eq!(lines.next().await.transpose()?, Some(Bytes::from("one")));
/// # Ok(()) }
/// ```
#[must_use = "sinks do nothing unless polled"]
pub struct SharedSender {
    sender: Sender,
    framing: Framing,
    unsent: Unsent,
    high_water: usize,
    /// Only with large frames.
    lock: Option<Lock>,
    room: Room,
    /// The FIFO that replaces a lost one.
    opening: Option<SyncWrapper<Opening>>,
}

impl SharedSender {
    /// Creates a shared sender of frames of any size that `framing` allows.
    ///
    /// It uses the lock if that is more than 4,096 bytes with the header or delimiter.
    pub fn new(sender: Sender, framing: Framing) -> Self {
        let large = framing.on_wire(framing.get_max_frame()) > PIPE_BUF;
        Self {
            unsent: Unsent::new(sender.span().clone()),
            sender,
            framing,
            high_water: HIGH_WATER,
            lock: large.then(Lock::default),
            room: Room::default(),
            opening: None,
        }
    }

    /// Writes whole batches while at least `at_least` bytes wait.
    fn poll_write_batches(
        &mut self,
        cx: &mut Context<'_>,
        at_least: usize,
    ) -> Poll<io::Result<()>> {
        let result = loop {
            if self.opening.is_some() {
                ready!(self.poll_open_again(cx))?;
            }
            match self.poll_write_batch(cx, at_least) {
                Poll::Ready(Ok(true)) => {}
                Poll::Ready(Ok(false)) => break Poll::Ready(Ok(())),
                Poll::Ready(Err(e)) if self.begins_again(&e) => {}
                Poll::Ready(Err(e)) => {
                    self.unsent.failed = true;
                    break Poll::Ready(Err(e));
                }
                Poll::Pending => break Poll::Pending,
            }
        };
        // Kept only for the rest of a frame, or until there is room for one. A sender that still
        // waits for the lock leaves its sign up.
        let is_held = self.lock.as_ref().is_some_and(Lock::is_held);
        let waits = result.is_pending() && (!is_held || self.room.is_waited_for());
        if !self.unsent.is_inside_frame() && !waits {
            self.release();
        }
        result
    }

    /// Writes one batch or a part of it; returns whether there was one to write.
    fn poll_write_batch(
        &mut self,
        cx: &mut Context<'_>,
        at_least: usize,
    ) -> Poll<io::Result<bool>> {
        let begun = self.unsent.is_inside_frame();
        let Some(bytes) = self.unsent.next() else {
            return Poll::Ready(Ok(false));
        };
        if self.unsent.len() < at_least && !begun {
            return Poll::Ready(Ok(false));
        }
        if let Some(lock) = &mut self.lock {
            ready!(lock.poll_acquire(cx, &self.sender))?;
            // Without a reader the write fails or waits for one.
            if bytes.len() > PIPE_BUF && !begun && !self.sender.is_alone()? {
                let Poll::Ready(fits) = self.room.poll(cx, &self.sender, bytes.len())? else {
                    return self.sender.poll_lost(cx).map(Err);
                };
                tracing::trace!(target: TARGET, bytes = bytes.len(), fits, "large frame");
            }
        }
        let n = ready!(Pin::new(&mut self.sender).poll_write(cx, bytes))?;
        if n == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        self.written(n);
        Poll::Ready(Ok(true))
    }

    /// Whether the FIFO was replaced, and the new one is to be opened.
    fn begins_again(&mut self, error: &io::Error) -> bool {
        let replaced = OpenError::of(error).is_some_and(|it| *it.kind() == OpenErrorKind::Replaced);
        let Some(opening) = self.sender.open_again().filter(|_| replaced) else {
            return false;
        };
        // Nobody can open it any more.
        let lost = sys::unread(&self.sender).unwrap_or(0);
        let path = shown(self.sender.path());
        tracing::warn!(target: TARGET, path, lost, "the FIFO was replaced: opening the new one");
        self.release();
        self.unsent.rewind();
        self.opening = Some(SyncWrapper::new(opening));
        true
    }

    fn poll_open_again(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(opening) = &mut self.opening {
            let opened = ready!(opening.get_mut().as_mut().poll(cx));
            self.opening = None;
            self.sender = opened?;
            self.room = Room::default();
        }
        Poll::Ready(Ok(()))
    }

    fn written(&mut self, n: usize) {
        self.unsent.failed = false;
        self.unsent.advance(n);
        if let Some(lock) = &mut self.lock {
            lock.wrote(n, !self.unsent.is_inside_frame(), &self.sender);
        }
    }

    fn release(&mut self) {
        if let Some(lock) = &mut self.lock {
            lock.release(&self.sender);
        }
    }
}

impl Sink<Bytes> for SharedSender {
    type Error = io::Error;

    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.unsent.len() < this.high_water {
            return Poll::Ready(Ok(()));
        }
        this.poll_write_batches(cx, this.high_water)
    }

    fn start_send(self: Pin<&mut Self>, body: Bytes) -> io::Result<()> {
        let this = self.get_mut();
        let before = this.unsent.buf.len();
        // A failed encoding leaves nothing behind.
        Encoder::encode(&mut this.framing, body, &mut this.unsent.buf)?;
        this.unsent.extend_by(this.unsent.buf.len() - before);
        Ok(())
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_write_batches(cx, 0))?;
        Pin::new(&mut this.sender).poll_flush(cx)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_write_batches(cx, 0))?;
        Pin::new(&mut this.sender).poll_shutdown(cx)
    }
}

impl fmt::Debug for SharedSender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedSender")
            .field("sender", &self.sender)
            .field("framing", &self.framing)
            .field("unsent", &self.unsent.len())
            .field("lock", &self.lock)
            .finish_non_exhaustive()
    }
}
