//! Named FIFOs: created with an exact mode and checked before use.
//!
//! A FIFO is a pipe with a name in the file system. Its two sides find each other by the path, and a
//! sender waits for a receiver.
//!
//! ```text
//! OpenOptions ── open_receiver ─────> Receiver   AsyncRead
//!             ── open_sender.await ─> Sender     AsyncWrite, for one writer at a time
//!                                       └──────> SharedSender   Sink of frames, for many writers
//! ```
//!
//! Everything here needs a Tokio runtime. Without one, opening fails with
//! [`NoRuntime`](crate::OpenErrorKind::NoRuntime); in a runtime without its I/O driver it panics, as
//! `tokio::net` does.
//!
//! [`Endpoint`](crate::Endpoint) opens the same FIFOs by an address such as
//! `fifo:/run/app/jobs?mode=0660`, with messages instead of bytes. By address a receiver creates a
//! missing FIFO; here it does so only with [`create`](OpenOptions::create).
//!
//! # Examples
//!
//! ```
//! use aqueduct::fifo::OpenOptions;
//! use tokio::io::{AsyncReadExt, AsyncWriteExt};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let dir = tempfile::tempdir()?;
//! # let path = dir.path().join("jobs");
//! # let _ = r#"
//! let path = "/run/app/jobs";
//! # "#;
//! let mut receiver = OpenOptions::new().create(true).open_receiver(&path)?;
//! let mut sender = OpenOptions::new().open_sender(&path).await?; // waits for a reader
//! sender.write_all(b"sort the attic").await?;
//! drop(sender);
//! let mut job = String::new();
//! receiver.read_to_string(&mut job).await?;
//! assert_eq!(job, "sort the attic");
//! # Ok(()) }
//! ```
//!
//! # Contract
//!
//! - **Order**: bytes arrive in the order in which they were written. With several writers, the
//!   bytes of each keep their order.
//! - **Boundaries**: none; a FIFO is a byte stream. [`Receiver::framed`] and [`Sender::framed`]
//!   split it into frames.
//! - **End of stream**: when the last writer has closed the FIFO, but not before the first has
//!   opened it. A [`persistent`](OpenOptions::persist) receiver has none.
//! - **Full FIFO**: the writer waits. The capacity is 16 pages (64 KiB) by default; a
//!   [`SharedSender`] enlarges it for large frames.
//! - **Peer dies**: bytes that it wrote stay. [`SharedSender`] and [`ReaderGone`] describe the
//!   consequences for frames.
//! - **Several writers**: use [`SharedSender`]. **Several readers** share the bytes in no
//!   particular order.
//! - **Path removed or replaced**: an end that [watches](OpenOptions::watch_name) its name notices.
//!   Other ends keep the FIFO that they have open.
//! - **Left behind**: the FIFO itself, unless [`unlink_on_drop`](OpenOptions::unlink_on_drop) is
//!   set. Its contents vanish when every process has closed it.
//! - **No busy waiting**: a waiting end sleeps, also after its peer has closed the FIFO and a
//!   silent one has opened it.
//! - **No identity**: every process that may open the FIFO can read or write. The mode and the
//!   directory decide.
//!
//! fifo(7) and pipe(7) describe the kernel's behaviour.

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
