//! The receiving end of a socket that keeps message boundaries.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_core::Stream;

use super::Message;
use super::half::cut_off;
use super::incoming::Inlet;
use crate::unix::seqpacket::{Receiver, Sender};

/// Messages from a `SOCK_SEQPACKET` socket.
pub(super) struct Packets {
    receiver: Receiver,
    /// The other direction, where nothing is sent: kept open until the peer has ended its own.
    held: Option<Sender>,
    /// Whether others receive from it too.
    shared: bool,
    /// How many messages may still be delivered, if that is limited.
    left: Option<u64>,
}

impl Packets {
    pub(super) fn new(receiver: Receiver, held: Option<Sender>, shared: bool) -> Self {
        Self {
            receiver,
            held,
            shared,
            left: None,
        }
    }
}

impl Stream for Packets {
    type Item = io::Result<Message>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.left == Some(0) {
            return Poll::Ready(None);
        }
        let Some(received) = ready!(Pin::new(&mut self.receiver).poll_next(cx)) else {
            self.held = None;
            return Poll::Ready(None);
        };
        if let Some(left) = &mut self.left {
            *left -= 1;
        }
        Poll::Ready(Some(received.map(Message::new)))
    }
}

impl Inlet for Packets {
    fn stop(mut self: Pin<&mut Self>) {
        if self.shared {
            // A message is taken and delivered in one step: none is ever in hand.
            self.left = Some(0);
        } else {
            cut_off(self.receiver.get_ref());
        }
    }

    fn limit(mut self: Pin<&mut Self>, count: u64) {
        self.left = Some(count);
    }

    fn unfinished(&self) -> usize {
        0
    }
}
