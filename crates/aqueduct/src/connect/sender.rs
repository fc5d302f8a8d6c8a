use std::fmt::{self, Debug, Formatter};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_sink::Sink;
use sync_wrapper::SyncWrapper;

use super::attached::Attached;
use super::{Message, Receipt};
use crate::channel::{Sender, straight};
use crate::codec::Encode;
use crate::frame::{BoxFrameSink, NotQueued, QueueWith, WriteBody};

/// The sending end of an endpoint: a `Sink` of [`Message`]s.
///
/// To move many messages with one system call, `feed` them and `flush` once. Call `close` before
/// dropping it: dropping discards unflushed messages. Closing ends the direction: the file
/// descriptor is closed, or the sending half of a socket shut down.
///
/// # Errors
///
/// Errors of the transport, with the errno. A refused message is a
/// [`FrameError`](crate::frame::FrameError) inside an [`io::Error`], and the sink goes on.
///
/// # Receipts
///
/// The [receipts](Receipt) of messages that it was given are settled when a flush, or closing, has
/// succeeded; a stream of `nats:` settles each once it is stored. A message that is refused, and
/// those not flushed when the sender is dropped, are given back.
///
/// # Cancel safety
///
/// Cancel safe: a message is either wholly in the sink or not at all. See
/// [`FramedWrite`](crate::frame::FramedWrite).
///
/// # Examples
///
/// ```
/// use aqueduct::Endpoint;
/// use futures_util::SinkExt;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let cat: Endpoint = "exec:cat".parse()?;
/// let mut sender = cat.open_sender().await?;
/// sender.feed("one".into()).await?;
/// sender.feed("two".into()).await?;
/// sender.close().await?; // flushes
/// # Ok(()) }
/// ```
#[must_use = "sinks do nothing unless polled"]
pub struct MessageSender {
    /// `None` after closing: a pipe has no other way to end.
    outlet: Option<SyncWrapper<Outlet>>,
    attached: Attached,
    broken: Option<Arc<AtomicU64>>,
    /// The largest message, if the mechanism and not the framing limits it.
    largest: Option<usize>,
    /// Those of messages that were given and not flushed.
    receipts: Vec<Receipt>,
    /// The mechanism settles them.
    settles: bool,
}

/// Where messages go. One box for each end, so that a message takes one indirect call.
enum Outlet {
    Messages(Pin<Box<dyn Sink<Message, Error = io::Error> + Send>>),
    /// A byte stream: a codec writes bodies into its buffer.
    Bytes(Box<dyn QueueWith + Send>),
}

impl MessageSender {
    pub(crate) fn new(outlet: impl Sink<Message, Error = io::Error> + Send + 'static) -> Self {
        Self::over(Outlet::Messages(Box::pin(outlet)))
    }

    fn over(outlet: Outlet) -> Self {
        Self {
            outlet: Some(SyncWrapper::new(outlet)),
            attached: Attached::default(),
            broken: None,
            largest: None,
            receipts: Vec::new(),
            settles: false,
        }
    }

    /// Counts the connections that broke.
    pub(super) fn counting(mut self, broken: Arc<AtomicU64>) -> Self {
        self.broken = Some(broken);
        self
    }

    /// Returns what its mechanism has attached.
    pub(crate) fn attached(&mut self) -> &mut Attached {
        &mut self.attached
    }

    pub(crate) fn with_max_message(mut self, bytes: usize) -> Self {
        self.largest = Some(bytes);
        self
    }

    /// Leaves the receipts to the mechanism, which settles each message once it is stored.
    #[cfg(feature = "nats")]
    pub(crate) fn settling(mut self) -> Self {
        self.settles = true;
        self
    }

    /// Returns the largest message, if the mechanism and not the framing limits it.
    pub(super) fn max_message(&self) -> Option<usize> {
        self.largest
    }

    /// Sends the bodies as frames.
    pub(crate) fn frames(
        frames: impl Sink<Bytes, Error = io::Error> + Send + Unpin + 'static,
    ) -> Self {
        Self::new(Frames { frames })
    }

    /// Sends the bodies as frames of a byte stream.
    pub(crate) fn bytes(frames: impl QueueWith + Send + 'static) -> Self {
        Self::over(Outlet::Bytes(Box::new(frames)))
    }

    /// Returns how many broken connections may have lost messages.
    ///
    /// Only an end that [reconnects](super::Options::reconnect) counts them. Each is also a
    /// `tracing` warning.
    pub fn broken_connections(&self) -> u64 {
        let broken = self.broken.as_ref();
        broken.map_or(0, |it| it.load(Ordering::Relaxed))
    }

    /// Creates a sender of items that `codec` turns into bodies.
    pub fn typed<T>(self, codec: impl Encode<T> + 'static) -> Sender<T> {
        straight(self.bodies(), codec)
    }

    /// Returns a sink of frames: bodies without anything else.
    pub fn into_frames(self) -> BoxFrameSink {
        Box::pin(self.bodies())
    }

    /// Returns the bodies of its messages.
    pub(crate) fn bodies(self) -> Bodies {
        Bodies { outgoing: self }
    }
}

impl MessageSender {
    /// Settles what was given: it was flushed.
    #[inline]
    fn settle(&mut self) {
        if !self.receipts.is_empty() {
            self.receipts.drain(..).for_each(Receipt::settle);
        }
    }

    fn outlet(&mut self) -> io::Result<&mut Outlet> {
        let closed = || {
            io::Error::new(
                io::ErrorKind::BrokenPipe,
                "cannot send: this end was closed before",
            )
        };
        let outlet = self.outlet.as_mut().ok_or_else(closed)?;
        Ok(outlet.get_mut())
    }
}

impl Sink<Message> for MessageSender {
    type Error = io::Error;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.outlet()? {
            Outlet::Messages(sink) => sink.as_mut().poll_ready(cx),
            Outlet::Bytes(sink) => Pin::new(sink).poll_ready(cx),
        }
    }

    fn start_send(mut self: Pin<&mut Self>, mut message: Message) -> io::Result<()> {
        let receipt = match self.settles {
            true => None,
            false => message.take_receipt(),
        };
        match self.outlet()? {
            Outlet::Messages(sink) => sink.as_mut().start_send(message),
            Outlet::Bytes(sink) => Pin::new(sink).start_send(message.into_body()),
        }?;
        if let Some(receipt) = receipt {
            self.receipts.push(receipt);
        }
        Ok(())
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(match self.outlet.as_mut().map(SyncWrapper::get_mut) {
            Some(Outlet::Messages(sink)) => sink.as_mut().poll_flush(cx),
            Some(Outlet::Bytes(sink)) => Pin::new(sink).poll_flush(cx),
            // Closing has flushed.
            None => Poll::Ready(Ok(())),
        })?;
        self.settle();
        Poll::Ready(Ok(()))
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(match self.outlet.as_mut().map(SyncWrapper::get_mut) {
            Some(Outlet::Messages(sink)) => sink.as_mut().poll_close(cx),
            Some(Outlet::Bytes(sink)) => Pin::new(sink).poll_close(cx),
            None => Poll::Ready(Ok(())),
        })?;
        self.settle();
        self.outlet = None;
        Poll::Ready(Ok(()))
    }
}

impl Debug for MessageSender {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.debug_struct("MessageSender").finish_non_exhaustive()
    }
}

/// A sink of messages over a sink of frames.
struct Frames<S> {
    frames: S,
}

impl<S: Sink<Bytes, Error = io::Error> + Unpin> Sink<Message> for Frames<S> {
    type Error = io::Error;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.frames).poll_ready(cx)
    }

    fn start_send(mut self: Pin<&mut Self>, message: Message) -> io::Result<()> {
        Pin::new(&mut self.frames).start_send(message.into_body())
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.frames).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.frames).poll_close(cx)
    }
}

/// A sink of frames over a sink of messages.
pub(crate) struct Bodies {
    outgoing: MessageSender,
}

impl Sink<Bytes> for Bodies {
    type Error = io::Error;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.outgoing).poll_ready(cx)
    }

    fn start_send(mut self: Pin<&mut Self>, body: Bytes) -> io::Result<()> {
        match self.outgoing.outlet()? {
            Outlet::Messages(sink) => sink.as_mut().start_send(Message::new(body)),
            Outlet::Bytes(sink) => Pin::new(sink).start_send(body),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.outgoing).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.outgoing).poll_close(cx)
    }
}

impl QueueWith for Bodies {
    fn is_straight(&mut self) -> bool {
        matches!(self.outgoing.outlet(), Ok(Outlet::Bytes(_)))
    }

    #[inline]
    fn queue_with(&mut self, write: &mut WriteBody<'_>) -> Result<(), NotQueued> {
        match self.outgoing.outlet().map_err(NotQueued::Refused)? {
            Outlet::Bytes(sink) => sink.queue_with(write),
            Outlet::Messages(sink) => {
                let send = |body| sink.as_mut().start_send(Message::new(body));
                NotQueued::or_sent(write, send)
            }
        }
    }
}
