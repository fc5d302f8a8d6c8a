//! Recordings: messages in a file, each with its time, to inspect or send again.
//!
//! A [`Recorder`] appends to a file. A [`Recording`] reads one as a stream, and a [`RecordDecoder`]
//! from any other source of bytes.
//!
//! # Examples
//!
//! ```
//! use aqueduct::record::{Recorder, Recording};
//! use futures_util::StreamExt;
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let dir = tempfile::tempdir()?;
//! # let path = dir.path().join("jobs.rec");
//! Recorder::open(&path)?.record(&"sort the attic".into())?;
//!
//! let mut recording = Recording::open(&path)?;
//! while let Some(record) = recording.next().await.transpose()? {
//!     println!("{:?} {:?}", record.time, record.message.body());
//! }
//! # Ok(()) }
//! ```
//!
//! # The format
//!
//! All numbers are little-endian and unsigned.
//!
//! ```text
//! recording = magic, record*
//! magic     = 89 41 51 52 45 43 0A 01     0x89 "AQREC" newline, and the version: 1
//! record    = crc:4  length:4  time:8  priority:4  body
//! ```
//!
//! - `length`: how many bytes follow it: 12 and those of the body.
//! - `crc`: the CRC-32 of zip, gzip and PNG (ISO-HDLC) over the rest of the record, `length`
//!   included.
//! - `time`: when the message was recorded, in nanoseconds since 1970-01-01 00:00 UTC.
//! - `priority`: that of a message from a queue; FFFFFFFF if it has none.
//!
//! Nothing follows the last record, so a recording can always be appended to. Every record is
//! checked separately. A file that is cut off anywhere, by a full disk or a killed recorder, yields
//! every whole record and then [`Error::CutShort`] with the size of the rest. A record that was
//! changed yields [`Error::Damaged`], and nothing after it is read.
//!
//! # Limits
//!
//! A reader accepts bodies of at most 1 MiB unless set otherwise, and uses no more memory than that
//! and the bytes that have arrived. The format ends at bodies of 4 GiB - 13 bytes and at the year
//! 2554.

mod decoder;
mod error;
mod reader;
mod recorder;
mod tail;

use std::time::{Duration, SystemTime};

use bytes::{BufMut, BytesMut};

use crate::connect::Message;

pub use self::decoder::RecordDecoder;
pub use self::error::Error;
pub use self::reader::Recording;
pub use self::recorder::Recorder;

/// The beginning of every recording; the last byte is the version of the format.
const MAGIC: [u8; 8] = *b"\x89AQREC\n\x01";

/// The check and the length.
const PREFIX: usize = 8;
/// Time and priority.
const FACTS: usize = 12;
const NO_PRIORITY: u32 = u32::MAX;

/// A message and the time it was recorded at.
///
/// # Examples
///
/// ```
/// use aqueduct::record::{Recorder, Recording};
/// use futures_util::StreamExt;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("jobs.rec");
/// # Recorder::open(&path)?.record(&"sort the attic".into())?;
/// let record = Recording::open(&path)?.next().await.ok_or("it is empty")??;
/// let age = record.time.elapsed()?;
/// println!("{:?} was recorded {age:?} ago", record.message.body());
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Record {
    /// When it was recorded.
    pub time: SystemTime,
    /// The message, with its priority if it came from a queue.
    pub message: Message,
}

/// Appends a record to `buf`; `None`: it is too large for the format.
fn encode(time: SystemTime, message: &Message, buf: &mut BytesMut) -> Option<()> {
    let body = message.body();
    let length = u32::try_from(FACTS + body.len()).ok()?;
    let time = time.duration_since(SystemTime::UNIX_EPOCH);
    let time = u64::try_from(time.unwrap_or_default().as_nanos()).unwrap_or(u64::MAX);
    let start = buf.len();
    buf.reserve(PREFIX + FACTS + body.len());
    buf.put_u32_le(0);
    buf.put_u32_le(length);
    buf.put_u64_le(time);
    buf.put_u32_le(message.priority().unwrap_or(NO_PRIORITY));
    buf.put_slice(body);
    let crc = crc32fast::hash(&buf[start + 4..]);
    buf[start..start + 4].copy_from_slice(&crc.to_le_bytes());
    Some(())
}

fn time(nanos: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_nanos(nanos)
}

/// Checks as much of the beginning as there is.
fn check_magic(bytes: &[u8]) -> Result<(), Error> {
    let n = bytes.len().min(MAGIC.len());
    if bytes[..n] == MAGIC[..n] {
        return Ok(());
    }
    match (
        bytes.split_at_checked(MAGIC.len() - 1),
        bytes.get(MAGIC.len() - 1),
    ) {
        (Some((begin, _)), Some(&version)) if begin == &MAGIC[..MAGIC.len() - 1] => {
            Err(Error::Version { version })
        }
        _ => Err(Error::NotARecording),
    }
}

/// The check and the length of a record.
fn prefix(bytes: &[u8]) -> Option<(u32, u32)> {
    let (crc, rest) = bytes.split_first_chunk::<4>()?;
    let (length, _) = rest.split_first_chunk::<4>()?;
    Some((u32::from_le_bytes(*crc), u32::from_le_bytes(*length)))
}
