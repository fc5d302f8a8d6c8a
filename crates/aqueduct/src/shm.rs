//! Shared memory: byte streams that do not pass through the kernel.
//!
//! An address `shm:/path` or `shm:@name` is a Unix socket, with everything that
//! [`unix`](crate::unix) promises of its file, its owner and its peer. Over it each side passes one
//! piece of memory to the other. From then on messages are copied from process to process, and the
//! kernel is needed only to wake a side that sleeps. A round trip takes less than half of the time
//! that a Unix socket takes, a stream of large messages a third to half of it, and a side that is
//! busy makes no system call at all.
//!
//! # Examples
//!
//! ```
//! use aqueduct::Endpoint;
//! use aqueduct::codec::Text;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let dir = tempfile::tempdir()?;
//! # let address: Endpoint = format!("shm:{}/echo", dir.path().display()).parse()?;
//! # let _ = r#"
//! let address: Endpoint = "shm:/run/app/echo".parse()?;
//! # "#;
//! let mut listener = address.bind().await?;
//! let mut client = address.connect().await?.channel::<String, String>(Text);
//! client.send("hello".into()).await?;
//!
//! let server = listener.accept().await.ok_or("no client")??;
//! let mut server = server.channel::<String, String>(Text);
//! assert_eq!(server.recv().await.transpose()?.as_deref(), Some("hello"));
//! # Ok(()) }
//! ```
//!
//! # Options of the address
//!
//! | option | meaning | default |
//! |---|---|---|
//! | `capacity` | the largest ring, for each direction: a power of two from 4 KiB to 64 MiB | 2 MiB |
//! | `fallback` | go on over the socket if either side cannot make shared memory | `false` |
//! | `mode`, `group` | as for `unix:` | 600 |
//!
//! A ring starts with 64 KiB and grows to four times its size whenever it was full and has been read,
//! up to the smaller `capacity` of both sides. Memory that was used stays in use until the connection
//! ends. An idle connection that has carried little takes 4 file descriptors in each process, and 16 KiB
//! in both together.
//!
//! # Without a copy
//!
//! [`into_split`] turns a connection into ends for large messages. [`Sender::reserve`] returns memory of
//! this process in which a message is written where the peer reads it. [`Receiver::lend`] returns a
//! message where it lies. The wire is the same, so the peer may use ordinary ends. What is reserved must
//! fit the ring. There is one reservation and one lent message at a time, and the peer gets the room of a
//! lent message once it is dropped.
//!
//! # Descriptors
//!
//! [`Reserved::publish_with_fds`] sends open file descriptors with a message, and [`Lent::take_fds`] takes
//! them. They go over the socket, at most 253 with a message. The peer closes those that it does not take;
//! ordinary ends take none.
//!
//! # Trust
//!
//! Each process writes only its own memory, which the other maps for reading. A peer can send any
//! bytes, as over a socket, and nothing else: indexes are checked, and messages are copied out before
//! they are parsed. Only an `unsafe` method returns references into a [`Lent`] message. A peer that breaks
//! the protocol loses the connection, with a [`PeerError`].
//! Reading memory that the peer never wrote is charged to this process, up to its own `capacity`.
//!
//! # The end
//!
//! As over a Unix socket, the stream of a killed peer ends after everything that it had written.
//! Nothing is left behind: the memory has no name, and is freed when no process maps it
//! any more. A write to a peer that has gone fails with `EPIPE`, at the latest when the ring is full.
//!
//! A receiver that [stops](crate::connect::MessageReceiver::stop) ends its own direction and reads
//! until the peer ends the other one, as over TCP.
//!
//! # Limits
//!
//! A client's hello must arrive within 5 seconds after its connection is first used, otherwise the
//! connection fails with [`PeerError::Silent`]. A client waits for the server's hello without a
//! limit, as for a first message. Until then it can write 64 KiB; with `fallback`, its first write waits.
//!
//! Until the peer receives them, the memory and the bell of each side are in flight: 2 descriptors that count
//! towards the limit of the user, `RLIMIT_NOFILE` (unix(7)). Beyond it a connection fails with
//! [`PeerError::InFlight`], or falls back.
//!
//! # Platform
//!
//! Linux 5.1 or newer (`F_SEAL_FUTURE_WRITE`, memfd_create(2), fcntl(2)).

mod bell;
mod error;
#[cfg(fuzzing)]
mod fuzzing;
mod greeting;
mod halves;
mod hello;
mod lend;
mod memory;
mod passing;
mod ring;
mod scheme;
mod snapshot;
mod wire;

pub use self::error::PeerError;
#[cfg(fuzzing)]
pub(crate) use self::fuzzing::{hello, ring_of};
pub use self::lend::{Lent, Receiver, Reserved, Sender, into_split};
pub(crate) use self::scheme::SCHEME;
pub use self::snapshot::Snapshot;
