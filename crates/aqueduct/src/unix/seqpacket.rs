//! `SOCK_SEQPACKET` sockets: connections that keep message boundaries.
//!
//! [`BindOptions::bind_seqpacket`](super::BindOptions::bind_seqpacket) returns a [`Listener`], a
//! `Stream` of [`Socket`]s.
//! [`ConnectOptions::connect_seqpacket`](super::ConnectOptions::connect_seqpacket) and [`pair`]
//! return a `Socket`. It sends and receives through `&self`. [`Socket::into_split`] splits it into
//! a [`Sender`], a `Sink` of messages, and a [`Receiver`], a `Stream` of them. Files, modes and
//! locks are as for [streams](super).
//!
//! # Examples
//!
//! ```
//! use aqueduct::unix::{BindOptions, ConnectOptions};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let dir = tempfile::tempdir()?;
//! # let path = dir.path().join("service.sock");
//! # let _ = r#"
//! let path = "/run/app/service.sock";
//! # "#;
//! let listener = BindOptions::new().bind_seqpacket(&path)?;
//! let client = ConnectOptions::new().connect_seqpacket(&path).await?;
//! let server = listener.accept().await?;
//! client.send(b"one").await?;
//! client.send(b"two").await?;
//! assert_eq!(server.recv().await?.as_deref(), Some(&b"one"[..]));
//! assert_eq!(server.recv().await?.as_deref(), Some(&b"two"[..]));
//! # Ok(()) }
//! ```
//!
//! # Contract
//!
//! - **Boundaries and order**: a message arrives whole, once, in order, or not at all.
//! - **Largest message**: both sides have a limit, 1 MiB unless set. The kernel also limits the
//!   sender by `SO_SNDBUF`, which is raised to fit as far as `net.core.wmem_max` allows.
//!   [`Socket::max_message`] returns the result. The sender refuses a larger message. A message too
//!   large for the receiver is lost with an error; part of a message is never returned as a whole.
//! - **End of stream**: when the peer has closed, or shut down its sending side, its earlier
//!   messages still arrive, then the end. The kernel reports both the end and an empty message as
//!   an empty message (recv(2)). So empty messages cannot be sent, and one from another program
//!   reads as the end of the stream.
//! - **Peer dies**: its messages arrive, then the end; or `ECONNRESET` instead if it left messages
//!   of ours unread (`unix_release_sock` in `net/unix/af_unix.c`). Sending fails with `EPIPE`.
//! - **Full buffer**: the sender waits.
//! - **Several tasks** may send and receive at once; each message goes to one of them.

mod listener;
mod messages;
mod socket;
mod split;

pub use self::listener::Listener;
pub(crate) use self::messages::connection;
pub(crate) use self::socket::make_room;
pub use self::socket::{Socket, pair};
pub use self::split::{Receiver, Sender};
