//! Framing: splits byte streams into messages.
//!
//! Everything above a transport works on *frames*: a frame holds the bytes of one whole message.
//! This module converts between byte streams and frames, on tokio-util's [`Encoder`] and
//! [`Decoder`]:
//!
//! ```text
//!  AsyncRead  ── FramedRead  ──>  Stream<Item = io::Result<Bytes>>
//!  AsyncWrite <── FramedWrite ──  Sink<Bytes, Error = io::Error>
//! ```
//!
//! Any such `Stream` or `Sink`, including those of other crates, can carry a
//! [`Sender`](crate::Sender), a [`Receiver`](crate::Receiver) or a [`Channel`](crate::Channel).
//!
//! # Examples
//!
//! ```
//! use aqueduct::bytes::Bytes;
//! use aqueduct::frame::{FramedRead, FramedWrite, Framing};
//! use futures_util::{SinkExt, StreamExt};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> std::io::Result<()> {
//! let (there, here) = tokio::io::duplex(1024);
//! let mut frames = FramedWrite::new(there, Framing::length());
//! frames.send(Bytes::from("hello")).await?;
//! frames.close().await?;
//!
//! let mut frames = FramedRead::new(here, Framing::length());
//! while let Some(frame) = frames.next().await {
//!     assert_eq!(frame?, "hello");
//! }
//! # Ok(()) }
//! ```
//!
//! # Which framing
//!
//! | [`Framing`] | on the wire | a message may hold |
//! |---|---|---|
//! | [`length`](Framing::length) | 4 bytes of big-endian length, then the body (the default of tokio-util's `LengthDelimitedCodec`) | any bytes |
//! | [`lines`](Framing::lines) | the body, then `\n` | no `\n` |
//! | [`crlf`](Framing::crlf) | the body, then `\r\n` | no `\n` |
//! | [`nul`](Framing::nul) | the body, then `\0` | no `\0` |
//! | [`raw`](Framing::raw) | the body alone | any bytes, but no boundaries are kept |
//! | `u8`, `u16be`, `u16le`, `u32le`, `u64be`, `u64le` | a length of that width and byte order, then the body | any bytes |
//! | `u8+header` to `u64le+header`, `u32be+header` | the same, but the length counts its own bytes too | any bytes |
//! | [`netstring`](Framing::netstring) | `5:hello,` | any bytes |
//! | [`headers`](Framing::headers) | `Content-Length: 5`, an empty line, then the body, as for language servers | any bytes |
//! | [`cobs`](Framing::cobs) | the body without its zero bytes, then `\0`, as over serial lines | any bytes |
//!
//! Names parse to framings: `"u16le".parse::<Framing>()`. An address takes one as its option `frame`, as
//! in `unix:/run/app.sock?frame=u16le`.
//!
//! A sender that is killed inside a message leaves its first part. With a length this is an error
//! of kind [`UnexpectedEof`](std::io::ErrorKind::UnexpectedEof). With `lines`, `crlf` and `nul` it
//! looks like a last message without its delimiter:
//!
//! | receiver | rest after the last delimiter | message over the limit |
//! |---|---|---|
//! | one input: a file, a pipe, a child process, a connection | is the last message | ends the stream with an error |
//! | a collector: all clients of a listening socket, a persistent FIFO | is dropped, with a warning | is skipped, with a warning |
//! | set by | [`Framing::partial`] | [`Framing::too_long`] |
//!
//! # Guarantees
//!
//! - The largest frame is limited at both ends, to 1 MiB by default. A sender refuses a larger
//!   frame before any byte of it is written, a receiver before it reserves memory for it. Memory
//!   grows as bytes arrive, never because of a header. `raw` has no frames to limit.
//! - After an error a [`FramedRead`] has ended: it never guesses where the next frame might begin.
//!   Whole frames before the error are delivered. After the end of the transport it is not read
//!   again.
//! - An encoder that fails leaves nothing behind: the next frame starts clean. An encoder that
//!   changes its buffer instead of appending to it never harms another frame silently.
//! - A received frame of less than 16 KiB is copied out of the read buffer, so that keeping it does
//!   not keep the buffer. It shares memory with its neighbours, which is reused when all of them
//!   have been dropped: keeping one frame keeps at most 1 KiB, or 32 times its size. Larger frames
//!   are read into separate memory and passed on without a copy. A [`FramedWrite`] does not copy
//!   them either, if its transport supports vectored writes.
//! - In the steady state no message allocates: memory is reused when its frames are dropped.
//!   [`FramedRead::next_borrowed`] does not even copy.
//!
//! # Coming from tokio-util
//!
//! `FramedRead::with_codec` and `FramedWrite::with_codec` take any tokio-util [`Decoder`] and
//! [`Encoder`]. They behave like tokio-util's types of the same name, except:
//!
//! - A `FramedRead` is fused: after an error or the end of the transport it returns only `None`.
//!   tokio-util's reads again.
//! - Buffers are allocated when the first bytes arrive and grow to a chunk of 64 KiB; tokio-util's
//!   begin with 8 KiB. `with_chunk` sets another size and replaces `set_backpressure_boundary`.
//! - A `FramedWrite` keeps its encoder as long as it has unsent bytes, so there is no
//!   `map_encoder`.
//! - There is no `Framed` that reads and writes: split the transport, or use a
//!   [`Channel`](crate::Channel).
//!
//! [`Encoder`]: tokio_util::codec::Encoder
//! [`Decoder`]: tokio_util::codec::Decoder

mod cut;
mod decoder;
mod encode;
mod error;
mod find;
mod framing;
mod front;
mod headers;
mod inbox;
mod length;
mod netstring;
mod pace;
mod pool;
mod read;
mod scratch;
mod slabs;
mod stuffed;
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
pub(crate) use self::read::{Late, Lend, Lent, Within};
pub(crate) use self::scratch::received;
#[cfg(test)]
pub(crate) use self::slabs::COPY_BELOW;
pub(crate) use self::slabs::Slabs;
pub use self::user_codec::UserCodec;
pub use self::write::FramedWrite;
pub(crate) use self::write::{QueueWith, WriteBody};

/// A boxed stream of frames.
///
/// # Examples
///
/// ```
/// use aqueduct::connect::Connection;
/// use aqueduct::frame::{BoxFrameSink, BoxFrameStream};
/// use futures_util::{SinkExt, StreamExt};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (here, there) = Connection::pair();
/// let (mut sink, _): (BoxFrameSink, BoxFrameStream) = here.into_frames();
/// let (_, mut stream) = there.into_frames();
/// sink.send("hello".into()).await?;
/// assert_eq!(stream.next().await.transpose()?.as_deref(), Some(&b"hello"[..]));
/// # Ok(()) }
/// ```
pub type BoxFrameStream = Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>>;

/// A boxed sink of frames.
///
/// # Examples
///
/// A sink of another crate as the waist of a typed sender:
///
/// ```
/// use aqueduct::frame::BoxFrameSink;
/// use aqueduct::{Sender, codec::Text};
/// use futures_util::{SinkExt, sink};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), aqueduct::Error> {
/// let discard: BoxFrameSink = Box::pin(sink::drain().sink_map_err(std::io::Error::other));
/// let mut sender: Sender<&str> = Sender::new(discard, Text);
/// sender.send("hello").await?;
/// # Ok(()) }
/// ```
pub type BoxFrameSink = Pin<Box<dyn Sink<Bytes, Error = io::Error> + Send>>;
