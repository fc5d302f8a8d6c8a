//! Services: a handler for each connection, with limits and an orderly shutdown.
//!
//! [`serve()`] takes any `Stream` of connections, such as a listener, and runs a handler in a
//! separate task for each. It is built on tokio-util's `TaskTracker` and [`CancellationToken`]. The
//! [`Context`] of a connection wraps its streams and sinks so that they keep the limits and end at
//! shutdown.
//!
//! # Examples
//!
//! ```
//! use aqueduct::Endpoint;
//! use aqueduct::codec::Text;
//! use aqueduct::service::{self, CancellationToken};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let dir = tempfile::tempdir()?;
//! # let address: Endpoint = format!("unix:{}/shout", dir.path().display()).parse()?;
//! # let _ = r#"
//! let address: Endpoint = "unix:/run/app/shout".parse()?;
//! # "#;
//! let listener = address.bind().await?;
//! let stop = CancellationToken::new();
//! let service = tokio::spawn(aqueduct::serve(listener, stop.clone(), |client, cx| async move {
//!     let client = cx.channel::<String, String>(client, Text);
//!     service::respond(client, &cx, |text| async move { text.to_uppercase() }).await
//! }));
//!
//! let mut client = address.connect().await?.channel::<String, String>(Text);
//! assert_eq!(client.call("hello".into()).await?, "HELLO");
//! stop.cancel();
//! let stats = service.await??;
//! assert_eq!(stats.accepted, 1);
//! # Ok(()) }
//! ```
//!
//! # Limits
//!
//! | limit | default | beyond it |
//! |---|---|---|
//! | connections at once | 512: [`max_connections`] | no more are accepted; they wait in the kernel's backlog |
//! | until the first message begins | 10 s: [`first_timeout`](Options::first_timeout) | [`TimedOut`] |
//! | for a message that has begun | 30 s: [`message_timeout`](Options::message_timeout) | [`TimedOut`] |
//! | between two messages | 5 min: [`idle_timeout`](Options::idle_timeout) | [`TimedOut`] |
//! | for the peer to take sent data | 30 s: [`send_timeout`](Options::send_timeout) | [`TimedOut`] |
//! | for handlers at shutdown | 10 s: [`grace`](Options::grace) | they are aborted |
//!
//! Exactly one of the three receiving limits counts at any time, and only while the handler waits
//! for the peer: a slow handler costs the peer nothing. A silent peer exceeds the first or the
//! third limit, a peer that sends one byte per second the second, and a peer that does not read its
//! replies the fourth. A frame without end exceeds the frame limit
//! ([`FrameError::TooLarge`](crate::frame::FrameError::TooLarge)).
//!
//! **Memory.** Peers can make a service hold at most `connections × 2 × (2 × max_frame + 128 KiB)`.
//! While a frame arrives its buffer grows with it, to at most twice the largest frame plus a chunk
//! of 64 KiB. A handler that keeps a large frame, or sends it back, keeps its buffer, which adds
//! the same amount again. Add the handler's own replies, of which a sink holds one chunk and the
//! last one. The worst case with the defaults is 2.1 GiB, if every connection holds a frame of 1
//! MiB and another one has almost arrived. Set [`max_connections`] and [`Framing::max_frame`] to
//! suit the machine. An idle connection has a read buffer of 64 KiB, of which the kernel backs only
//! touched pages.
//!
//! # Who may connect
//!
//! A Unix socket that this library creates has mode 0600. With a wider mode, have the handler check
//! the peer, and tell it before closing:
//!
//! ```
//! # use aqueduct::codec::Text;
//! # use aqueduct::connect::Connection;
//! # use aqueduct::service::{self, Context};
//! async fn handle(connection: Connection, cx: Context) -> Result<(), aqueduct::Error> {
//!     let known = connection.peer().credentials().is_some_and(|it| it.is_current_user());
//!     let mut client = cx.channel::<String, String>(connection, Text);
//!     if !known {
//!         client.send("this service is for its own user".into()).await?;
//!         return cx.close(client).await;
//!     }
//!     service::respond(client, &cx, |text| async move { text.to_uppercase() }).await
//! }
//! ```
//!
//! # Shutdown
//!
//! Shutdown begins when the token is cancelled ([`shutdown_on_signal`] cancels it on Ctrl-C,
//! `SIGTERM` and `SIGHUP`) or the listener breaks:
//!
//! 1. The listener is dropped. Connections in its backlog have not been accepted, and are refused.
//!    Requests of `nats:` that wait go back to the server for another member of the same `queue`;
//!    without `queue`, or without another member, their requesters get an error.
//! 2. [`Context::shutdown`] completes. Each [`UntilShutdown`] stream delivers messages that are
//!    already there and one that has begun, and ends where it would wait for a new one. So a
//!    handler that answers each message until its stream ends has answered every request that it
//!    accepted.
//! 3. At half of the grace period these streams end in any case, so a peer that never stops sending
//!    cannot push its own requests over the deadline.
//! 4. At the end of the grace period the remaining handlers are dropped at their next await point
//!    and counted as [`Stats::aborted`].
//!
//! # Service managers
//!
//! If `NOTIFY_SOCKET` is set, as systemd does for a service of `Type=notify`, a service sends `READY=1`
//! when it starts to accept, `WATCHDOG=1` twice per `WATCHDOG_USEC`, and `STOPPING=1` with the number
//! of open connections when shutdown begins. If a process runs several services, the first one reports
//! that it is ready and the last one that it is stopping. See [`Supervisor`].
//!
//! # Panics and errors of handlers
//!
//! Each affects only its own connection. Both are counted and logged through `tracing`, a panic
//! with its message.
//!
//! Everything here needs a Tokio runtime.
//!
//! [`max_connections`]: Options::max_connections
//! [`Framing::max_frame`]: crate::frame::Framing::max_frame

mod conduct;
mod context;
mod options;
mod respond;
mod signal;
mod stats;
mod supervisor;
mod timed;
mod until;

use std::future::Future;
use std::io;

use futures_core::Stream;

pub use self::context::Context;
pub use self::options::Options;
pub use self::respond::{respond, respond_or};
pub use self::signal::shutdown_on_signal;
pub use self::stats::{Error, Stats};
pub use self::supervisor::Supervisor;
pub use self::until::UntilShutdown;
pub use crate::connect::timeouts::{Limit, TimedOut};
pub use tokio_util::sync::CancellationToken;

use crate::codec::BoxError;

/// Runs `handler` for each connection of `listener` until `shutdown`.
///
/// It uses the default [`Options`]; see [`Options::serve`] for the details.
///
/// # Errors
///
/// [`Error::Accept`] when the listener breaks, [`Error::NoRuntime`] without a runtime.
///
/// # Cancel safety
///
/// Dropping the future aborts all handlers at once. Cancel `shutdown` to end in order.
///
/// # Examples
///
/// A service over a Unix socket; any other listener works as well.
///
/// ```
/// use aqueduct::codec::Text;
/// use aqueduct::frame::Framing;
/// use aqueduct::connect::Connection;
/// use aqueduct::service::{self, CancellationToken};
/// # use futures_util::stream;
/// # use tokio::net::UnixStream;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let (client, server) = UnixStream::pair()?;
/// # let server = Connection::from_io(server, Framing::lines());
/// # let listener = stream::iter([Ok(server)]);
/// let shutdown = CancellationToken::new();
/// let served = aqueduct::serve(listener, shutdown, |connection, cx| async move {
///     let channel = cx.channel::<String, String>(connection, Text);
///     service::respond(channel, &cx, |request| async move { request.to_uppercase() }).await
/// });
/// # let asking = async {
/// #     use tokio::io::{AsyncReadExt, AsyncWriteExt};
/// #     let mut client = client;
/// #     client.write_all(b"hello\n").await?;
/// #     client.shutdown().await?;
/// #     let mut reply = String::new();
/// #     client.read_to_string(&mut reply).await?;
/// #     std::io::Result::Ok(reply)
/// # };
/// # let (served, reply) = tokio::join!(served, asking);
/// # assert_eq!(reply?, "HELLO\n");
/// let stats = served?;
/// assert_eq!(stats.finished, 1);
/// # Ok(())
/// # }
/// ```
pub async fn serve<L, C, H, F, E>(
    listener: L,
    shutdown: CancellationToken,
    handler: H,
) -> Result<Stats, Error>
where
    L: Stream<Item = io::Result<C>> + 'static,
    C: Send + 'static,
    H: Fn(C, Context) -> F + Send + Sync + 'static,
    F: Future<Output = Result<(), E>> + Send + 'static,
    E: Into<BoxError>,
{
    Options::new().serve(listener, shutdown, handler).await
}
