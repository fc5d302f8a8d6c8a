//! [`Accepting`]: a bound datagram socket. Each datagram becomes a connection of one message.

use std::io;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::{self, Once};

use super::outgoing::{Outgoing, To};
use super::{Arrived, BoundSocket, Datagrams, Incoming, Origin};
use crate::connect::accept::Accept;
use crate::connect::connection::{Connection, MessageLink};
use crate::connect::link::{Fate, Link};
use crate::connect::message::Message;
use crate::connect::receiver::MessageReceiver;
use crate::connect::sender::MessageSender;
use crate::frame::Framing;

/// A bound socket. Replies go to the sender of a datagram, if that has a name.
pub(crate) struct Accepting {
    /// `None` once the receiver was taken.
    socket: Option<BoundSocket>,
    framing: Framing,
}

impl Accepting {
    pub(crate) fn new(socket: BoundSocket, framing: Framing) -> Self {
        let socket = Some(socket);
        Self { socket, framing }
    }

    fn connection(socket: &BoundSocket, framing: &Framing, arrived: Arrived) -> Connection {
        let reply = Reply {
            message: arrived.message.map(Message::into_body),
            to: arrived.from.map_or(To::Nobody, To::Name),
            socket: Arc::clone(socket.socket()),
        };
        Connection::messages(reply, framing.clone(), arrived.peer)
    }
}

impl Accept for Accepting {
    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Connection>>> {
        let Some(socket) = &mut self.socket else {
            return Poll::Ready(None);
        };
        let next = ready!(socket.poll_receive(cx));
        let connection = |it| Self::connection(socket, &self.framing, it);
        Poll::Ready(next.map(|arrived| arrived.map(connection)))
    }

    fn refuse(&self) -> bool {
        self.socket.as_ref().is_some_and(BoundSocket::refuse)
    }

    fn accept_now(&mut self) -> io::Result<Option<Connection>> {
        let Some(socket) = &self.socket else {
            return Ok(None);
        };
        let arrived = socket.receive_now()?;
        Ok(arrived.map(|it| Self::connection(socket, &self.framing, it)))
    }

    fn take_receiver(&mut self) -> Option<MessageReceiver> {
        let socket = self.socket.take()?;
        Some(MessageReceiver::new(Incoming::new(Origin::Bound(socket))))
    }
}

/// One datagram, and where replies to it go.
struct Reply {
    message: io::Result<Bytes>,
    to: To,
    socket: Arc<Datagrams>,
}

impl Reply {
    fn split_up(self) -> (Outgoing, Once<std::future::Ready<io::Result<Bytes>>>) {
        let message = std::future::ready(self.message);
        (Outgoing::new(self.socket, self.to), stream::once(message))
    }
}

impl MessageLink for Reply {
    fn max_message(&self) -> Option<usize> {
        Some(self.socket.max_send)
    }

    fn split(self: Box<Self>) -> (MessageSender, MessageReceiver) {
        let (outgoing, incoming) = self.split_up();
        (
            MessageSender::frames(outgoing),
            MessageReceiver::frames(incoming),
        )
    }

    fn into_receiver(self: Box<Self>) -> MessageReceiver {
        MessageReceiver::frames(self.split_up().1)
    }

    fn into_sender(self: Box<Self>) -> MessageSender {
        MessageSender::frames(self.split_up().0)
    }

    fn into_link(self: Box<Self>) -> Link {
        let (outgoing, incoming) = self.split_up();
        // The stream of one message ends at once, which does not mean that its sender has gone.
        let incoming = MessageReceiver::frames(incoming.chain(stream::pending()));
        Link::messages(outgoing, incoming)
            .with_fate(Fate::Unknown)
            .without_end()
    }
}
