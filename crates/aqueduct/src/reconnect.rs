//! A client end that connects again when its connection breaks.
//!
//! A [`Reconnect`] is a sink and a stream of frames (the waist of this crate) over one connection
//! after another, made by a function of yours. Typed channels go on top of it as on any transport.
//!
//! # What is promised
//!
//! **At most once, whole, in order.**
//!
//! - A frame is given to one connection and never to another one: none arrives twice.
//! - A frame is given to a connection whole: none arrives torn, if the framing tells a truncated
//!   frame (length and NUL framing and message transports do, lines do not).
//! - Frames arrive in the order in which they were sent, with gaps where a connection broke.
//! - **What may be lost**: frames that were given to a connection that broke. Those not flushed yet
//!   are lost or arrive, nobody knows; those flushed were with the system, and may have been in a
//!   buffer of its. Without an acknowledgement by the peer no one can tell more. Both numbers are
//!   in [`Event::Lost`]; and if any were not flushed, the next call on the sink fails once with
//!   [`Error::Unflushed`], before anything is given to another connection, so that a `send` which
//!   returned `Ok` has been flushed to a connection that was whole at that time.
//! - **What is kept**: frames not yet given to a connection. While there is none the sink takes
//!   none, so that it is its user who waits; there is one place for a frame that was let in just
//!   when the connection broke, which goes to the next connection first.
//! - Received frames are given out in order, those of a connection that broke first. What the peer
//!   sent on it and had not arrived whole is lost; so is what nobody takes from the stream while
//!   [`MAX_UNREAD`] further connections break, which [`Event::Unread`] tells.
//!
//! A peer that needs more numbers its requests and asks again.
//!
//! # When it connects
//!
//! At the first use, and when a connection fails or *ends*: a server that closes is one to come
//! back to. To be done with it, [close](futures_util::SinkExt::close) the sink: then the stream
//! gives what still comes, ends with the connection, and nothing is connected any more.
//!
//! After a loss and between attempts it pauses: [`DEFAULT_FIRST_PAUSE`] at first, then twice as long
//! each time up to [`DEFAULT_LONGEST_PAUSE`], each shortened by a random part of up to a half, so
//! that the clients of a server that restarts do not all come at once. The pauses start anew only
//! when a connection has proved itself, by a frame received or by having lasted for the longest
//! pause: a server that takes connections and drops them is not hammered.
//!
//! It goes on for ever unless told otherwise ([`Options::attempts`], [`Options::give_up_after`]),
//! but for errors which no time will cure ([`Options::retry_if`]).
//!
//! It has no task of its own: it connects while its sink or its stream is polled, and needs a Tokio
//! runtime with time enabled.

mod error;
mod event;
mod half;
mod options;
mod shared;
#[cfg(test)]
mod tests;
mod unread;

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_core::{FusedStream, Stream};
use futures_sink::Sink;

pub use self::error::Error;
pub use self::event::Event;
pub use self::half::{ReconnectSink, ReconnectStream};
pub use self::options::{
    DEFAULT_ATTEMPT_TIMEOUT, DEFAULT_FIRST_PAUSE, DEFAULT_LONGEST_PAUSE, Options,
};
pub use self::unread::MAX_UNREAD;

/// A sink and a stream of frames that connects again; see [the module](self).
///
/// # Cancel safety
///
/// Dropping a future of `next`, `send`, `flush` or `close` leaves connecting where it is, to go on
/// with the next one. As for every sink, a dropped `send` may have given its frame or not.
///
/// # Examples
///
/// ```
/// use aqueduct::codec::Text;
/// use aqueduct::frame::{FramedRead, FramedWrite, Framing};
/// use aqueduct::reconnect::Options;
/// use aqueduct::{Channel, Receiver, Sender};
/// use tokio::net::UnixStream;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("socket");
/// # let listener = tokio::net::UnixListener::bind(&path)?;
/// # let server = tokio::spawn(async move {
/// #     for _ in 0..2 {
/// #         let (stream, _) = listener.accept().await?;
/// #         let (mut read, mut write) = stream.into_split();
/// #         let mut buf = [0; 5];
/// #         tokio::io::AsyncReadExt::read_exact(&mut read, &mut buf).await?;
/// #         tokio::io::AsyncWriteExt::write_all(&mut write, &buf).await?;
/// #     }
/// #     std::io::Result::Ok(())
/// # });
/// let connection = Options::new()
///     .on_event(|event| println!("{event}"))
///     .connect(move || {
///         let path = path.clone();
///         async move {
///             let (read, write) = UnixStream::connect(path).await?.into_split();
///             Ok((
///                 FramedWrite::new(write, Framing::lines()),
///                 FramedRead::new(read, Framing::lines()),
///             ))
///         }
///     });
/// let (sink, stream) = connection.into_split();
/// let mut sender: Sender<String> = Sender::new(sink, Text);
/// let mut receiver: Receiver<String> = Receiver::new(stream, Text);
///
/// for _ in 0..2 {
///     // The server closes after each reply, so a request may meet a connection that is gone.
///     // Whether it may then be sent again is for its sender to say: a ping may.
///     while let Err(error) = sender.send("ping".into()).await {
///         println!("{error}");
///     }
///     assert_eq!(receiver.recv().await.transpose()?.as_deref(), Some("ping"));
/// }
/// # server.await??;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "it does nothing unless used"]
pub struct Reconnect {
    sink: ReconnectSink,
    stream: ReconnectStream,
}

impl Reconnect {
    /// Takes the two directions apart, for two tasks. Both drive the connecting.
    pub fn into_split(self) -> (ReconnectSink, ReconnectStream) {
        (self.sink, self.stream)
    }
}

impl Stream for Reconnect {
    type Item = io::Result<Bytes>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        Pin::new(&mut self.get_mut().stream).poll_next(cx)
    }
}

impl FusedStream for Reconnect {
    fn is_terminated(&self) -> bool {
        self.stream.is_terminated()
    }
}

impl Sink<Bytes> for Reconnect {
    type Error = io::Error;

    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().sink).poll_ready(cx)
    }

    fn start_send(self: Pin<&mut Self>, frame: Bytes) -> io::Result<()> {
        Pin::new(&mut self.get_mut().sink).start_send(frame)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().sink).poll_flush(cx)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().sink).poll_close(cx)
    }
}
