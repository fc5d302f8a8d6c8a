use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{BufMut, BytesMut};
use futures_core::{FusedStream, Stream};
use tokio::io::AsyncRead;
use tokio_util::codec::Decoder;
use tokio_util::io::poll_read_buf;

use super::Framing;
use super::write::DEFAULT_CHUNK;

/// How many items in a row a decoder may give without taking a byte before it counts as broken.
const MAX_ITEMS_FOR_NOTHING: u32 = 4096;

/// A [`Stream`] of frames from an [`AsyncRead`].
///
/// It ends at the end of the stream, or with one error: after that it only says `None`. Frames
/// that came whole before are all delivered first.
///
/// # Errors
///
/// What the transport reports, with its errno; a [`FrameError`](super::FrameError) inside an
/// [`io::Error`] for a broken frame; or what the decoder reports.
///
/// # Cancel safety
///
/// Dropping a future of `next()` loses nothing: what was read stays in the buffer of the stream.
///
/// # Examples
///
/// ```
/// use aqueduct::frame::{FramedRead, Framing};
/// use futures_util::StreamExt;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> std::io::Result<()> {
/// let mut frames = FramedRead::new(&b"one\ntwo\n"[..], Framing::lines());
/// while let Some(frame) = frames.next().await {
///     println!("{:?}", frame?);
/// }
/// # Ok(()) }
/// ```
#[must_use = "streams do nothing unless polled"]
pub struct FramedRead<R, D = Framing> {
    io: R,
    decoder: D,
    buf: BytesMut,
    chunk: usize,
    state: State,
    items_for_nothing: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The buffer may hold a whole frame.
    Decoding,
    /// The buffer holds no whole frame.
    Reading,
    /// The transport has ended; the buffer may still hold frames.
    Ended,
    /// Over, by the end of the stream or by an error.
    Done,
}

impl<R, D> FramedRead<R, D> {
    /// Reads frames from `io`, 64 KiB at a time: right for sockets.
    ///
    /// For pipes and FIFOs take their `framed` methods, which read in smaller steps.
    pub fn new(io: R, decoder: D) -> Self {
        Self {
            io,
            decoder,
            buf: BytesMut::new(),
            chunk: DEFAULT_CHUNK,
            state: State::Decoding,
            items_for_nothing: 0,
        }
    }

    /// Sets how many bytes one read takes at most (at least 1; 64 KiB by default).
    pub fn with_chunk(mut self, bytes: usize) -> Self {
        self.chunk = bytes.max(1);
        self
    }

    /// Starts with bytes that were read before.
    pub fn with_read_buffer(mut self, bytes: BytesMut) -> Self {
        self.buf = bytes;
        self
    }

    /// The transport.
    pub fn get_ref(&self) -> &R {
        &self.io
    }

    /// The transport. Reading from it takes bytes out of the middle of the stream of frames.
    pub fn get_mut(&mut self) -> &mut R {
        &mut self.io
    }

    /// The decoder.
    pub fn decoder(&self) -> &D {
        &self.decoder
    }

    /// The decoder.
    pub fn decoder_mut(&mut self) -> &mut D {
        &mut self.decoder
    }

    /// What has been read and not yet been decoded.
    pub fn read_buffer(&self) -> &BytesMut {
        &self.buf
    }

    /// The transport and what has been read from it and not yet been decoded.
    pub fn into_parts(self) -> (R, BytesMut) {
        (self.io, self.buf)
    }

    /// The transport. What has been read and not yet been decoded is lost: see
    /// [`read_buffer`](Self::read_buffer).
    pub fn into_inner(self) -> R {
        self.io
    }
}

impl<R, D> FramedRead<R, D>
where
    R: AsyncRead + Unpin,
    D: Decoder,
{
    fn decode(&mut self) -> Result<Option<D::Item>, D::Error> {
        let before = self.buf.len();
        let item = if self.state == State::Ended {
            self.decoder.decode_eof(&mut self.buf)?
        } else {
            self.decoder.decode(&mut self.buf)?
        };
        if cfg!(debug_assertions) && item.is_some() {
            if self.buf.len() == before {
                self.items_for_nothing += 1;
            } else {
                self.items_for_nothing = 0;
            }
            assert!(
                self.items_for_nothing < MAX_ITEMS_FOR_NOTHING,
                "a decoder that gives items without taking bytes never ends"
            );
        }
        Ok(item)
    }

    /// Reads once; `0` is the end of the stream.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.buf.capacity() - self.buf.len() < self.chunk {
            // Room for one chunk, and for a large frame as much again as has come of it: what its
            // header claims is not believed. Where all was taken this only moves back to the
            // start of the memory that is there.
            self.buf.reserve(self.chunk.max(self.buf.len()));
        }
        let mut room = (&mut self.buf).limit(self.chunk);
        poll_read_buf(Pin::new(&mut self.io), cx, &mut room)
    }
}

impl<R, D> Stream for FramedRead<R, D>
where
    R: AsyncRead + Unpin,
    D: Decoder + Unpin,
{
    type Item = Result<D::Item, D::Error>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        loop {
            if matches!(this.state, State::Decoding | State::Ended) {
                match this.decode() {
                    Ok(Some(item)) => return Poll::Ready(Some(Ok(item))),
                    Ok(None) if this.state == State::Ended => this.state = State::Done,
                    Ok(None) => this.state = State::Reading,
                    Err(e) => {
                        this.state = State::Done;
                        return Poll::Ready(Some(Err(e)));
                    }
                }
            }
            if this.state == State::Done {
                return Poll::Ready(None);
            }
            match ready!(this.poll_fill(cx)) {
                Ok(0) => this.state = State::Ended,
                Ok(_) => this.state = State::Decoding,
                Err(e) => {
                    this.state = State::Done;
                    return Poll::Ready(Some(Err(e.into())));
                }
            }
        }
    }
}

impl<R, D> FusedStream for FramedRead<R, D>
where
    R: AsyncRead + Unpin,
    D: Decoder + Unpin,
{
    fn is_terminated(&self) -> bool {
        self.state == State::Done
    }
}

impl<R: fmt::Debug, D: fmt::Debug> fmt::Debug for FramedRead<R, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FramedRead")
            .field("io", &self.io)
            .field("decoder", &self.decoder)
            .field("buffered", &self.buf.len())
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}
