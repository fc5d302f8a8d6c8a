//! Services that last: a handler for each connection, with limits and an orderly end.
//!
//! [`serve()`] takes any `Stream` of connections (a listener) and runs a handler on a task of its
//! own for each. It is a small runner on tokio-util's `TaskTracker` and [`CancellationToken`]; it
//! does not know what a connection is. A [`Context`] goes with each connection and wraps its
//! streams and sinks so that they keep the limits and end at shutdown.
//!
//! # Limits
//!
//! | what | default | what happens beyond |
//! |---|---|---|
//! | connections at once | 512: [`max_connections`] | no more are accepted; they wait in the kernel's backlog |
//! | until the first message begins | 10 s: [`first_timeout`](Options::first_timeout) | [`TimedOut`] |
//! | for a message that has begun | 30 s: [`message_timeout`](Options::message_timeout) | [`TimedOut`] |
//! | between two messages | 5 min: [`idle_timeout`](Options::idle_timeout) | [`TimedOut`] |
//! | for the peer to take what is sent | 30 s: [`send_timeout`](Options::send_timeout) | [`TimedOut`] |
//! | for handlers at shutdown | 10 s: [`grace`](Options::grace) | they are aborted |
//!
//! Exactly one of the three receiving limits counts at any time, and only while the handler waits
//! for the peer: a handler that takes long costs the peer nothing. A peer that sends nothing meets
//! the first or the third, one that sends a byte a second the second, one that does not read its
//! replies the fourth, and one that sends a frame without end the frame limit
//! ([`FrameError::TooLarge`](crate::frame::FrameError::TooLarge)).
//!
//! **Memory.** What peers can make a service hold is bounded by
//! `connections x 2 x (2 x max_frame + 128 KiB)`. While a frame arrives its buffer grows with it, to
//! at most twice the largest frame and a chunk of 64 KiB to read into. A handler that keeps a large
//! frame, or sends it back, keeps the buffer it came in: once more as much. Add the replies of the
//! handler's own making, of which a sink holds one chunk and the last one. With the defaults that is
//! 2.2 GiB at the very worst, if every connection has a frame of 1 MiB in hand and another one all
//! but arrived; set [`max_connections`] and [`Framing::max_frame`] to what the machine can bear. An
//! idle connection has room of 64 KiB to read into, of which the kernel backs what was touched.
//!
//! # Who may connect
//!
//! A Unix socket of ours has mode 0600. With a wider mode the handler asks, and says so before it
//! closes:
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
//! When the token is cancelled ([`shutdown_on_signal`] cancels it on Ctrl-C, `SIGTERM` and `SIGHUP`), or the
//! listener breaks:
//!
//! 1. The listener is dropped. What waits in its backlog has not been accepted, and is refused.
//! 2. [`Context::shutdown`] completes, and each [`UntilShutdown`] stream goes on with what is there
//!    already and with a message that has begun, and ends where it would have to wait for a new
//!    one. A handler that answers each message it gets until its stream ends, has so answered every
//!    request it accepted.
//! 3. At half of the grace period these streams end in any case, so that a peer which never stops
//!    sending cannot push its own unanswered requests over the deadline.
//! 4. At its end the remaining handlers are dropped at their next await point and counted as
//!    [`Stats::aborted`].
//!
//! # Panics and errors of handlers
//!
//! Each costs its own connection only. Both are counted and told through `tracing`: a panic with
//! its message.
//!
//! Everything here needs a Tokio runtime with time enabled.
//!
//! [`max_connections`]: Options::max_connections
//! [`Framing::max_frame`]: crate::frame::Framing::max_frame

mod conduct;
mod context;
mod options;
mod respond;
mod signal;
mod stats;
mod timed;
mod timeouts;
mod timer;
mod until;

use std::future::Future;
use std::io;

use futures_core::Stream;

pub use self::context::Context;
pub use self::options::Options;
pub use self::respond::{respond, respond_or};
pub use self::signal::shutdown_on_signal;
pub use self::stats::{Error, Stats};
pub use self::timeouts::{Limit, TimedOut};
pub use self::until::UntilShutdown;
pub use tokio_util::sync::CancellationToken;

use crate::codec::BoxError;

/// Runs `handler` for each connection of `listener` until `shutdown`, with the default [`Options`].
///
/// See [`Options::serve`] for the details.
///
/// # Errors
///
/// [`Error::Accept`] when the listener breaks, [`Error::NoRuntime`].
///
/// # Cancel safety
///
/// Dropping the future aborts all handlers at once. Cancel `shutdown` to end in order.
///
/// # Examples
///
/// A service over a Unix socket; any other listener does as well.
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
    L: Stream<Item = io::Result<C>>,
    C: Send + 'static,
    H: Fn(C, Context) -> F + Send + Sync + 'static,
    F: Future<Output = Result<(), E>> + Send + 'static,
    E: Into<BoxError>,
{
    Options::new().serve(listener, shutdown, handler).await
}
