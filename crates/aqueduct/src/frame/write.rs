//! [`FramedWrite`]: a sink of frames.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use futures_sink::Sink;
use tokio::io::AsyncWrite;

use super::encode::{FrameEncoder, NotQueued, Start, WriteError};
use super::framing::Framing;
use super::pace::Pace;
use super::slabs::COPY_BELOW;
use super::user_codec::UserCodec;
use super::write_buf::{Mark, WriteBuf};

/// A [`Sink`] of frames onto an [`AsyncWrite`].
///
/// Frames are gathered until [`flush`](futures_util::SinkExt::flush), or until more than one chunk
/// of them waits. To move many frames with one system call, `feed` them and `flush` once.
///
/// # Errors
///
/// - An error of the transport, with the errno.
/// - A [`FrameError`](super::FrameError) inside an [`io::Error`] for a frame that is refused. The
///   sink goes on as if the frame had never been offered.
/// - A [`codec`](crate::codec) that changes its buffer instead of appending to it ends the sink:
///   this call and all later ones fail, and nothing more is written.
///
/// # Cancel safety
///
/// A frame is either wholly in the sink or not at all. Dropping a future of `send`, `feed`, `flush`
/// or `close` never leaves half a frame in the stream, and the next call continues where it
/// stopped. A dropped `send` or `feed` may have taken the frame, which is then sent with the next
/// flush; otherwise the frame is dropped. Use `poll_ready` followed by `start_send` to know.
///
/// # Dropping
///
/// Dropping does not write. Unflushed frames are lost with a `tracing` warning, unless the last
/// write has failed. Call `close` first.
///
/// # Examples
///
/// ```
/// use aqueduct::bytes::Bytes;
/// use aqueduct::frame::{FramedWrite, Framing};
/// use futures_util::SinkExt;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> std::io::Result<()> {
/// let mut wire = Vec::new();
/// let mut frames = FramedWrite::new(&mut wire, Framing::lines());
/// frames.feed(Bytes::from("one")).await?;
/// frames.feed(Bytes::from("two")).await?;
/// frames.close().await?;
/// drop(frames);
/// assert_eq!(wire, b"one\ntwo\n");
/// # Ok(()) }
/// ```
#[derive(Debug)]
#[must_use = "sinks do nothing unless polled"]
pub struct FramedWrite<W, E = Framing> {
    io: W,
    encoder: E,
    unsent: Unsent,
    pace: Pace,
}

/// The frames a sink has taken and not yet written. Logs a warning if it is dropped with any.
#[derive(Debug)]
struct Unsent {
    buf: WriteBuf,
    /// Frames taken since the buffer was last empty.
    frames: usize,
    /// A write has failed, and its error has been reported.
    failed: bool,
    /// A codec has changed bytes that it did not write.
    broken: bool,
}

impl Drop for Unsent {
    fn drop(&mut self) {
        if !self.buf.is_empty() && !self.failed {
            tracing::warn!(
                target: "aqueduct::unsent",
                bytes = self.buf.len(),
                frames = self.frames,
                "dropped with unsent data: flush or close before drop"
            );
        }
    }
}

impl<W: AsyncWrite> FramedWrite<W, Framing> {
    /// Writes frames to `io`, up to 64 KiB at a time, which suits sockets.
    ///
    /// For pipes and FIFOs use their `framed` methods, which write in smaller steps.
    pub fn new(io: W, framing: Framing) -> Self {
        Self::with_frame_encoder(io, framing)
    }
}

impl<W: AsyncWrite + Unpin> FramedWrite<W, Framing> {
    /// Queues one frame from borrowed bytes.
    ///
    /// A body below 16 KiB is copied. A larger one is written at once from where it lies, if the
    /// transport supports vectored writes; only what the transport does not take is copied.
    ///
    /// The counterpart of [`FramedRead::next_borrowed`](super::FramedRead::next_borrowed). It waits
    /// only if the buffer is full; [`flush`](futures_util::SinkExt::flush) makes sure that the
    /// frame is sent.
    ///
    /// # Errors
    ///
    /// As for the sink.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a frame is queued when this returns, and not before.
    ///
    /// # Examples
    ///
    /// ```
    /// use aqueduct::frame::{FramedWrite, Framing};
    /// use futures_util::SinkExt;
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> std::io::Result<()> {
    /// let mut frames = FramedWrite::new(Vec::new(), Framing::lines());
    /// frames.feed_borrowed(b"one").await?;
    /// frames.feed_borrowed(b"two").await?;
    /// frames.flush().await?;
    /// assert_eq!(frames.get_ref(), b"one\ntwo\n");
    /// # Ok(()) }
    /// ```
    #[inline]
    pub async fn feed_borrowed(&mut self, body: &[u8]) -> io::Result<()> {
        if self.unsent.buf.len() >= self.pace.chunk || self.unsent.buf.has_no_memory() {
            poll_fn(|cx| self.poll_room(cx)).await?;
        }
        if body.len() >= COPY_BELOW && self.io.is_write_vectored() {
            return poll_fn(|cx| Poll::Ready(self.put_large(cx, body))).await;
        }
        self.encoder.put(body, self.unsent.buf.tail())?;
        self.unsent.frames += 1;
        Ok(())
    }
}

impl<W: AsyncWrite + Unpin> FramedWrite<W, Framing> {
    /// Writes a large body from where it lies, behind what waits. Keeps a copy of the rest.
    fn put_large(&mut self, cx: &mut Context<'_>, body: &[u8]) -> io::Result<()> {
        let Unsent {
            buf,
            frames,
            failed,
            ..
        } = &mut self.unsent;
        let mut rest = body;
        if !self.encoder.put_header_of(body, buf.tail())? {
            self.encoder.put(body, buf.tail())?;
            rest = &[];
        }
        *frames += 1;
        let mut io = Pin::new(&mut self.io);
        let result = loop {
            if rest.is_empty() {
                break Ok(());
            }
            let limit = self.pace.write_of(buf.len() + rest.len());
            let mut slices = WriteBuf::no_slices();
            let filled = buf.slices_before(&mut slices, rest, limit);
            let written = io.as_mut().poll_write_vectored(cx, &slices[..filled]);
            match written {
                Poll::Pending => {
                    self.pace.waits();
                    break Ok(());
                }
                Poll::Ready(Ok(0)) => break Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(Err(error)) => break Err(error),
                Poll::Ready(Ok(n)) => {
                    self.pace.moved(n);
                    let before = n.min(buf.len());
                    buf.advance(before);
                    rest = &rest[n - before..];
                }
            }
        };
        // Part of the frame may be written, so the rest belongs to the stream also after an error.
        buf.tail().extend_from_slice(rest);
        self.encoder.put_trailer(buf.tail());
        *failed |= result.is_err();
        if buf.is_empty() {
            *frames = 0;
        }
        result
    }
}

impl<W: AsyncWrite, E> FramedWrite<W, UserCodec<E>> {
    /// Writes frames as a tokio-util [`Encoder`](tokio_util::codec::Encoder) makes them.
    ///
    /// The encoder sees no other frame in its buffer, so one that clears or replaces the buffer
    /// harms no other frame.
    pub fn with_codec(io: W, codec: E) -> Self {
        Self::with_frame_encoder(io, UserCodec(codec))
    }
}

impl<W: AsyncWrite, E> FramedWrite<W, E> {
    fn with_frame_encoder(io: W, encoder: E) -> Self {
        let buf = WriteBuf::new(io.is_write_vectored());
        Self {
            io,
            encoder,
            unsent: Unsent {
                buf,
                frames: 0,
                failed: false,
                broken: false,
            },
            pace: Pace::default(),
        }
    }
}

impl<W, E> FramedWrite<W, E> {
    /// Sets the size of a write in bytes: at least 1, 64 KiB by default.
    ///
    /// This many bytes are gathered before they are written without a flush. From 64 KiB on, a
    /// write takes up to 1 MiB. On pipes and FIFOs, `framed` returns a writer that adapts, from 8
    /// KiB on; this method fixes the size.
    pub fn with_chunk(self, bytes: usize) -> Self {
        self.with_pace(Pace::fixed(bytes))
    }

    pub(crate) fn with_pace(mut self, pace: Pace) -> Self {
        self.pace = pace;
        self
    }

    /// How many bytes wait to be written.
    pub(crate) fn unsent(&self) -> usize {
        self.unsent.buf.len()
    }

    /// How much memory small frames are gathered in, now or with the next frame.
    #[cfg(test)]
    pub(crate) fn memory(&mut self) -> usize {
        if self.unsent.buf.has_no_memory() {
            self.unsent.buf.take_memory();
        }
        self.unsent.buf.tail().capacity()
    }

    /// Returns the transport.
    pub fn get_ref(&self) -> &W {
        &self.io
    }

    /// Returns the transport. Bytes written to it overtake unflushed frames.
    pub fn get_mut(&mut self) -> &mut W {
        &mut self.io
    }

    /// Returns the encoder, to change it between two frames.
    ///
    /// It is the [`Framing`], or a [`UserCodec`] around yours.
    pub fn encoder_mut(&mut self) -> &mut E {
        &mut self.encoder
    }

    /// Returns the transport and the bytes that wait to be written.
    pub fn into_parts(mut self) -> (W, BytesMut) {
        let bytes = self.unsent.buf.take();
        (self.io, bytes)
    }
}

impl<W: AsyncWrite + Unpin, E> FramedWrite<W, E> {
    #[inline]
    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.unsent.buf.len() < self.pace.chunk {
            if self.unsent.buf.has_no_memory() {
                self.unsent.buf.take_memory();
            }
            return Poll::Ready(Ok(()));
        }
        // The last piece, if it is smaller than a whole chunk, waits for more.
        self.poll_write_below(cx, self.pace.chunk)
    }

    /// Writes until fewer than `bound` bytes wait.
    #[inline(never)]
    fn poll_write_below(&mut self, cx: &mut Context<'_>, bound: usize) -> Poll<io::Result<()>> {
        let Self {
            io, unsent, pace, ..
        } = self;
        if unsent.broken {
            return Poll::Ready(Err(io::Error::other(Broken)));
        }
        let mut io = Pin::new(io);
        let run = pace.begin_run(unsent.buf.len());
        while unsent.buf.len() >= bound {
            let limit = pace.write_of(unsent.buf.len());
            let written = if let Some(bytes) = unsent.buf.single(limit) {
                io.as_mut().poll_write(cx, bytes)
            } else {
                let mut slices = WriteBuf::no_slices();
                let filled = unsent.buf.slices(&mut slices, limit);
                io.as_mut().poll_write_vectored(cx, &slices[..filled])
            };
            let Poll::Ready(written) = written else {
                pace.waits();
                // Frames are accepted now: a stream in which something always waits would keep
                // everything that it has sent.
                if unsent.buf.len() < pace.chunk {
                    unsent.buf.compact();
                }
                return Poll::Pending;
            };
            unsent.failed = written.is_err();
            let n = written?;
            if n == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            unsent.buf.advance(n);
            pace.moved(n);
        }
        pace.end_run(run);
        if unsent.buf.is_empty() {
            unsent.frames = 0;
        } else {
            unsent.buf.compact();
        }
        Poll::Ready(Ok(()))
    }
}

/// Appends the body of one frame to the buffer.
pub(crate) type WriteBody<'a> = dyn FnMut(&mut BytesMut) -> Result<(), WriteError> + 'a;

/// A sink of frames whose bodies can be written into its buffer.
pub(crate) trait QueueWith: Sink<Bytes, Error = io::Error> + Unpin {
    /// Whether this sink writes bodies into its buffer, without a separate frame for each.
    fn is_straight(&mut self) -> bool {
        true
    }

    /// Queues a frame of the bytes that `write` appends: all of it or nothing.
    fn queue_with(&mut self, write: &mut WriteBody<'_>) -> Result<(), NotQueued>;
}

impl NotQueued {
    /// Sends a body as a separate frame, for sinks without a buffer to write it into.
    pub(crate) fn or_sent<T>(
        write: &mut WriteBody<'_>,
        send: impl FnOnce(Bytes) -> io::Result<T>,
    ) -> Result<T, Self> {
        let mut body = BytesMut::new();
        write(&mut body).map_err(Self::Unwritten)?;
        send(body.freeze()).map_err(Self::Refused)
    }
}

impl<W: AsyncWrite + Unpin> QueueWith for FramedWrite<W> {
    #[inline]
    fn queue_with(&mut self, write: &mut WriteBody<'_>) -> Result<(), NotQueued> {
        let queued = Begun::new(&mut self.unsent, &self.encoder).write(write);
        if self.unsent.broken {
            return Err(NotQueued::Refused(self.break_off()));
        }
        queued
    }
}

impl<W, E> FramedWrite<W, E> {
    /// Accepts nothing more, and writes nothing more.
    #[cold]
    fn break_off(&mut self) -> io::Error {
        self.unsent.buf.clear();
        // There is never room again, and tasks that wait for room are told.
        self.pace = Pace::closed();
        io::Error::other(Broken)
    }
}

/// A codec has changed bytes of other frames.
#[derive(Debug, thiserror::Error)]
#[error(
    "the codec changed bytes that it did not write, and unsent frames are lost: a codec may only append to its buffer"
)]
struct Broken;

/// A frame that is taken back unless it becomes whole, also if the writer of its body panics.
struct Begun<'a> {
    unsent: &'a mut Unsent,
    framing: &'a Framing,
    /// Where the frame begins.
    mark: Mark,
    start: Start,
}

impl<'a> Begun<'a> {
    #[inline(always)]
    fn new(unsent: &'a mut Unsent, framing: &'a Framing) -> Self {
        let mark = unsent.buf.mark();
        let start = framing.begin(unsent.buf.tail());
        Self {
            unsent,
            framing,
            mark,
            start,
        }
    }

    #[inline(always)]
    fn write(self, write: &mut WriteBody<'_>) -> Result<(), NotQueued> {
        let tail = self.unsent.buf.tail();
        write(tail).map_err(NotQueued::Unwritten)?;
        if self.framing.has_begun(tail, self.start) {
            let ended = self.framing.end(tail, self.start);
            ended.map_err(NotQueued::Refused)?;
            self.unsent.frames += 1;
            std::mem::forget(self);
        }
        Ok(())
    }
}

impl Drop for Begun<'_> {
    #[cold]
    fn drop(&mut self) {
        let tail = self.unsent.buf.tail();
        self.unsent.broken |= !self.framing.has_begun(tail, self.start);
        self.unsent.buf.rewind(self.mark);
    }
}

impl<Item, W, E> Sink<Item> for FramedWrite<W, E>
where
    W: AsyncWrite + Unpin,
    E: FrameEncoder<Item> + Unpin,
{
    type Error = E::Error;

    #[inline]
    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), E::Error>> {
        self.get_mut().poll_room(cx).map_err(Into::into)
    }

    #[inline(always)]
    fn start_send(self: Pin<&mut Self>, item: Item) -> Result<(), E::Error> {
        let Self {
            encoder, unsent, ..
        } = self.get_mut();
        encoder.encode(item, &mut unsent.buf)?;
        unsent.frames += 1;
        Ok(())
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), E::Error>> {
        let this = self.get_mut();
        ready!(this.poll_write_below(cx, 1))?;
        Pin::new(&mut this.io).poll_flush(cx).map_err(Into::into)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), E::Error>> {
        let this = self.get_mut();
        ready!(this.poll_write_below(cx, 1))?;
        Pin::new(&mut this.io).poll_shutdown(cx).map_err(Into::into)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::{FutureExt, SinkExt};

    use super::*;

    /// Takes all but one byte, then takes nothing once.
    struct Behind(bool);

    impl AsyncWrite for Behind {
        fn poll_write(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            self.0 = !self.0 && bytes.len() > 1;
            if self.0 {
                Poll::Ready(Ok(bytes.len() - 1))
            } else {
                Poll::Pending
            }
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[test]
    fn a_peer_that_is_always_a_little_behind_makes_no_memory_grow() {
        let mut sink = FramedWrite::new(Behind(false), Framing::length());
        for _ in 0..1000 {
            let fed = sink.feed(Bytes::from_static(&[7; 1000])).now_or_never();
            fed.expect("there is room").unwrap();
            assert!(sink.flush().now_or_never().is_none());
        }
        assert!(sink.unsent.buf.len() < 64, "{}", sink.unsent.buf.len());
        let held = sink.memory();
        assert!(held < 8192, "{held}");
    }

    /// What a reader gets of some frames, in steps that split them everywhere.
    async fn wire(framing: Framing, is_borrowed: bool) -> Vec<u8> {
        let (near, mut far) = tokio::io::duplex(10_000);
        let mut sink = FramedWrite::new(near, framing);
        let write = async {
            for len in [5, 20_000, 7, COPY_BELOW, 300_000, 0, 65_536] {
                let body = vec![b'a' + (len % 7) as u8; len];
                match is_borrowed {
                    true => sink.feed_borrowed(&body).await.unwrap(),
                    false => sink.feed(Bytes::from(body)).await.unwrap(),
                }
            }
            sink.close().await.unwrap();
            drop(sink);
        };
        let mut wire = Vec::new();
        let read = async { tokio::io::AsyncReadExt::read_to_end(&mut far, &mut wire).await };
        tokio::join!(write, read).1.unwrap();
        wire
    }

    #[tokio::test]
    async fn borrowed_bodies_make_the_same_bytes_as_owned_ones() {
        for name in Framing::names() {
            let framing: Framing = name.parse().unwrap();
            if framing.get_max_frame() >= 300_000 {
                let owned = wire(framing.clone(), false).await;
                assert_eq!(wire(framing, true).await, owned, "{name}");
            }
        }
    }

    #[tokio::test]
    async fn a_large_borrowed_body_is_not_copied_where_there_is_room() {
        let (near, _far) = tokio::io::duplex(1 << 20);
        let mut sink = FramedWrite::new(near, Framing::length());
        sink.feed_borrowed(b"small").await.unwrap();
        sink.feed_borrowed(&[7; 500_000]).await.unwrap();
        assert_eq!(sink.unsent(), 0);
        assert!(sink.memory() < 4096);
    }

    #[tokio::test]
    async fn a_refused_borrowed_body_leaves_the_sink_as_it_was() {
        let (near, _far) = tokio::io::duplex(1 << 20);
        let mut sink = FramedWrite::new(near, Framing::lines());
        sink.feed_borrowed(b"one").await.unwrap();
        let refused = sink.feed_borrowed(&[b'\n'; 20_000]).await.unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::InvalidInput);
        assert_eq!(sink.into_parts().1, "one\n");
    }
}
