use bytes::{Buf, BytesMut};
use tokio_util::codec::Decoder;

use super::{Error, FACTS, MAGIC, NO_PRIORITY, PREFIX, Record, check_magic, prefix, time};
use crate::connect::Message;
use crate::frame::DEFAULT_MAX_FRAME;

/// Splits the bytes of a recording into records.
///
/// # Errors
///
/// See [`Error`]. The first error is the last item: earlier records are whole, and nothing after it
/// can be trusted.
///
/// # Examples
///
/// A recording that arrives over a socket:
///
/// ```
/// use aqueduct::frame::FramedRead;
/// use aqueduct::record::{RecordDecoder, Recorder};
/// use futures_util::TryStreamExt;
/// use tokio::io::AsyncWriteExt;
/// use tokio::net::UnixStream;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("jobs.rec");
/// Recorder::open(&path)?.record(&"sort the attic".into())?;
/// let (mut there, here) = UnixStream::pair()?;
/// there.write_all(&std::fs::read(&path)?).await?;
/// drop(there);
/// let mut records = FramedRead::with_codec(here, RecordDecoder::new().max_message(100));
/// let record = records.try_next().await?.ok_or("it is empty")?;
/// assert_eq!(record.message.body(), "sort the attic");
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct RecordDecoder {
    max: usize,
    begun: bool,
    /// Where the next record begins.
    at: u64,
    /// How many were whole.
    whole: u64,
}

impl Default for RecordDecoder {
    fn default() -> Self {
        Self::new()
    }
}

impl RecordDecoder {
    /// Creates a decoder for a whole recording, with messages of at most 1 MiB.
    pub fn new() -> Self {
        Self {
            max: DEFAULT_MAX_FRAME,
            begun: false,
            at: 0,
            whole: 0,
        }
    }

    /// Sets the largest message, in bytes.
    pub fn max_message(mut self, bytes: usize) -> Self {
        self.max = bytes;
        self
    }

    /// The length of the record at the beginning of `src`, if enough of it is there.
    fn length(&self, src: &[u8]) -> Result<Option<(u32, usize)>, Error> {
        let (whole, at, max) = (self.whole, self.at, self.max);
        let Some((crc, length)) = prefix(src) else {
            return Ok(None);
        };
        let length = length as usize;
        match length.checked_sub(FACTS) {
            None => Err(Error::Damaged { whole, at }),
            Some(len) if len > max => Err(Error::TooLarge {
                whole,
                at,
                len: len as u64,
                max,
            }),
            Some(_) => Ok(Some((crc, length))),
        }
    }
}

impl Decoder for RecordDecoder {
    type Item = Record;
    type Error = Error;

    fn decode(&mut self, src: &mut BytesMut) -> Result<Option<Record>, Error> {
        if !self.begun {
            check_magic(src)?;
            if src.len() < MAGIC.len() {
                return Ok(None);
            }
            src.advance(MAGIC.len());
            self.begun = true;
            self.at = MAGIC.len() as u64;
        }
        let Some((crc, length)) = self.length(src)? else {
            return Ok(None);
        };
        if src.len() < PREFIX + length {
            return Ok(None);
        }
        if crc32fast::hash(&src[4..PREFIX + length]) != crc {
            let (whole, at) = (self.whole, self.at);
            return Err(Error::Damaged { whole, at });
        }
        self.at += (PREFIX + length) as u64;
        self.whole += 1;
        src.advance(PREFIX);
        let time = time(src.get_u64_le());
        let priority = src.get_u32_le();
        let message = Message::new(src.split_to(length - FACTS).freeze());
        let message = match priority {
            NO_PRIORITY => message,
            priority => message.with_priority(priority),
        };
        Ok(Some(Record { time, message }))
    }

    fn decode_eof(&mut self, src: &mut BytesMut) -> Result<Option<Record>, Error> {
        if let Some(record) = self.decode(src)? {
            return Ok(Some(record));
        }
        if src.is_empty() && self.begun {
            return Ok(None);
        }
        let wanted = match self.begun {
            false => Some(MAGIC.len() as u64),
            true => self.length(src)?.map(|(_, it)| (PREFIX + it) as u64),
        };
        Err(Error::CutShort {
            whole: self.whole,
            at: self.at,
            got: src.len() as u64,
            wanted,
        })
    }
}
