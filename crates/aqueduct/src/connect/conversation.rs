//! Two one-way ends as one connection.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures_core::Stream;
use futures_sink::Sink;
use tokio::sync::OwnedSemaphorePermit;

use super::connection::MessageLink;
use super::receiver::Inlet;
use super::{Message, MessageReceiver, MessageSender};

/// Two one-way ends.
pub(super) struct Pair {
    pub(super) sender: MessageSender,
    pub(super) receiver: MessageReceiver,
}

impl MessageLink for Pair {
    fn max_message(&self) -> Option<usize> {
        self.sender.max_message()
    }

    fn split(self: Box<Self>) -> (MessageSender, MessageReceiver) {
        (self.sender, self.receiver)
    }

    fn into_receiver(self: Box<Self>) -> MessageReceiver {
        MessageReceiver::new(Conversation::new(self.receiver).holding(self.sender))
    }

    fn lingers(&self) -> bool {
        // The other side has to find this one there.
        true
    }
}

/// What comes in one conversation.
pub(super) struct Conversation {
    /// `None` once it has ended. Then its descriptor is closed too: a client that has seen the end
    /// of its replies may be followed by another one, which must not find this end open.
    incoming: Option<MessageReceiver>,
    first: Option<io::Result<Message>>,
    left: Option<u64>,
    held: Option<MessageSender>,
    turn: Option<Arc<OwnedSemaphorePermit>>,
}

impl Conversation {
    pub(super) fn new(incoming: MessageReceiver) -> Self {
        Self {
            incoming: Some(incoming),
            first: None,
            left: None,
            held: None,
            turn: None,
        }
    }

    /// Begins with `first`, and keeps the next conversation waiting until this one is over.
    pub(super) fn beginning(
        mut self,
        first: io::Result<Message>,
        turn: Arc<OwnedSemaphorePermit>,
    ) -> Self {
        self.first = Some(first);
        self.turn = Some(turn);
        self
    }

    /// Keeps the other direction open until this one has ended.
    pub(super) fn holding(mut self, outgoing: MessageSender) -> Self {
        self.held = Some(outgoing);
        self
    }
}

impl Stream for Conversation {
    type Item = io::Result<Message>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.left == Some(0) {
            return Poll::Ready(None);
        }
        let next = match (self.first.take(), &mut self.incoming) {
            (Some(first), _) => Some(first),
            (None, Some(incoming)) => ready!(Pin::new(incoming).poll_next(cx)),
            (None, None) => None,
        };
        match &next {
            Some(_) => {
                if let Some(left) = &mut self.left {
                    *left -= 1;
                }
            }
            None => {
                self.incoming = None;
                self.held = None;
                self.turn = None;
            }
        }
        Poll::Ready(next)
    }
}

impl Inlet for Conversation {
    fn stop(mut self: Pin<&mut Self>) {
        if let Some(incoming) = &mut self.incoming {
            incoming.stop();
        }
    }

    fn limit(mut self: Pin<&mut Self>, count: u64) {
        self.left = Some(count);
        let first = u64::from(self.first.is_some());
        if let Some(incoming) = &mut self.incoming {
            incoming.limit(count.saturating_sub(first));
        }
    }

    fn unfinished(mut self: Pin<&mut Self>) -> usize {
        self.incoming
            .as_mut()
            .map_or(0, MessageReceiver::unfinished)
    }
}

/// A sending end that is closed before the next conversation begins.
pub(super) struct InTurn {
    pub(super) outgoing: MessageSender,
    pub(super) _turn: Arc<OwnedSemaphorePermit>,
}

impl Sink<Message> for InTurn {
    type Error = io::Error;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.outgoing).poll_ready(cx)
    }

    fn start_send(mut self: Pin<&mut Self>, message: Message) -> io::Result<()> {
        Pin::new(&mut self.outgoing).start_send(message)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.outgoing).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.outgoing).poll_close(cx)
    }
}
