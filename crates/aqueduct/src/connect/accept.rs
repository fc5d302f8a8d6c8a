//! [`Accept`]: what mechanisms that are bound give, and [`Bound`], what all of them share.

use std::io;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use super::connection::Connection;
use super::options::{ClientLimits, Options};

/// A bound mechanism that accepts connections.
pub(crate) trait Accept: Send + Sync {
    /// The next connection; `None` when there will be no more.
    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Connection>>>;

    /// Refuses those who connect from now on, as far as the mechanism can. Whether those who wait
    /// already are still to be accepted.
    fn refuse(&self) -> bool {
        false
    }

    /// Accepts one of those who wait, also where the runtime does not know of it yet; `None` if there
    /// is none. Called after [`refuse`](Self::refuse).
    fn accept_now(&mut self) -> io::Result<Option<Connection>> {
        Ok(None)
    }

    /// The one connection, where there is only one and nothing to accept.
    fn take_single(&mut self) -> Option<Connection> {
        None
    }
}

/// Something bound, and what its connections get.
pub(crate) struct Bound {
    accept: Box<dyn Accept>,
    /// The printed address, for logs.
    address: String,
    poll_for: Duration,
    /// Holds where all clients are received from at once.
    pub(super) limits: ClientLimits,
    /// Its name, if a service manager has handed it down.
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

    /// With the limits for clients of these options.
    pub(crate) fn limited(mut self, options: &Options) -> Self {
        self.limits = options.clients;
        self
    }

    /// One connection, and then the end.
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

    pub(crate) fn refuse(&self) -> bool {
        self.accept.refuse()
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
