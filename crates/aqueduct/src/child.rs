//! Child processes, with pipes to any of their file descriptors.
//!
//! A [`Command`] starts a program with any number of pipes, each on the descriptor number at which
//! the program expects it: 0, 1 and 2 as well as 3 and up. The parent's ends are
//! [`pipe`](crate::pipe) ends, so a typed [`Channel`](crate::Channel) with a child takes a few
//! lines; see [`Child::channel`]. The promises:
//!
//! - **Nothing leaks into the child.** Every descriptor from 3 on that was not asked for is closed
//!   when the program starts, even if other code opened it without `O_CLOEXEC`.
//! - **Nothing stays open in the parent.** It holds only its own ends, so each side sees the end of
//!   stream when the other closes.
//! - **The child's ends are blocking,** as programs expect; the parent's are not.
//! - **A grandchild cannot hang the parent.** A process that the child started and left behind may
//!   hold its output open for ever. So a stream from a child ends when every writer has closed it,
//!   or 1 s after the child has exited ([`Receiver::set_grace`]). [`StreamEnd`] says which it was.
//! - **No polling, no threads, no zombies.** Exit is noticed by `pidfd_open(2)` (Linux 5.3), and by
//!   `SIGCHLD` if Tokio has no such descriptor. A child that is dropped while it runs is reaped by
//!   Tokio when it exits, as long as the process has a runtime.
//!
//! A child is not killed when its handle is dropped, unless [`Command::kill_on_drop`] is set.
//!
//! **A pool of workers** is one task per child that takes a job and waits for
//! [`Channel::call`](crate::Channel::call). An error means that this job has no reply, so give it
//! to another worker. The failed worker may have processed it.
//!
//! The child's side of descriptors from 3 on is in [`inherited`](crate::inherited).
//!
//! Everything here needs a Tokio runtime with its I/O driver, and Linux 5.3.
//!
//! # Examples
//!
//! Sort some lines with `sort(1)`:
//!
//! ```
//! use aqueduct::child::{Command, StreamEnd};
//! use tokio::io::{AsyncReadExt, AsyncWriteExt};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> std::io::Result<()> {
//! let mut command = Command::new("sort");
//! command.arg("-n").pipe_to_child(0).pipe_from_child(1);
//! let mut child = command.spawn()?;
//!
//! let mut input = child.take_sender(0)?;
//! let mut output = child.take_receiver(1)?;
//! let write = async move {
//!     input.write_all(b"10\n9\n8\n").await
//!     // `input` is dropped: `sort` sees the end of its input.
//! };
//! let mut sorted = String::new();
//! let (written, read, status) =
//!     tokio::join!(write, output.read_to_string(&mut sorted), child.wait());
//! written?;
//! read?;
//! assert!(status?.success());
//! assert_eq!(sorted, "8\n9\n10\n");
//! assert_eq!(output.end(), Some(StreamEnd::Eof));
//! # Ok(())
//! # }
//! ```

mod command;
mod process;
mod receiver;
mod scheme;

pub use self::command::Command;
pub use self::process::Child;
pub use self::receiver::{Receiver, StreamEnd};
pub(crate) use self::scheme::SCHEME;
