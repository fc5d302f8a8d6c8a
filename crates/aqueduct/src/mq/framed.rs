//! [`Framed`]: a queue with any of tokio-util's codecs.

use std::borrow::Borrow;
use std::io;
use std::num::NonZeroUsize;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use futures_core::Stream;
use futures_sink::Sink;
use tokio::task::coop;
use tokio_util::codec::{Decoder, Encoder};

use crate::io::source::Direction;
use crate::mq::closing::Closing;
use crate::mq::driver::Waiting;
use crate::mq::{Priority, Queue, TARGET};

/// A codec as it was given, and how it is cloned.
type Fresh<C> = (C, fn(&C) -> C);

/// A `Stream` and `Sink` of what a codec makes of a queue's messages, each with its priority.
///
/// Every item that is sent is one message. A message that is received is given to
/// [`Decoder::decode_eof`] once, and again only while the codec leaves bytes of it: so a message
/// may hold several items, and an empty message is what the codec makes of no bytes.
/// [`WholeMessage`] makes each message one item, also an empty one.
///
/// What is wrong with one message ends with it: when a codec fails, the rest of that message is
/// thrown away and the next one starts with an empty buffer. What the codec itself remembers is its
/// own, though: after a message that is cut off tokio-util's `LengthDelimitedCodec` takes the next
/// one for the missing part, and after a line that is too long its `LinesCodec` throws away all up
/// to the next newline. For such codecs there is [`with_fresh_codec`](Self::with_fresh_codec).
///
/// Since a queue is shared through `&`, two of these on one `Arc<Queue>` are the two halves. A
/// queue has no peer and no end, so neither has this, unless both ends agree on one as
/// [`Receiver::ends_after`](crate::mq::Receiver::ends_after) and
/// [`Sender::announces_end`](crate::mq::Sender::announces_end) do: [`ends_after`](Self::ends_after),
/// [`announces_end`](Self::announces_end).
///
/// The bytes of a message are copied once, into a buffer of their own size, so that an item that
/// is kept never pins more than its message; [`Receiver`](crate::mq::Receiver) does not copy large
/// messages at all.
///
/// # Errors
///
/// The codec's own, and those of [`Queue::recv`] and [`Queue::send`] converted to them. An error
/// in receiving other than the codec's ends the stream. An error in sending drops the message it
/// is about, and the sink can go on.
///
/// # Cancel safety
///
/// As [`Receiver`](crate::mq::Receiver) and [`Sender`](crate::mq::Sender).
///
/// # Examples
///
/// ```
/// use std::sync::Arc;
///
/// use aqueduct::mq::{Framed, OpenOptions};
/// use futures_util::{SinkExt, StreamExt};
/// use tokio_util::codec::LinesCodec;
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let name = format!("/doc-framed-{}", std::process::id());
/// let queue = OpenOptions::new()
///     .create_new(true)
///     .capacity(4)
///     .max_message(64)
///     .unlink_on_drop(true)
///     .open(&name)?;
/// let queue = Arc::new(queue);
/// let mut sink = Framed::new(Arc::clone(&queue), LinesCodec::new());
/// let mut stream = Framed::new(queue, LinesCodec::new());
///
/// sink.send(("later", 1)).await?;
/// sink.send(("now", 7)).await?;
///
/// assert_eq!(stream.next().await.transpose()?, Some(("now".to_owned(), 7)));
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "streams and sinks do nothing unless polled"]
pub struct Framed<C, Q = Queue> {
    // Dropped first: they may hold a registration.
    read_wait: Waiting,
    write_wait: Waiting,
    queue: Q,
    codec: C,
    rd: BytesMut,
    // What replaces the codec after a message that it could not use, and how that is cloned: so
    // only those who ask for this need a codec that can be.
    fresh: Option<Fresh<C>>,
    // The priority of the message that `rd` is the rest of, while there is one.
    decoding: Option<Priority>,
    out: Outgoing,
    ends: Option<NonZeroUsize>,
    over: bool,
    closing: Closing,
}

/// The one message that may wait to be sent.
#[derive(Debug)]
struct Outgoing {
    buffer: BytesMut,
    // Its priority, while there is one.
    pending: Option<Priority>,
    span: tracing::Span,
}

// Nothing in it is ever pinned.
impl<C, Q> Unpin for Framed<C, Q> {}

impl<C, Q: Borrow<Queue>> Framed<C, Q> {
    /// Makes a stream and sink of a queue, or of any handle to one, such as `Arc<Queue>`.
    pub fn new(queue: Q, codec: C) -> Self {
        let span = queue.borrow().span().clone();
        Self {
            read_wait: Waiting::new(),
            write_wait: Waiting::new(),
            queue,
            codec,
            fresh: None,
            rd: BytesMut::new(),
            decoding: None,
            out: Outgoing {
                buffer: BytesMut::new(),
                pending: None,
                span,
            },
            ends: None,
            over: false,
            closing: Closing::default(),
        }
    }

    /// Puts a clone of the codec as it is now in its place after each message that it fails on or
    /// makes no item of, so that nothing it remembers of that message spoils the next one.
    ///
    /// Take this for every codec with a state, such as tokio-util's `LengthDelimitedCodec` and
    /// `LinesCodec::new_with_max_length`: without it whoever may send to the queue can have them
    /// lose the messages of others.
    ///
    /// # Examples
    ///
    /// ```
    /// use aqueduct::mq::{Framed, OpenOptions};
    /// use futures_util::StreamExt;
    /// use tokio_util::codec::LinesCodec;
    ///
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let name = format!("/doc-fresh-{}", std::process::id());
    /// let mut options = OpenOptions::new();
    /// options.create_new(true).capacity(4).max_message(64).unlink_on_drop(true);
    /// let codec = LinesCodec::new_with_max_length(8);
    /// let mut lines = Framed::new(options.open(&name)?, codec).with_fresh_codec();
    ///
    /// lines.get_ref().send(0, b"more than eight bytes\n").await?;
    /// lines.get_ref().send(0, b"short\n").await?;
    /// assert!(lines.next().await.is_some_and(|it| it.is_err()));
    /// assert_eq!(lines.next().await.transpose()?, Some(("short".to_owned(), 0)));
    /// # Ok(())
    /// # }
    /// ```
    pub fn with_fresh_codec(mut self) -> Self
    where
        C: Clone,
    {
        self.fresh = Some((self.codec.clone(), C::clone));
        self
    }

    /// Ends the stream after this many empty messages, as
    /// [`Receiver::ends_after`](crate::mq::Receiver::ends_after).
    pub fn ends_after(mut self, senders: NonZeroUsize) -> Self {
        self.ends = Some(senders);
        self
    }

    /// Has closing the sink announce the end to this many receivers, as
    /// [`Sender::announces_end`](crate::mq::Sender::announces_end). An item that the codec makes
    /// an empty message of is refused from then on.
    pub fn announces_end(mut self, receivers: NonZeroUsize) -> Self {
        self.closing.announce_to(receivers);
        self
    }

    /// The queue.
    pub fn get_ref(&self) -> &Q {
        &self.queue
    }

    /// The codec.
    pub fn codec(&self) -> &C {
        &self.codec
    }

    /// The codec, to change it.
    pub fn codec_mut(&mut self) -> &mut C {
        &mut self.codec
    }

    /// What the codec has left of the message it is at.
    pub fn read_buffer(&self) -> &BytesMut {
        &self.rd
    }

    /// Gives the queue back. A message that waited to be sent is dropped, with a warning.
    pub fn into_inner(self) -> Q {
        self.queue
    }

    /// Gives the queue and the codec back, and the message that waited to be sent, if one did.
    pub fn into_parts(mut self) -> (Q, C, Option<(Bytes, Priority)>) {
        let pending = self.out.pending.take();
        let pending = pending.map(|it| (self.out.buffer.split().freeze(), it));
        (self.queue, self.codec, pending)
    }

    /// Receives the next message into `rd`; says whether there is one.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        let Self { read_wait, rd, .. } = self;
        let queue: &Queue = self.queue.borrow();
        while !self.over {
            let receive = || {
                queue.lend(|body| {
                    // Of its own size: items may be parts of it, and are kept for any time.
                    *rd = BytesMut::from(body);
                })
            };
            queue.check_recv()?;
            let priority = ready!(read_wait.poll(cx, queue.side(Direction::Read), receive))?;
            match self.ends {
                Some(ends) if rd.is_empty() => {
                    self.ends = NonZeroUsize::new(ends.get() - 1);
                    self.over = self.ends.is_none();
                }
                _ => {
                    self.decoding = Some(priority);
                    return Poll::Ready(Ok(true));
                }
            }
        }
        Poll::Ready(Ok(false))
    }

    fn poll_pending(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self {
            write_wait, out, ..
        } = self;
        let queue: &Queue = self.queue.borrow();
        if let Some(priority) = out.pending {
            let send = || queue.send_checked(priority, &out.buffer);
            let sent = ready!(write_wait.poll(cx, queue.side(Direction::Write), send));
            // Also when it failed: or every later message would fail with it.
            out.clear();
            sent?;
        }
        Poll::Ready(Ok(()))
    }

    /// Sends what is in the buffer, or keeps it to be sent.
    fn send_encoded(&mut self, priority: Priority) -> io::Result<()> {
        let queue: &Queue = self.queue.borrow();
        let body = &self.out.buffer;
        self.closing.check_body(body, queue)?;
        queue.check_send(priority, body.len())?;
        match queue.send_checked(priority, body) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.out.pending = Some(priority);
                Ok(())
            }
            result => result,
        }
    }
}

impl<C: Decoder, Q: Borrow<Queue>> Stream for Framed<C, Q> {
    type Item = Result<(C::Item, Priority), C::Error>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        loop {
            if let Some(priority) = this.decoding {
                let before = this.rd.len();
                let decoded = this.codec.decode_eof(&mut this.rd);
                // Done with the message: when none of it is left, when the codec can make nothing
                // of the rest, and when it makes items of nothing, which would never end.
                let stuck = this.rd.len() >= before;
                let useless = !matches!(decoded, Ok(Some(_)));
                if this.rd.is_empty() || stuck || useless {
                    this.decoding = None;
                    this.rd.clear();
                }
                if let Some((codec, clone)) = &this.fresh
                    && useless
                {
                    this.codec = clone(codec);
                }
                match decoded {
                    Ok(Some(item)) => return Poll::Ready(Some(Ok((item, priority)))),
                    Ok(None) => {}
                    Err(error) => return Poll::Ready(Some(Err(error))),
                }
            } else {
                match ready!(this.poll_fill(cx)) {
                    Ok(true) => {}
                    Ok(false) => return Poll::Ready(None),
                    Err(error) => {
                        this.over = true;
                        return Poll::Ready(Some(Err(error.into())));
                    }
                }
            }
        }
    }
}

impl<I, C: Encoder<I>, Q: Borrow<Queue>> Sink<(I, Priority)> for Framed<C, Q> {
    type Error = C::Error;

    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), C::Error>> {
        let this = self.get_mut();
        if this.out.pending.is_none() {
            // What is sent at once never waits, so it is counted here.
            ready!(coop::poll_proceed(cx)).made_progress();
        }
        Poll::Ready(Ok(ready!(this.poll_pending(cx))?))
    }

    fn start_send(self: Pin<&mut Self>, (item, priority): (I, Priority)) -> Result<(), C::Error> {
        let this = self.get_mut();
        let open = this.closing.check_open(this.queue.borrow());
        open.map_err(io::Error::from)?;
        this.out.clear();
        // A codec that fails may leave bytes: they must not begin the next message.
        let encoded = this.codec.encode(item, &mut this.out.buffer);
        let sent = encoded.and_then(|()| Ok(this.send_encoded(priority)?));
        if this.out.pending.is_none() {
            this.out.clear();
        }
        sent
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), C::Error>> {
        // As `Sender`'s: pending where `poll_ready` is, also for want of budget.
        drop(ready!(coop::poll_proceed(cx)));
        Poll::Ready(Ok(ready!(self.get_mut().poll_pending(cx))?))
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), C::Error>> {
        let this = self.get_mut();
        ready!(this.poll_pending(cx))?;
        let queue: &Queue = this.queue.borrow();
        Poll::Ready(Ok(ready!(this.closing.poll(
            cx,
            &mut this.write_wait,
            queue
        ))?))
    }
}

impl Outgoing {
    fn clear(&mut self) {
        self.buffer.clear();
        self.pending = None;
    }
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        if self.pending.is_some() {
            let len = self.buffer.len();
            tracing::warn!(
                target: TARGET, parent: &self.span, len,
                "sink dropped with a message unsent"
            );
        }
    }
}

/// The codec that makes each message one item, whatever is in it, also nothing.
///
/// # Examples
///
/// ```
/// use aqueduct::mq::{Framed, OpenOptions, WholeMessage};
/// use bytes::Bytes;
/// use futures_util::{SinkExt, StreamExt};
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let name = format!("/doc-whole-{}", std::process::id());
/// let queue = OpenOptions::new()
///     .create_new(true)
///     .capacity(1)
///     .max_message(64)
///     .unlink_on_drop(true)
///     .open(&name)?;
/// let mut framed = Framed::new(queue, WholeMessage);
/// framed.send((Bytes::new(), 3)).await?;
/// assert_eq!(framed.next().await.transpose()?, Some((Bytes::new(), 3)));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct WholeMessage;

impl Decoder for WholeMessage {
    type Item = Bytes;
    type Error = io::Error;

    fn decode(&mut self, src: &mut BytesMut) -> io::Result<Option<Bytes>> {
        Ok(Some(src.split().freeze()))
    }

    fn decode_eof(&mut self, src: &mut BytesMut) -> io::Result<Option<Bytes>> {
        self.decode(src)
    }
}

impl<B: AsRef<[u8]>> Encoder<B> for WholeMessage {
    type Error = io::Error;

    fn encode(&mut self, item: B, dst: &mut BytesMut) -> io::Result<()> {
        dst.extend_from_slice(item.as_ref());
        Ok(())
    }
}
