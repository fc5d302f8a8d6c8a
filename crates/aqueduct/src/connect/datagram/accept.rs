//! [`Accepting`]: a bound datagram socket. Each datagram becomes a connection of one message.

use std::io;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::{self, Once};

use super::outgoing::{Outgoing, To};
use super::{Arrived, Datagrams, Incoming};
use crate::connect::accept::Accept;
use crate::connect::connection::{Connection, MessageLink};
use crate::connect::link::{Fate, Link};
use crate::connect::message::Message;
use crate::connect::receiver::MessageReceiver;
use crate::connect::sender::MessageSender;
use crate::frame::Framing;

/// A bound socket. Replies go to the sender of a datagram, if that has a name.
pub(crate) struct Accepting {
    socket: Arc<Datagrams>,
    framing: Framing,
}

impl Accepting {
    pub(crate) fn new(socket: Datagrams, framing: Framing) -> Self {
        let socket = Arc::new(socket);
        Self { socket, framing }
    }

    fn connection(&self, arrived: Arrived) -> Connection {
        let reply = Reply {
            message: arrived.message.map(Message::into_body),
            to: arrived.from.map_or(To::Nobody, To::Name),
            socket: Arc::clone(&self.socket),
        };
        Connection::messages(reply, self.framing.clone(), arrived.peer)
    }
}

impl Accept for Accepting {
    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Connection>>> {
        let arrived = ready!(self.socket.poll_receive(cx));
        Poll::Ready(Some(arrived.map(|it| self.connection(it))))
    }

    fn refuse(&self) -> bool {
        self.socket.refuse();
        true
    }

    fn accept_now(&mut self) -> io::Result<Option<Connection>> {
        let arrived = self.socket.receive_now()?;
        Ok(arrived.map(|it| self.connection(it)))
    }

    fn take_receiver(&mut self) -> Option<MessageReceiver> {
        let incoming = Incoming::new(Arc::clone(&self.socket), true);
        Some(MessageReceiver::new(incoming))
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
