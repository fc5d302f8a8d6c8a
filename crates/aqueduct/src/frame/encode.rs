//! How frames are encoded: the trait behind a sink, implemented by [`Framing`].

use std::io;

use bytes::{BufMut, Bytes, BytesMut};
use tokio_util::codec::Encoder;

use super::cut::Cut;
use super::error::FrameError;
use super::framing::{Framing, HEADER};
use super::slabs::COPY_BELOW;
use super::write_buf::WriteBuf;
use super::{headers, netstring, stuffed};
use crate::io::sys;

/// Encodes the items of a [`FramedWrite`](super::FramedWrite) (sealed).
///
/// Implemented by [`Framing`] and, for any tokio-util [`Encoder`], by
/// [`UserCodec`](super::UserCodec).
#[expect(
    unnameable_types,
    reason = "sealed: how the buffers work is no promise"
)]
pub trait FrameEncoder<Item> {
    /// The error of encoding and writing.
    type Error: From<io::Error>;

    /// Appends `item` to `dst`, or nothing.
    fn encode(&mut self, item: Item, dst: &mut WriteBuf) -> Result<(), Self::Error>;
}

/// The error of the writer of a body.
pub(crate) type WriteError = Box<dyn std::error::Error + Send + Sync>;

/// Why no frame was queued.
pub(crate) enum NotQueued {
    /// Its body could not be written.
    Unwritten(WriteError),
    /// It cannot be sent.
    Refused(io::Error),
}

impl Framing {
    /// Checks that `body` can be sent; nothing is written before this has passed.
    fn check(&self, body: &[u8]) -> io::Result<()> {
        let (len, max) = (body.len(), self.get_max_frame());
        if len > max {
            let framing = self.cut.name();
            let error = match max < self.max_frame {
                true => FrameError::NoRoom { len, max, framing },
                false => FrameError::TooLarge { len, max },
            };
            return Err(error.into());
        }
        let delimiter = match self.cut {
            Cut::Delimiter(byte) => byte,
            Cut::Crlf => b'\n',
            _ => return Ok(()),
        };
        match memchr::memchr(delimiter, body) {
            Some(at) => Err(FrameError::ContainsDelimiter { delimiter, at }.into()),
            None => Ok(()),
        }
    }

    /// Appends the header of a body of `len` bytes.
    fn put_header(&self, len: usize, dst: &mut BytesMut) {
        match self.cut {
            // `check` has compared the length with a limit that fits 32 bits.
            Cut::Length => dst.put_u32(len as u32),
            Cut::Field(field) => field.put(len, dst),
            Cut::Netstring => dst.put_slice(netstring::header(len).as_bytes()),
            Cut::Headers => dst.put_slice(headers::header(len).as_bytes()),
            Cut::Delimiter(_) | Cut::Crlf | Cut::Cobs | Cut::Raw => {}
        }
    }

    /// Appends the trailer of a body.
    pub(super) fn put_trailer(&self, dst: &mut BytesMut) {
        match self.cut {
            Cut::Delimiter(byte) => dst.put_u8(byte),
            Cut::Crlf => dst.put_slice(b"\r\n"),
            Cut::Netstring => dst.put_u8(b','),
            Cut::Length | Cut::Field(_) | Cut::Headers | Cut::Cobs | Cut::Raw => {}
        }
    }

    /// Appends `body` and its framing, or nothing.
    #[inline]
    pub(super) fn put(&self, body: &[u8], dst: &mut BytesMut) -> io::Result<()> {
        if !matches!(self.cut, Cut::Length) || body.len() > self.max_frame {
            return self.put_unlike(body, dst);
        }
        sys::append(dst, (body.len() as u32).to_be_bytes(), body);
        Ok(())
    }

    /// Appends a body in another framing, or one that is refused.
    #[inline(never)]
    fn put_unlike(&self, body: &[u8], dst: &mut BytesMut) -> io::Result<()> {
        self.check(body)?;
        if self.cut == Cut::Cobs {
            stuffed::put(body, dst);
            return Ok(());
        }
        dst.reserve(self.on_wire(body.len()));
        self.put_header(body.len(), dst);
        dst.put_slice(body);
        self.put_trailer(dst);
        Ok(())
    }

    /// Appends the part before a body that is written next. [`end`](Self::end) fills it in.
    #[inline]
    pub(super) fn begin(&self, dst: &mut BytesMut) -> Start {
        let before = match self.cut {
            Cut::Length => {
                dst.put_slice(&PLACEHOLDER);
                0
            }
            _ => last_bytes(dst),
        };
        let at = dst.len();
        Start { at, before }
    }

    /// Whether the bytes before the body are still there: a codec may only append.
    #[inline]
    pub(super) fn has_begun(&self, dst: &[u8], start: Start) -> bool {
        match (dst.get(..start.at), self.cut) {
            (Some(before), Cut::Length) => before.ends_with(&PLACEHOLDER),
            (Some(before), _) => last_bytes(before) == start.before,
            (None, _) => false,
        }
    }

    /// Completes the frame that [has begun](Self::has_begun).
    #[inline]
    pub(super) fn end(&self, dst: &mut BytesMut, start: Start) -> io::Result<()> {
        let (before, body) = dst.split_at_mut(start.at);
        match (self.cut, before.last_chunk_mut()) {
            (Cut::Length, Some(header)) if body.len() <= self.max_frame => {
                *header = (body.len() as u32).to_be_bytes();
                Ok(())
            }
            _ => self.end_unlike(dst, start),
        }
    }

    /// Completes a frame without room for its header, or refuses it.
    #[inline(never)]
    fn end_unlike(&self, dst: &mut BytesMut, Start { at, .. }: Start) -> io::Result<()> {
        self.check(&dst[at..])?;
        match self.cut {
            Cut::Length | Cut::Delimiter(_) | Cut::Crlf | Cut::Raw => {}
            Cut::Cobs => {
                let body = dst.split_off(at);
                stuffed::put(&body, dst);
            }
            Cut::Field(_) | Cut::Netstring | Cut::Headers => {
                let len = dst.len() - at;
                self.put_header(len, dst);
                // The header is behind the body now.
                dst[at..].rotate_left(len);
            }
        }
        self.put_trailer(dst);
        Ok(())
    }

    /// Appends what precedes `body` if it follows unchanged; otherwise returns `false`.
    pub(super) fn put_header_of(&self, body: &[u8], dst: &mut BytesMut) -> io::Result<bool> {
        if self.cut == Cut::Cobs {
            return Ok(false);
        }
        self.check(body)?;
        self.put_header(body.len(), dst);
        Ok(true)
    }

    /// Appends a body that is not copied if the transport supports vectored writes.
    #[inline(never)]
    fn put_large(&self, body: Bytes, dst: &mut WriteBuf) -> io::Result<()> {
        if !self.put_header_of(&body, dst.tail())? {
            return self.put(&body, dst.tail());
        }
        dst.put(body);
        self.put_trailer(dst.tail());
        Ok(())
    }
}

/// Holds the place of a header until the length is known: bytes that no codec would write there by
/// accident.
const PLACEHOLDER: [u8; HEADER] = [0x9d, 0xe6, 0x0b, 0xf3];

/// The beginning of a frame whose body is being written.
#[derive(Clone, Copy)]
pub(super) struct Start {
    /// Where the body begins.
    at: usize,
    /// The last bytes before it, if there is no [`PLACEHOLDER`].
    before: u64,
}

fn last_bytes(buf: &[u8]) -> u64 {
    match buf.last_chunk() {
        Some(last) => u64::from_ne_bytes(*last),
        None => buf
            .iter()
            .fold(0, |bytes, byte| bytes << 8 | u64::from(*byte)),
    }
}

impl Encoder<Bytes> for Framing {
    type Error = io::Error;

    fn encode(&mut self, body: Bytes, dst: &mut BytesMut) -> io::Result<()> {
        self.put(&body, dst)
    }
}

impl FrameEncoder<Bytes> for Framing {
    type Error = io::Error;

    // Inlined, the four words of a `Bytes` stay in registers. Through memory they are written one
    // by one and read two at a time, which stalls the processor.
    #[inline(always)]
    fn encode(&mut self, body: Bytes, dst: &mut WriteBuf) -> io::Result<()> {
        if body.len() < COPY_BELOW {
            return self.put(&body, dst.tail());
        }
        self.put_large(body, dst)
    }
}
