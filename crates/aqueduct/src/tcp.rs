//! TCP sockets: Tokio's own types with safe defaults.
//!
//! [`bind`] returns a [`Listener`], a `Stream` of [`TcpStream`]s; [`connect`] returns a
//! `TcpStream`. Both take anything that prints as an address: a `SocketAddr`, or text such as
//! `host:port`, `[v6 address]:port` or `:port`. A name is looked up each time.
//!
//! # Examples
//!
//! ```
//! use tokio::io::{AsyncReadExt, AsyncWriteExt};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let listener = aqueduct::tcp::bind("127.0.0.1:0").await?;
//! let mut client = aqueduct::tcp::connect(listener.local_addr()?).await?;
//! let (mut server, _) = listener.accept().await?;
//! client.write_all(b"hello").await?;
//! let mut buf = [0; 5];
//! server.read_exact(&mut buf).await?;
//! assert_eq!(&buf, b"hello");
//! # Ok(()) }
//! ```
//!
//! # Beyond `tokio::net`
//!
//! - `TCP_NODELAY` on every stream unless asked otherwise. Without it a small write after another
//!   one waits for the peer's delayed acknowledgement, some 40 ms on Linux.
//! - An address without a host, such as `:7000`, means 127.0.0.1: nothing is offered to the network
//!   unless asked. ([`Endpoint`](crate::Endpoint) requires a host.)
//! - `SO_REUSEADDR` on every listener: a server that restarts can bind its port at once.
//! - A listener that survives a shortage of file descriptors without using a whole core.
//! - A connect with a time limit, which can wait for the server to appear, and which never connects
//!   to itself.
//! - [`close`], which does not destroy a reply that is still in flight.
//! - Errors that name the address and the cure.
//!
//! # Who may connect
//!
//! TCP does not know users: every local user can connect to 127.0.0.1, and the whole network to
//! anything else. If that matters, use a Unix socket or authenticate.
//!
//! # End of stream
//!
//! `AsyncWriteExt::shutdown`, or dropping the write half, ends one direction;
//! the peer reads 0 bytes and may still answer. A write to a peer that has closed succeeds once,
//! and the next one fails with `EPIPE` or `ECONNRESET`.
//!
//! Everything here needs a Tokio runtime. Without one opening is an error; in a runtime without its
//! I/O driver it panics, as `tokio::net` does.
//!
//! [`Endpoint`](crate::Endpoint) opens the same sockets by an address such as
//! `tcp://127.0.0.1:7000`, with messages instead of bytes. By address a client waits for its server
//! without a limit; [`ConnectOptions`] tries once unless [`wait`](ConnectOptions::wait) is set.
//!
//! [`TcpStream`]: tokio::net::TcpStream

mod address;
mod connect;
mod lingering;
mod listener;
mod scheme;

use std::fmt::Display;

use tokio::net::TcpStream;

use crate::connect::OpenError;

pub(crate) use self::address::Attempt;
pub use self::connect::ConnectOptions;
pub use self::listener::{BindOptions, Listener};
pub(crate) use self::scheme::{SCHEME, serve};
pub use crate::io::drain::close;

/// Binds and listens with the default [`BindOptions`].
///
/// # Errors
///
/// See [`BindOptions::bind`].
///
/// # Cancel safety
///
/// Cancel safe: nothing is left open.
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let listener = aqueduct::tcp::bind(":0").await?;
/// assert!(listener.local_addr()?.ip().is_loopback());
/// # Ok(())
/// # }
/// ```
pub async fn bind(address: impl Display) -> Result<Listener, OpenError> {
    BindOptions::new().bind(address).await
}

/// Connects with the default [`ConnectOptions`].
///
/// # Errors
///
/// See [`ConnectOptions::connect`].
///
/// # Cancel safety
///
/// Cancel safe: nothing is left open.
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let listener = aqueduct::tcp::bind("127.0.0.1:0").await?;
/// let stream = aqueduct::tcp::connect(listener.local_addr()?).await?;
/// assert!(stream.nodelay()?);
/// # Ok(())
/// # }
/// ```
pub async fn connect(address: impl Display) -> Result<TcpStream, OpenError> {
    ConnectOptions::new().connect(address).await
}
