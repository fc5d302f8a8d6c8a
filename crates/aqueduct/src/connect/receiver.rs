use std::fmt::{self, Debug, Formatter};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_core::Stream;
use futures_util::StreamExt;
use sync_wrapper::SyncWrapper;

use super::attached::Attached;
use super::receipt::Last;
use super::{Message, MessageSender};
use crate::channel::{Receiver, lent};
use crate::codec::Decode;
use crate::frame::{BoxFrameStream, Late, Lend, Lent};

/// The receiving end of an endpoint: a `Stream` of [`Message`]s.
///
/// # Errors
///
/// Errors of the transport, with the errno, or a [`FrameError`](crate::frame::FrameError) inside an
/// [`io::Error`]. An error of a byte stream is its last item.
///
/// # Ending early
///
/// Leaving a loop with `break` and dropping the receiver loses messages that were read together
/// with the last one. Call [`stop`](Self::stop) first, then receive until `None`.
///
/// # Cancel safety
///
/// Cancel safe. Dropping a future of `next()` loses nothing.
///
/// # Examples
///
/// ```
/// use aqueduct::Endpoint;
/// use aqueduct::connect::Options;
/// use aqueduct::frame::Framing;
/// use futures_util::StreamExt;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let seq: Endpoint = "exec:seq 3".parse()?;
/// let mut options = Options::new();
/// options.framing(Framing::lines());
/// let mut receiver = options.open_receiver(&seq).await?;
/// while let Some(message) = receiver.next().await.transpose()? {
///     println!("{:?}", message.body());
/// }
/// # Ok(()) }
/// ```
#[must_use = "streams do nothing unless polled"]
pub struct MessageReceiver {
    inlet: SyncWrapper<Pin<Box<dyn Inlet + Send>>>,
    attached: Attached,
}

/// A transport's receiving end.
pub(crate) trait Inlet: Stream<Item = io::Result<Message>> {
    /// Polls for the next message's body. `last` keeps its receipt.
    fn poll_body(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        last: &mut Last,
    ) -> Poll<Option<io::Result<Bytes>>> {
        let next = ready!(self.poll_next(cx));
        Poll::Ready(next.map(|next| {
            next.map(|mut message| {
                last.keep(&mut message);
                message.into_body()
            })
        }))
    }

    /// Polls for the next message's body, borrowed where the transport has a buffer to lend.
    ///
    /// `last` keeps its receipt.
    fn poll_lend(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        last: &mut Last,
    ) -> Poll<Option<io::Result<Lent<'_>>>> {
        let next = ready!(self.poll_next(cx));
        Poll::Ready(next.map(|next| {
            next.map(|mut message| {
                last.keep(&mut message);
                Lent::Kept(message.into_body())
            })
        }))
    }

    /// Takes nothing new from the transport. Messages that were taken are still delivered.
    fn stop(self: Pin<&mut Self>);

    /// Ends after `count` messages and takes nothing beyond them.
    fn limit(self: Pin<&mut Self>, count: u64);

    /// Returns how many bytes of an unfinished message were taken.
    fn unfinished(self: Pin<&mut Self>) -> usize;

    /// What becomes of `owed` replies that are given up, `sent` messages later.
    fn late(self: Pin<&mut Self>, _owed: u64, _sent: u64) -> Late {
        Late::InOrder { lost: 0 }
    }

    /// Whether untaken messages survive this process. Then as few as possible must be taken ahead.
    fn is_stored(self: Pin<&mut Self>) -> bool {
        false
    }
}

impl MessageReceiver {
    pub(crate) fn new(inlet: impl Inlet + Send + 'static) -> Self {
        Self {
            inlet: SyncWrapper::new(Box::pin(inlet)),
            attached: Attached::default(),
        }
    }

    /// Creates a receiver over a stream of your own transport.
    ///
    /// Messages that can be delivered again have a [receipt](super::Receipt) each. Once the receiver is
    /// [stopped](Self::stop), the stream is not polled any more.
    ///
    /// # Examples
    ///
    /// See [`Receipt`](super::Receipt).
    pub fn from_messages(
        messages: impl Stream<Item = io::Result<Message>> + Send + Unpin + 'static,
    ) -> Self {
        Self::new(Whole {
            messages,
            held: None,
            left: None,
        })
    }

    /// Receives frames as messages.
    pub(crate) fn frames(
        frames: impl Stream<Item = io::Result<Bytes>> + Send + Unpin + 'static,
    ) -> Self {
        Self::from_messages(frames.map(|frame| frame.map(Message::new)))
    }

    /// Keeps `sender` open until this has ended.
    pub(super) fn holding(self, sender: MessageSender) -> Self {
        Self::new(Whole {
            messages: self,
            held: Some(sender),
            left: None,
        })
    }

    fn inlet(&mut self) -> Pin<&mut (dyn Inlet + Send)> {
        self.inlet.get_mut().as_mut()
    }

    /// Returns what its mechanism has attached.
    pub(crate) fn attached(&mut self) -> &mut Attached {
        &mut self.attached
    }

    /// Ends the stream after `count` more messages.
    ///
    /// Nothing beyond them is taken from the transport, so the next reader finds the beginning of a
    /// message. For this the last reads of a byte stream get smaller, with delimiters down to one
    /// byte.
    pub fn limit(&mut self, count: u64) {
        self.inlet().limit(count);
    }

    /// Stops taking new messages; the stream delivers those already taken, and ends.
    ///
    /// What happens to messages that were sent and not yet taken depends on the mechanism:
    ///
    /// - **Queue, FIFO, pipe, program, inherited socket**: they stay for the next reader. A message
    ///   whose first part was taken is read to its end and no further. A FIFO whose last writer has
    ///   closed it is read to its end, since its contents would vanish otherwise.
    /// - **Unix sockets** (`unix:`, `unixpacket:`): everything that the kernel has taken from the
    ///   peer is delivered. From now on the peer's writes fail with `EPIPE`. A message that is cut
    ///   in two by this is not delivered, and its sender knows. Clients that wait to be accepted
    ///   are received from too; later ones are refused.
    /// - **Datagrams** (`unixgram:`, `udp:`): those in the receive buffer are delivered. Later sends
    ///   to a bound Unix socket fail with `EPIPE`; UDP cannot tell its senders. Those of a socket
    ///   that a service manager has bound stay for its next process.
    /// - **TCP**: ending the other direction tells the peer, and everything that it sends until it
    ///   ends its own is delivered. A peer may ignore this ([`Options::reconnect`] does not), so
    ///   use a time limit. Data that arrives after that limit is lost without the peer knowing. A
    ///   connection that is made at that very moment is reset.
    ///
    /// If the rest of a message does not arrive, the stream waits; [`unfinished`](Self::unfinished)
    /// returns how much of it there is. Drop the stream as soon as it has ended: a FIFO is kept
    /// open by each process that holds it.
    ///
    /// [`Options::reconnect`]: super::Options::reconnect
    ///
    /// # Examples
    ///
    /// ```
    /// use aqueduct::connect::Connection;
    /// use futures_util::{SinkExt, StreamExt};
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (here, there) = Connection::pair();
    /// let mut sender = here.into_sender();
    /// sender.feed("one".into()).await?;
    /// sender.feed("two".into()).await?;
    /// sender.close().await?;
    ///
    /// let mut receiver = there.into_receiver();
    /// let first = receiver.next().await.ok_or("end of stream")??;
    /// receiver.stop();
    /// // "two" was read together with "one", so it is still delivered.
    /// while let Some(message) = receiver.next().await.transpose()? {
    ///     println!("{:?} after {:?}", message.body(), first.body());
    /// }
    /// # Ok(()) }
    /// ```
    pub fn stop(&mut self) {
        self.inlet().stop();
    }

    /// Returns how many bytes of an unfinished message were taken, framing included.
    pub fn unfinished(&mut self) -> usize {
        self.inlet().unfinished()
    }

    /// See [`Inlet::late`].
    pub(super) fn late(&mut self, owed: u64, sent: u64) -> Late {
        self.inlet().late(owed, sent)
    }

    /// See [`Inlet::is_stored`].
    pub(crate) fn is_stored(&mut self) -> bool {
        self.inlet().is_stored()
    }

    /// Creates a receiver of items that `codec` parses from the bodies.
    ///
    /// A message that has a [receipt](super::Receipt) is settled when the next item is asked for. This is
    /// right for a loop that finishes each item before it asks for the next one. A loop that spawns
    /// a task for each item, or collects items, settles unfinished work: use
    /// [`deliveries`](Self::deliveries) there.
    pub fn typed<T>(self, codec: impl Decode<T> + 'static) -> Receiver<T> {
        lent(Frames::new(self), codec)
    }

    /// Returns a stream of frames: bodies without anything else.
    ///
    /// A message that has a [receipt](super::Receipt) is settled when the next frame is asked for.
    pub fn into_frames(self) -> BoxFrameStream {
        Box::pin(Frames::new(self))
    }
}

impl Stream for MessageReceiver {
    type Item = io::Result<Message>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.inlet().poll_next(cx)
    }
}

impl Debug for MessageReceiver {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.debug_struct("MessageReceiver").finish_non_exhaustive()
    }
}

/// An inlet over a stream of whole messages.
struct Whole<S> {
    messages: S,
    /// The other direction, if nothing is sent.
    held: Option<MessageSender>,
    /// How many messages may still be delivered, if limited.
    left: Option<u64>,
}

impl<S: Stream<Item = io::Result<Message>> + Unpin> Stream for Whole<S> {
    type Item = io::Result<Message>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.left == Some(0) {
            return Poll::Ready(None);
        }
        let Some(message) = ready!(Pin::new(&mut self.messages).poll_next(cx)) else {
            self.held = None;
            return Poll::Ready(None);
        };
        if let Some(left) = &mut self.left {
            *left -= 1;
        }
        Poll::Ready(Some(message))
    }
}

impl<S: Stream<Item = io::Result<Message>> + Unpin> Inlet for Whole<S> {
    fn stop(mut self: Pin<&mut Self>) {
        // A message is taken and delivered in one step, so none is ever in hand.
        self.left = Some(0);
    }

    fn limit(mut self: Pin<&mut Self>, count: u64) {
        self.left = Some(count);
    }

    fn unfinished(self: Pin<&mut Self>) -> usize {
        0
    }
}

/// A stream of frames over a stream of messages.
pub(crate) struct Frames {
    incoming: MessageReceiver,
    last: Last,
}

impl Frames {
    pub(crate) fn new(incoming: MessageReceiver) -> Self {
        Self {
            incoming,
            last: Last::default(),
        }
    }

    /// Whether an unfinished message has begun.
    pub(crate) fn has_begun(&mut self) -> bool {
        self.incoming.unfinished() > 0
    }
}

impl Stream for Frames {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Self { incoming, last } = &mut *self;
        last.settle();
        incoming.inlet().poll_body(cx, last)
    }
}

impl Lend for Frames {
    #[inline]
    fn poll_lend(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Lent<'_>>>> {
        self.last.settle();
        self.incoming.inlet().poll_lend(cx, &mut self.last)
    }

    fn is_unsettled(&self) -> bool {
        self.last.is_open()
    }

    fn late(&mut self, owed: u64, sent: u64) -> Late {
        self.incoming.late(owed, sent)
    }

    fn stop(&mut self) {
        self.incoming.stop();
    }
}
