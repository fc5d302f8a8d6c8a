//! The inside of a [`Receiver`]: a codec over a stream of frames.

use std::any::type_name;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_core::Stream;
use tokio::task::coop;

use crate::channel::Error;
use crate::codec::{BoxError, Decode};
use crate::frame::{BoxFrameStream, Late, Lend, Lent as Body};

/// A stream of items, in one piece, so that an item takes one indirect call.
pub(super) trait Decoding<T>: Send {
    /// Polls for the next item; [`Error::Io`] is the last.
    fn poll_item(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<T, Error>>>;

    /// Whether the last item is settled only when the next one is asked for.
    fn is_unsettled(&self) -> bool {
        false
    }

    /// See [`Lend::late`].
    fn late(&mut self, _owed: u64, _sent: u64) -> Late {
        Late::InOrder { lost: 0 }
    }

    /// Takes nothing new, delivers what was taken, and ends.
    fn stop(&mut self);
}

/// Over any stream of frames.
pub(super) struct Framed<C> {
    stream: BoxFrameStream,
    codec: C,
    /// Ends where it would have to wait.
    stopped: bool,
}

impl<C> Framed<C> {
    pub(super) fn new(stream: BoxFrameStream, codec: C) -> Self {
        Self {
            stream,
            codec,
            stopped: false,
        }
    }
}

impl<T, C: Decode<T> + 'static> Decoding<T> for Framed<C> {
    fn poll_item(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<T, Error>>> {
        match poll_kept(self.stream.as_mut(), &self.codec, cx) {
            // Out of budget is no wait for the peer: the task is polled again at once.
            Poll::Pending if self.stopped && coop::has_budget_remaining() => Poll::Ready(None),
            next => next,
        }
    }

    fn stop(&mut self) {
        self.stopped = true;
    }
}

/// Over a stream that lends frames: a codec that borrows parses items straight from the read
/// buffer.
pub(super) struct Lent<S, C> {
    pub(super) stream: S,
    pub(super) codec: C,
}

impl<T, S, C> Decoding<T> for Lent<S, C>
where
    S: Lend + Send + 'static,
    C: Decode<T> + 'static,
{
    #[inline]
    fn poll_item(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<T, Error>>> {
        let Self { stream, codec } = self;
        if !codec.borrows() {
            return poll_kept(Pin::new(stream), codec, cx);
        }
        Poll::Ready(match ready!(stream.poll_lend(cx)) {
            Some(Ok(Body::Borrowed(body))) => Some(match codec.decode_borrowed(body) {
                Ok(item) => Ok(item),
                Err(source) => Err(not_decoded(codec, body.len(), source)),
            }),
            Some(Ok(Body::Kept(body))) => Some(decode_kept(codec, body)),
            Some(Err(error)) => Some(Err(Error::Io(error))),
            None => None,
        })
    }

    fn is_unsettled(&self) -> bool {
        self.stream.is_unsettled()
    }

    fn late(&mut self, owed: u64, sent: u64) -> Late {
        self.stream.late(owed, sent)
    }

    fn stop(&mut self) {
        self.stream.stop();
    }
}

/// Polls for the next item, from an owned frame.
#[inline]
fn poll_kept<T, S>(
    stream: Pin<&mut S>,
    codec: &impl Decode<T>,
    cx: &mut Context<'_>,
) -> Poll<Option<Result<T, Error>>>
where
    S: Stream<Item = io::Result<Bytes>> + ?Sized,
{
    Poll::Ready(match ready!(stream.poll_next(cx)) {
        Some(Ok(body)) => Some(decode_kept(codec, body)),
        Some(Err(error)) => Some(Err(Error::Io(error))),
        None => None,
    })
}

#[inline]
fn decode_kept<T>(codec: &impl Decode<T>, body: Bytes) -> Result<T, Error> {
    let len = body.len();
    match codec.decode(body) {
        Ok(item) => Ok(item),
        Err(source) => Err(not_decoded(codec, len, source)),
    }
}

#[cold]
fn not_decoded<T>(codec: &impl Decode<T>, len: usize, source: BoxError) -> Error {
    Error::Decode {
        codec: codec.name(),
        type_name: type_name::<T>(),
        len,
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channel::Receiver;
    use crate::codec::Text;
    use crate::frame::{COPY_BELOW, FramedRead, Framing};

    /// A small frame, a large one, one that does not parse, and two more.
    fn wire(framing: &Framing) -> Vec<u8> {
        use tokio_util::codec::Encoder;

        let mut wire = bytes::BytesMut::new();
        let large = "l".repeat(5 * COPY_BELOW);
        for body in [b"one", large.as_bytes(), b"\xff", b"two", b"three"] {
            let body = Bytes::copy_from_slice(body);
            framing.clone().encode(body, &mut wire).unwrap();
        }
        wire.to_vec()
    }

    #[tokio::test]
    async fn a_bad_borrowed_frame_costs_one_item() {
        for framing in [Framing::length(), Framing::lines(), Framing::nul()] {
            let wire = wire(&framing);
            for chunk in [97, 64 * 1024] {
                let io = io::Cursor::new(wire.clone());
                let frames = FramedRead::new(io, framing.clone()).with_chunk(chunk);
                let mut items: Receiver<String> = frames.typed(Text);
                assert_eq!(items.recv().await.unwrap().unwrap(), "one");
                assert_eq!(items.recv().await.unwrap().unwrap().len(), 5 * COPY_BELOW);
                match items.recv().await {
                    Some(Err(Error::Decode {
                        codec: "text",
                        len: 1,
                        ..
                    })) => {}
                    other => panic!("{other:?}"),
                }
                assert_eq!(items.recv().await.unwrap().unwrap(), "two");
                assert_eq!(items.recv().await.unwrap().unwrap(), "three");
            }
        }
    }

    #[tokio::test]
    async fn a_stream_that_is_cut_ends_with_one_error() {
        let framing = Framing::length();
        let mut wire = wire(&framing);
        wire.pop();
        let frames = FramedRead::new(io::Cursor::new(wire), framing);
        let mut items: Receiver<String> = frames.typed(Text);
        for _ in 0..4 {
            let item = items.recv().await.unwrap();
            assert!(matches!(item, Ok(_) | Err(Error::Decode { .. })));
        }
        let error = items.recv().await.unwrap().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        assert!(items.recv().await.is_none() && items.is_ended());
    }
}
