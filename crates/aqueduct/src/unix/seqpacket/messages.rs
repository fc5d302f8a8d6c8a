//! The connections and message ends of sockets that keep message boundaries.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_core::Stream;

use super::socket::Socket;
use super::split::{Receiver, Sender};
use crate::connect::{
    Connection, Inlet, Link, Message, MessageLink, MessageReceiver, MessageSender, MessageSink,
    Peer,
};
use crate::frame::Framing;
use crate::unix::credentials::peer_credentials;
use crate::unix::halves::cut_off;

/// Creates a connection over a socket. `shared`: others receive from it too, now or later.
pub(crate) fn connection(socket: Socket, framing: Framing, shared: bool) -> Connection {
    let peer = peer_credentials(&socket).map_or(Peer::Unknown, Peer::Process);
    Connection::messages(Packet { socket, shared }, framing, peer)
}

struct Packet {
    socket: Socket,
    shared: bool,
}

impl MessageLink for Packet {
    fn max_message(&self) -> Option<usize> {
        Some(self.socket.max_message())
    }

    fn duplicate(&self) -> Option<OwnedFd> {
        self.socket.as_fd().try_clone_to_owned().ok()
    }

    fn split(self: Box<Self>) -> (MessageSender, MessageReceiver) {
        let (sender, receiver) = self.socket.into_split();
        let receiver = MessageReceiver::new(Packets::new(receiver, None, self.shared));
        (MessageSender::frames(sender), receiver)
    }

    fn into_receiver(self: Box<Self>) -> MessageReceiver {
        let (sender, receiver) = self.socket.into_split();
        MessageReceiver::new(Packets::new(receiver, Some(sender), self.shared))
    }

    fn into_link(self: Box<Self>) -> Link {
        let (sender, receiver) = self.socket.into_split();
        let receiver = MessageReceiver::new(Packets::new(receiver, None, self.shared));
        Link::messages(sender, receiver)
    }
}

impl MessageSink for Sender {
    fn abandon(self: Pin<&mut Self>) {
        Self::abandon(self.get_mut());
    }

    fn was_reset(&self) -> bool {
        self.socket().was_reset()
    }
}

/// Messages from a `SOCK_SEQPACKET` socket.
struct Packets {
    receiver: Receiver,
    /// The other direction, if nothing is sent: kept open until the peer has ended its own.
    held: Option<Sender>,
    /// Whether others receive from it too.
    shared: bool,
    /// How many messages may still be delivered, if limited.
    left: Option<u64>,
}

impl Packets {
    fn new(receiver: Receiver, held: Option<Sender>, shared: bool) -> Self {
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
            // A message is taken and delivered in one step, so none is ever in hand.
            self.left = Some(0);
        } else {
            cut_off(self.receiver.get_ref());
        }
    }

    fn limit(mut self: Pin<&mut Self>, count: u64) {
        self.left = Some(count);
    }

    fn unfinished(self: Pin<&mut Self>) -> usize {
        0
    }
}
