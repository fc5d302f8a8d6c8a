//! Anonymous pipes and already existing FIFOs: bytes, one way.
//!
//! Everything that [`tokio::net::unix::pipe`] has is here under the same name and with the same
//! meaning, so code moves over by changing its import. What is different:
//!
//! - **An end never spins.** After a FIFO's last writer has gone and a silent one has come, Tokio's
//!   reader reports itself ready for ever and burns a core; the writing side does the same after a
//!   reader has gone. Here such an end sleeps. (It takes one more descriptor when its peer comes
//!   back; where there is none, the wait ends in `EMFILE` or `ENFILE`.)
//! - **A waiting loop is fair.** [`Receiver::readable`] and [`Sender::writable`] count against the
//!   task's cooperative budget, so that on a descriptor that is always ready timers still fire.
//! - **No runtime is an error,** not a panic. (A runtime that was built without its I/O driver still
//!   panics, as it does everywhere in Tokio: it cannot be asked.)
//! - **Refusals are typed**: where a descriptor cannot be used, or a capacity not be had, an
//!   [`OpenError`](crate::OpenError) with the cause and the cure is inside the [`io::Error`].
//! - More can be done: [`Receiver::set_capacity`], [`Receiver::from_shared_fd`], and messages in
//!   place of bytes with [`packet`].
//!
//! To create FIFOs, to wait for the other side, and to see it come and go, use [`fifo`](crate::fifo).
//!
//! Everything that makes an end needs a Tokio runtime. An end outlives its runtime: every wait then
//! ends in an error at once.
//!
//! How pipes behave is described in `pipe(7)` and `fifo(7)`.
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

/// Makes an anonymous pipe: what is written to the [`Sender`] is read from the [`Receiver`].
///
/// Both descriptors are non-blocking and closed on `exec`. To hand one to another process, take it
/// out with [`Sender::into_blocking_fd`] or [`Receiver::into_blocking_fd`].
///
/// # Errors
///
/// - `EMFILE`, `ENFILE`: the process or the system is out of descriptors; close some, or raise
///   `RLIMIT_NOFILE`.
/// - There is no Tokio runtime: call it inside one.
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
