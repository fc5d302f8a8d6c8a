//! Framing: where one message ends and the next begins on a byte stream.
//!
//! Everything above a transport works on *frames*: a frame holds the bytes of one whole message. This
//! module cuts byte streams into frames and back, on tokio-util's [`Encoder`] and [`Decoder`]:
//!
//! ```text
//!  AsyncRead  ── FramedRead  ──>  Stream<Item = io::Result<Bytes>>
//!  AsyncWrite <── FramedWrite ──  Sink<Bytes, Error = io::Error>
//! ```
//!
//! These two forms are the narrow waist of the crate. Any such `Stream` or `Sink` can carry a
//! [`Sender`](crate::Sender), a [`Receiver`](crate::Receiver) or a [`Channel`](crate::Channel), also
//! one from outside the crate.
//!
//! # Which framing
//!
//! | [`Framing`] | on the wire | a message may hold |
//! |---|---|---|
//! | [`length`](Framing::length) | 4 bytes, big-endian length, then the body (tokio-util's `LengthDelimitedCodec` by default) | any bytes |
//! | [`lines`](Framing::lines) | the body, then `\n` | no `\n` |
//! | [`nul`](Framing::nul) | the body, then `\0` | no `\0` |
//! | [`raw`](Framing::raw) | the body alone | any bytes, but no boundaries are kept |
//!
//! A sender that is killed in the middle of a message leaves its first part. With `length` that is an
//! error of kind [`UnexpectedEof`](std::io::ErrorKind::UnexpectedEof). With `lines` and `nul` it looks
//! like a last message without its delimiter:
//!
//! | receiver | the rest after the last delimiter | a message over the limit |
//! |---|---|---|
//! | one input: a file, a pipe, a child process, a connection | is the last message | ends the stream with an error |
//! | a collector: all clients of a listening socket, a persistent FIFO | is dropped, with a warning | is skipped, with a warning |
//! | set by | [`Framing::partial`] | [`Framing::too_long`] |
//!
//! # Guarantees
//!
//! - The largest frame is limited at both ends, to 1 MiB by default: a sender refuses a larger one
//!   before any byte of it is written, a receiver before it reserves memory for it. Memory grows as
//!   bytes arrive, never because a header says so.
//! - After an error a [`FramedRead`] has ended: it never guesses where the next frame might begin.
//!   All frames that were whole before the error are delivered. The end of the transport is the end
//!   of the stream too: it is not read again.
//! - An encoder that fails leaves nothing behind: the next frame starts clean. An encoder that
//!   changes what is in its buffer instead of appending to it never harms another frame in silence.
//! - A received frame of less than 16 KiB is copied out of the read buffer, so that keeping it does
//!   not keep the buffer. It shares memory with its neighbours, which is reused when all of them
//!   have been dropped: keeping one frame keeps at most 1 KiB, or 32 times its size. Larger frames
//!   are read into separate memory and handed over without a copy, and a [`FramedWrite`] does not
//!   copy them either if its transport supports vectored writes.
//! - In the steady state no message allocates: memory is reused when its frames are dropped.
//!   [`FramedRead::next_borrowed`] does not even copy.
//!
//! # Coming from tokio-util
//!
//! `FramedRead::with_codec` and `FramedWrite::with_codec` take any tokio-util [`Decoder`] and
//! [`Encoder`] and behave as tokio-util's types of the same name, except that
//!
//! - a `FramedRead` is fused: after an error, and after the end of the transport, it only returns
//!   `None`, where tokio-util's reads again;
//! - buffers are allocated when the first bytes arrive, and grow to a chunk of 64 KiB (`with_chunk`
//!   sets another size), where tokio-util's begin with 8 KiB. `with_chunk` is also the counterpart of
//!   `set_backpressure_boundary`;
//! - a `FramedWrite` keeps its encoder as long as it has unsent bytes: there is no `map_encoder`;
//! - there is no `Framed` that reads and writes: split the transport, or use a
//!   [`Channel`](crate::Channel).
//!
//! [`Encoder`]: tokio_util::codec::Encoder
//! [`Decoder`]: tokio_util::codec::Decoder

mod decoder;
mod encode;
mod error;
mod find;
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
pub(crate) use self::read::{Lend, Lent, Within};
#[cfg(test)]
pub(crate) use self::slabs::COPY_BELOW;
pub(crate) use self::slabs::Slabs;
pub use self::user_codec::UserCodec;
pub use self::write::FramedWrite;
pub(crate) use self::write::{QueueWith, WriteBody};

/// A boxed stream of frames: the receiving half of the waist.
pub type BoxFrameStream = Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>>;

/// A boxed sink of frames: the sending half of the waist.
pub type BoxFrameSink = Pin<Box<dyn Sink<Bytes, Error = io::Error> + Send>>;
