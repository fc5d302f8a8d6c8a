//! Requests and replies over any two-way connection: [`Caller`] and [`Responder`].
//!
//! A [`Caller`] is a handle that many tasks share. Each [`call`](Caller::call) sends one request
//! and waits for its reply; replies arrive in any order. For one request at a time, over a protocol
//! without request numbers, use [`Channel::call`](crate::Channel::call).
//!
//! - **Deadlines**: [`Caller::timeout`] limits each call. The limit travels with the request, and
//!   the responder drops a handler whose caller no longer waits.
//! - **Cancellation**: dropping the future of a call tells the responder, which drops the handler.
//! - **Concurrency**: the [`Responder`] sets how many requests it handles at a time. Further calls
//!   wait in the caller's process, so backpressure reaches the calling task.
//! - **Disconnection**: when the connection ends, each open call gets the same error,
//!   [`Error::Ended`]. Whether its request was handled is then unknown. Nothing is sent again.
//!
//! Middleware and retries belong in a layer above, such as tarpc.
//!
//! # Examples
//!
//! ```
//! use std::time::Duration;
//! use aqueduct::call::{Caller, Responder};
//! use aqueduct::codec::Json;
//! use aqueduct::connect::Connection;
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let (here, there) = Connection::pair();
//! let server = Responder::new(there, Json).concurrency(8);
//! tokio::spawn(server.run(|(a, b): (i64, i64)| async move { a + b }));
//!
//! let adder: Caller<(i64, i64), i64> = Caller::new(here, Json)?.timeout(Duration::from_secs(5));
//! let (three, seven) = tokio::join!(adder.call((1, 2)), adder.call((3, 4)));
//! assert_eq!((three?, seven?), (3, 7));
//! # Ok(()) }
//! ```
//!
//! As the handler of a [service](crate::serve):
//!
//! ```
//! use aqueduct::Endpoint;
//! use aqueduct::call::{Caller, Responder};
//! use aqueduct::codec::Json;
//! use aqueduct::connect::Connection;
//! use aqueduct::service::{CancellationToken, Context};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let dir = tempfile::tempdir()?;
//! # let address: Endpoint = format!("unix:{}/add", dir.path().display()).parse()?;
//! # let _ = r#"
//! let address: Endpoint = "unix:/run/app/add".parse()?;
//! # "#;
//! let stop = CancellationToken::new();
//! let handle = |connection: Connection, cx: Context| async move {
//!     let server = Responder::new(connection, Json).until(cx.shutdown());
//!     server.run(|(a, b): (i64, i64)| async move { a + b }).await
//! };
//! let service = tokio::spawn(aqueduct::serve(address.bind().await?, stop.clone(), handle));
//!
//! let adder: Caller<(i64, i64), i64> = Caller::new(address.connect().await?, Json)?;
//! assert_eq!(adder.call((1, 2)).await?, 3);
//! stop.cancel();
//! service.await??;
//! # Ok(()) }
//! ```
//!
//! # Wire format, version 1
//!
//! Each message begins with a byte for its type. Numbers are big-endian.
//!
//! | byte | message | from | fields |
//! |---|---|---|---|
//! | 0 | hello | both, first | `"AQCL"`, version (1 byte), concurrency (4 bytes), name of the codec |
//! | 1 | request | caller | id (8 bytes), time limit in milliseconds (4 bytes, 0: none), body |
//! | 2 | reply | responder | id (8 bytes), body |
//! | 3 | failure | responder | id (8 bytes), code (1 byte), text |
//! | 4 | cancel | caller | id (8 bytes) |
//!
//! The caller sends requests after the responder's hello, with at most `concurrency` of them
//! unanswered. Each request has one answer, a reply or a failure, even if it was cancelled. An id
//! is not used twice. Failure codes: 1 the request cannot be decoded, 2 the reply cannot be sent, 3
//! cancelled, 4 the time limit is over, 5 the responder stops, 6 more requests than allowed.
//!
//! A side ends the connection if the peer's version or codec differs, or if it receives anything
//! else.

mod caller;
mod error;
mod responder;
mod wire;

pub use self::caller::Caller;
pub use self::error::Error;
pub use self::responder::Responder;
