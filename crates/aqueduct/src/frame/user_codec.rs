//! [`UserCodec`]: adapts a user's codec for a stream or sink of frames.

use std::io;
use std::ops::{Deref, DerefMut};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{BufMut, BytesMut};
use tokio::io::AsyncRead;
use tokio_util::codec::{Decoder, Encoder};
use tokio_util::io::poll_read_buf;

use super::decoder::FrameDecoder;
use super::encode::FrameEncoder;
use super::pool;
use super::write_buf::WriteBuf;

/// A tokio-util [`Decoder`] or [`Encoder`] in a [`FramedRead`](super::FramedRead) or
/// [`FramedWrite`](super::FramedWrite).
///
/// The `with_codec` constructors create it. Its name is needed to write down their type:
/// `FramedRead<R, UserCodec<LinesCodec>>`.
///
/// # Examples
///
/// ```
/// use aqueduct::frame::{FramedRead, UserCodec};
/// use tokio::net::unix::pipe::Receiver;
/// use tokio_util::codec::LinesCodec;
///
/// struct Tail {
///     lines: FramedRead<Receiver, UserCodec<LinesCodec>>,
/// }
///
/// impl Tail {
///     fn new(pipe: Receiver) -> Self {
///         let lines = FramedRead::with_codec(pipe, LinesCodec::new());
///         Self { lines }
///     }
/// }
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct UserCodec<C>(pub C);

impl<C> Deref for UserCodec<C> {
    type Target = C;

    fn deref(&self) -> &C {
        &self.0
    }
}

impl<C> DerefMut for UserCodec<C> {
    fn deref_mut(&mut self) -> &mut C {
        &mut self.0
    }
}

impl<Item, E: Encoder<Item>> FrameEncoder<Item> for UserCodec<E> {
    type Error = E::Error;

    fn encode(&mut self, item: Item, dst: &mut WriteBuf) -> Result<(), E::Error> {
        let mark = dst.mark();
        let tail = dst.tail();
        if tail.is_empty() {
            let result = self.0.encode(item, tail);
            if result.is_err() {
                dst.rewind(mark);
            }
            return result;
        }
        // Out of reach: an encoder may clear its buffer, or put another in its place.
        let mut own = tail.split_off(tail.len());
        let result = self.0.encode(item, &mut own);
        if result.is_ok() {
            tail.unsplit(own);
        }
        result
    }
}

/// The buffer of a user's decoder.
#[derive(Debug)]
#[expect(unnameable_types, reason = "part of a sealed trait")]
pub struct UserInbox(BytesMut);

impl<D: Decoder> FrameDecoder for UserCodec<D> {
    type Item = D::Item;
    type Error = D::Error;
    type Inbox = UserInbox;

    fn inbox(bytes: &[u8]) -> UserInbox {
        UserInbox(BytesMut::from(bytes))
    }

    fn unread(inbox: &UserInbox) -> &[u8] {
        &inbox.0
    }

    fn held(inbox: &UserInbox) -> usize {
        inbox.0.capacity()
    }

    fn decode(&mut self, inbox: &mut UserInbox, ended: bool) -> Result<Option<D::Item>, D::Error> {
        if ended {
            self.0.decode_eof(&mut inbox.0)
        } else {
            self.0.decode(&mut inbox.0)
        }
    }

    fn poll_fill<R: AsyncRead>(
        inbox: &mut UserInbox,
        io: Pin<&mut R>,
        cx: &mut Context<'_>,
        chunk: usize,
        _: usize,
    ) -> Poll<io::Result<usize>> {
        let buf = &mut inbox.0;
        if buf.capacity() == 0 {
            *buf = pool::take(chunk).unwrap_or_default();
        }
        if buf.capacity() - buf.len() < chunk {
            // Room for one chunk, and for a large frame as much again as has arrived: the length in
            // its header is not trusted. If everything was taken, this only moves back to the start
            // of the existing memory.
            buf.reserve(chunk.max(buf.len()));
        }
        let mut room = (&mut *buf).limit(chunk);
        let read = poll_read_buf(io, cx, &mut room);
        if read.is_pending() && buf.is_empty() {
            let buf = std::mem::take(buf);
            let size = chunk.max(buf.capacity());
            pool::give(buf, size);
        }
        read
    }
}
