//! Every way Unix processes talk to each other, as typed `Stream`s and `Sink`s on Tokio.
#![warn(missing_docs, clippy::unwrap_used, clippy::expect_used)]

pub mod fd;
pub mod frame;
pub mod pipe;
mod source;
mod sys;

pub use bytes;
