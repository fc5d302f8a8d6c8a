//! The message ends of a queue.

use std::io;
use std::num::NonZeroUsize;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_core::Stream;
use futures_sink::Sink;

use super::{Framed, Priority, Queue, Receiver, WholeMessage};
use crate::connect::{Inlet, Message};

/// Messages from a queue, which has no end of its own but that of a [pair](crate::connect::Options::connect_pair).
pub(super) struct Taken {
    receiver: Receiver,
    /// How many messages may still be delivered, if that is limited.
    left: Option<u64>,
}

impl Taken {
    /// `paired`: an empty message is the end.
    pub(super) fn new(receiver: Receiver, paired: bool) -> Self {
        Self {
            receiver: if paired {
                receiver.ends_after(NonZeroUsize::MIN)
            } else {
                receiver
            },
            left: None,
        }
    }
}

impl Stream for Taken {
    type Item = io::Result<Message>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.left == Some(0) {
            return Poll::Ready(None);
        }
        let Some(received) = ready!(self.receiver.poll_recv(cx)) else {
            return Poll::Ready(None);
        };
        if let Some(left) = &mut self.left {
            *left -= 1;
        }
        let message = received.map(|it| Message::new(it.body).with_priority(it.priority));
        Poll::Ready(Some(message))
    }
}

impl Inlet for Taken {
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

/// Messages to a queue, each with its own priority or `priority`.
pub(super) struct Given {
    framed: Framed<WholeMessage>,
    priority: Priority,
    /// Whether the end has still to be told, by an empty message.
    tells_end: bool,
}

impl Given {
    /// `paired`: the end is told by an empty message.
    pub(super) fn new(queue: Queue, priority: Priority, paired: bool) -> Self {
        let framed = Framed::new(queue, WholeMessage);
        Self {
            framed: if paired {
                framed.announces_end(NonZeroUsize::MIN)
            } else {
                framed
            },
            priority,
            tells_end: paired,
        }
    }

    fn framed(self: Pin<&mut Self>) -> Pin<&mut impl Sink<(Bytes, Priority), Error = io::Error>> {
        Pin::new(&mut self.get_mut().framed)
    }
}

impl Drop for Given {
    fn drop(&mut self) {
        if self.tells_end
            && let Err(error) = self.framed.get_ref().try_send(0, &[])
        {
            let queue = self.framed.get_ref().name();
            tracing::warn!(
                target: "aqueduct::connect", queue, %error,
                "dropped without being closed, and its peer cannot be told of the end"
            );
        }
    }
}

impl Sink<Message> for Given {
    type Error = io::Error;

    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.framed().poll_ready(cx)
    }

    fn start_send(self: Pin<&mut Self>, message: Message) -> io::Result<()> {
        let priority = message.priority().unwrap_or(self.priority);
        self.framed().start_send((message.into_body(), priority))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.framed().poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.as_mut().framed().poll_close(cx))?;
        self.tells_end = false;
        Poll::Ready(Ok(()))
    }
}
