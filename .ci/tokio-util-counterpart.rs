//! What stands for tokio-util's types in its own tests, made of the public API: see `tokio-util-tests`.

use std::pin::Pin;
use std::task::{Context, Poll};

use aqueduct::frame::UserCodec;
pub use aqueduct::frame::{FramedRead, FramedWrite};
use bytes::BytesMut;
use futures_core::Stream;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::codec::length_delimited::Builder;
pub use tokio_util::codec::{Decoder, Encoder, LengthDelimitedCodec, length_delimited};

/// `FramedRead::map_decoder`: the same transport and buffer with another decoder.
pub trait MapDecoder<R, D> {
    fn map_decoder<E: Decoder>(self, map: impl FnOnce(&D) -> E) -> FramedRead<R, UserCodec<E>>;
}

impl<R, D: Decoder> MapDecoder<R, D> for FramedRead<R, UserCodec<D>> {
    fn map_decoder<E: Decoder>(mut self, map: impl FnOnce(&D) -> E) -> FramedRead<R, UserCodec<E>> {
        let decoder = map(self.decoder_mut());
        let (io, read) = self.into_parts();
        FramedRead::with_codec(io, decoder).with_read_buffer(read)
    }
}

/// `FramedWrite::map_encoder`: the same transport with another encoder.
pub trait MapEncoder<W, E> {
    fn map_encoder<F>(self, map: impl FnOnce(&E) -> F) -> FramedWrite<W, UserCodec<F>>;
}

impl<W: AsyncWrite, E> MapEncoder<W, E> for FramedWrite<W, UserCodec<E>> {
    fn map_encoder<F>(mut self, map: impl FnOnce(&E) -> F) -> FramedWrite<W, UserCodec<F>> {
        let encoder = map(self.encoder_mut());
        let (io, unsent) = self.into_parts();
        assert!(unsent.is_empty(), "unsent bytes have no place in a new sink");
        FramedWrite::with_codec(io, encoder)
    }
}

/// `Builder::new_read` and `new_write`.
pub trait Make {
    fn make_read<R>(&self, io: R) -> FramedRead<R, UserCodec<LengthDelimitedCodec>>;

    fn make_write<W: AsyncWrite>(&self, io: W) -> FramedWrite<W, UserCodec<LengthDelimitedCodec>>;
}

impl Make for Builder {
    fn make_read<R>(&self, io: R) -> FramedRead<R, UserCodec<LengthDelimitedCodec>> {
        FramedRead::with_codec(io, self.new_codec())
    }

    fn make_write<W: AsyncWrite>(&self, io: W) -> FramedWrite<W, UserCodec<LengthDelimitedCodec>> {
        FramedWrite::with_codec(io, self.new_codec())
    }
}

/// The reading half of `Framed`.
pub struct Framed<R, D: Decoder>(FramedRead<R, UserCodec<D>>);

pub struct FramedParts<R, D> {
    pub io: R,
    pub codec: Option<D>,
    pub read_buf: BytesMut,
}

impl<R, D> FramedParts<R, D> {
    pub fn new(io: R, codec: D) -> Self {
        Self {
            io,
            codec: Some(codec),
            read_buf: BytesMut::new(),
        }
    }
}

impl<R, D: Decoder> Framed<R, D> {
    pub fn from_parts(parts: FramedParts<R, D>) -> Self {
        let codec = parts.codec.expect("it is new");
        Self(FramedRead::with_codec(parts.io, codec).with_read_buffer(parts.read_buf))
    }

    pub fn into_parts(self) -> FramedParts<R, D> {
        let (io, read_buf) = self.0.into_parts();
        FramedParts {
            io,
            codec: None,
            read_buf,
        }
    }

    pub fn codec(&mut self) -> &D {
        self.0.decoder_mut()
    }

    pub fn map_codec<E: Decoder>(self, map: impl FnOnce(&D) -> E) -> Framed<R, E> {
        Framed(self.0.map_decoder(map))
    }
}

impl<R: AsyncRead + Unpin, D: Decoder + Unpin> Stream for Framed<R, D> {
    type Item = Result<D::Item, D::Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Pin::new(&mut self.0).poll_next(cx)
    }
}
