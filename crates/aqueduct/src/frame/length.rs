//! [`Field`]: a length before each frame, of any width and byte order.

use std::io;

use bytes::{BufMut, BytesMut};

use super::error::FrameError;
use super::front::Find;

/// The field of most frames.
pub(super) const U32: Field = Field::new(4);

/// Every other field.
pub(super) const NAMED: [(&str, Field); 13] = [
    ("u8", Field::new(1)),
    ("u16be", Field::new(2)),
    ("u16le", Field::new(2).little()),
    ("u32le", Field::new(4).little()),
    ("u64be", Field::new(8)),
    ("u64le", Field::new(8).little()),
    ("u8+header", Field::new(1).whole()),
    ("u16be+header", Field::new(2).whole()),
    ("u16le+header", Field::new(2).little().whole()),
    ("u32be+header", Field::new(4).whole()),
    ("u32le+header", Field::new(4).little().whole()),
    ("u64be+header", Field::new(8).whole()),
    ("u64le+header", Field::new(8).little().whole()),
];

/// The format of a length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Field {
    bytes: usize,
    little: bool,
    /// Whether the length counts its own bytes too.
    whole: bool,
}

impl Field {
    /// A big-endian length of this many bytes, at most 8.
    const fn new(bytes: usize) -> Self {
        Self {
            bytes,
            little: false,
            whole: false,
        }
    }

    pub(super) fn name(self) -> &'static str {
        let found = NAMED.iter().find(|it| it.1 == self);
        found.map_or("length", |it| it.0)
    }

    const fn little(mut self) -> Self {
        self.little = true;
        self
    }

    const fn whole(mut self) -> Self {
        self.whole = true;
        self
    }

    pub(super) const fn bytes(self) -> usize {
        self.bytes
    }

    /// The difference between the number on the wire and the size of the body.
    const fn added(self) -> usize {
        if self.whole { self.bytes } else { 0 }
    }

    /// The largest body whose length fits.
    pub(super) const fn most(self) -> usize {
        if self.bytes < size_of::<usize>() {
            (1 << (8 * self.bytes)) - 1 - self.added()
        } else {
            usize::MAX - self.added()
        }
    }

    fn number(self, header: &[u8]) -> u64 {
        let fold = |number, byte: &u8| number << 8 | u64::from(*byte);
        match self.little {
            true => header.iter().rev().fold(0, fold),
            false => header.iter().fold(0, fold),
        }
    }

    /// The size of a body with this header.
    fn body(self, header: &[u8]) -> Result<u64, FrameError> {
        let number = self.number(header);
        number
            .checked_sub(self.added() as u64)
            .ok_or_else(|| FrameError::Malformed {
                framing: self.name(),
                cause: format!(
                    "a length of {number} does not count its own {} bytes: does the peer count the \
                     body alone?",
                    self.bytes
                ),
            })
    }

    pub(super) fn find(self, src: &[u8], max: usize) -> io::Result<Find> {
        let Some(header) = src.get(..self.bytes) else {
            return Ok(Find::More);
        };
        let body = self.body(header)?;
        let Some(len) = usize::try_from(body).ok().filter(|len| *len <= max) else {
            let swapped = Self {
                little: !self.little,
                ..self
            };
            let swapped = swapped.body(header).ok().filter(|it| *it <= max as u64);
            return Err(FrameError::length_over(header, body, swapped, max));
        };
        let header = self.bytes;
        Ok(match src.len() - header < len {
            true => Find::Begun { header, len },
            false => Find::Frame {
                before: header,
                len,
                after: 0,
            },
        })
    }

    /// The least number of bytes that complete the frame that has begun.
    pub(super) fn missing(self, begun: &[u8]) -> usize {
        let Some(header) = begun.get(..self.bytes) else {
            return self.bytes - begun.len();
        };
        let body = self.body(header).unwrap_or(0);
        let len = usize::try_from(body).unwrap_or(usize::MAX);
        len.saturating_sub(begun.len() - self.bytes).max(1)
    }

    /// Appends the header of a body of `len` bytes, which fits.
    pub(super) fn put(self, len: usize, dst: &mut BytesMut) {
        let number = (len + self.added()) as u64;
        match self.little {
            true => dst.put_uint_le(number, self.bytes),
            false => dst.put_uint(number, self.bytes),
        }
    }
}
