//! [`Sender`] and [`Receiver`]: the two directions of a socket, as a `Sink` and a `Stream`.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_core::Stream;
use futures_core::stream::FusedStream;
use futures_sink::Sink;
use tokio::task::coop::poll_proceed;

use super::socket::Socket;
use crate::frame::FrameError;
use crate::unix::descriptors::check;

impl Socket {
    /// Splits it into a `Sink` and a `Stream` of messages, for two tasks.
    pub fn into_split(self) -> (Sender, Receiver) {
        let socket = Arc::new(self);
        (Sender::new(Arc::clone(&socket)), Receiver::new(socket))
    }
}

/// The sending direction of a [`Socket`]: a `Sink` of messages.
///
/// At most one message waits in it, when the socket's buffer is full; `flush` sends it. `close`, or
/// dropping it, ends the direction: the peer receives the sent messages, then the end of stream. A
/// message that still waits when it is dropped is lost with a `tracing` warning.
///
/// A message that cannot be sent (see [`Socket::send`]) is an error of `start_send`, and the sink
/// goes on with the next one.
///
/// # Examples
///
/// ```
/// use aqueduct::bytes::Bytes;
/// use aqueduct::unix::seqpacket;
/// use futures_util::{SinkExt, StreamExt};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> std::io::Result<()> {
/// let (a, b) = seqpacket::pair()?;
/// let (mut sender, _) = a.into_split();
/// let (_sender, mut receiver) = b.into_split();
/// sender.feed(Bytes::from("one")).await?;
/// sender.feed(Bytes::from("two")).await?;
/// sender.close().await?;
/// while let Some(message) = receiver.next().await.transpose()? {
///     println!("{message:?}");
/// }
/// # Ok(()) }
/// ```
#[derive(Debug)]
#[must_use = "sinks do nothing unless polled"]
pub struct Sender {
    socket: Arc<Socket>,
    waiting: Option<Bytes>,
    closed: bool,
}

impl Sender {
    fn new(socket: Arc<Socket>) -> Self {
        Self {
            socket,
            waiting: None,
            closed: false,
        }
    }

    pub(super) fn socket(&self) -> &Socket {
        &self.socket
    }

    /// Drops the waiting message, which is sent elsewhere.
    pub(crate) fn abandon(&mut self) {
        self.waiting = None;
    }

    fn poll_waiting(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(message) = &self.waiting {
            let sent = ready!(self.socket.poll_send(cx, message));
            // Sent or not: a message that failed once would fail each time.
            self.waiting = None;
            sent?;
        }
        Poll::Ready(Ok(()))
    }
}

impl AsFd for Sender {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Sink<Bytes> for Sender {
    type Error = io::Error;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let proceed = ready!(poll_proceed(cx));
        ready!(self.poll_waiting(cx))?;
        proceed.made_progress();
        Poll::Ready(Ok(()))
    }

    fn start_send(mut self: Pin<&mut Self>, message: Bytes) -> io::Result<()> {
        if self.closed {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        if self.waiting.is_some() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "start_send without a poll_ready before it",
            ));
        }
        check::<BorrowedFd<'_>>(&message, &[])?;
        match self.socket.try_send(&message) {
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                self.waiting = Some(message);
                Ok(())
            }
            result => result,
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Pending where `poll_ready` is, also for lack of budget: some callers flush until there is
        // room, and would spin.
        drop(ready!(poll_proceed(cx)));
        self.poll_waiting(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_waiting(cx))?;
        if !self.closed {
            self.closed = true;
            self.socket.shutdown_write()?;
        }
        Poll::Ready(Ok(()))
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        if let Some(message) = &self.waiting {
            tracing::warn!(
                target: "aqueduct::unsent",
                bytes = message.len(),
                "dropped with a message unsent"
            );
        }
        if !self.closed {
            // It fails only if there is no peer any more.
            let _ = self.socket.shutdown_write();
        }
    }
}

/// The receiving direction of a [`Socket`]: a `Stream` of messages.
///
/// A message that cannot be received (see [`Socket::recv`]) is one error, and the next one follows.
/// Any other error, and the end of the stream, end it for good.
///
/// # Examples
///
/// ```
/// use aqueduct::unix::seqpacket;
/// use futures_util::StreamExt;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> std::io::Result<()> {
/// let (a, b) = seqpacket::pair()?;
/// a.send(b"hello").await?;
/// drop(a);
/// let (_sender, mut receiver) = b.into_split();
/// assert_eq!(receiver.next().await.transpose()?.as_deref(), Some(&b"hello"[..]));
/// assert!(receiver.next().await.is_none());
/// # Ok(()) }
/// ```
#[derive(Debug)]
#[must_use = "streams do nothing unless polled"]
pub struct Receiver {
    socket: Arc<Socket>,
    done: bool,
}

impl Receiver {
    fn new(socket: Arc<Socket>) -> Self {
        Self {
            socket,
            done: false,
        }
    }

    pub(super) fn get_ref(&self) -> &Socket {
        &self.socket
    }
}

impl AsFd for Receiver {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Stream for Receiver {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.done {
            return Poll::Ready(None);
        }
        let received = ready!(self.socket.poll_recv(cx));
        if let Err(error) = &received {
            self.done = FrameError::of(error).is_none();
            tracing::debug!(%error, "receiving");
        }
        if let Ok(None) = &received {
            self.done = true;
            tracing::debug!("the peer has ended the stream");
        }
        Poll::Ready(received.transpose())
    }
}

impl FusedStream for Receiver {
    fn is_terminated(&self) -> bool {
        self.done
    }
}
