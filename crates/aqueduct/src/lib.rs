//! Every way Unix processes talk to each other, as typed `Stream`s and `Sink`s on Tokio.
#![warn(missing_docs, clippy::unwrap_used, clippy::expect_used)]

mod accept;
mod backoff;
mod blocking;
mod channel;
pub mod child;
pub mod codec;
pub mod connect;
mod drain;
pub mod endpoint;
mod error;
pub mod fd;
pub mod fifo;
pub mod frame;
pub mod mq;
pub mod handshake;
pub mod pipe;
pub mod reconnect;
pub mod serve;
mod source;
pub mod stdio;
mod sys;
pub mod tcp;
pub mod unix;

pub use bytes;
pub use channel::{
    Channel, DEFAULT_CLOSE_TIMEOUT, PAIR_CAPACITY, Permit, Receiver, SCRATCH_KEPT, Sender,
};
pub use endpoint::{AddressError, AddressProblem, Endpoint};
pub use error::Error;
pub use reconnect::Reconnect;
pub use serve::serve;
