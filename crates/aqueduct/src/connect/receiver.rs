use std::fmt::{self, Debug, Formatter};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_core::Stream;
use sync_wrapper::SyncWrapper;

use super::attached::Attached;
use super::{Message, MessageSender};
use crate::channel::{Receiver, lent};
use crate::codec::Decode;
use crate::frame::{BoxFrameStream, Lend, Lent};

/// Messages that come from an endpoint.
///
/// # Errors
///
/// What the transport reports, with its errno, or a [`FrameError`](crate::frame::FrameError)
/// inside an [`io::Error`]. An error of a byte stream is its last item.
///
/// # Ending early
///
/// Leaving a loop by `break` and dropping the receiver loses the messages that were read together with
/// the last one: [`stop`](Self::stop) first, and receive until `None`.
///
/// # Cancel safety
///
/// Dropping a future of `next()` loses nothing.
#[must_use = "streams do nothing unless polled"]
pub struct MessageReceiver {
    inlet: SyncWrapper<Pin<Box<dyn Inlet + Send>>>,
    attached: Attached,
}

/// What each kind of transport has to offer.
pub(crate) trait Inlet: Stream<Item = io::Result<Message>> {
    /// The next message's body, on loan where the transport has a buffer to lend it from.
    fn poll_lend(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Lent<'_>>>> {
        let next = ready!(self.poll_next(cx));
        Poll::Ready(next.map(|next| next.map(|message| Lent::Kept(message.into_body()))))
    }

    /// Takes nothing new from the transport; what was taken is still delivered.
    fn stop(self: Pin<&mut Self>);

    /// Ends after `count` messages and takes nothing of what follows.
    fn limit(self: Pin<&mut Self>, count: u64);

    /// Bytes taken that are no whole message yet.
    fn unfinished(self: Pin<&mut Self>) -> usize;
}

impl MessageReceiver {
    pub(crate) fn new(inlet: impl Inlet + Send + 'static) -> Self {
        Self {
            inlet: SyncWrapper::new(Box::pin(inlet)),
            attached: Attached::default(),
        }
    }

    /// Receives frames as messages.
    pub(crate) fn frames(
        frames: impl Stream<Item = io::Result<Bytes>> + Send + Unpin + 'static,
    ) -> Self {
        Self::new(Whole {
            frames,
            held: None,
            left: None,
        })
    }

    /// Keeps `sender` open until this has ended.
    pub(super) fn holding(self, sender: MessageSender) -> Self {
        Self::new(Whole {
            frames: self.into_frames(),
            held: Some(sender),
            left: None,
        })
    }

    fn inlet(&mut self) -> Pin<&mut (dyn Inlet + Send)> {
        self.inlet.get_mut().as_mut()
    }

    /// What its mechanism has attached.
    pub(crate) fn attached(&mut self) -> &mut Attached {
        &mut self.attached
    }

    /// Ends the stream after `count` more messages, and takes nothing of what follows them from
    /// the transport: the next reader finds the beginning of a message.
    ///
    /// To that end the last reads of a byte stream get smaller and smaller, with delimiters down to
    /// one byte.
    pub fn limit(&mut self, count: u64) {
        self.inlet().limit(count);
    }

    /// Takes no new message: the stream delivers those that were taken, and ends. What happens to
    /// those that were sent and not taken depends on who can still have them:
    ///
    /// - **Queue, FIFO, pipe, program, inherited socket**: they are left where they are, for the
    ///   next reader. A message whose first part was taken is read to its end and no further. A
    ///   FIFO whose last writer has gone is read to its end: nobody else holds what is in it.
    /// - **Unix sockets** (`unix:`, `unixpacket:`): all that the kernel has taken from the peer is
    ///   delivered, and nothing more is taken: a write of the peer fails with `EPIPE` at once. A
    ///   message that is cut in two by that is not delivered; its sender knows that it was not
    ///   taken. Those who wait to be accepted are heard too; those who come later are refused.
    /// - **TCP**: the peer is told, by an end of the other direction, and all that it sends until
    ///   it ends its own is delivered. Whether it heeds that is up to it ([`Options::reconnect`]
    ///   does), so give it a time limit; what comes later is lost, and the peer does not know.
    ///   A connection that is made in the very moment is reset.
    ///
    /// If the rest of a message that was begun does not come, the stream waits;
    /// [`unfinished`](Self::unfinished) says how much there is of it. Drop the stream as soon as it
    /// has ended: a FIFO is looked after by whoever has it open.
    ///
    /// [`Options::reconnect`]: super::Options::reconnect
    pub fn stop(&mut self) {
        self.inlet().stop();
    }

    /// How many bytes were taken of a message that is not whole yet (framing included).
    pub fn unfinished(&mut self) -> usize {
        self.inlet().unfinished()
    }

    /// The receiving end of what `codec` makes of the bodies.
    pub fn typed<T>(self, codec: impl Decode<T> + 'static) -> Receiver<T> {
        lent(Frames::new(self), codec)
    }

    /// The receiving half of the waist: the bodies alone.
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

/// A stream of messages over one of frames, each of which is whole.
struct Whole<S> {
    frames: S,
    /// The other direction, where nothing is sent.
    held: Option<MessageSender>,
    /// How many messages may still be delivered, if that is limited.
    left: Option<u64>,
}

impl<S: Stream<Item = io::Result<Bytes>> + Unpin> Stream for Whole<S> {
    type Item = io::Result<Message>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.left == Some(0) {
            return Poll::Ready(None);
        }
        let Some(frame) = ready!(Pin::new(&mut self.frames).poll_next(cx)) else {
            self.held = None;
            return Poll::Ready(None);
        };
        if let Some(left) = &mut self.left {
            *left -= 1;
        }
        Poll::Ready(Some(frame.map(Message::new)))
    }
}

impl<S: Stream<Item = io::Result<Bytes>> + Unpin> Inlet for Whole<S> {
    fn stop(mut self: Pin<&mut Self>) {
        // A message is taken and delivered in one step: none is ever in hand.
        self.left = Some(0);
    }

    fn limit(mut self: Pin<&mut Self>, count: u64) {
        self.left = Some(count);
    }

    fn unfinished(self: Pin<&mut Self>) -> usize {
        0
    }
}

/// A stream of frames over one of messages.
pub(crate) struct Frames {
    incoming: MessageReceiver,
}

impl Frames {
    pub(crate) fn new(incoming: MessageReceiver) -> Self {
        Self { incoming }
    }

    /// Whether a message has begun that is not whole yet.
    pub(crate) fn has_begun(&mut self) -> bool {
        self.incoming.unfinished() > 0
    }
}

impl Stream for Frames {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let next = ready!(self.incoming.inlet().poll_next(cx));
        Poll::Ready(next.map(|message| message.map(Message::into_body)))
    }
}

impl Lend for Frames {
    #[inline]
    fn poll_lend(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Lent<'_>>>> {
        self.incoming.inlet().poll_lend(cx)
    }

    fn stop(&mut self) {
        self.incoming.stop();
    }
}
