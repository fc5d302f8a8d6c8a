//! The message ends of a queue: its `Sink` and its `Stream`.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_core::Stream;
use futures_sink::Sink;
use tokio::task::coop;

use crate::connect::{Inlet, Message, MessageReceiver, MessageSender, OpenError};
use crate::frame::FrameError;
use crate::io::source::Direction;
use crate::mq::driver::Waiting;
use crate::mq::error::TARGET;
use crate::mq::queue::Queue;

/// The priority of the empty message that marks the end: the lowest, so that everything sent before
/// is received before.
const END_PRIORITY: u32 = 0;

/// The messages of a queue.
///
/// A message is taken from the queue only in the poll that returns it. After an error the stream is
/// over; the messages are still in the queue.
struct Incoming {
    // Dropped first: it may hold a registration.
    wait: Waiting,
    queue: Arc<Queue>,
    over: bool,
    /// How many messages may still be delivered, if limited.
    left: Option<u64>,
}

impl Stream for Incoming {
    type Item = io::Result<Message>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.over || self.left == Some(0) {
            return Poll::Ready(None);
        }
        let Self { wait, queue, .. } = &mut *self;
        let received = ready!(wait.poll(cx, queue.side(Direction::Read), || queue.receive()));
        let ended = |it: &Message| queue.about().end_marker && it.body().is_empty();
        match &received {
            Ok(message) if ended(message) => {
                self.over = true;
                return Poll::Ready(None);
            }
            Ok(_) => {}
            Err(_) => self.over = true,
        }
        if let Some(left) = &mut self.left {
            *left -= 1;
        }
        Poll::Ready(Some(received))
    }
}

impl Inlet for Incoming {
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

    fn is_stored(self: Pin<&mut Self>) -> bool {
        true
    }
}

/// Messages to a queue, each with its own priority or `priority`.
///
/// A message is sent at once if the queue has room; at most one waits in the sink. A message that
/// fails is dropped, and the sink can go on.
struct Outgoing {
    // Dropped first: it may hold a registration.
    wait: Waiting,
    queue: Arc<Queue>,
    priority: u32,
    pending: Option<(u32, Bytes)>,
    closing: bool,
    /// Whether the end has still to be marked, by an empty message.
    marks_end: bool,
}

impl Outgoing {
    fn poll_pending(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self {
            wait,
            queue,
            pending,
            ..
        } = self;
        if let Some((priority, body)) = pending {
            let send = || queue.send_checked(*priority, body);
            let sent = ready!(wait.poll(cx, queue.side(Direction::Write), send));
            // Also when it failed; otherwise every later message would fail with it.
            *pending = None;
            sent?;
        }
        Poll::Ready(Ok(()))
    }
}

impl Sink<Message> for Outgoing {
    type Error = io::Error;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.pending.is_none() {
            // A message that is sent at once never waits, so it is counted here.
            ready!(coop::poll_proceed(cx)).made_progress();
        }
        self.poll_pending(cx)
    }

    fn start_send(mut self: Pin<&mut Self>, message: Message) -> io::Result<()> {
        if self.closing {
            return Err(io::Error::new(
                io::ErrorKind::BrokenPipe,
                "cannot send: this end was closed before",
            ));
        }
        if self.pending.is_some() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "start_send without a poll_ready before it",
            ));
        }
        let priority = message.priority().unwrap_or(self.priority);
        let body = message.into_body();
        if body.is_empty() && self.queue.about().end_marker {
            return Err(FrameError::Empty.into());
        }
        self.queue.check_send(priority, body.len())?;
        match self.queue.send_checked(priority, &body) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.pending = Some((priority, body));
                Ok(())
            }
            result => result,
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Pending where `poll_ready` is, also for lack of budget: some callers flush until there is
        // room, and would spin.
        drop(ready!(coop::poll_proceed(cx)));
        self.poll_pending(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.closing = true;
        ready!(self.poll_pending(cx))?;
        let Self {
            wait,
            queue,
            marks_end,
            ..
        } = &mut *self;
        if *marks_end {
            let mark = || queue.send_checked(END_PRIORITY, &[]);
            ready!(wait.poll(cx, queue.side(Direction::Write), mark))?;
            *marks_end = false;
        }
        Poll::Ready(Ok(()))
    }
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        let queue = self.queue.name();
        if let Some((_, body)) = &self.pending {
            let len = body.len();
            tracing::warn!(
                target: "aqueduct::unsent", queue, len,
                "dropped with a message unsent"
            );
        }
        if self.marks_end
            && let Err(error) = self.queue.try_send(END_PRIORITY, &[])
        {
            tracing::warn!(
                target: TARGET, queue, %error,
                "dropped without being closed; cannot mark the end"
            );
        }
    }
}

/// Creates the sending end of a queue, with this priority for messages without one.
pub(super) fn sender(queue: Arc<Queue>, priority: u32) -> Result<MessageSender, OpenError> {
    queue.check_writable()?;
    let largest = queue.about().max_message;
    let outgoing = Outgoing {
        wait: Waiting::new(),
        marks_end: queue.about().end_marker,
        queue,
        priority,
        pending: None,
        closing: false,
    };
    Ok(MessageSender::new(outgoing).with_max_message(largest))
}

/// Creates the receiving end of a queue.
pub(super) fn receiver(queue: Arc<Queue>) -> Result<MessageReceiver, OpenError> {
    queue.check_recv()?;
    Ok(MessageReceiver::new(Incoming {
        wait: Waiting::new(),
        queue,
        over: false,
        left: None,
    }))
}

/// The sending end of a queue, which others may use too.
///
/// Messages without a priority get 0.
impl TryFrom<Arc<Queue>> for MessageSender {
    type Error = OpenError;

    fn try_from(queue: Arc<Queue>) -> Result<Self, OpenError> {
        sender(queue, 0)
    }
}

/// The receiving end of a queue, which others may use too.
impl TryFrom<Arc<Queue>> for MessageReceiver {
    type Error = OpenError;

    fn try_from(queue: Arc<Queue>) -> Result<Self, OpenError> {
        receiver(queue)
    }
}
