//! The inside of a [`Sender`]: a codec over a sink of frames.

use std::any::type_name;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};

use super::coalesce::{Coalesced, Shared};
use crate::channel::Error;
use crate::codec::{BoxError, Encode};
use crate::frame::{BoxFrameSink, NotQueued, QueueWith};

/// How much memory is allocated at a time to serialise small items into.
pub(super) const SCRATCH: usize = 8 * 1024;

/// The largest item, in serialised bytes, whose memory is kept for the next one.
pub(super) const SCRATCH_KEPT: usize = 1 << 20;

/// Below this much free memory a new item begins in fresh memory, if the old is still in use.
const SCRATCH_LOW: usize = 512;

/// A sink of items, in one piece, so that an item takes one indirect call.
pub(super) trait Encoding<T>: Send {
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    fn start(&mut self, item: T) -> Result<(), Error>;

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Encodes the item as a frame, without sending it.
    fn encode(&mut self, item: T) -> Result<Bytes, Error>;

    fn coalesced(self: Box<Self>) -> (Box<dyn Encoding<T>>, Arc<Shared>);
}

/// Over any sink of frames: each item becomes a frame in reused memory.
pub(super) struct Framed<C> {
    sink: BoxFrameSink,
    codec: C,
    /// Empty between items.
    scratch: BytesMut,
}

impl<C> Framed<C> {
    pub(super) fn new(sink: BoxFrameSink, codec: C) -> Self {
        Self {
            sink,
            codec,
            scratch: BytesMut::new(),
        }
    }
}

impl<T, C: Encode<T> + 'static> Encoding<T> for Framed<C> {
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.sink.as_mut().poll_ready(cx)
    }

    fn start(&mut self, item: T) -> Result<(), Error> {
        let frame = self.encode(item)?;
        Ok(self.sink.as_mut().start_send(frame)?)
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.sink.as_mut().poll_flush(cx)
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.sink.as_mut().poll_close(cx)
    }

    fn encode(&mut self, item: T) -> Result<Bytes, Error> {
        if self.scratch.capacity() < SCRATCH_LOW {
            // Returns the same memory again if all frames in it are gone.
            self.scratch.reserve(SCRATCH);
        }
        let encoded = self.codec.encode_owned(item, &mut self.scratch);
        // Bytes that a codec left there are not part of the next item.
        self.scratch.clear();
        let used = encoded.as_ref().map_or(self.scratch.capacity(), Bytes::len);
        if used > SCRATCH_KEPT {
            self.scratch = BytesMut::new();
        }
        encoded.map_err(|source| not_encoded(&self.codec, source))
    }

    fn coalesced(self: Box<Self>) -> (Box<dyn Encoding<T>>, Arc<Shared>) {
        let (sink, shared) = Coalesced::new(self.sink);
        (Box::new(Self::new(Box::pin(sink), self.codec)), shared)
    }
}

/// Over a sink whose buffer items are serialised into.
pub(super) struct Straight<S, C> {
    pub(super) sink: S,
    pub(super) codec: C,
}

impl<T, S, C> Encoding<T> for Straight<S, C>
where
    S: QueueWith + Send + 'static,
    C: Encode<T> + 'static,
{
    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.sink).poll_ready(cx)
    }

    #[inline]
    fn start(&mut self, item: T) -> Result<(), Error> {
        let Self { sink, codec } = self;
        match sink.queue_with(&mut |body| codec.encode(&item, body)) {
            Ok(()) => Ok(()),
            Err(NotQueued::Refused(error)) => Err(Error::Io(error)),
            Err(NotQueued::Unwritten(source)) => Err(not_encoded(codec, source)),
        }
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.sink).poll_flush(cx)
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.sink).poll_close(cx)
    }

    fn encode(&mut self, item: T) -> Result<Bytes, Error> {
        let encoded = self.codec.encode_owned(item, &mut BytesMut::new());
        encoded.map_err(|source| not_encoded(&self.codec, source))
    }

    fn coalesced(self: Box<Self>) -> (Box<dyn Encoding<T>>, Arc<Shared>) {
        Encoding::<T>::coalesced(Box::new(Framed::new(Box::pin(self.sink), self.codec)))
    }
}

#[cold]
fn not_encoded<T>(codec: &impl Encode<T>, source: BoxError) -> Error {
    Error::Encode {
        codec: codec.name(),
        type_name: type_name::<T>(),
        source,
    }
}

#[cfg(test)]
mod tests;
