//! Typed messages between Unix processes, on Tokio.
//!
//! Pipes, FIFOs, POSIX message queues, Unix sockets, TCP, UDP and child processes open by one form
//! of address, such as `unix:/run/app.sock`. Each becomes a `Stream` and a `Sink` of messages, and a
//! codec turns these into typed channels. Dropping a future never tears a message, and never loses
//! one that the sender accepted or the receiver took from the kernel.
//!
//! # A server
//!
//! [`serve()`] runs a handler for each connection, with limits on connections, time and memory.
//!
//! ```
//! use aqueduct::codec::Json;
//! use aqueduct::{Endpoint, service};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let dir = tempfile::tempdir()?;
//! # let address: Endpoint = format!("unix:{}/sum", dir.path().display()).parse()?;
//! # let _ = r#"
//! let address: Endpoint = "unix:/run/app/sum".parse()?;
//! # "#;
//! let listener = address.bind().await?;
//! let stop = service::shutdown_on_signal()?; // Ctrl-C, SIGTERM, SIGHUP
//! # let done = stop.clone();
//! # let client = tokio::spawn(async move {
//! #     let mut client = address.connect().await?.channel::<Vec<u64>, u64>(Json);
//! #     let sum = client.call(vec![1, 2, 3]).await;
//! #     done.cancel();
//! #     Ok::<_, Box<dyn std::error::Error + Send + Sync>>(sum?)
//! # });
//! aqueduct::serve(listener, stop, |client, cx| async move {
//!     // Sends u64, receives Vec<u64>.
//!     let client = cx.channel::<u64, Vec<u64>>(client, Json);
//!     service::respond(client, &cx, |numbers| async move { numbers.iter().sum() }).await
//! })
//! .await?;
//! # assert_eq!(client.await?.map_err(|e| e.to_string())?, 6);
//! # Ok(()) }
//! ```
//!
//! Messages on byte streams carry a 4-byte length by default ([`frame::Framing::length`]). The
//! `aqueduct` command expects lines by default, so from a shell this server is called with
//! `aqueduct call unix:/run/app/sum --frame length '[1, 2, 3]'`.
//!
//! # A client
//!
//! ```
//! use aqueduct::Endpoint;
//! use aqueduct::codec::Json;
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let dir = tempfile::tempdir()?;
//! # let address: Endpoint = format!("unix:{}/sum", dir.path().display()).parse()?;
//! # let mut listener = address.bind().await?;
//! # let server = tokio::spawn(async move {
//! #     let mut client = listener.accept().await.ok_or("no client")??.channel::<u64, Vec<u64>>(Json);
//! #     while let Some(numbers) = client.recv().await {
//! #         client.send(numbers?.iter().sum()).await?;
//! #     }
//! #     Ok::<_, Box<dyn std::error::Error + Send + Sync>>(())
//! # });
//! # let _ = r#"
//! let address: Endpoint = "unix:/run/app/sum".parse()?;
//! # "#;
//! let mut client = address.connect().await?.channel::<Vec<u64>, u64>(Json);
//! assert_eq!(client.call(vec![1, 2, 3]).await?, 6);
//! client.close().await?;
//! # server.await?.map_err(|e| e.to_string())?;
//! # Ok(()) }
//! ```
//!
//! # A message queue
//!
//! A queue keeps its messages in the kernel until they are received, even after the sender has
//! exited.
//!
//! ```
//! use aqueduct::Endpoint;
//! use aqueduct::codec::Text;
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let jobs: Endpoint = format!("mq:/doc-front-{}", std::process::id()).parse()?;
//! # let _ = r#"
//! let jobs: Endpoint = "mq:/jobs".parse()?;
//! # "#;
//! let mut sender = jobs.open_sender().await?.typed::<String>(Text);
//! sender.send("sort the attic".into()).await?;
//! sender.close().await?;
//!
//! // Later, in any process:
//! let mut receiver = jobs.open_receiver().await?.typed::<String>(Text);
//! assert_eq!(receiver.recv().await.transpose()?.as_deref(), Some("sort the attic"));
//! # jobs.remove().await?;
//! # Ok(()) }
//! ```
//!
//! # A FIFO
//!
//! Other programs write lines into it: `echo hello > /run/app/lines`.
//!
//! ```
//! use aqueduct::Endpoint;
//! use aqueduct::codec::Text;
//! use aqueduct::connect::Options;
//! use aqueduct::frame::Framing;
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let dir = tempfile::tempdir()?;
//! # let fifo: Endpoint = format!("fifo:{}/lines", dir.path().display()).parse()?;
//! # let _ = r#"
//! let fifo: Endpoint = "fifo:/run/app/lines".parse()?;
//! # "#;
//! let mut options = Options::new();
//! options.framing(Framing::lines());
//! let mut lines = options.open_receiver(&fifo).await?.typed::<String>(Text);
//! # let path = fifo.path().ok_or("no path")?.to_owned();
//! # let echo = tokio::task::spawn_blocking(move || std::fs::write(path, "hello\n"));
//!
//! // Ends when the last writer has closed the FIFO.
//! while let Some(line) = lines.recv().await {
//!     assert_eq!(line?, "hello");
//! }
//! # echo.await??;
//! # Ok(()) }
//! ```
//!
//! # Testing your service
//!
//! [`Connection::pair`](connect::Connection::pair) connects two ends within the test, without an
//! address or a file.
//!
//! ```
//! use aqueduct::codec::Text;
//! use aqueduct::connect::Connection;
//!
//! async fn shout(client: Connection) -> Result<(), aqueduct::Error> {
//!     let mut client = client.channel::<String, String>(Text);
//!     while let Some(request) = client.recv().await {
//!         client.send(request?.to_uppercase()).await?;
//!     }
//!     Ok(())
//! }
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let (here, there) = Connection::pair();
//! let service = tokio::spawn(shout(there));
//! let mut client = here.channel::<String, String>(Text);
//! assert_eq!(client.call("hello".into()).await?, "HELLO");
//! client.close().await?;
//! service.await??;
//! # Ok(()) }
//! ```
//!
//! # Where to go next
//!
//! | to | use |
//! |---|---|
//! | open an address such as `fifo:/run/app/jobs` | [`Endpoint`] and [`connect`] |
//! | create a pipe, or use a descriptor that is one | [`pipe`] |
//! | use one mechanism's own API | [`fifo`], [`mq`], [`unix`], [`tcp`] |
//! | move bytes by shared memory | [`shm`] |
//! | start a program and talk to it | [`child`] |
//! | split a byte stream into messages | [`frame`] |
//! | send and receive your own types | [`Sender`], [`Receiver`], [`Channel`] with a [`codec`] |
//! | send from several tasks | [`Sender::shared`] |
//! | match replies to requests | [`Caller`], [`Channel::call`] |
//! | run a service | [`service`], [`handshake`] |
//! | reconnect to a server that restarts | [`connect::Reconnect`] |
//! | move messages from one address to another | [`relay`] |
//! | record messages in a file | [`record`] |
//! | look up what a mechanism promises | [`contract`] |
//! | recognise names that this library created | [`is_marked`] |
//!
//! The guide in `docs/src` of the repository introduces each mechanism, starting from a C program.
//!
//! # How it fits together
//!
//! A transport owns a file descriptor. Byte transports are `AsyncRead` or `AsyncWrite`, and
//! [`frame`] splits their bytes into frames. Message transports keep boundaries themselves. Above
//! that, every end is a `Stream<Item = io::Result<Bytes>>` or a `Sink<Bytes, Error = io::Error>`. A
//! typed channel works over any of these, including streams and sinks from other crates.
//!
//! # Conventions
//!
//! - **Runtime**: opening needs a Tokio runtime and returns an error without one. In a runtime
//!   without its I/O driver (`enable_io`) it panics, as `tokio::net` does. The runtime's timer is
//!   not needed. A message queue needs a runtime only to wait. An end may outlive its runtime; its
//!   waits then end with an error.
//! - **Cancel safety**: each `async fn` documents what dropping its future does. None tears a
//!   message.
//! - **Limits**: every buffer, frame and number of connections has a limit with a documented
//!   default. Waiting for a peer has none by default ([`connect::Options::wait`] sets one). Where a
//!   wait takes no time limit, `tokio::time::timeout` is safe, because the operations are cancel
//!   safe.
//! - **Errors**: opening returns [`OpenError`], which names the action, the object, the cause and
//!   the cure in one sentence. Ends of frames and bytes return [`std::io::Error`] with the errno
//!   intact; typed ends return [`Error`], which distinguishes the codec from the transport. Both
//!   convert into an `io::Error`.
//! - **Logs**: `tracing` events with targets `aqueduct::…` report opening, peers that come and go,
//!   and closing. Data dropped before it was sent is a warning with the target `aqueduct::unsent`.
//!   No event is emitted per message.
//!
//! # Features
//!
//! | feature | adds | crates | build time |
//! |---|---|---|---|
//! | `json`, the default | the codec `Json`; `serde` | 5 | 3 s |
//! | `postcard` | the codec `Postcard`; `serde` | 5 | 5 s |
//! | `messagepack` | the codec `MessagePack`; `serde` | 5 | 3 s |
//! | `serde` | `Serialize` and `Deserialize` for [`Endpoint`] | 2 | 2 s |
//! | `full` | all of these | 11 | 6 s |
//! | `nats` | the mechanism [`nats`](crate::endpoint) | 104 | 53 s |
//! | `tls` | the mechanism [`tls`](crate::endpoint) | 24 | 22 s |
//!
//! Build times are processor time of a clean debug build. Without features the library and its 37
//! dependencies take 29 s, 8 s of them the library itself. Mechanisms and services are not behind
//! features: the largest, [`mq`], takes 1 s.
//!
//! # Platform
//!
//! Linux. The tests run on Linux 6.18, x86-64, glibc; aarch64 and musl are checked to compile.
//! Some system calls, such as `pidfd_open(2)` for [`child`], need Linux 5.3.
#![warn(missing_docs, clippy::unwrap_used, clippy::expect_used)]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod address;
pub mod call;
mod channel;
pub mod child;
pub mod codec;
pub mod connect;
pub mod contract;
pub mod endpoint;
pub mod fifo;
pub mod frame;
#[cfg(fuzzing)]
pub mod fuzzing;
pub mod handshake;
pub mod inherited;
mod io;
pub mod mq;
#[cfg(feature = "nats")]
#[cfg_attr(docsrs, doc(cfg(feature = "nats")))]
pub mod nats;
pub mod pipe;
pub mod record;
pub mod relay;
pub mod service;
pub mod shm;
pub mod stdio;
pub mod tcp;
#[cfg(feature = "tls")]
#[cfg_attr(docsrs, doc(cfg(feature = "tls")))]
pub mod tls;
mod udp;
pub mod unix;
mod unixgram;

pub use bytes;
pub use call::Caller;
pub use channel::{Channel, Error, Permit, Receiver, Sender, SenderHandle};
pub use connect::{OpenError, OpenErrorKind};
pub use endpoint::{AddressError, AddressProblem, Endpoint};
pub use io::Polled;
pub use io::mark::is_marked;
pub use service::serve;

#[cfg(all(test, not(miri)))]
use aqueduct_watchdog as _;

/// Compiles and runs the README's code.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadmeDoctests;
