//! Anonymous pipes, and descriptors of existing pipes and FIFOs.
//!
//! Everything in [`tokio::net::unix::pipe`] exists here under the same name and with the same
//! meaning, so changing the import is enough. Differences:
//!
//! - **An end never spins.** When a FIFO's last writer has closed it and a silent one has opened
//!   it, Tokio's reader reports readiness for ever and burns a core. So does the writing end after
//!   a reader has closed. Here such an end sleeps. (It takes one more file descriptor when its peer
//!   comes back. If there is none, the wait fails with `EMFILE` or `ENFILE`.)
//! - **A waiting loop is fair.** [`Receiver::readable`] and [`Sender::writable`] count against the
//!   task's cooperative budget, so timers still fire beside a descriptor that is always ready.
//! - **A missing runtime is an error,** not a panic. (A runtime without its I/O driver still
//!   panics, as everywhere in Tokio.)
//! - **Refusals are typed.** If a descriptor cannot be used, or a capacity is not possible, the
//!   [`io::Error`] contains an [`OpenError`](crate::OpenError) with the cause and the cure.
//! - **Additions**: [`Receiver::set_capacity`], [`Receiver::from_shared_fd`], and messages instead
//!   of bytes with [`packet`].
//!
//! To create FIFOs, wait for the peer, and see it come and go, use [`fifo`](crate::fifo).
//!
//! Creating an end needs a Tokio runtime. An end may outlive its runtime; every wait then fails at
//! once.
//!
//! `pipe(7)` and `fifo(7)` describe the behaviour of pipes.
//!
//! # Examples
//!
//! ```
//! use aqueduct::pipe;
//! use tokio::io::{AsyncReadExt, AsyncWriteExt};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> std::io::Result<()> {
//! let (mut sender, mut receiver) = pipe::pipe()?;
//! sender.write_all(b"over and out").await?;
//! drop(sender);
//!
//! let mut all = String::new();
//! receiver.read_to_string(&mut all).await?;
//! assert_eq!(all, "over and out");
//! # Ok(())
//! # }
//! ```

mod descriptor;
mod framed;
mod log;
mod open;
pub mod packet;
mod receiver;
mod sender;

use std::io;

use nix::fcntl::OFlag;
use nix::unistd::pipe2;

pub use open::OpenOptions;
pub use receiver::Receiver;
pub use sender::Sender;

/// Creates an anonymous pipe.
///
/// Bytes written to the [`Sender`] are read from the [`Receiver`]. Both file descriptors are
/// non-blocking and closed on `exec`. To pass one to another process, use
/// [`Sender::into_blocking_fd`] or [`Receiver::into_blocking_fd`].
///
/// # Errors
///
/// - `EMFILE`, `ENFILE`: the process or the system is out of file descriptors. Close some, or raise
///   `RLIMIT_NOFILE`.
/// - There is no Tokio runtime.
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> std::io::Result<()> {
/// let (sender, receiver) = aqueduct::pipe::pipe()?;
/// sender.writable().await?;
/// assert_eq!(sender.try_write(b"hi")?, 2);
/// receiver.readable().await?;
/// let mut buf = [0; 8];
/// assert_eq!(receiver.try_read(&mut buf)?, 2);
/// # Ok(())
/// # }
/// ```
pub fn pipe() -> io::Result<(Sender, Receiver)> {
    let (receiver, sender) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
    Ok((
        Sender::from_owned_fd_unchecked(sender)?,
        Receiver::from_owned_fd_unchecked(receiver)?,
    ))
}
