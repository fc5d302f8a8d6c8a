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
//! Nothing is created or changed on the server unless the address says `create=true`. That creates a
//! missing stream with the subject, with `retention`, `max-messages` and `max-bytes`, which refuses new
//! messages when it is full, and a missing consumer with `ack-wait`.
//!
//! Each connection has its own client. When the connection breaks, the end connects again, sends what is
//! not acknowledged in order, and continues. A message that is refused because the stream is full is
//! tried again, one at a time, until it is stored.
//!
//! The password is not printed. It is read from the address only.

mod connection;
mod incoming;
mod outgoing;
mod scheme;

pub(crate) use self::scheme::SCHEME;
