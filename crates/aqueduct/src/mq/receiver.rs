//! [`Receiver`]: a queue as a stream of whole messages.

use std::io;
use std::num::NonZeroUsize;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_core::{FusedStream, Stream};

use crate::io::source::Direction;
use crate::mq::driver::Waiting;
use crate::mq::{Error, Message, Queue};

/// The receiving end of a queue: a `Stream` of message bodies, each one frame.
///
/// The stream has no end, since a queue has none, unless both ends agree on one:
/// [`ends_after`](Self::ends_after). After an error it is over; the messages are still in the
/// queue, for a new `Receiver` on [`queue`](Self::queue).
///
/// # Cancel safety
///
/// Dropping the future of `next()`, or the `Receiver`, loses nothing: a message is taken from the
/// queue only in the poll that returns it.
///
/// # Examples
///
/// ```
/// use aqueduct::mq::OpenOptions;
/// use futures_util::{SinkExt, StreamExt};
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let name = format!("/doc-receiver-{}", std::process::id());
/// let mut options = OpenOptions::new();
/// options.create(true).capacity(4).max_message(64).unlink_on_drop(true);
/// let mut receiver = options.open_receiver(&name)?;
/// let mut sender = options.open_sender(&name)?;
///
/// sender.send("hello".into()).await?;
/// assert_eq!(receiver.next().await.transpose()?, Some("hello".into()));
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "streams do nothing unless polled"]
pub struct Receiver {
    // Dropped first: it may hold a registration.
    wait: Waiting,
    queue: Arc<Queue>,
    ends: Option<NonZeroUsize>,
    over: bool,
}

impl Receiver {
    /// A stream of the messages of a queue, which may be shared with others.
    ///
    /// # Errors
    ///
    /// [`Error::NotReadable`] if the queue is not open for receiving.
    pub fn new(queue: impl Into<Arc<Queue>>) -> Result<Self, Error> {
        let queue = queue.into();
        queue.check_recv()?;
        Ok(Self {
            wait: Waiting::new(),
            queue,
            ends: None,
            over: false,
        })
    }

    /// Ends the stream after this many empty messages: one for each sender that
    /// [announces its end](crate::mq::Sender::announces_end).
    ///
    /// See the [module](crate::mq#the-end-of-a-conversation) for how this works with several
    /// senders and receivers. Without this an empty message is a message.
    pub fn ends_after(mut self, senders: NonZeroUsize) -> Self {
        self.ends = Some(senders);
        self
    }

    /// The next message with its priority; `None` at the end.
    ///
    /// # Errors
    ///
    /// As [`Queue::recv`]; the stream is over then.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn recv(&mut self) -> Option<io::Result<Message>> {
        std::future::poll_fn(|cx| self.poll_recv(cx)).await
    }

    /// Polls for the next message with its priority.
    ///
    /// # Errors
    ///
    /// As [`Queue::recv`]; the stream is over then.
    pub fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Message>>> {
        while !self.over {
            let Self { wait, queue, .. } = self;
            match ready!(wait.poll(cx, queue.side(Direction::Read), || queue.receive())) {
                Ok(message) if message.body.is_empty() && self.ends.is_some() => {
                    // The last one leaves none, which is the end.
                    let left = self.ends.and_then(|it| NonZeroUsize::new(it.get() - 1));
                    self.over = left.is_none();
                    self.ends = left;
                }
                Ok(message) => return Poll::Ready(Some(Ok(message))),
                Err(error) => {
                    self.over = true;
                    return Poll::Ready(Some(Err(error)));
                }
            }
        }
        Poll::Ready(None)
    }

    /// The queue.
    pub fn queue(&self) -> &Arc<Queue> {
        &self.queue
    }

    /// Gives the queue back.
    pub fn into_inner(self) -> Arc<Queue> {
        self.queue
    }
}

impl Stream for Receiver {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let received = ready!(self.poll_recv(cx));
        Poll::Ready(received.map(|it| it.map(|message| message.body)))
    }
}

impl FusedStream for Receiver {
    fn is_terminated(&self) -> bool {
        self.over
    }
}
