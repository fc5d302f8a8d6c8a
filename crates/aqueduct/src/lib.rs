//! Every way Unix processes talk to each other, as typed `Stream`s and `Sink`s on Tokio.
//!
//! Start where your need is:
//!
//! | you have | take |
//! |---|---|
//! | an address such as `fifo:/run/app/jobs` | [`Endpoint`] and [`connect`] |
//! | a pipe to make, or a descriptor that is one | [`pipe`] |
//! | a named FIFO | [`fifo`] |
//! | a POSIX message queue | [`mq`] |
//! | a Unix or TCP socket | [`unix`], [`tcp`] |
//! | a program to start and talk to | [`child`] |
//! | bytes to cut into messages | [`frame`] |
//! | messages of a type of yours | [`Sender`], [`Receiver`], [`Channel`] with a [`codec`] |
//! | several tasks that send at one end | [`Sender::shared`] |
//! | requests that wait for their replies | [`Caller`], [`Channel::call`] |
//! | a service to run | [`service`], [`handshake`] |
//! | a server that comes and goes | [`connect::Reconnect`] |
//! | to know what a mechanism promises | [`contract`] |
//! | messages to move from one address to another | [`relay`] |
//! | to tell what this library has made, and left behind | [`is_marked`] |
//!
//! # How it fits together
//!
//! A transport owns a descriptor. Those that move bytes are `AsyncRead` or `AsyncWrite`, and
//! [`frame`] cuts their bytes into frames; those that keep message boundaries give frames
//! themselves. From there on everything is a `Stream<Item = io::Result<Bytes>>` or a
//! `Sink<Bytes, Error = io::Error>`, and a typed channel goes on top of any of these, also of one
//! from outside this crate.
//!
//! # What holds everywhere
//!
//! - **Runtime**: opening needs a Tokio runtime with its I/O driver; without a runtime it is an error.
//!   Nothing needs the runtime's timer. An end may outlive its runtime: its waits
//!   then end in errors.
//! - **Cancel safety**: each `async fn` says what dropping its future does. None of them tears a
//!   message.
//! - **Limits**: every buffer, frame and number of connections has one, whose default its page
//!   names. What waits takes a time limit; where it has none of its own, `tokio::time::timeout`
//!   is safe, see above.
//! - **Errors**: the data path gives [`std::io::Error`] with its errno; opening gives a
//!   [`connect::OpenError`]: what was tried, on what, why it failed and what helps, in one sentence. It
//!   turns into an `io::Error`.
//! - **Logs**: through `tracing`, targets `aqueduct::…`: what was opened, who came and went. Data that
//!   is dropped before it was sent is a warning with the target `aqueduct::unsent`. Nothing is logged
//!   for each message.
//!
//! # Features
//!
//! `json` (the default), `postcard` and `messagepack` are codecs; `full` is all of them.
//!
//! # Platform
//!
//! Linux.
#![warn(missing_docs, clippy::unwrap_used, clippy::expect_used)]

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
pub mod pipe;
pub mod record;
pub mod relay;
pub mod service;
pub mod stdio;
pub mod tcp;
pub mod unix;

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

/// The README's code compiles and runs.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct ReadmeDoctests;
