//! Framing: where one message ends and the next begins on a stream of bytes.
//!
//! Everything above a transport speaks in *frames*: a frame is one message's bytes, whole. This
//! module cuts byte streams into frames and back, on tokio-util's [`Encoder`] and [`Decoder`]:
//!
//! ```text
//!  AsyncRead  ── FramedRead  ──>  Stream<Item = io::Result<Bytes>>
//!  AsyncWrite <── FramedWrite ──  Sink<Bytes, Error = io::Error>
//! ```
//!
//! These two forms are the narrow waist of the crate. Whatever is such a `Stream` or `Sink` can
//! carry a [`Sender`](crate::Sender), a [`Receiver`](crate::channel::Receiver) or a
//! [`Channel`](crate::Channel), also if it comes from outside the crate.
//!
//! # Which framing
//!
//! | [`Framing`] | on the wire | a message may hold | a stream that ends inside a frame |
//! |---|---|---|---|
//! | [`length`](Framing::length) | 4 bytes, big-endian length, then the body (tokio-util's `LengthDelimitedCodec` by default) | any bytes | [`UnexpectedEof`](std::io::ErrorKind::UnexpectedEof) |
//! | [`lines`](Framing::lines) | the body, then `\n` | no `\n` | the rest is the last message |
//! | [`nul`](Framing::nul) | the body, then `\0` | no `\0` | [`UnexpectedEof`](std::io::ErrorKind::UnexpectedEof) |
//! | [`raw`](Framing::raw) | the body alone | any bytes, but no boundaries are kept | cannot happen |
//!
//! # What is promised
//!
//! - The largest frame is limited at both ends, [`DEFAULT_MAX_FRAME`] unless said otherwise: a
//!   sender refuses a larger one before any byte of it is written, a receiver before it reserves
//!   memory for it. Memory grows as bytes arrive, never because a header says so.
//! - After an error a [`FramedRead`] has ended: it never guesses where the next frame might begin.
//!   All frames that came whole before the error have been delivered.
//! - An encoder that fails leaves nothing behind: the next frame starts clean.
//! - A received frame of less than [`COPY_BELOW`] bytes is copied out of the read buffer, so that
//!   keeping it does not keep the buffer. It shares memory with its neighbours, which is used again
//!   when all of them have been dropped: keeping one frame keeps 1 KiB at most, or 32 times its
//!   size. Larger ones are read into memory of their own and handed over without a copy, and a
//!   [`FramedWrite`] does not copy them either where its transport can gather.
//! - In the steady state no message allocates: memory is used again when its frames are dropped.
//!   [`FramedRead::next_borrowed`] does not even copy.
//!
//! [`Encoder`]: tokio_util::codec::Encoder
//! [`Decoder`]: tokio_util::codec::Decoder

mod decode;
mod decoder;
mod encode;
mod error;
mod framing;
mod inbox;
mod pace;
mod read;
mod slabs;
mod user_codec;
mod write;
mod write_buf;

use std::io;
use std::pin::Pin;

use bytes::Bytes;
use futures_core::Stream;
use futures_sink::Sink;

pub(crate) use self::encode::NotQueued;
pub use self::error::FrameError;
pub(crate) use self::framing::DEFAULT_MAX_FRAME;
pub use self::framing::{Framing, Partial, TooLong};
#[cfg(test)]
pub(crate) use self::pace::PIPE_CHUNK;
pub(crate) use self::pace::Pace;
pub use self::read::FramedRead;
pub(crate) use self::read::{Lend, Within};
#[cfg(test)]
pub(crate) use self::slabs::COPY_BELOW;
pub(crate) use self::slabs::Slabs;
pub use self::user_codec::UserCodec;
pub use self::write::FramedWrite;
pub(crate) use self::write::QueueWith;

/// A boxed stream of frames: the receiving half of the waist.
pub type BoxFrameStream = Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>>;

/// A boxed sink of frames: the sending half of the waist.
pub type BoxFrameSink = Pin<Box<dyn Sink<Bytes, Error = io::Error> + Send>>;
