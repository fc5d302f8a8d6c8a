//! [`FrameDecoder`]: the trait behind a stream of frames, implemented by [`Framing`].

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::io::AsyncRead;

use super::framing::Framing;
use super::inbox::Inbox;

/// Splits the bytes of a [`FramedRead`](super::FramedRead) into frames (sealed).
///
/// Implemented by [`Framing`] and, for any tokio-util [`Decoder`](tokio_util::codec::Decoder), by
/// [`UserCodec`](super::UserCodec).
#[expect(
    unnameable_types,
    reason = "sealed: how the buffers work is no promise"
)]
pub trait FrameDecoder {
    type Item;
    type Error: From<io::Error>;
    type Inbox: Unpin;

    /// Creates a buffer that holds `bytes`.
    fn inbox(bytes: &[u8]) -> Self::Inbox;

    /// Notes that it is filled from a pipe.
    fn of_pipe(_: &mut Self::Inbox) {}

    fn unread(inbox: &Self::Inbox) -> &[u8];

    /// How much memory the buffer holds.
    fn held(inbox: &Self::Inbox) -> usize;

    /// An item that is easily found, if there is one; otherwise call [`decode`](Self::decode).
    fn decode_whole(&mut self, _: &mut Self::Inbox) -> Option<Self::Item> {
        None
    }

    fn decode(
        &mut self,
        inbox: &mut Self::Inbox,
        ended: bool,
    ) -> Result<Option<Self::Item>, Self::Error>;

    /// Reads once, at most `chunk` bytes, or `step` of a large frame; 0 is the end.
    fn poll_fill<R: AsyncRead>(
        inbox: &mut Self::Inbox,
        io: Pin<&mut R>,
        cx: &mut Context<'_>,
        chunk: usize,
        step: usize,
    ) -> Poll<io::Result<usize>>;
}

impl FrameDecoder for Framing {
    type Item = Bytes;
    type Error = io::Error;
    type Inbox = Inbox;

    fn inbox(bytes: &[u8]) -> Inbox {
        Inbox::with(bytes)
    }

    fn unread(inbox: &Inbox) -> &[u8] {
        inbox.unread()
    }

    fn held(inbox: &Inbox) -> usize {
        inbox.held()
    }

    // On the path of every frame.
    #[inline(always)]
    fn decode_whole(&mut self, inbox: &mut Inbox) -> Option<Bytes> {
        let range = inbox.next_whole(self)?;
        let frame = inbox.give_small(range);
        inbox.has_given();
        Some(frame)
    }

    #[inline]
    fn decode(&mut self, inbox: &mut Inbox, ended: bool) -> io::Result<Option<Bytes>> {
        let found = inbox.next(self, ended)?;
        Ok(found.map(|found| inbox.give(found)))
    }

    fn of_pipe(inbox: &mut Inbox) {
        inbox.of_pipe();
    }

    fn poll_fill<R: AsyncRead>(
        inbox: &mut Inbox,
        io: Pin<&mut R>,
        cx: &mut Context<'_>,
        chunk: usize,
        step: usize,
    ) -> Poll<io::Result<usize>> {
        inbox.poll_fill(io, cx, chunk, step)
    }
}
