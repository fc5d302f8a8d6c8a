//! Pipes that carry messages: packet mode (`O_DIRECT`, `pipe(2)`).
//!
//! The kernel keeps the boundaries: [`recv`](Receiver::recv) returns exactly the bytes of one
//! [`send`](Sender::send). No framing is needed, and any number of senders and receivers, in any
//! processes, can share the pipe. Each message goes to one receiver.
//!
//! | | |
//! |---|---|
//! | Largest message | 4096 bytes (`PIPE_BUF`) |
//! | Smallest message | 1 byte: the kernel drops an empty one |
//! | Messages in the pipe | one for each page of its capacity, however small; 16 by default |
//! | Order | as sent; between several senders as the kernel received them |
//! | Full pipe | [`send`](Sender::send) waits, [`try_send`](Sender::try_send) returns `WouldBlock` |
//! | End of stream | `None`, when every sender has closed and all messages were received |
//! | Receiver gone | `EPIPE`; messages in the pipe are lost |
//! | A killed sender | has sent each message whole or not at all |
//!
//! # Examples
//!
//! ```
//! use aqueduct::pipe::packet;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> std::io::Result<()> {
//! let (sender, receiver) = packet::pipe()?;
//! sender.send(b"one").await?;
//! sender.send(b"two").await?;
//! drop(sender);
//!
//! assert_eq!(receiver.recv().await?.as_deref(), Some(&b"one"[..]));
//! assert_eq!(receiver.recv().await?.as_deref(), Some(&b"two"[..]));
//! assert_eq!(receiver.recv().await?, None);
//! # Ok(())
//! # }
//! ```

mod receiver;
mod sender;

use std::io;

use nix::fcntl::OFlag;
use nix::unistd::pipe2;

pub use receiver::Receiver;
pub use sender::Sender;

/// Creates a pipe that carries messages.
///
/// Both file descriptors are non-blocking and closed on `exec`.
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
/// let (sender, receiver) = aqueduct::pipe::packet::pipe()?;
/// sender.send(b"hello").await?;
/// assert_eq!(receiver.recv().await?.as_deref(), Some(&b"hello"[..]));
/// # Ok(())
/// # }
/// ```
pub fn pipe() -> io::Result<(Sender, Receiver)> {
    let (receiver, sender) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK | OFlag::O_DIRECT)?;
    Ok((Sender::new(sender)?, Receiver::new(receiver)?))
}
