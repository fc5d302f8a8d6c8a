//! `nats:` addresses: messages through a NATS server, by [`async-nats`](https://docs.rs/async-nats).
//!
//! `nats://[user:password@|token@]host[:4222]/SUBJECT?stream=&consumer=&…` Feature `nats`.
//!
//! - **With `stream`** messages go through JetStream. A sending end publishes up to `window` messages before
//!   it waits, and its flush waits for the acknowledgements of all. Each message has an id
//!   (`Nats-Msg-Id`), so that one that is sent again, over the next connection, is stored once within
//!   the stream's duplicate window. A receiving end pulls from the durable consumer `consumer`. Its
//!   messages have a [`Receipt`](crate::connect::Receipt), and are delivered until they are settled.
//! - **Without `stream`** it is core NATS: at most once. Messages are lost without an error if the server
//!   fails or nobody subscribes. `queue` shares the messages of a subject between receivers.
//!
//! A core subject is also two-way. [`connect`](crate::connect::Options::connect) sends each message as a
//! request and receives the replies; if nobody receives the subject, an error of the kind
//! `ConnectionRefused` arrives instead, and the next request can follow. The connection ends with an error
//! when its connection to the server breaks; [`reconnect`](crate::connect::Options::reconnect) opens the
//! next. A [bound](crate::connect::Options::bind) subject accepts each message as a connection, and replies
//! to those that ask for one. Services with the same `queue` share the requests. Any NATS client can be the
//! other side.
//!
//! Services without a common `queue` all reply. The first reply to a request is always delivered. Further
//! ones are delivered until the next request is sent, and then dropped, with a `tracing` event of level debug.
//! Replies to several requests at once may come in any order. The late reply to a
//! [`call`](crate::Channel::call) that was dropped is discarded by the next one. A reply that
//! cannot be sent, because the service has no permission for its subject, is a warning there.
//!
//! A service that stops ends its subscription and answers what it has accepted. It publishes the requests
//! that wait again to their subject for another member of its `queue`, which takes the permission to publish to
//! that subject. If no other member is there, or without `queue`, their requesters get an error with
//! the code 503. To notice that no other member is there, the service receives their reply subjects for a
//! moment; without that permission they get no reply. A `tracing` warning counts them.
//! [`serve()`](crate::serve()) waits for this; in your own accept loop, await
//! [`Listener::closed`](crate::connect::Listener::closed).
//!
//! Up to 64 MiB of a core subject wait for their receiver or service, and up to four times `window` and 1,024
//! messages. What arrives beyond that is dropped, with a warning; the requester of a service gets an error with
//! the code 503. One message is always taken, whatever its size.
//!
//! Errors of services follow those of NATS ([ADR-32]): a reply larger than the server's `max_payload` is an
//! error at the service, and its requester gets an empty reply with the headers `Nats-Service-Error` and
//! `Nats-Service-Error-Code: 500`. A reply with the first of them arrives as an [`io::Error`](std::io::Error)
//! with its text.
//!
//! [ADR-32]: https://github.com/nats-io/nats-architecture-and-design/blob/main/adr/ADR-32.md
//!
//! TLS is used if the server requires it, and insisted on with `tls=true` or one of the files: `ca`, the CAs of
//! the server's certificate instead of those of the system, and `cert` and `key`, the client's certificate. A
//! certificate that is refused is an error at once, whichever side refuses it.
//!
//! No promise depends on the clock of a client: time limits use a clock that only goes on, ids have no time of
//! the client, and the server alone measures its duplicate window. Only certificates are valid by the clocks of
//! both machines.
//!
//! Nothing is created or changed on the server unless the address says `create=true`. That creates a
//! missing stream with the subject, with `retention`, `max-messages` and `max-bytes`, which refuses new
//! messages when it is full, and a missing consumer with `ack-wait`.
//!
//! Each connection has its own client. When the connection breaks, the end connects again, sends what is
//! not acknowledged in order, and continues. A message that is refused because the stream is full is
//! tried again, one at a time, until it is stored.
//!
//! The password is not printed.
//!
//! # What is lost, and when
//!
//! | end | process killed | server killed, disk kept | order |
//! |---|---|---|---|
//! | sender, `stream` | messages that were not flushed | nothing; nothing is stored twice within the duplicate window | as sent; a message that was refused because the stream is full is overtaken by those of its window that were not |
//! | receiver, `stream` | nothing; unsettled messages are delivered again after `ack-wait` | nothing; with limits retention, messages settled in the last seconds may be delivered again | as stored; messages that are delivered again come after newer ones, or in their place with [`sole_reader`](crate::connect::Options::sole_reader) |
//! | core, request | the reply: the request may have been processed or not | the same, with an error at the requester | one reply for each, in any order |
//! | core | messages in hand, as with any subscriber | messages in the meantime, without an error | as sent, for each connection |
//!
//! A relay from stream to stream delivers each message once and in order: the id of a message is
//! `created:stream:sequence` of its source. This needs an outage shorter than the duplicate window of the
//! target, limits retention there, and one relay at a time. None of this covers a power failure, unless
//! the server syncs each write (`sync_interval: always`).
//!
//! # Examples
//!
//! ```no_run
//! use aqueduct::Endpoint;
//! use aqueduct::codec::Text;
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let jobs: Endpoint = "nats://localhost/jobs?stream=JOBS&consumer=work&create=true".parse()?;
//! let mut sender = jobs.open_sender().await?.typed::<&str>(Text);
//! sender.send("sweep").await?; // it is stored
//!
//! let mut jobs = jobs.open_receiver().await?.typed::<String>(Text);
//! while let Some(job) = jobs.recv().await.transpose()? {
//!     println!("{job}"); // settled when the next one is asked for
//! }
//! # Ok(()) }
//! ```
//!
//! A request to the services of a core subject:
//!
//! ```no_run
//! use aqueduct::Endpoint;
//! use aqueduct::codec::Text;
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let greeter: Endpoint = "nats://localhost/greeter".parse()?;
//! let mut greeter = greeter.connect().await?.channel::<String, String>(Text);
//! println!("{}", greeter.call("world".to_owned()).await?);
//! # Ok(()) }
//! ```

mod address;
mod connection;
mod examine;
mod failures;
mod incoming;
mod options;
mod outgoing;
mod replies;
mod requests;
mod scheme;

pub(crate) use self::scheme::SCHEME;
