//! `SOCK_SEQPACKET` sockets: connections that keep message boundaries.
//!
//! [`BindOptions::bind_seqpacket`](super::BindOptions::bind_seqpacket) gives a [`Listener`], a `Stream` of [`Socket`]s; [`ConnectOptions::connect_seqpacket`](super::ConnectOptions::connect_seqpacket) and [`pair`] give a
//! `Socket`. It sends and receives through `&self`, and [`Socket::into_split`] makes of it a
//! [`Sender`], a `Sink` of messages, and a [`Receiver`], a `Stream` of them. Files, modes and locks
//! are as for [streams](super).
//!
//! - **Boundaries and order.** A message arrives whole, once, in order, or not at all.
//! - **Largest message.** Both sides have a limit, 1 MiB unless set. The kernel has one for the
//!   sender too, `SO_SNDBUF`, which is raised to fit as far as `net.core.wmem_max` allows;
//!   [`Socket::max_message`] is the result. The sender refuses a larger message. A message too large
//!   for the receiver is lost, and an error says so: part of a message is never returned as a whole.
//! - **End of stream.** When the peer has closed, or shut down its sending side, what it sent before
//!   still arrives, then the end. The kernel reports the end as an empty message, and an empty
//!   message just the same (recv(2)). So empty messages cannot be sent, and one from a foreign
//!   program reads as the end of the stream.
//! - **Peer's death.** What it had sent arrives, then the end; or `ECONNRESET` in its place if it left
//!   messages of ours unread (`unix_release_sock` in `net/unix/af_unix.c`). Sending gives `EPIPE`.
//! - **A full buffer** makes the sender wait.
//! - **Several tasks** may send and receive at once; each message goes to one of them.

mod listener;
mod messages;
mod socket;
mod split;

pub use self::listener::Listener;
pub(crate) use self::messages::connection;
pub use self::socket::{Socket, pair};
pub use self::split::{Receiver, Sender};
