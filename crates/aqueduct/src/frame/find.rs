//! How a [`Framing`] finds frames.

use std::io;

use bytes::{Buf, Bytes, BytesMut};
use tokio_util::codec::Decoder;

use super::error::FrameError;
use super::framing::{Cut, Framing, HEADER, Partial, TooLong};
use super::slabs::COPY_BELOW;

/// The content at the front of a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Find {
    /// A whole frame: the number of bytes before, in and after its body.
    Frame {
        before: usize,
        len: usize,
        after: usize,
    },
    /// The beginning of a frame that will have a body of `len` bytes behind its header.
    Begun { header: usize, len: usize },
    /// This many bytes, at least one, are not part of a frame: look again behind them.
    Drop(usize),
    /// Too few bytes to decide.
    More,
}

impl Framing {
    /// The least number of bytes, at least one, that complete the frame in `begun`, which holds
    /// only its beginning.
    pub(crate) fn missing(&self, begun: &[u8]) -> usize {
        match (self.cut, begun.first_chunk::<HEADER>()) {
            (Cut::Length, Some(header)) => {
                let len = u32::from_be_bytes(*header) as usize;
                len.saturating_sub(begun.len() - HEADER).max(1)
            }
            (Cut::Length, None) => HEADER - begun.len(),
            (Cut::Delimiter(_) | Cut::Raw, _) => 1,
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

    /// Looks for the next whole frame at the front of `src`.
    pub(super) fn find(&mut self, src: &[u8]) -> io::Result<Find> {
        match self.cut {
            Cut::Length => self.find_length(src),
            Cut::Delimiter(byte) => self.find_delimited(byte, src),
            Cut::Raw => Ok(self.find_raw(src)),
        }
    }

    fn find_length(&self, src: &[u8]) -> io::Result<Find> {
        let Some(header) = src.first_chunk::<HEADER>() else {
            return Ok(Find::More);
        };
        let len = u32::from_be_bytes(*header) as usize;
        if len > self.max_frame {
            return Err(FrameError::length_over(*header, self.max_frame));
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
        if self.over.is_some() {
            return Ok(self.find_end(byte, src));
        }
        // Only as far as a frame of the allowed size can reach.
        let end = src.len().min(self.max_frame.saturating_add(1));
        let found = memchr::memchr(byte, &src[self.searched.min(end)..end]);
        let Some(at) = found.map(|at| self.searched + at) else {
            self.searched = end;
            if src.len() > self.max_frame {
                return self.find_over(byte, src);
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

    /// A message at the front of `src` is over the limit.
    #[cold]
    fn find_over(&mut self, byte: u8, src: &[u8]) -> io::Result<Find> {
        let max = self.max_frame;
        match self.at_too_long() {
            TooLong::Fail => Err(match memchr::memchr(byte, src) {
                Some(len) => FrameError::TooLarge { len, max }.received(),
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

    fn find_raw(&self, src: &[u8]) -> Find {
        // A limit of 0 would never take anything, and the buffer would grow without limit.
        match src.len().min(self.max_frame.max(1)) {
            0 => Find::More,
            len => Find::Frame {
                before: 0,
                len,
                after: 0,
            },
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
        let missing = match (self.cut, rest.first_chunk::<HEADER>()) {
            (Cut::Raw, _) => return Ok(Some(got)),
            (Cut::Delimiter(_), _) => match self.at_partial() {
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
            (Cut::Length, Some(header)) => {
                Some(u32::from_be_bytes(*header) as usize - (got - HEADER))
            }
            (Cut::Length, None) => Some(HEADER - got),
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
