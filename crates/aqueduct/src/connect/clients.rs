//! [`Clients`]: all clients of a listener, as one stream of messages.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_core::Stream;
use futures_util::stream::SelectAll;

use super::accept::Bound;
use super::receiver::Inlet;
use super::{Connection, Message, MessageReceiver, Peer};

/// How many clients are received from at a time, for each listener.
pub(super) const MAX_CLIENTS: usize = 1024;

/// ```text
/// Listening ── stop ──> Closing ── nobody waits any more ──> Draining ── last client ends ──> over
///     └───────────────────── accept fails ────────────────────>┘
/// ```
struct Clients {
    /// `None`: no more are accepted.
    listener: Option<Bound>,
    /// Those who wait are accepted, and then no more.
    closing: bool,
    local: String,
    clients: SelectAll<Client>,
    /// How many messages may still be delivered, if that is limited.
    left: Option<u64>,
}

impl Bound {
    /// Receives from all clients at the same time.
    pub(crate) fn into_receiver(mut self) -> MessageReceiver {
        match self.take_single() {
            Some(connection) => connection.into_receiver(),
            None => MessageReceiver::new(Clients::new(self)),
        }
    }
}

struct Client {
    incoming: MessageReceiver,
    peer: Peer,
    over: bool,
}

impl Clients {
    fn new(listener: Bound) -> Self {
        Self {
            local: listener.address().to_owned(),
            listener: Some(listener),
            closing: false,
            clients: SelectAll::new(),
            left: None,
        }
    }

    /// Accepts who is there and may come in. Pending: no one is, or no one may. An error is the
    /// last thing accepting gives.
    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        while self.clients.len() < MAX_CLIENTS {
            let Some(listener) = &mut self.listener else {
                return Poll::Pending;
            };
            let next = if self.closing {
                listener.accept_now().transpose()
            } else {
                ready!(listener.poll_accept(cx))
            };
            match next {
                Some(Ok(connection)) => self.take(connection),
                Some(Err(error)) => {
                    self.listener = None;
                    return Poll::Ready(error);
                }
                None => self.listener = None,
            }
        }
        Poll::Pending
    }

    fn take(&mut self, connection: Connection) {
        let peer = *connection.peer();
        tracing::debug!(target: TARGET, address = %self.local, %peer, "a client came");
        let mut incoming = connection.collecting().into_receiver();
        if self.closing {
            incoming.stop();
        }
        self.clients.push(Client {
            incoming,
            peer,
            over: false,
        });
    }
}

impl Stream for Clients {
    type Item = io::Result<Message>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        if this.left == Some(0) {
            return Poll::Ready(None);
        }
        loop {
            if let Poll::Ready(error) = this.poll_accept(cx) {
                return Poll::Ready(Some(Err(error)));
            }
            let full = this.clients.len() >= MAX_CLIENTS;
            match Pin::new(&mut this.clients).poll_next(cx) {
                Poll::Ready(Some(Ok(message))) => {
                    if let Some(left) = &mut this.left {
                        *left -= 1;
                    }
                    return Poll::Ready(Some(Ok(message)));
                }
                Poll::Ready(Some(Err((peer, error)))) => {
                    let address = &this.local;
                    tracing::warn!(
                        target: TARGET, %address, %peer, error = %Reason(&error),
                        "a client broke off, and its connection was closed"
                    );
                }
                Poll::Ready(None) if this.listener.is_none() => return Poll::Ready(None),
                // Someone has left: there is a place for one more.
                _ if full && this.clients.len() < MAX_CLIENTS => {}
                _ => return Poll::Pending,
            }
        }
    }
}

impl Inlet for Clients {
    fn stop(mut self: Pin<&mut Self>) {
        self.closing = true;
        if !self.listener.as_ref().is_some_and(Bound::refuse) {
            self.listener = None;
        }
        // Put in afresh, so that each is polled once more and can end.
        for mut client in std::mem::take(&mut self.clients) {
            client.incoming.stop();
            self.clients.push(client);
        }
    }

    fn limit(mut self: Pin<&mut Self>, count: u64) {
        self.left = Some(count);
    }

    fn unfinished(self: Pin<&mut Self>) -> usize {
        let each = self
            .get_mut()
            .clients
            .iter_mut()
            .map(|it| it.incoming.unfinished());
        each.sum()
    }
}

impl Stream for Client {
    type Item = Result<Message, (Peer, io::Error)>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.over {
            return Poll::Ready(None);
        }
        let next = ready!(Pin::new(&mut self.incoming).poll_next(cx));
        Poll::Ready(next.map(|item| {
            item.map_err(|error| {
                self.over = true;
                (self.peer, error)
            })
        }))
    }
}

/// An error with its causes, in one line.
struct Reason<'a>(&'a io::Error);

impl std::fmt::Display for Reason<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)?;
        let mut cause = std::error::Error::source(self.0);
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

const TARGET: &str = "aqueduct::connect";
