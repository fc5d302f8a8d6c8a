//! [`FramedRead`]: a stream of frames.

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::ops::Range;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use futures_core::{FusedStream, Stream};
use tokio::io::AsyncRead;

use super::decoder::FrameDecoder;
use super::framing::Framing;
use super::inbox::Found;
use super::pace::Pace;
use super::user_codec::{UserCodec, UserInbox};

/// A [`Stream`] of frames from an [`AsyncRead`].
///
/// It ends at the end of the stream or with one error; then it returns only `None`. Whole frames
/// before the error are delivered first.
///
/// # Errors
///
/// - An error of the transport, with the errno.
/// - A [`FrameError`](super::FrameError) inside an [`io::Error`] for a broken frame.
/// - An error of the decoder.
///
/// # Cancel safety
///
/// Cancel safe. Dropping a future of `next()` loses nothing: bytes that were read stay in the
/// buffer.
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
pub struct FramedRead<R, D: FrameDecoder = Framing> {
    io: R,
    decoder: D,
    inbox: D::Inbox,
    pace: Pace,
    state: State,
    /// Ends where it would have to read.
    stopped: bool,
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

impl<R> FramedRead<R, Framing> {
    /// Reads frames from `io`, 64 KiB at a time, which suits sockets.
    ///
    /// For pipes and FIFOs use their `framed` methods, which read in smaller steps.
    pub fn new(io: R, framing: Framing) -> Self {
        Self::with_frame_decoder(io, framing)
    }
}

impl<R, D> FramedRead<R, UserCodec<D>>
where
    UserCodec<D>: FrameDecoder<Inbox = UserInbox>,
{
    /// Reads frames as a tokio-util [`Decoder`](tokio_util::codec::Decoder) splits them.
    ///
    /// # Examples
    ///
    /// ```
    /// use aqueduct::frame::FramedRead;
    /// use futures_util::TryStreamExt;
    /// use tokio_util::codec::LinesCodec;
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let lines = FramedRead::with_codec(&b"one\ntwo\n"[..], LinesCodec::new());
    /// assert_eq!(lines.try_collect::<Vec<_>>().await?, ["one", "two"]);
    /// # Ok(()) }
    /// ```
    pub fn with_codec(io: R, codec: D) -> Self {
        Self::with_frame_decoder(io, UserCodec(codec))
    }
}

impl<R, D: FrameDecoder> FramedRead<R, D> {
    fn with_frame_decoder(io: R, decoder: D) -> Self {
        Self {
            io,
            decoder,
            inbox: D::inbox(&[]),
            pace: Pace::default(),
            state: State::Reading,
            stopped: false,
        }
    }

    /// Sets the size of a read in bytes: at least 1, 64 KiB by default.
    ///
    /// From 64 KiB on, a read takes up to 1 MiB of a large frame. On pipes and FIFOs, `framed`
    /// returns a reader that adapts, from 8 KiB on; this method fixes the size.
    pub fn with_chunk(self, bytes: usize) -> Self {
        self.with_pace(Pace::fixed(bytes))
    }

    pub(crate) fn with_pace(mut self, pace: Pace) -> Self {
        self.pace = pace;
        self.tell_inbox();
        self
    }

    fn tell_inbox(&mut self) {
        if self.pace.is_of_pipe() {
            D::of_pipe(&mut self.inbox);
        }
    }

    /// Starts with bytes that were read before.
    pub fn with_read_buffer(mut self, bytes: BytesMut) -> Self {
        self.inbox = D::inbox(&bytes);
        self.tell_inbox();
        self.state = match bytes.is_empty() {
            true => State::Reading,
            false => State::Decoding,
        };
        self
    }

    /// Returns the transport.
    pub fn get_ref(&self) -> &R {
        &self.io
    }

    /// Returns the transport. Reading from it takes bytes out of the stream of frames.
    pub fn get_mut(&mut self) -> &mut R {
        &mut self.io
    }

    /// Returns the decoder: the [`Framing`], or a [`UserCodec`] around yours.
    pub(crate) fn decoder(&self) -> &D {
        &self.decoder
    }

    /// Returns the decoder, to change it between two frames.
    ///
    /// It is the [`Framing`], or a [`UserCodec`] around yours.
    pub fn decoder_mut(&mut self) -> &mut D {
        &mut self.decoder
    }

    /// Returns the bytes that were read and not yet decoded.
    pub fn read_buffer(&self) -> &[u8] {
        D::unread(&self.inbox)
    }

    /// How many bytes of memory the buffers hold, without frames that were given away.
    #[cfg(test)]
    pub(crate) fn memory(&self) -> usize {
        D::held(&self.inbox)
    }

    /// Returns the transport, and the bytes that were read and not yet decoded.
    pub fn into_parts(self) -> (R, BytesMut) {
        let unread = BytesMut::from(self.read_buffer());
        (self.io, unread)
    }
}

impl<R, D> FramedRead<R, D>
where
    R: AsyncRead + Unpin,
    D: FrameDecoder,
{
    /// Reads until `find` finds something.
    fn poll_find<T>(
        &mut self,
        cx: &mut Context<'_>,
        find: impl FnMut(&mut D, &mut D::Inbox, bool) -> Result<Option<T>, D::Error>,
    ) -> Poll<Option<Result<T, D::Error>>> {
        let at_most = if self.stopped { 0 } else { usize::MAX };
        Poll::Ready(
            match ready!(self.poll_find_within(cx, at_most, false, find)) {
                Within::Next(next) => next,
                Within::Spent | Within::Ended => {
                    self.state = State::Done;
                    None
                }
            },
        )
    }

    /// Reads until `find` finds something, at most `at_most` bytes; if the end `is_kept`, it is reported
    /// instead of taken as the end of the last frame.
    fn poll_find_within<T>(
        &mut self,
        cx: &mut Context<'_>,
        mut at_most: usize,
        is_kept: bool,
        mut find: impl FnMut(&mut D, &mut D::Inbox, bool) -> Result<Option<T>, D::Error>,
    ) -> Poll<Within<T, D::Error>> {
        loop {
            if self.may_decode() {
                let ended = self.state == State::Ended;
                match find(&mut self.decoder, &mut self.inbox, ended) {
                    Ok(Some(item)) => return Poll::Ready(Within::Next(Some(Ok(item)))),
                    Ok(None) if ended => self.state = State::Done,
                    Ok(None) => self.state = State::Reading,
                    Err(e) => {
                        self.state = State::Done;
                        return Poll::Ready(Within::Next(Some(Err(e))));
                    }
                }
            }
            if self.state == State::Done {
                return Poll::Ready(Within::Next(None));
            }
            if at_most == 0 {
                return Poll::Ready(Within::Spent);
            }
            match ready!(self.poll_fill(cx, at_most)) {
                Ok(0) if is_kept => return Poll::Ready(Within::Ended),
                Ok(0) => self.state = State::Ended,
                Ok(n) if at_most != usize::MAX => at_most -= n,
                Ok(_) => {}
                Err(e) => return Poll::Ready(Within::Next(Some(Err(e.into())))),
            }
        }
    }

    /// Whether the buffer may hold a frame.
    #[inline(always)]
    fn may_decode(&self) -> bool {
        matches!(self.state, State::Decoding | State::Ended)
    }

    /// The next item, if that takes more than a look at the front of the buffer.
    #[inline(never)]
    fn poll_decode(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<D::Item, D::Error>>> {
        self.poll_find(cx, D::decode)
    }

    /// Reads once, at most `at_most` bytes; 0 is the end of the stream.
    // Separate, so that the code that runs for each frame stays small enough to be inlined.
    #[inline(never)]
    fn poll_fill(&mut self, cx: &mut Context<'_>, at_most: usize) -> Poll<io::Result<usize>> {
        let io = Pin::new(&mut self.io);
        let (chunk, step) = (self.pace.chunk.min(at_most), self.pace.step.min(at_most));
        let filled = D::poll_fill(&mut self.inbox, io, cx, chunk, step);
        match &filled {
            Poll::Pending => self.pace.waits(),
            Poll::Ready(Ok(0)) => {}
            Poll::Ready(Ok(n)) => {
                self.pace.moved(*n);
                self.state = State::Decoding;
            }
            Poll::Ready(Err(_)) => self.state = State::Done,
        }
        filled
    }
}

/// The result of [`FramedRead::poll_next_within`].
pub(crate) enum Within<T = Bytes, E = io::Error> {
    /// A frame, an error or the end, as for the stream.
    Next(Option<Result<T, E>>),
    /// All allowed bytes were read, and no frame is whole.
    Spent,
    /// The transport has ended inside a frame or between two. The stream has not taken notice.
    Ended,
}

impl<R: AsyncRead + Unpin> FramedRead<R, Framing> {
    /// Polls for the next frame, for which at most `at_most` bytes are read. If the end `is_kept`,
    /// it is reported instead of ending the last frame.
    pub(crate) fn poll_next_within(
        &mut self,
        cx: &mut Context<'_>,
        at_most: usize,
        is_kept: bool,
    ) -> Poll<Within> {
        self.poll_find_within(cx, at_most, is_kept, FrameDecoder::decode)
    }

    #[inline(always)]
    fn next_whole(&mut self) -> Option<Range<usize>> {
        match self.may_decode() {
            true => self.inbox.next_whole(&mut self.decoder),
            false => None,
        }
    }

    #[inline(never)]
    fn poll_found(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Found>>> {
        self.poll_find(cx, |framing, inbox, ended| inbox.next(framing, ended))
    }

    /// Receives the next frame, borrowed until the next call.
    ///
    /// Nothing is copied, counted or freed for it, which makes small frames twice as fast. `None`
    /// is the end of the stream. Calls may be mixed with the [`Stream`], which returns owned
    /// frames.
    ///
    /// # Errors
    ///
    /// As for the stream; `None` follows an error.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a frame is either returned or still to come.
    ///
    /// # Examples
    ///
    /// ```
    /// use aqueduct::frame::{FramedRead, Framing};
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> std::io::Result<()> {
    /// let mut frames = FramedRead::new(&b"one\ntwo\n"[..], Framing::lines());
    /// let mut letters = 0;
    /// while let Some(frame) = frames.next_borrowed().await {
    ///     letters += frame?.len();
    /// }
    /// assert_eq!(letters, 6);
    /// # Ok(()) }
    /// ```
    #[inline]
    pub async fn next_borrowed(&mut self) -> Option<io::Result<&[u8]>> {
        if let Some(range) = self.next_whole() {
            return Some(Ok(self.inbox.lend_small(range)));
        }
        // The frame is taken when it is lent: a future that is dropped before has taken nothing.
        let found = poll_fn(|cx| self.poll_found(cx)).await?;
        Some(found.map(|found| self.inbox.lend(found)))
    }
}

/// The body of one frame, for a codec.
pub(crate) enum Lent<'a> {
    /// Borrowed until the next call.
    Borrowed(&'a [u8]),
    Kept(Bytes),
}

/// A stream of frames that lends them too.
pub(crate) trait Lend: Stream<Item = io::Result<Bytes>> + Unpin {
    fn poll_lend(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Lent<'_>>>>;

    /// Whether the last frame is settled only when the next one is asked for.
    fn is_unsettled(&self) -> bool {
        false
    }

    /// What becomes of `owed` replies that are given up, `sent` messages later.
    fn late(&mut self, _owed: u64, _sent: u64) -> Late {
        Late::InOrder { lost: 0 }
    }

    /// Takes nothing new from the transport, delivers what was taken, and ends.
    fn stop(&mut self);
}

/// What becomes of replies that are given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Late {
    /// They arrive in order, before replies to later messages, unless their connection was lost. `lost`
    /// is the number of connections lost so far.
    InOrder { lost: u64 },
    /// They do not arrive any more.
    Dropped,
    /// They may arrive at any time, or never.
    Unknown,
}

impl<R: AsyncRead + Unpin> Lend for FramedRead<R, Framing> {
    #[inline]
    fn poll_lend(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Lent<'_>>>> {
        if let Some(range) = self.next_whole() {
            return Poll::Ready(Some(Ok(Lent::Borrowed(self.inbox.lend_small(range)))));
        }
        let found = ready!(self.poll_found(cx));
        Poll::Ready(found.map(|found| found.map(|it| Lent::Borrowed(self.inbox.lend(it)))))
    }

    fn stop(&mut self) {
        self.stopped = true;
    }
}

impl<R, D> Stream for FramedRead<R, D>
where
    R: AsyncRead + Unpin,
    D: FrameDecoder + Unpin,
{
    type Item = Result<D::Item, D::Error>;

    #[inline]
    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if this.may_decode()
            && let Some(item) = this.decoder.decode_whole(&mut this.inbox)
        {
            return Poll::Ready(Some(Ok(item)));
        }
        this.poll_decode(cx)
    }
}

impl<R, D> FusedStream for FramedRead<R, D>
where
    R: AsyncRead + Unpin,
    D: FrameDecoder + Unpin,
{
    fn is_terminated(&self) -> bool {
        self.state == State::Done
    }
}

impl<R: fmt::Debug, D: FrameDecoder + fmt::Debug> fmt::Debug for FramedRead<R, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FramedRead")
            .field("io", &self.io)
            .field("decoder", &self.decoder)
            .field("buffered", &self.read_buffer().len())
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
