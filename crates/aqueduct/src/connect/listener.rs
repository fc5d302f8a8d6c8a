use std::fmt::{self, Debug, Formatter};
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_core::Stream;
use tokio::sync::Mutex;

use super::accept::Bound;
use super::endpoint::Endpoint;
use super::lasting::Connector;
use super::reconnect::Reconnect;
use super::{Connection, MessageReceiver, MessageSender, OpenError};
use crate::io::timer::timeout;

/// A two-way endpoint that is served: a `Stream` of [`Connection`]s.
///
/// While descriptors or memory are short (`EMFILE` and its like) accepting pauses and goes on; a
/// connection that was aborted before it was accepted is passed over. Any other error is given out
/// and ends the stream.
///
/// `exec:`, `stdio:` and a connected socket in `fd:` have one connection, and then the stream ends:
/// what serves a socket so serves one peer, as a service under inetd does.
///
/// # Cancel safety
///
/// Dropping a future of `next()` or [`accept`](Self::accept) loses no connection.
#[must_use = "dropping it closes the endpoint"]
pub struct Listener {
    bound: Bound,
    local: Endpoint,
}

impl Listener {
    pub(super) fn new(bound: Bound, local: Endpoint) -> Self {
        Self { bound, local }
    }

    /// Accepts one connection; `None` when there will be no more.
    ///
    /// # Errors
    ///
    /// What the system says of `accept(2)`, where that does not pass.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: no connection is lost.
    pub async fn accept(&mut self) -> Option<io::Result<Connection>> {
        poll_fn(|cx| self.bound.poll_accept(cx)).await
    }

    /// What to connect to, to reach this: the endpoint that was bound, for TCP with the address
    /// and port that the system chose where a name or port 0 was asked for.
    pub fn local_endpoint(&self) -> &Endpoint {
        &self.local
    }

    /// The name that the service manager gave to the socket in `LISTEN_FDNAMES`, if this socket
    /// came from it; empty where it gave none. `None`: it was bound here.
    pub fn activation_name(&self) -> Option<&str> {
        self.bound.activation_name.as_deref()
    }

    /// Receives from all clients at the same time, as one stream of messages.
    ///
    /// - It has no end of its own; [`MessageReceiver::stop`] and [`MessageReceiver::limit`] end it.
    /// - The messages of one client come in order; those of several as they arrive. Nothing is
    ///   ever sent to a client.
    /// - A client that breaks off or sends what is no message costs its own connection only; a
    ///   warning through `tracing` tells of it. An error of accepting is an item, and the stream
    ///   ends when the clients that are there have ended.
    /// - The limits for clients of the [`Options`](super::Options) that it was bound with hold:
    ///   [`max_connections`](super::Options::max_connections) and the times for
    ///   a [first](super::Options::first_timeout), an
    ///   [unfinished](super::Options::message_timeout) and the
    ///   [next](super::Options::idle_timeout) message. A client beyond them loses its connection.
    /// - After ten warnings in ten seconds the others are counted.
    pub fn into_receiver(self) -> MessageReceiver {
        self.bound.into_receiver()
    }

    /// Sends to one client after another: to the first one who connects, and when that has gone, or
    /// has ended its own direction, to the next.
    ///
    /// It is the bound side of [`Options::reconnect`](super::Options::reconnect), and promises the
    /// same. Each time a client is waited for as long as `wait` says; `None`: for ever.
    pub fn into_sender(self, wait: Option<Duration>) -> MessageSender {
        let address = self.local.to_string();
        let local = address.clone();
        let listener = Arc::new(Mutex::new(self));
        let next: Connector = Box::new(move || {
            let (listener, address) = (Arc::clone(&listener), address.clone());
            Box::pin(async move {
                let mut listener = listener.lock().await;
                let accepting = listener.accept();
                let accepted = match wait {
                    None => accepting.await,
                    Some(waited) => timeout(waited, accepting).await.map_err(|_| {
                        OpenError::timed_out("accept on", &address, "client", waited)
                    })?,
                };
                let over = "no client can come any more";
                let over = || Err(io::Error::new(io::ErrorKind::BrokenPipe, over));
                accepted.unwrap_or_else(over)
            })
        });
        // Clients come at their own pace. What accepting fails with is told at once.
        Reconnect::new()
            .pauses(Duration::ZERO, Duration::ZERO)
            .attempt_timeout(Duration::MAX)
            .retry_if(|_| false)
            .over(local, next, None)
            .into_sender()
    }
}

impl Stream for Listener {
    type Item = io::Result<Connection>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.bound.poll_accept(cx)
    }
}

impl Debug for Listener {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listener")
            .field("local", &self.local)
            .field("name", &self.bound.activation_name)
            .finish_non_exhaustive()
    }
}
