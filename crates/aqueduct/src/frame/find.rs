//! How a [`Framing`] finds frames.

use std::io;

use bytes::{Buf, Bytes, BytesMut};
use tokio_util::codec::Decoder;

use super::cut::Cut;
use super::error::FrameError;
use super::framing::{Framing, HEADER, Partial, TooLong};
use super::front::Find;
use super::slabs::COPY_BELOW;
use super::{headers, length, netstring, stuffed};

impl Framing {
    /// The least number of bytes, at least one, that complete the frame in `begun`, which holds
    /// only its beginning.
    pub(crate) fn missing(&self, begun: &[u8]) -> usize {
        match self.cut {
            Cut::Length => length::U32.missing(begun),
            Cut::Field(field) => field.missing(begun),
            Cut::Netstring => netstring::missing(begun).unwrap_or(1),
            Cut::Headers => headers::missing(begun).unwrap_or(1),
            Cut::Delimiter(_) | Cut::Crlf | Cut::Cobs | Cut::Raw => 1,
        }
    }

    /// Whether the stream is inside a message that is over the limit and neither delivered nor
    /// kept.
    pub(crate) fn is_dropping(&self) -> bool {
        self.over.is_some()
    }

    /// The length of the body at the front of `src`, if all of it is there, behind its length: most
    /// frames need no other look.
    #[inline(always)]
    pub(super) fn whole(&self, src: &[u8]) -> Option<usize> {
        let len = u32::from_be_bytes(*src.first_chunk::<HEADER>()?) as usize;
        let whole = len <= self.max_frame && len <= src.len() - HEADER;
        (whole && matches!(self.cut, Cut::Length)).then_some(len)
    }

    /// The length of the body at the front of `src`, if all of it is there, before its delimiter of
    /// one byte: a whole line.
    pub(super) fn whole_line(&mut self, src: &[u8]) -> Option<usize> {
        match self.cut {
            Cut::Delimiter(byte) if self.over.is_none() => {
                self.find_end_within(byte, self.max_frame, src)
            }
            _ => None,
        }
    }

    /// Looks for `byte`, with at most `most` bytes before it. What was searched is not searched
    /// again.
    #[inline]
    fn find_end_within(&mut self, byte: u8, most: usize, src: &[u8]) -> Option<usize> {
        // Only as far as a frame of the allowed size can reach.
        let end = src.len().min(most.saturating_add(1));
        let from = self.searched.min(end);
        let found = memchr::memchr(byte, &src[from..end]);
        self.searched = if found.is_some() { 0 } else { end };
        found.map(|at| from + at)
    }

    /// Looks for the next whole frame at the front of `src`.
    pub(super) fn find(&mut self, src: &[u8]) -> io::Result<Find> {
        let max = self.get_max_frame();
        match self.cut {
            Cut::Length => length::U32.find(src, max),
            Cut::Delimiter(byte) => self.find_delimited(byte, max, src),
            Cut::Crlf => self.find_crlf(src),
            Cut::Cobs => self.find_stuffed(src),
            Cut::Field(field) => field.find(src, max),
            Cut::Netstring => netstring::find(src, max),
            Cut::Headers => headers::find(src, max),
            Cut::Raw if src.is_empty() => Ok(Find::More),
            Cut::Raw => Ok(Find::Frame {
                before: 0,
                len: src.len(),
                after: 0,
            }),
        }
    }

    /// Looks for `byte`, with at most `most` bytes before it.
    fn find_delimited(&mut self, byte: u8, most: usize, src: &[u8]) -> io::Result<Find> {
        if self.over.is_some() {
            return Ok(self.find_end(byte, src));
        }
        match self.find_end_within(byte, most, src) {
            Some(len) => Ok(Find::Frame {
                before: 0,
                len,
                after: 1,
            }),
            None if src.len() > most => self.find_over(byte, src),
            None => Ok(Find::More),
        }
    }

    /// Looks for a newline, and takes a carriage return before it away.
    fn find_crlf(&mut self, src: &[u8]) -> io::Result<Find> {
        let found = self.find_delimited(b'\n', self.max_frame.saturating_add(1), src)?;
        let Find::Frame {
            before: 0,
            len,
            after: 1,
        } = found
        else {
            return Ok(found);
        };
        let body = src[..len].strip_suffix(b"\r").unwrap_or(&src[..len]);
        if body.len() > self.max_frame {
            return self.find_over(b'\n', src);
        }
        Ok(Find::Frame {
            before: 0,
            len: body.len(),
            after: len + 1 - body.len(),
        })
    }

    /// Looks for a zero byte. Two that follow each other have no frame between them.
    fn find_stuffed(&mut self, src: &[u8]) -> io::Result<Find> {
        let found = self.find_delimited(0, stuffed::most(self.max_frame), src)?;
        let Find::Frame { len, after: 1, .. } = found else {
            return Ok(found);
        };
        match stuffed::size(&src[..len]) {
            _ if len == 0 => Ok(Find::Drop(1)),
            None => Err(stuffed::malformed(&src[..len]).into()),
            Some(size) if size > self.max_frame => self.find_over(0, src),
            Some(_) => Ok(Find::Stuffed { len }),
        }
    }

    /// A message at the front of `src` is over the limit.
    #[cold]
    fn find_over(&mut self, byte: u8, src: &[u8]) -> io::Result<Find> {
        let max = self.max_frame;
        match self.at_too_long() {
            TooLong::Fail => Err(match memchr::memchr(byte, src) {
                Some(at) => {
                    let len = match self.cut {
                        Cut::Crlf => at - usize::from(src[..at].ends_with(b"\r")),
                        Cut::Cobs => stuffed::size(&src[..at]).unwrap_or(at),
                        _ => at,
                    };
                    FrameError::TooLarge { len, max }.received()
                }
                None => FrameError::Unterminated {
                    max,
                    delimiter: byte,
                }
                .into(),
            }),
            TooLong::Skip => {
                self.searched = 0;
                self.over = Some(0);
                Ok(self.find_end(byte, src))
            }
            TooLong::Truncate => {
                self.searched = 0;
                self.over = Some(max);
                if max == 0 {
                    return Ok(self.find_end(byte, src));
                }
                Ok(Find::Frame {
                    before: 0,
                    len: max,
                    after: 0,
                })
            }
        }
    }

    /// Looks for the end of a message over the limit.
    #[cold]
    fn find_end(&mut self, byte: u8, src: &[u8]) -> Find {
        let came = self.over.unwrap_or(0);
        match memchr::memchr(byte, src) {
            Some(at) => {
                self.over_is_dropped(came.saturating_add(at));
                Find::Drop(at + 1)
            }
            None if src.is_empty() => Find::More,
            None => {
                self.over = Some(came.saturating_add(src.len()));
                Find::Drop(src.len())
            }
        }
    }

    fn over_is_dropped(&mut self, bytes: usize) {
        self.over = None;
        self.over_count = self.over_count.saturating_add(1);
        // A peer that sends nothing else must not fill the log.
        if self.over_count.is_power_of_two() {
            let (max, count) = (self.max_frame, self.over_count);
            let what = match self.at_too_long() {
                TooLong::Truncate => "truncated",
                TooLong::Skip | TooLong::Fail => "skipped",
            };
            tracing::warn!(
                target: "aqueduct::frame",
                "{what} a message of {bytes} bytes, over the limit of {max} ({count} so far on this stream)"
            );
        }
    }

    /// How `rest`, which holds no whole frame, is treated at the end of the stream: a last frame of
    /// that many bytes, nothing, or an error.
    pub(super) fn at_end(&mut self, rest: &[u8]) -> io::Result<Option<usize>> {
        let got = rest.len();
        if let Some(came) = self.over {
            self.over_is_dropped(came.saturating_add(got));
            return Ok(None);
        }
        if got == 0 {
            return Ok(None);
        }
        self.searched = 0;
        let missing = match self.cut {
            Cut::Raw => return Ok(Some(got)),
            Cut::Delimiter(_) | Cut::Crlf | Cut::Cobs => match self.at_partial() {
                Partial::Keep => return Ok(Some(got)),
                Partial::Drop => {
                    tracing::warn!(
                        target: "aqueduct::frame",
                        "dropped the last {got} bytes of a stream that ended inside a message"
                    );
                    return Ok(None);
                }
                Partial::Fail => None,
            },
            Cut::Length | Cut::Field(_) => Some(self.missing(rest)),
            Cut::Netstring => netstring::missing(rest),
            Cut::Headers => headers::missing(rest),
        };
        Err(FrameError::Truncated { got, missing }.into())
    }
}

/// Takes the first `len` bytes. Small frames are copied, so that they do not keep the buffer alive.
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
        loop {
            match self.find(src)? {
                Find::Frame { before, len, after } => {
                    src.advance(before);
                    let frame = take(src, len);
                    src.advance(after);
                    return Ok(Some(frame));
                }
                Find::Stuffed { len } => {
                    let size = stuffed::take_out(&mut src[..len])?;
                    let frame = take(src, size);
                    src.advance(len - size + 1);
                    return Ok(Some(frame));
                }
                Find::Drop(len) => src.advance(len),
                Find::Begun { .. } | Find::More => return Ok(None),
            }
        }
    }

    fn decode_eof(&mut self, src: &mut BytesMut) -> io::Result<Option<Bytes>> {
        if let Some(frame) = self.decode(src)? {
            return Ok(Some(frame));
        }
        let last = self.at_end(src)?;
        let frame = last.map(|len| take(src, len));
        src.clear();
        Ok(frame)
    }
}
