//! [`FrameDecoder`]: what cuts frames out of a reader's buffer.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{BufMut, Bytes, BytesMut};
use tokio::io::AsyncRead;
use tokio_util::codec::Decoder;
use tokio_util::io::poll_read_buf;

use super::inbox::Inbox;
use super::{Framing, UserCodec};

/// How many items in a row a decoder may give without taking a byte before it counts as broken.
const MAX_ITEMS_FOR_NOTHING: u32 = 4096;

/// What a [`FramedRead`](super::FramedRead) cuts frames with.
///
/// [`Framing`] is one. A tokio-util [`Decoder`] becomes one in a [`UserCodec`]. There are no
/// others: how the buffers work is no promise.
pub trait FrameDecoder: sealed::Cut {}

impl FrameDecoder for Framing {}

impl<D: Decoder> FrameDecoder for UserCodec<D> {}

pub(super) mod sealed {
    use super::*;

    #[expect(unnameable_types, reason = "seals the trait above")]
    pub trait Cut {
        type Item;
        type Error: From<io::Error>;
        type Inbox: Unpin;

        fn inbox(bytes: &[u8]) -> Self::Inbox;

        fn unread(inbox: &Self::Inbox) -> &[u8];

        fn held(inbox: &Self::Inbox) -> usize;

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
}

impl sealed::Cut for Framing {
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

    #[inline]
    fn decode(&mut self, inbox: &mut Inbox, ended: bool) -> io::Result<Option<Bytes>> {
        let found = inbox.next(self, ended)?;
        Ok(found.map(|found| inbox.give(found)))
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

/// The buffer of a decoder that is not ours.
#[derive(Debug)]
#[expect(unnameable_types, reason = "part of a sealed trait")]
pub struct UserInbox {
    buf: BytesMut,
    items_for_nothing: u32,
}

impl<D: Decoder> sealed::Cut for UserCodec<D> {
    type Item = D::Item;
    type Error = D::Error;
    type Inbox = UserInbox;

    fn inbox(bytes: &[u8]) -> UserInbox {
        UserInbox {
            buf: BytesMut::from(bytes),
            items_for_nothing: 0,
        }
    }

    fn unread(inbox: &UserInbox) -> &[u8] {
        &inbox.buf
    }

    fn held(inbox: &UserInbox) -> usize {
        inbox.buf.capacity()
    }

    fn decode(&mut self, inbox: &mut UserInbox, ended: bool) -> Result<Option<D::Item>, D::Error> {
        let before = inbox.buf.len();
        let item = if ended {
            self.0.decode_eof(&mut inbox.buf)?
        } else {
            self.0.decode(&mut inbox.buf)?
        };
        if cfg!(debug_assertions) && item.is_some() {
            if inbox.buf.len() == before {
                inbox.items_for_nothing += 1;
            } else {
                inbox.items_for_nothing = 0;
            }
            assert!(
                inbox.items_for_nothing < MAX_ITEMS_FOR_NOTHING,
                "a decoder that gives items without taking bytes never ends"
            );
        }
        Ok(item)
    }

    fn poll_fill<R: AsyncRead>(
        inbox: &mut UserInbox,
        io: Pin<&mut R>,
        cx: &mut Context<'_>,
        chunk: usize,
        _: usize,
    ) -> Poll<io::Result<usize>> {
        let buf = &mut inbox.buf;
        if buf.capacity() - buf.len() < chunk {
            // Room for one chunk, and for a large frame as much again as has come of it: what its
            // header claims is not believed. Where all was taken this only moves back to the
            // start of the memory that is there.
            buf.reserve(chunk.max(buf.len()));
        }
        let mut room = buf.limit(chunk);
        poll_read_buf(io, cx, &mut room)
    }
}
