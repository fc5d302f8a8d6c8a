//! [`Sender`]: a queue as a sink of whole messages.

use std::io;
use std::num::NonZeroUsize;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_sink::Sink;
use tokio::task::coop;

use crate::io::source::Direction;
use crate::mq::closing::Closing;
use crate::mq::driver::Waiting;
use crate::mq::{Error, Priority, Queue, TARGET};

/// The sending end of a queue: a `Sink` of message bodies, all of one priority.
///
/// What is fed is sent at once where the queue has room; at most one message waits in the sink.
/// To send with a priority for each message use [`Queue::send`] or [`Framed`](crate::mq::Framed).
///
/// Closing the sink sends what waits, and the end if it [announces](Self::announces_end) one.
/// Dropping it instead loses the message that waits, if one does, and warns through `tracing`.
///
/// # Errors
///
/// [`Error::MessageTooLarge`], [`Error::EmptyMessage`] and [`Error::Closed`] come from
/// `start_send`, and so may [`Error::Replaced`]; that message is not sent and the sink can go on. Any other error is that of
/// [`Queue::send`]; the message it was about is dropped, and the sink can go on too.
///
/// # Cancel safety
///
/// A `send` future that is dropped has either not taken its message, or the message waits in the
/// sink, whole, and is sent by the next use of it. [`Queue::send`] sends nothing when dropped.
#[derive(Debug)]
#[must_use = "sinks do nothing unless polled"]
pub struct Sender {
    // Dropped first: it may hold a registration.
    wait: Waiting,
    queue: Arc<Queue>,
    priority: Priority,
    pending: Option<Bytes>,
    closing: Closing,
}

impl Sender {
    /// A sink into a queue, which may be shared with others, with priority 0.
    ///
    /// # Errors
    ///
    /// [`Error::NotWritable`] if the queue is not open for sending.
    pub fn new(queue: impl Into<Arc<Queue>>) -> Result<Self, Error> {
        let queue = queue.into();
        queue.check_send(0, 0)?;
        Ok(Self {
            wait: Waiting::new(),
            queue,
            priority: 0,
            pending: None,
            closing: Closing::default(),
        })
    }

    /// Sends with this priority.
    ///
    /// # Errors
    ///
    /// [`Error::Priority`] if it is above [`MAX_PRIORITY`](crate::mq::MAX_PRIORITY).
    pub fn with_priority(mut self, priority: Priority) -> Result<Self, Error> {
        self.queue.check_send(priority, 0)?;
        self.priority = priority;
        Ok(self)
    }

    /// Has closing the sink announce the end to this many receivers, by an empty message for each.
    ///
    /// See the [module](crate::mq#the-end-of-a-conversation). An empty message of the user's own
    /// is refused from then on ([`Error::EmptyMessage`]).
    pub fn announces_end(mut self, receivers: NonZeroUsize) -> Self {
        self.closing.announce_to(receivers);
        self
    }

    /// The priority it sends with.
    pub fn priority(&self) -> Priority {
        self.priority
    }

    /// The queue.
    pub fn queue(&self) -> &Arc<Queue> {
        &self.queue
    }

    /// Gives the queue back, and the message that was still to be sent, if there is one.
    pub fn into_inner(mut self) -> (Arc<Queue>, Option<Bytes>) {
        let pending = self.pending.take();
        (Arc::clone(&self.queue), pending)
    }

    fn poll_pending(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self {
            wait,
            queue,
            priority,
            pending,
            ..
        } = self;
        if let Some(body) = pending {
            let send = || queue.send_checked(*priority, body);
            let sent = ready!(wait.poll(cx, queue.side(Direction::Write), send));
            // Also when it failed: or every later message would fail with it.
            *pending = None;
            sent?;
        }
        Poll::Ready(Ok(()))
    }
}

impl Sink<Bytes> for Sender {
    type Error = io::Error;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.pending.is_none() {
            // What is sent at once never waits, so it is counted here.
            ready!(coop::poll_proceed(cx)).made_progress();
        }
        self.poll_pending(cx)
    }

    fn start_send(mut self: Pin<&mut Self>, body: Bytes) -> io::Result<()> {
        self.closing.check_open(&self.queue)?;
        self.closing.check_body(&body, &self.queue)?;
        self.queue.check_send(self.priority, body.len())?;
        match self.queue.send_checked(self.priority, &body) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.pending = Some(body);
                Ok(())
            }
            result => result,
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Pending where `poll_ready` is, also for want of budget: some drivers flush until there
        // is room, and would spin.
        drop(ready!(coop::poll_proceed(cx)));
        self.poll_pending(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_pending(cx))?;
        let Self {
            wait,
            queue,
            closing,
            ..
        } = &mut *self;
        closing.poll(cx, wait, queue)
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        if let Some(body) = &self.pending {
            let (name, len) = (self.queue.name(), body.len());
            tracing::warn!(target: TARGET, name, len, "sender dropped with a message unsent");
        }
    }
}
