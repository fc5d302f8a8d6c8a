//! Unix sockets: streams, [`seqpacket`] sockets, credentials and descriptor passing.
//!
//! [`bind`] returns a [`Listener`], a `Stream` of [`UnixStream`]s; [`connect`] returns a
//! `UnixStream`. Both take a path, or `@name` for a name in Linux's abstract namespace. Write a
//! path that begins with `@` as `./@name`. A path or name has at most 107 bytes.
//!
//! # Examples
//!
//! ```
//! use tokio::io::{AsyncReadExt, AsyncWriteExt};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let dir = tempfile::tempdir()?;
//! # let path = dir.path().join("service.sock");
//! # let _ = r#"
//! let path = "/run/app/service.sock";
//! # "#;
//! let listener = aqueduct::unix::bind(&path)?;
//! let mut client = aqueduct::unix::connect(&path).await?;
//! let (mut server, _) = listener.accept().await?;
//! client.write_all(b"hello").await?;
//! let mut buf = [0; 5];
//! server.read_exact(&mut buf).await?;
//! assert_eq!(&buf, b"hello");
//! # Ok(()) }
//! ```
//!
//! # The socket's file
//!
//! A socket bound to a path is a file there, and users with write permission on that file may
//! connect (unix(7), "Pathname socket ownership and permissions"). This module
//!
//! - sets the mode of the file *before* it appears, 0600 unless set otherwise, without changing the
//!   umask;
//! - replaces a file that a dead server left, and nothing else: it must be a socket, and the kernel
//!   must confirm that no open socket belongs to it;
//! - holds a lock on the file `<path>.lock` for as long as the listener lives: of several servers
//!   started at once exactly one gets the path, and none takes it from a living one;
//! - removes both files when the listener is dropped, the socket's only if it is still the one that
//!   was created.
//!
//! Only the process that holds the lock removes the lock file, and after locking it a process
//! checks that the path still names the file it has locked. So two processes can never hold the
//! lock of one path on two different files. A process that is killed leaves both files; its lock is
//! gone, and the next listener takes them over. Delete a `.lock` file by hand only when no server
//! runs. Servers that do not use this library ignore the lock. They are protected too, because the
//! kernel is asked just before the file is replaced.
//!
//! # The peer
//!
//! [`peer_credentials`] returns the user, group and process of the peer, as the kernel saw them
//! when it connected. [`peer_pidfd`] returns a file descriptor that names the process for good. A
//! name in the abstract namespace has no mode: every user in the same network namespace can connect
//! to it, and can take it first. Credentials are the only protection there.
//!
//! # Descriptors
//!
//! [`send_with_fds`] and [`recv_with_fds`] pass open file descriptors along with bytes of a stream.
//! On a [`seqpacket`] socket they are part of one message. A message carries at most 253
//! descriptors (`SCM_MAX_FD`). The receiver sets how many it accepts. If a message
//! brings more, all of them are closed.
//!
//! Everything here needs a Tokio runtime. Without one opening is an error; in a runtime without its
//! I/O driver it panics, as `tokio::net` does.
//!
//! [`Endpoint`](crate::Endpoint) opens the same sockets by an address such as
//! `unix:/run/app.sock?mode=0660`, with messages instead of bytes. By address a client waits for its
//! server without a limit; [`ConnectOptions`] tries once unless [`wait`](ConnectOptions::wait) is
//! set.
//!
//! [`UnixStream`]: tokio::net::UnixStream

mod address;
mod bind;
mod claim;
mod connect;
mod credentials;
pub(crate) mod descriptors;
mod diag;
pub(crate) mod halves;
mod listener;
mod lock;
mod scheme;
pub mod seqpacket;
mod trust;
mod watch;

use std::path::Path;

use tokio::net::UnixStream;

use crate::connect::OpenError;

pub(crate) use self::address::Address;
pub use self::bind::BindOptions;
pub(crate) use self::claim::Claim;
pub use self::claim::{is_served, remove_stale};
pub use self::connect::ConnectOptions;
pub use self::credentials::{peer_credentials, peer_pidfd};
pub use self::descriptors::{recv_with_fds, send_with_fds};
pub use self::halves::into_split;
pub use self::listener::Listener;
pub(crate) use self::scheme::{PACKET, STREAM, serve};
pub(crate) use self::seqpacket::make_room;
pub(crate) use self::watch::Watched;
pub use crate::io::drain::close;

/// Binds and listens with the default [`BindOptions`].
///
/// # Errors
///
/// See [`BindOptions::bind`].
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = tempfile::tempdir()?;
/// let path = dir.path().join("service.sock");
/// let listener = aqueduct::unix::bind(&path)?;
/// let client = aqueduct::unix::connect(&path).await?;
/// let (server, _) = listener.accept().await?;
/// # drop((client, server));
/// drop(listener);
/// assert!(!path.exists());
/// # Ok(())
/// # }
/// ```
pub fn bind(address: impl AsRef<Path>) -> Result<Listener, OpenError> {
    BindOptions::new().bind(address)
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
/// let name = format!("@aqueduct-doc-{}", std::process::id());
/// let listener = aqueduct::unix::bind(&name)?;
/// let stream = aqueduct::unix::connect(&name).await?;
/// # Ok(())
/// # }
/// ```
pub async fn connect(address: impl AsRef<Path>) -> Result<UnixStream, OpenError> {
    ConnectOptions::new().connect(address).await
}
