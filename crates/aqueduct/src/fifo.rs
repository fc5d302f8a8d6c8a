//! Named FIFOs: made with an exact mode, checked before use, waited for without burning CPU.
//!
//! ```text
//! OpenOptions ── open_receiver ─────> Receiver   AsyncRead
//!             ── open_sender.await ─> Sender     AsyncWrite, for one writer at a time
//!                                       └──────> SharedSender   Sink of frames, for many writers
//! ```
//!
//! Everything here needs a Tokio runtime with its I/O driver enabled, and to be called inside it:
//! else opening fails with [`Error::Register`]. What waits needs the timer as well
//! (`Builder::enable_all`).
//!
//! # What is promised
//!
//! - **Order**: bytes arrive in the order in which they were written. With several writers, each
//!   one's in its own order.
//! - **Boundaries**: none, a FIFO is a stream of bytes. Cut it into frames with
//!   [`Receiver::framed`] and [`Sender::framed`].
//! - **End of stream**: when the last writer has gone, not before the first has come. A
//!   [`persistent`](OpenOptions::persistent) receiver has none.
//! - **A full FIFO** makes the writer wait. Its size is counted in pages, 16 by default.
//! - **A peer that dies** leaves what it wrote; [`Receiver`] and [`ReaderGone`] say what that means
//!   for frames.
//! - **Several writers**: use [`SharedSender`]. **Several readers** share the bytes between them in
//!   no particular way.
//! - **What stays behind**: the FIFO itself, unless [`unlink_on_drop`](OpenOptions::unlink_on_drop)
//!   was asked for; never what is in it once every process has closed it.
//! - **Nothing spins**: an end that waits sleeps, also after its peer has gone and a silent one has
//!   come.
//! - A FIFO carries no identity: whoever may open it can read or write. Let the mode and the
//!   directory decide who may.
//!
//! fifo(7) and pipe(7) describe what the kernel does.

mod error;
mod locate;
mod log;
mod name;
mod open;
mod receiver;
mod returning;
mod scheme;
mod sender;
mod shared;
mod watch;

pub use self::error::Error;
pub use self::name::PathState;
pub use self::open::{DEFAULT_MODE, OpenOptions, ReaderGone, VANISH_GRACE};
pub use self::receiver::Receiver;
pub(crate) use self::scheme::SCHEME;
pub use self::sender::Sender;
pub use self::shared::{DEFAULT_HIGH_WATER, PIPE_BUF, SharedSender};

/// The target of what this module tells `tracing`.
const TARGET: &str = "aqueduct::fifo";
