use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use futures_sink::Sink;
use tokio::io::AsyncWrite;
use tokio_util::codec::Encoder;
use tracing::Span;

use super::{Sender, TARGET};
use crate::frame::Framing;

mod lock;

use self::lock::Lock;

/// The most bytes that one write puts into a FIFO without a gap: 4096; see pipe(7).
pub const PIPE_BUF: usize = libc::PIPE_BUF;

/// How many bytes a [`SharedSender`] gathers before it writes without being flushed: 64 KiB.
pub const DEFAULT_HIGH_WATER: usize = 64 * 1024;

/// A [`Sink`] of frames into a FIFO that other processes write to at the same time.
///
/// Each write(2) holds whole frames and is at most [`PIPE_BUF`] bytes long. The kernel puts such a
/// write into the FIFO in one piece or not at all (pipe(7)), so frames of different writers never
/// mix, and a writer that is killed, even by `SIGKILL`, leaves no part of a frame. Small frames
/// that wait together share a write: `feed` many, then `flush`.
///
/// All writers must do so, and use the same framing: each with a `SharedSender`, or with plain
/// writes of one frame each, within the limit. Frames of one writer arrive in order. With
/// [`Framing::raw`] the bytes of one message arrive together, but nothing tells where it ends.
///
/// # Large frames
///
/// A frame that takes more than [`PIPE_BUF`] bytes with its header is refused, unless the sender is
/// made by [`with_large_frames`](Self::with_large_frames). Then it holds an advisory lock (flock(2),
/// on the FIFO itself) for as long as it writes a frame, a small one too: a small frame that another
/// writer puts between two parts of a large one would tear it. So **every** writer of the FIFO
/// must be made so, or hold the same lock (in a shell script: `exec 3>fifo; flock 3; ...`).
///
/// - A writer that is killed inside a large frame leaves the first part of it. The kernel releases
///   its lock, and the next writer's frames follow right after that part. With length framing
///   the receiver takes as many of their bytes as are missing for the rest of the large frame, and
///   what it reads next is garbage: most likely [`FrameError::TooLarge`], and the end of its
///   stream. With lines or NUL framing the part and the next frame arrive as one frame, and the
///   rest is whole. Small frames are never torn, and cost nothing when their writer is killed.
/// - A writer that stops inside a large frame, because the FIFO is full and nobody reads or because
///   its task does not flush it any more, keeps the lock, and all other writers wait. Dropping the
///   sender releases it, with the same effect as if it had been killed.
/// - Waiting for the lock takes no thread: it is tried again after 1 to 8 ms. Who gets it next is
///   chance, not order; a sender that has much to send looks every 256 KiB whether others wait, and
///   leaves it to them.
///
/// # Errors
///
/// - [`FrameError::TooLarge`] inside an [`io::Error`], with the size of the message and the largest
///   that fits; and whatever else the framing refuses. Nothing of the frame is kept, and the sender
///   goes on.
/// - `EPIPE`: the last reader has gone. The frames that were not written yet are kept; when a reader
///   has come again, the next flush writes them. A large frame of which a part was written goes on
///   where it stopped, under the lock that is kept until then; a reader that has not seen its
///   beginning takes the rest for garbage. To begin anew, drop the sender and open another.
///
/// # Cancel safety
///
/// As for [`FramedWrite`](crate::frame::FramedWrite): a frame is either in the sink or not at all, and
/// goes out whole with a later flush if the future that put it there is dropped.
///
/// # Dropping it
///
/// Drop does not write. What was not flushed is lost, and said so in a `tracing` warning, unless the
/// last write has failed: call `close` first.
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
/// let sender = OpenOptions::new().open_sender(&path).await?;
/// let mut log = SharedSender::new(sender, Framing::lines());
/// log.feed(Bytes::from("one")).await?;
/// log.feed(Bytes::from("two")).await?;
/// log.close().await?;
///
/// assert_eq!(lines.next().await.transpose()?, Some(Bytes::from("one")));
/// # Ok(()) }
/// ```
#[derive(Debug)]
#[must_use = "sinks do nothing unless polled"]
pub struct SharedSender {
    sender: Sender,
    framing: Framing,
    unsent: Unsent,
    high_water: usize,
    /// Only with large frames.
    lock: Option<Lock>,
}

impl SharedSender {
    /// Sends frames of at most [`PIPE_BUF`] bytes, header or delimiter included.
    ///
    /// A smaller limit of `framing` stays as it is.
    pub fn new(sender: Sender, framing: Framing) -> Self {
        let fits = PIPE_BUF - framing.overhead();
        let limit = framing.get_max_frame().min(fits);
        Self::with_parts(sender, framing.max_frame(limit), None)
    }

    /// Sends frames of any size that `framing` allows, under a lock that every writer must take.
    pub fn with_large_frames(sender: Sender, framing: Framing) -> Self {
        Self::with_parts(sender, framing, Some(Lock::default()))
    }

    fn with_parts(sender: Sender, framing: Framing, lock: Option<Lock>) -> Self {
        let unsent = Unsent::new(sender.span().clone());
        Self {
            sender,
            framing,
            unsent,
            high_water: DEFAULT_HIGH_WATER,
            lock,
        }
    }

    /// Sets how many bytes are gathered before they are written without a flush.
    pub fn with_high_water(mut self, bytes: usize) -> Self {
        self.high_water = bytes;
        self
    }

    /// The largest message that can be sent, in bytes without header or delimiter.
    pub fn max_frame(&self) -> usize {
        self.framing.get_max_frame()
    }

    /// How many bytes wait to be written.
    pub fn unsent(&self) -> usize {
        self.unsent.buf.len()
    }

    /// The path it was opened by.
    pub fn path(&self) -> &Path {
        self.sender.path()
    }

    /// The end underneath.
    pub fn get_ref(&self) -> &Sender {
        &self.sender
    }

    /// The end underneath and the bytes that wait to be written. The lock is given back.
    pub fn into_parts(mut self) -> (Sender, BytesMut) {
        self.release();
        let bytes = std::mem::take(&mut self.unsent.buf);
        (self.sender, bytes)
    }

    /// Writes whole batches while at least `at_least` bytes wait.
    fn poll_write_batches(
        &mut self,
        cx: &mut Context<'_>,
        at_least: usize,
    ) -> Poll<io::Result<()>> {
        let result = loop {
            let Some(batch) = self.unsent.batches.front() else {
                break Poll::Ready(Ok(()));
            };
            if self.unsent.buf.len() < at_least && !batch.begun {
                break Poll::Ready(Ok(()));
            }
            if let Some(lock) = &mut self.lock {
                ready!(lock.poll_acquire(cx, &self.sender))?;
            }
            let bytes = &self.unsent.buf[..batch.left];
            match Pin::new(&mut self.sender).poll_write(cx, bytes) {
                Poll::Ready(Ok(0)) => break Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(n)) => self.written(n),
                Poll::Ready(Err(e)) => {
                    self.unsent.failed = true;
                    break Poll::Ready(Err(e));
                }
                Poll::Pending => break Poll::Pending,
            }
        };
        // Kept only for the rest of a frame.
        if !self.unsent.is_inside_frame() {
            self.release();
        }
        result
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
        if this.unsent.buf.len() < this.high_water {
            return Poll::Ready(Ok(()));
        }
        this.poll_write_batches(cx, this.high_water)
    }

    fn start_send(self: Pin<&mut Self>, body: Bytes) -> io::Result<()> {
        let this = self.get_mut();
        let before = this.unsent.buf.len();
        // It leaves nothing behind when it fails.
        Encoder::encode(&mut this.framing, body, &mut this.unsent.buf)?;
        this.unsent.extend_by(this.unsent.buf.len() - before);
        Ok(())
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().poll_write_batches(cx, 0)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_write_batches(cx, 0))?;
        Pin::new(&mut this.sender).poll_shutdown(cx)
    }
}

/// Encoded frames, and where the writes that will carry them begin and end.
#[derive(Debug)]
struct Unsent {
    buf: BytesMut,
    batches: VecDeque<Batch>,
    /// The last write has failed, and its error has told what there is to know.
    failed: bool,
    span: Span,
}

/// What one write carries: frames of together at most [`PIPE_BUF`] bytes, or one larger frame.
#[derive(Debug)]
struct Batch {
    left: usize,
    frames: usize,
    /// Whether a part is written. A batch within [`PIPE_BUF`] is written whole or not at all.
    begun: bool,
}

impl Unsent {
    fn new(span: Span) -> Self {
        Self {
            buf: BytesMut::new(),
            batches: VecDeque::new(),
            failed: false,
            span,
        }
    }

    /// Counts a frame of `len` bytes that was appended to the buffer.
    fn extend_by(&mut self, len: usize) {
        match self.batches.back_mut() {
            _ if len == 0 => {}
            Some(last) if !last.begun && last.left + len <= PIPE_BUF => {
                last.left += len;
                last.frames += 1;
            }
            _ => self.batches.push_back(Batch {
                left: len,
                frames: 1,
                begun: false,
            }),
        }
    }

    fn advance(&mut self, n: usize) {
        self.buf.advance(n);
        if let Some(batch) = self.batches.front_mut() {
            batch.left -= n;
            batch.begun = true;
            if batch.left == 0 {
                self.batches.pop_front();
            }
        }
    }

    fn is_inside_frame(&self) -> bool {
        self.batches.front().is_some_and(|it| it.begun)
    }
}

impl Drop for Unsent {
    fn drop(&mut self) {
        if !self.buf.is_empty() && !self.failed {
            tracing::warn!(
                target: TARGET,
                parent: &self.span,
                bytes = self.buf.len(),
                frames = self.batches.iter().map(|it| it.frames).sum::<usize>(),
                torn = self.is_inside_frame(),
                "dropped with unsent data: flush or close before drop"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batches_of(frames: &[usize]) -> Vec<usize> {
        let mut unsent = Unsent::new(Span::none());
        for len in frames {
            unsent.extend_by(*len);
        }
        unsent.batches.iter().map(|it| it.left).collect()
    }

    #[test]
    fn a_batch_holds_whole_frames_within_the_limit() {
        assert_eq!(batches_of(&[100, 0, 200]), [300]);
        assert_eq!(batches_of(&[4000, 96, 1]), [4096, 1]);
        assert_eq!(batches_of(&[4000, 97]), [4000, 97]);
        assert_eq!(batches_of(&[4096, 4096]), [4096, 4096]);
        assert_eq!(batches_of(&[10, 5000, 10, 10]), [10, 5000, 20]);
    }

    #[test]
    fn what_is_partly_written_is_never_extended() {
        let mut unsent = Unsent::new(Span::none());
        unsent.buf.extend_from_slice(&[0; 5000]);
        unsent.extend_by(5000);
        unsent.advance(4900);
        assert!(unsent.is_inside_frame());
        unsent.buf.extend_from_slice(&[0; 10]);
        unsent.extend_by(10);
        assert_eq!(unsent.batches.len(), 2);
        unsent.advance(100);
        assert!(!unsent.is_inside_frame());
        unsent.advance(10);
        assert!(unsent.batches.is_empty() && unsent.buf.is_empty());
    }
}
