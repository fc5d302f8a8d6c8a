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

/// A bound two-way endpoint: a `Stream` of [`Connection`]s.
///
/// While file descriptors or memory are short (`EMFILE` and similar errors), accepting pauses and
/// then goes on. A connection that is aborted before it is accepted is skipped. Any other error is
/// an item and ends the stream.
///
/// `exec:`, `stdio:` and a connected socket in `fd:` give one connection, then the stream ends. So
/// a program that serves a socket can also serve a single peer, as under inetd.
///
/// # Cancel safety
///
/// Cancel safe. Dropping a future of `next()` or [`accept`](Self::accept) loses no connection.
///
/// # Examples
///
/// ```
/// use aqueduct::Endpoint;
/// use aqueduct::codec::Text;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = tempfile::tempdir()?;
/// # let address: Endpoint = format!("unix:{}/echo", dir.path().display()).parse()?;
/// # let _ = r#"
/// let address: Endpoint = "unix:/run/app/echo".parse()?;
/// # "#;
/// let mut listener = address.bind().await?;
/// # let client = tokio::spawn(async move {
/// #     let mut client = address.connect().await?.channel::<String, String>(Text);
/// #     assert_eq!(client.call("hello".into()).await?, "hello");
/// #     client.close().await?;
/// #     Ok::<_, Box<dyn std::error::Error + Send + Sync>>(())
/// # });
/// while let Some(connection) = listener.accept().await {
///     let mut client = connection?.channel::<String, String>(Text);
///     while let Some(text) = client.recv().await {
///         client.send(text?).await?;
///     }
/// #     break;
/// }
/// # client.await?.map_err(|e| e.to_string())?;
/// # Ok(()) }
/// ```
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
    /// Any error of `accept(2)` that is not temporary.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: no connection is lost.
    pub async fn accept(&mut self) -> Option<io::Result<Connection>> {
        poll_fn(|cx| self.bound.poll_accept(cx)).await
    }

    /// Returns the address at which clients reach this listener.
    ///
    /// That is the endpoint that was bound. For TCP it has the address and port that the system
    /// chose if a name or port 0 was asked for.
    pub fn local_endpoint(&self) -> &Endpoint {
        &self.local
    }

    /// Returns the name of an activated socket, from `LISTEN_FDNAMES`.
    ///
    /// The name is empty if the service manager gave none. `None` means that the socket was bound
    /// here.
    pub fn activation_name(&self) -> Option<&str> {
        self.bound.activation_name.as_deref()
    }

    /// Returns a future that completes when the listener has been dropped and has informed its peers.
    ///
    /// A service on `nats:` with a `queue` passes its waiting requests on when it is dropped. A program
    /// that ends right afterwards has to wait for that. [`serve`](crate::serve) does so for a
    /// `Listener`, but not for a stream that is made from one. Other mechanisms are done at once.
    pub fn closed(&self) -> impl Future<Output = ()> + Send + use<> {
        self.bound.closed()
    }

    /// Receives from all clients at the same time, as one stream of messages.
    ///
    /// - The stream has no end; [`MessageReceiver::stop`] and [`MessageReceiver::limit`] end it.
    /// - Messages of one client arrive in order; those of several clients are interleaved. Nothing
    ///   is sent to a client.
    /// - A client that breaks off or sends an invalid message costs only its own connection and a
    ///   `tracing` warning. After ten warnings in ten seconds further ones are only counted.
    /// - An error of accepting is an item. The stream then ends when the present clients have
    ///   ended.
    /// - Clients are limited by the [`Options`](super::Options) that the listener was bound with:
    ///   [`max_connections`](super::Options::max_connections), and the times for a
    ///   [first](super::Options::first_timeout), an [unfinished](super::Options::message_timeout)
    ///   and the [next](super::Options::idle_timeout) message. A client that exceeds a limit loses
    ///   its connection.
    pub fn into_receiver(self) -> MessageReceiver {
        self.bound.into_receiver()
    }

    /// Sends to one client at a time, in the order in which they connect.
    ///
    /// When a client has gone or has ended its own direction, the next one follows. This is the
    /// bound side of [`Options::reconnect`](super::Options::reconnect) and makes the same promises.
    /// `wait` limits each wait for a client; `None` waits indefinitely.
    pub fn into_sender(self, wait: impl Into<Option<Duration>>) -> MessageSender {
        let wait = wait.into();
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
                let over = "no more clients can connect";
                let over = || Err(io::Error::new(io::ErrorKind::BrokenPipe, over));
                accepted.unwrap_or_else(over)
            })
        });
        // Clients come at their own pace. An error of accepting is reported at once.
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
