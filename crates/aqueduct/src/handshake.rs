//! A handshake: two peers check whether they understand each other.
//!
//! Without one, two peers that use different codecs, or different versions of a program's messages,
//! get garbage, silence or a decode error some time later. With one, both sides get the same
//! [`Error::Mismatch`] before the first message. It names what differs, and both values.
//!
//! The handshake is optional: both sides use it or neither does. It works on any two-way transport
//! and any framing that keeps boundaries ([`Framing::raw`](crate::frame::Framing::raw) does not).
//! It is not authentication: it reports what a peer says, not who it is.
//!
//! # Examples
//!
//! ```
//! use aqueduct::codec::Text;
//! use aqueduct::connect::Connection;
//! use aqueduct::frame::Framing;
//! use aqueduct::handshake::{Error, Handshake};
//! use tokio::net::UnixStream;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let (here, there) = UnixStream::pair()?;
//! let old = Handshake::new("chat/1");
//! let new = Handshake::new("chat/2");
//! let (here, there) = (
//!     Connection::from_io(here, Framing::length()),
//!     Connection::from_io(there, Framing::length()),
//! );
//! let (ours, theirs) = tokio::join!(
//!     old.channel::<String, String>(here, Text),
//!     new.channel::<String, String>(there, Text),
//! );
//! for error in [ours.unwrap_err(), theirs.unwrap_err()] {
//!     println!("{error}"); // the messages do not match: here "chat/1", there "chat/2"
//!     assert!(matches!(error, Error::Mismatch { .. }));
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # On the wire
//!
//! Each side sends two frames without waiting for the other's: its hello and, after reading the
//! other's hello, its verdict on it. Both are printable ASCII, so they pass every framing (no
//! newline, no NUL) and can be read in a capture. Fields are separated by one space (0x20). Version
//! 1:
//!
//! ```text
//! hello    = "aqueduct/" version SP codec SP max-frame SP messages
//! verdict  = "aqueduct/" version SP "ok"
//!          | "aqueduct/" version SP "no" SP what
//!
//! version   = number, 1 to 65535
//! codec     = name, the codec's: "json", "postcard", …
//! max-frame = number, 1 to 4294967295: the largest frame its sender takes, in bytes
//! messages  = name, the user's: of the application, its version, a hash of its types
//! what      = "version" | "codec" | "messages"
//! number    = decimal digits without leading zeros
//! name      = 1 to 64 bytes of 0x21 to 0x7e
//! ```
//!
//! For example, with length framing, the hello `aqueduct/1 json 1048576 chat/2` is
//!
//! ```text
//! 00 00 00 1e  61 71 75 65 64 75 63 74 2f 31 20 6a 73 6f 6e 20 …
//!              a  q  u  e  d  u  c  t  /  1     j  s  o  n
//! ```
//!
//! A hello has at most 256 bytes; a longer one is not read. All later versions keep `"aqueduct/"
//! version`, a space after it, and the whole verdict, so that two versions can recognise each
//! other.
//!
//! The version, the codec and the messages must be the same on both sides, compared in this order.
//! Of the two largest frames the smaller one applies in both directions.

mod error;
mod exchange;
mod hello;
mod limited;

pub use self::error::{Error, What};
pub use self::exchange::Handshake;
#[cfg(fuzzing)]
pub(crate) use self::hello::{Hello, Verdict};
