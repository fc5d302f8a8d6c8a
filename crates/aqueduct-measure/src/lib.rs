//! Measures how fast messages move between two real processes.
//!
//! A *case* is one implementation on one mechanism, such as `tokio/unix/feed`. It does a *piece of
//! work*, one way or round trip, with messages of one size, under one placement on processors. A
//! [`Runner`] starts two processes for each *sample*. Both run the program that uses this crate,
//! which passes its argument to [`peer::run`].
//!
//! # What all cases share
//!
//! - The messages: a ring of prepared ones, [`Ring`]. No case builds messages while it is timed.
//! - The verification: the receiver checks the length, the first and the last bytes of each message
//!   and its place in the sequence. While warming up it compares whole messages.
//! - The time: measured at the receiver, from the first message after the warm-up to the last one.
//!   Each round trip is timed separately, where it starts.
//! - The length: a number of milliseconds, not of messages, so a slow case moves fewer.
//! - Processes: new ones for each sample, of the same runtime on both sides.

pub mod case;
pub mod check;
pub mod exec;
pub mod implementations;
pub mod machine;
pub mod message;
pub mod peer;
pub mod placement;
pub mod plan;
pub mod results;
pub mod runner;
pub mod sample;
pub mod session;
pub mod stats;
pub mod usage;

pub use case::{Case, Mechanism, Runtime, Work};
pub use check::Check;
pub use message::{Item, Message, Ring};
pub use placement::Placement;
pub use plan::{Plan, Step};
pub use results::{Cost, Figure, Results};
pub use runner::Runner;
pub use sample::Sample;
pub use session::{Receives, Sends, Session};
