//! [`Accept`]: the interface of bound mechanisms, and [`Bound`], which all of them share.

use std::future;
use std::io;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::future::BoxFuture;

use super::connection::Connection;
use super::options::{ClientLimits, Options};
use super::receiver::MessageReceiver;

/// A bound mechanism that accepts connections.
pub(crate) trait Accept: Send + Sync {
    /// Polls for the next connection; `None` when there will be no more.
    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Connection>>>;

    /// Refuses clients that connect from now on, as far as the mechanism can. Returns whether
    /// waiting clients are still to be accepted.
    fn refuse(&self) -> bool {
        false
    }

    /// Accepts a waiting client, even if the runtime does not know of it yet; `None` if there is
    /// none. Called after [`refuse`](Self::refuse).
    fn accept_now(&mut self) -> io::Result<Option<Connection>> {
        Ok(None)
    }

    /// Returns a future that completes when the mechanism has been dropped and has informed its
    /// peers.
    fn closed(&self) -> BoxFuture<'static, ()> {
        Box::pin(future::ready(()))
    }

    /// Returns the messages of all clients, if the mechanism has no connections.
    fn take_receiver(&mut self) -> Option<MessageReceiver> {
        None
    }

    /// Returns the connection, if there is only one and nothing to accept.
    fn take_single(&mut self) -> Option<Connection> {
        None
    }
}

/// A bound mechanism, and the settings of its connections.
pub(crate) struct Bound {
    accept: Box<dyn Accept>,
    /// The printed address, for logs.
    address: String,
    poll_for: Duration,
    /// Limits for receiving from all clients at once.
    pub(super) limits: ClientLimits,
    /// Its name, if a service manager passed it down.
    pub(crate) activation_name: Option<String>,
}

impl Bound {
    pub(crate) fn new(accept: impl Accept + 'static, address: &str, poll_for: Duration) -> Self {
        Self {
            accept: Box::new(accept),
            address: address.to_owned(),
            poll_for,
            limits: ClientLimits::default(),
            activation_name: None,
        }
    }

    /// Applies the limits for clients of these options.
    pub(crate) fn limited(mut self, options: &Options) -> Self {
        self.limits = options.clients;
        self
    }

    /// Gives one connection, and then the end.
    pub(crate) fn once(connection: Connection, address: &str) -> Self {
        // It has its own limit for polling.
        Self::new(Once(Some(connection)), address, Duration::ZERO)
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    pub(crate) fn poll_accept(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Connection>>> {
        let next = ready!(self.accept.poll_accept(cx));
        Poll::Ready(next.map(|it| it.map(|connection| self.polled(connection))))
    }

    fn polled(&self, connection: Connection) -> Connection {
        match self.poll_for.is_zero() {
            true => connection,
            false => connection.polled(self.poll_for),
        }
    }

    pub(crate) fn take_single(&mut self) -> Option<Connection> {
        self.accept.take_single()
    }

    pub(crate) fn take_receiver(&mut self) -> Option<MessageReceiver> {
        self.accept.take_receiver()
    }

    pub(crate) fn refuse(&self) -> bool {
        self.accept.refuse()
    }

    pub(super) fn closed(&self) -> BoxFuture<'static, ()> {
        self.accept.closed()
    }

    pub(crate) fn accept_now(&mut self) -> io::Result<Option<Connection>> {
        let next = self.accept.accept_now()?;
        Ok(next.map(|connection| self.polled(connection)))
    }
}

/// One connection, and then the end.
struct Once(Option<Connection>);

impl Accept for Once {
    fn poll_accept(&mut self, _: &mut Context<'_>) -> Poll<Option<io::Result<Connection>>> {
        Poll::Ready(self.0.take().map(Ok))
    }

    fn take_single(&mut self) -> Option<Connection> {
        self.0.take()
    }
}
