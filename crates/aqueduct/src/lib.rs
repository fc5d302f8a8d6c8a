//! Every way Unix processes talk to each other, as typed `Stream`s and `Sink`s on Tokio.
#![warn(missing_docs, clippy::unwrap_used, clippy::expect_used)]

pub mod frame;
mod source;
mod sys;

pub use bytes;
