//! From an [`Endpoint`] to its ends: whatever the address names, messages come in or go out.
//!
//! ```text
//!  "fifo:/run/jobs"  ── Options::open_receiver ──>  Incoming: Stream<Item = io::Result<Message>>
//!                    ── Options::open_sender   ──>  Outgoing: Sink<Message, Error = io::Error>
//! ```
//!
//! A [`Message`] is a frame and what its mechanism tells of it, such as a queue's priority. Who
//! needs the frame alone turns an end into one half of the waist with
//! [`Incoming::into_frames`] or [`Outgoing::into_frames`].
//!
//! Opening does what the address says and checks that the mechanism can do what is asked: a wrong
//! direction, or a scheme that cannot be opened this way, is an [`Error`] before anything happens.
//!
//! Everything here needs a Tokio runtime with its I/O driver and timer enabled.
//!
//! # Examples
//!
//! ```
//! use aqueduct::{Endpoint, connect::Options, frame::Framing};
//! use futures_util::{SinkExt, StreamExt};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let dir = tempfile::tempdir()?;
//! # let jobs: Endpoint = format!("fifo:{}/jobs", dir.path().display()).parse()?;
//! # let _ = r#"
//! let jobs: Endpoint = "fifo:/run/app/jobs".parse()?;
//! # "#;
//! let mut options = Options::new();
//! options.framing(Framing::lines());
//! let mut incoming = options.open_receiver(&jobs).await?;
//! let mut outgoing = options.open_sender(&jobs).await?;
//!
//! outgoing.send("sort the attic".into()).await?;
//! outgoing.close().await?;
//! let message = incoming.next().await.ok_or("no message came")??;
//! assert_eq!(message.body(), "sort the attic");
//! # Ok(()) }
//! ```

mod error;
mod incoming;
mod message;
mod open;
mod outgoing;
mod queue;

pub use self::error::Error;
pub use self::incoming::Incoming;
pub use self::message::Message;
pub use self::open::Options;
pub use self::outgoing::Outgoing;

#[cfg(doc)]
use crate::Endpoint;
