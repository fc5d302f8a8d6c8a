//! Named FIFOs: made with an exact mode, checked before use, waited for without burning CPU.
//!
//! ```text
//! OpenOptions ── open_receiver ─────> Receiver   AsyncRead
//!             ── open_sender.await ─> Sender     AsyncWrite, for one writer at a time
//!                                       └──────> SharedSender   Sink of frames, for many writers
//! ```
//!
//! Everything here needs a Tokio runtime with its I/O driver enabled; outside of one, opening fails
//! with [`NoRuntime`](crate::OpenErrorKind::NoRuntime).
//!
//! # Contract
//!
//! - **Order**: bytes arrive in the order in which they were written. With several writers, each
//!   one's bytes keep their order.
//! - **Boundaries**: none, a FIFO is a stream of bytes. Cut it into frames with
//!   [`Receiver::framed`] and [`Sender::framed`].
//! - **End of stream**: when the last writer has gone, not before the first has come. A
//!   [`persistent`](OpenOptions::persistent) receiver has none.
//! - **A full FIFO** makes the writer wait. Its size is counted in pages, 16 by default; a
//!   [`SharedSender`] enlarges it for large frames.
//! - **A peer that dies** leaves what it wrote; [`SharedSender`] and [`ReaderGone`] say what that
//!   means for frames.
//! - **Several writers**: use [`SharedSender`]. **Several readers** share the bytes in no particular
//!   order.
//! - **A path that is removed or made anew**: an end that [watches](OpenOptions::watch_name) its
//!   name notices; other ends keep the FIFO that they have open.
//! - **Left behind**: the FIFO itself, unless [`unlink_on_drop`](OpenOptions::unlink_on_drop) was
//!   asked for; never its contents once every process has closed it.
//! - **No busy waiting**: an end that waits sleeps, also after its peer has gone and a silent one
//!   has come.
//! - A FIFO carries no identity: every process that may open it can read or write. The mode and the
//!   directory decide who may.
//!
//! fifo(7) and pipe(7) describe what the kernel does.

mod explain;
mod followed;
mod locate;
mod name;
mod open;
mod receiver;
mod returning;
mod scheme;
mod sender;
mod shared;
mod sole;

pub use self::open::{OpenOptions, ReaderGone};
pub use self::receiver::Receiver;
pub(crate) use self::scheme::SCHEME;
pub use self::sender::Sender;
pub use self::shared::SharedSender;

/// The target of this module's `tracing` events.
const TARGET: &str = "aqueduct::fifo";
