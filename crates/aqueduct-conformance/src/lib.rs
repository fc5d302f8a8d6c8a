//! Tests of what every Aqueduct transport promises, to run over your own transport.
//!
//! A transport joins Aqueduct as a sink and a stream of frames. Implement [`Transport`] to open
//! both ends, and return its [`Promises`]; then [`conformance!`] makes a `#[test]` of each case.
//! Aqueduct's own transports run the same cases.
//!
//! ```
//! use std::io;
//!
//! use aqueduct::frame::{FramedRead, FramedWrite, Framing};
//! use aqueduct_conformance::{End, Place, Promises, Side, Transport, conformance};
//! use tokio::net::{UnixListener, UnixStream};
//!
//! struct Mine;
//!
//! impl Transport for Mine {
//!     fn promises(&self) -> Promises {
//!         Promises::new()
//!     }
//!
//!     async fn open(&self, place: &Place, side: Side) -> io::Result<End> {
//!         let path = place.dir().join("socket");
//!         let stream = match side {
//!             Side::Here => UnixListener::bind(path)?.accept().await?.0,
//!             Side::There => place.retry(async || UnixStream::connect(&path).await).await?,
//!         };
//!         let (reader, writer) = stream.into_split();
//!         let framing = Framing::length().max_frame(place.max_frame());
//!         Ok(End::new(
//!             FramedWrite::new(writer, framing.clone()),
//!             FramedRead::new(reader, framing),
//!         ))
//!     }
//! }
//!
//! conformance! {
//!     mine => Mine;
//! }
//! # fn main() {
//! #     aqueduct_conformance::run(aqueduct_conformance::cases::order(&Mine));
//! # }
//! ```
//!
//! `cargo test mine` then runs them, and `cargo test mine -- --nocapture` also prints how many
//! await points were tried. Each test has a deadline, so a hanging test fails by name.
//!
//! # Which macro
//!
//! | macro | cases | for |
//! |---|---|---|
//! | [`conformance!`] | all | a [`Transport`] whose ends can be opened in two processes |
//! | [`in_one_process!`] | [`cases`] | a [`Transport`] within one process |
//! | [`lossy!`] | the [`cases`] in which no message has to arrive | a [`Transport`] that may lose messages, such as UDP |
//! | [`between_processes!`] | [`processes`] | a [`Link`]: the other end is a process that must be started in a special way, such as one that inherits a descriptor |
//!
//! Run the cases of [`settlement`] if messages of your transport have receipts.
//!
//! Test other operations of your transport, such as connecting, with [`every_point`].
//!
//! # Requirements
//!
//! Linux, `/proc`, and `cc` for the case with signals. Use the macros in a test target with the
//! standard harness: some cases run the test program again, as a separate process.
#![warn(missing_docs)]

pub mod cases;
mod cpu;
mod end;
mod every_point;
mod link;
mod place;
pub mod processes;
mod program;
mod promises;
mod rerun;
mod run;
pub mod settlement;
mod stamp;

pub use end::End;
pub use every_point::every_point;
pub use link::{Far, Link, Process};
pub use place::{Place, Side, Transport};
pub use program::far_end;
pub use promises::Promises;
pub use run::{DEADLINE, deadline, run};
