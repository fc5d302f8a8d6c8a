use std::io;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio_util::codec::{Decoder, Encoder};

use super::error::Missing;
use super::write::WriteError;
use super::{COPY_BELOW, DEFAULT_MAX_FRAME, FrameEncoder, FrameError, NotQueued, WriteBuf};
use crate::io::sys;

/// Size of the length header in bytes.
const HEADER: usize = 4;

/// The largest frame there can be: what a header can say, and where a `usize` has 32 bits what leaves room
/// to add to it and to double it.
const LARGEST: usize = if usize::BITS > 32 {
    u32::MAX as usize
} else {
    1 << 29
};

/// How a byte stream is cut into frames; a codec for [`Bytes`].
///
/// The [module](super) says which to take. A `Framing` also holds its place in the stream it
/// decodes, so use one for each stream.
///
/// # Examples
///
/// ```
/// use aqueduct::frame::Framing;
/// use aqueduct::bytes::{Bytes, BytesMut};
/// use tokio_util::codec::{Decoder, Encoder};
///
/// let mut wire = BytesMut::new();
/// Framing::nul().encode(Bytes::from("hi"), &mut wire)?;
/// assert_eq!(wire, "hi\0");
/// assert_eq!(Framing::nul().decode(&mut wire)?, Some(Bytes::from("hi")));
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Framing {
    cut: Cut,
    max_frame: usize,
    /// Bytes at the front of the buffer already known to hold no delimiter.
    searched: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cut {
    Length,
    Delimiter { byte: u8, optional_at_end: bool },
    Raw,
}

impl Framing {
    /// A 4-byte big-endian length before each body: any bytes may be sent.
    pub const fn length() -> Self {
        Self::new(Cut::Length)
    }

    /// A newline after each body.
    ///
    /// Only `\n` counts; a `\r` before it stays part of the message. A last line without its
    /// newline is delivered when the stream ends: it cannot be told from one whose writer was
    /// killed, so take [`length`](Self::length) or [`nul`](Self::nul) where that matters.
    pub const fn lines() -> Self {
        Self::new(Cut::Delimiter {
            byte: b'\n',
            optional_at_end: true,
        })
    }

    /// A NUL byte after each body, as C programs that write whole strings send it.
    pub const fn nul() -> Self {
        Self::new(Cut::Delimiter {
            byte: 0,
            optional_at_end: false,
        })
    }

    /// Bytes as they come: what one read returns is one frame, whatever the writer wrote at once.
    ///
    /// An empty body writes nothing, and so is never received.
    pub const fn raw() -> Self {
        Self::new(Cut::Raw)
    }

    const fn new(cut: Cut) -> Self {
        Self {
            cut,
            max_frame: DEFAULT_MAX_FRAME,
            searched: 0,
        }
    }

    /// Sets the largest frame in bytes, without header or delimiter.
    ///
    /// A length header holds at most 4 GiB - 1, so no limit reaches beyond that, nor beyond 512 MiB where a
    /// `usize` has 32 bits. With [`raw`](Self::raw) a limit of 0 receives byte by byte, as one of 1 does.
    #[must_use]
    pub const fn max_frame(mut self, bytes: usize) -> Self {
        self.max_frame = if bytes < LARGEST { bytes } else { LARGEST };
        self
    }

    /// The largest frame in bytes, without header or delimiter.
    pub const fn get_max_frame(&self) -> usize {
        self.max_frame
    }

    /// How many bytes this framing adds to a body on the wire.
    pub const fn overhead(&self) -> usize {
        match self.cut {
            Cut::Length => HEADER,
            Cut::Delimiter { .. } => 1,
            Cut::Raw => 0,
        }
    }

    /// How many bytes at least the frame needs whose beginning, and no more, is in `begun`: at
    /// least one.
    pub(crate) fn missing(&self, begun: &[u8]) -> usize {
        match (self.cut, begun.first_chunk::<HEADER>()) {
            (Cut::Length, Some(header)) => {
                let len = u32::from_be_bytes(*header) as usize;
                len.saturating_sub(begun.len() - HEADER).max(1)
            }
            (Cut::Length, None) => HEADER - begun.len(),
            (Cut::Delimiter { .. } | Cut::Raw, _) => 1,
        }
    }

    /// Checks that `body` can be sent; nothing is written before this has passed.
    fn check(&self, body: &[u8]) -> Result<(), FrameError> {
        if body.len() > self.max_frame {
            return Err(FrameError::TooLarge {
                len: body.len(),
                max: self.max_frame,
            });
        }
        if let Cut::Delimiter { byte, .. } = self.cut
            && let Some(at) = memchr::memchr(byte, body)
        {
            return Err(FrameError::ContainsDelimiter {
                delimiter: byte,
                at,
            });
        }
        Ok(())
    }

    fn header(&self, body: &[u8]) -> Option<[u8; HEADER]> {
        // `check` has compared the length with a limit that fits 32 bits.
        matches!(self.cut, Cut::Length).then(|| (body.len() as u32).to_be_bytes())
    }

    fn trailer(&self) -> Option<u8> {
        match self.cut {
            Cut::Delimiter { byte, .. } => Some(byte),
            _ => None,
        }
    }

    #[cold]
    fn too_large(&self, len: usize) -> io::Error {
        FrameError::received(FrameError::TooLarge {
            len,
            max: self.max_frame,
        })
    }

    /// Looks for the next whole frame at the front of `src`.
    #[inline]
    pub(super) fn find(&mut self, src: &[u8]) -> io::Result<Find> {
        match self.cut {
            Cut::Length => self.find_length(src),
            Cut::Delimiter { byte, .. } => self.find_delimited(byte, src),
            Cut::Raw => Ok(self.find_raw(src)),
        }
    }

    #[inline]
    fn find_length(&self, src: &[u8]) -> io::Result<Find> {
        let Some(header) = src.first_chunk::<HEADER>() else {
            return Ok(Find::More);
        };
        let len = u32::from_be_bytes(*header) as usize;
        if len > self.max_frame {
            return Err(self.too_large(len));
        }
        if src.len() - HEADER < len {
            return Ok(Find::Begun {
                header: HEADER,
                len,
            });
        }
        Ok(Find::Frame {
            before: HEADER,
            len,
            after: 0,
        })
    }

    fn find_delimited(&mut self, byte: u8, src: &[u8]) -> io::Result<Find> {
        // Only as far as a frame of the allowed size can reach.
        let end = src.len().min(self.max_frame.saturating_add(1));
        let found = memchr::memchr(byte, &src[self.searched.min(end)..end]);
        let Some(at) = found.map(|at| self.searched + at) else {
            self.searched = end;
            if src.len() > self.max_frame {
                return Err(self.too_large(src.len()));
            }
            return Ok(Find::More);
        };
        self.searched = 0;
        Ok(Find::Frame {
            before: 0,
            len: at,
            after: 1,
        })
    }

    fn find_raw(&self, src: &[u8]) -> Find {
        // A limit of 0 would never take anything, and let the buffer grow without end.
        match src.len().min(self.max_frame.max(1)) {
            0 => Find::More,
            len => Find::Frame {
                before: 0,
                len,
                after: 0,
            },
        }
    }

    /// What `rest`, which holds no whole frame, is when nothing follows: a last frame of that many
    /// bytes, nothing, or an error.
    pub(super) fn at_end(&mut self, rest: &[u8]) -> io::Result<Option<usize>> {
        let got = rest.len();
        if got == 0 {
            return Ok(None);
        }
        let missing = match self.cut {
            Cut::Delimiter {
                optional_at_end: true,
                ..
            }
            | Cut::Raw => {
                self.searched = 0;
                return Ok(Some(got));
            }
            Cut::Delimiter { byte, .. } => Missing::Delimiter(byte),
            Cut::Length => Missing::Bytes(match rest.first_chunk::<HEADER>() {
                Some(header) => u32::from_be_bytes(*header) as usize - (got - HEADER),
                None => HEADER - got,
            }),
        };
        Err(FrameError::Truncated { got, missing }.into())
    }
}

/// What is at the front of a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Find {
    /// A whole frame: this many bytes before, in and after its body.
    Frame {
        before: usize,
        len: usize,
        after: usize,
    },
    /// The beginning of a frame that will have a body of `len` bytes behind its header.
    Begun { header: usize, len: usize },
    /// Too little to say.
    More,
}

/// Takes the first `len` bytes: small frames by copy, so that they do not keep the buffer alive.
fn take(src: &mut BytesMut, len: usize) -> Bytes {
    if len < COPY_BELOW {
        let frame = Bytes::copy_from_slice(&src[..len]);
        src.advance(len);
        frame
    } else {
        src.split_to(len).freeze()
    }
}

impl Decoder for Framing {
    type Item = Bytes;
    type Error = io::Error;

    fn decode(&mut self, src: &mut BytesMut) -> io::Result<Option<Bytes>> {
        let Find::Frame { before, len, after } = self.find(src)? else {
            return Ok(None);
        };
        src.advance(before);
        let frame = take(src, len);
        src.advance(after);
        Ok(Some(frame))
    }

    fn decode_eof(&mut self, src: &mut BytesMut) -> io::Result<Option<Bytes>> {
        if let Some(frame) = self.decode(src)? {
            return Ok(Some(frame));
        }
        Ok(self.at_end(src)?.map(|len| take(src, len)))
    }
}

impl Framing {
    /// Appends `body` and what frames it, or nothing.
    #[inline]
    pub(super) fn put(&self, body: &[u8], dst: &mut BytesMut) -> io::Result<()> {
        if !matches!(self.cut, Cut::Length) || body.len() > self.max_frame {
            return self.put_unlike(body, dst);
        }
        sys::append(dst, (body.len() as u32).to_be_bytes(), body);
        Ok(())
    }

    /// Appends a body without a header, or none that is refused.
    #[inline(never)]
    fn put_unlike(&self, body: &[u8], dst: &mut BytesMut) -> io::Result<()> {
        self.check(body)?;
        dst.reserve(body.len() + self.overhead());
        dst.put_slice(body);
        if let Some(byte) = self.trailer() {
            dst.put_u8(byte);
        }
        Ok(())
    }

    /// Appends a frame of what `write` appends. After an error there may be a part of it.
    #[inline]
    pub(super) fn put_with(
        &self,
        dst: &mut BytesMut,
        write: &mut dyn FnMut(&mut BytesMut) -> Result<(), WriteError>,
    ) -> Result<(), NotQueued> {
        let begin = dst.len();
        if matches!(self.cut, Cut::Length) {
            dst.put_slice(&[0; HEADER]);
        }
        let at = dst.len();
        write(dst).map_err(NotQueued::Unwritten)?;
        assert!(
            dst.len() >= at,
            "a codec appends: what was in the buffer is other frames"
        );
        let body = &dst[at..];
        self.check(body).map_err(|e| NotQueued::Refused(e.into()))?;
        if let Some(header) = self.header(body) {
            dst[begin..at].copy_from_slice(&header);
        }
        if let Some(byte) = self.trailer() {
            dst.put_u8(byte);
        }
        Ok(())
    }

    /// Appends a body that is not copied if the transport gathers.
    #[inline(never)]
    fn put_large(&self, body: Bytes, dst: &mut WriteBuf) -> io::Result<()> {
        self.check(&body)?;
        if let Some(header) = self.header(&body) {
            dst.tail().put_slice(&header);
        }
        dst.put(body);
        if let Some(byte) = self.trailer() {
            dst.tail().put_u8(byte);
        }
        Ok(())
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

    // Inlined, the four words of a `Bytes` stay in registers; by way of memory they are written one by
    // one and read two at once, for which a processor waits.
    #[inline(always)]
    fn encode(&mut self, body: Bytes, dst: &mut WriteBuf) -> io::Result<()> {
        if body.len() < COPY_BELOW {
            return self.put(&body, dst.tail());
        }
        self.put_large(body, dst)
    }
}
