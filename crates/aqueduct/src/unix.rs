//! Unix sockets: Tokio's stream sockets opened with care, [`seqpacket`] sockets, credentials and
//! descriptors.
//!
//! [`bind`] gives a [`Listener`], a `Stream` of [`UnixStream`]s; [`connect`] gives a `UnixStream`.
//! An [`Address`] is a path, or a name in Linux's abstract namespace, written `@name`. [`into_split`]
//! takes the two directions of a stream apart.
//!
//! # The socket's file
//! A socket bound to a path is a file there, and who may write to that file may connect (unix(7),
//! "Pathname socket ownership and permissions"). This module
//!
//! - gives it its mode *before* it appears, [`DEFAULT_MODE`] unless asked otherwise, whatever the
//!   umask, which is not touched;
//! - replaces a file that a dead server left, and nothing else: it must be a socket, and the
//!   kernel must say that no open socket belongs to it;
//! - holds a lock on the file `<path>.lock` for as long as the listener lives, so that of several
//!   servers started at once exactly one gets the path, and none takes it from a living one;
//! - removes both files when the listener is dropped, the socket's only if it is still the one
//!   that was made.
//!
//! The lock file is removed only by the process that holds the lock on it, and whoever locks it
//! then makes sure that the path still names the file it has locked. So two processes can never
//! hold the lock of one path on two different files. A process that is killed leaves both files;
//! its lock is gone, and the next listener takes them over. Delete a `.lock` file by hand only when
//! no server runs. Servers that do not use this library know nothing of the lock: against them only
//! the kernel's word protects, which is asked just before the file is replaced.
//!
//! # Who is at the other end
//! [`peer_credentials`] tells the user, group and process of the peer, as the kernel saw them when
//! it connected; [`peer_pidfd`] gives a descriptor that names the process for good. A name in the
//! abstract namespace has no mode: every user in the same network namespace can connect to it, and
//! can take it before us. There credentials are the only protection.
//!
//! # Descriptors
//! [`send_with_fds`] and [`recv_with_fds`] pass open descriptors along with bytes of a stream; on a
//! [`seqpacket`] socket they are part of one message. How many are taken is limited, and those of
//! a message with more are all closed.
//!
//! Everything here needs a Tokio runtime with I/O and time enabled; without a runtime opening is
//! an error.
//!
//! [`UnixStream`]: tokio::net::UnixStream

mod address;
mod bind;
mod claim;
mod connect;
mod credentials;
mod descriptors;
mod directory;
mod error;
pub(crate) mod halves;
mod listener;
mod lock;
mod scheme;
pub mod seqpacket;
mod stale;

use tokio::net::UnixStream;

pub use self::address::{Address, MAX_ADDRESS_LEN};
pub use self::bind::{BindOptions, DEFAULT_BACKLOG, DEFAULT_MODE};
pub use self::connect::{
    ConnectOptions, DEFAULT_CONNECT_TIMEOUT, FIRST_RETRY_PAUSE, LONGEST_RETRY_PAUSE,
};
pub use self::credentials::{peer_credentials, peer_pidfd};
pub use self::descriptors::{DEFAULT_MAX_FDS, MAX_FDS, recv_with_fds, send_with_fds};
pub use self::error::Error;
pub use self::halves::{ReadHalf, WriteHalf, into_split};
pub use self::listener::Listener;
pub(crate) use self::scheme::{PACKET, STREAM, serve};
pub use self::stale::{is_served, remove_stale};
pub use crate::connect::Credentials;
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
/// let listener = aqueduct::unix::bind(path.as_path())?;
/// let client = aqueduct::unix::connect(path.as_path()).await?;
/// let (server, _) = listener.accept().await?;
/// # drop((client, server));
/// drop(listener);
/// assert!(!path.exists());
/// # Ok(())
/// # }
/// ```
pub fn bind(address: impl Into<Address>) -> Result<Listener, Error> {
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
/// let listener = aqueduct::unix::bind(name.as_str())?;
/// let stream = aqueduct::unix::connect(name.as_str()).await?;
/// # Ok(())
/// # }
/// ```
pub async fn connect(address: impl Into<Address>) -> Result<UnixStream, Error> {
    ConnectOptions::new().connect(address).await
}
