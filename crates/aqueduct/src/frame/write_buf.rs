//! [`WriteBuf`]: encoded bytes on their way out.

use std::collections::VecDeque;
use std::fmt;
use std::io::IoSlice;

use bytes::{Buf, Bytes, BytesMut};

use super::pool::{self, STAYS};

/// How many pieces one vectored write takes at most. Linux takes 1,024 (`IOV_MAX`), but a write of
/// many pieces has small ones that are better copied together.
const MAX_SLICES: usize = 64;

/// How much memory for copied pieces is kept when everything has been written: 1 MiB, and its
/// framing.
const KEPT: usize = (1 << 20) + 4096;

/// Encoded bytes on their way out.
///
/// Small pieces are copied together, large ones kept by reference.
#[expect(unnameable_types, reason = "part of a sealed trait")]
pub struct WriteBuf {
    /// All small pieces, one behind the other. Nothing is taken off its front, so that the next
    /// encoded bytes lie where the last ones did: in the cache, and at the same offset into a page.
    tail: BytesMut,
    /// How many bytes of `tail` are written.
    sent: usize,
    /// Large pieces, each with the number of bytes of `tail` that precede it on the wire.
    large: VecDeque<(usize, Bytes)>,
    large_len: usize,
    /// Whether the transport supports vectored writes; otherwise large pieces are copied too.
    gather: bool,
    /// How much memory was given back when everything had been written.
    given_back: usize,
}

impl WriteBuf {
    pub(super) fn new(gather: bool) -> Self {
        Self {
            tail: BytesMut::new(),
            sent: 0,
            large: VecDeque::new(),
            large_len: 0,
            gather,
            given_back: 0,
        }
    }

    /// Whether [`take_memory`](Self::take_memory) is due before anything is encoded.
    #[inline]
    pub(super) fn has_no_memory(&self) -> bool {
        self.given_back > 0
    }

    /// Takes as much memory as was given back.
    #[cold]
    pub(super) fn take_memory(&mut self) {
        let size = std::mem::take(&mut self.given_back);
        if self.tail.capacity() < size {
            let used = pool::take(size).unwrap_or_else(|| BytesMut::with_capacity(size));
            let begun = std::mem::replace(&mut self.tail, used);
            self.tail.extend_from_slice(&begun);
        }
    }

    /// The buffer to encode small pieces into, behind its contents.
    #[inline]
    pub(super) fn tail(&mut self) -> &mut BytesMut {
        &mut self.tail
    }

    /// Appends a large piece, without a copy if the transport supports vectored writes.
    pub(super) fn put(&mut self, piece: Bytes) {
        if !self.gather {
            self.tail.extend_from_slice(&piece);
        } else if !piece.is_empty() {
            self.large_len += piece.len();
            self.large.push_back((self.tail.len(), piece));
        }
    }

    /// How many bytes wait to be written.
    #[inline]
    pub(super) fn len(&self) -> usize {
        self.large_len + self.tail.len() - self.sent
    }

    /// Whether nothing waits to be written.
    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The position of the buffer, to return to if an encoder fails.
    #[inline]
    pub(super) fn mark(&self) -> Mark {
        Mark {
            large: self.large.len(),
            tail: self.tail.len(),
        }
    }

    /// Drops everything that was appended since `mark`.
    #[cold]
    pub(super) fn rewind(&mut self, mark: Mark) {
        self.tail.truncate(mark.tail);
        for (_, piece) in self.large.drain(mark.large..) {
            self.large_len -= piece.len();
        }
        self.release();
    }

    /// Drops everything that waits to be written.
    pub(super) fn clear(&mut self) {
        *self = Self::new(self.gather);
    }

    /// Gives back memory that an idle end does not need, and frees what was allocated for something
    /// large, if nothing is in it.
    fn release(&mut self) {
        let size = self.tail.capacity();
        if !self.tail.is_empty() || size <= STAYS {
            return;
        }
        let tail = std::mem::take(&mut self.tail);
        if size <= KEPT {
            pool::give(tail, size);
            self.given_back = size;
        }
    }

    /// Fills `slices` with the bytes to write next, at most `limit` bytes; returns how many it
    /// filled.
    pub(super) fn slices<'a>(
        &'a self,
        slices: &mut [IoSlice<'a>; MAX_SLICES],
        limit: usize,
    ) -> usize {
        let mut from = self.sent;
        let mut pieces = self.large.iter().flat_map(|(at, piece)| {
            let small = &self.tail[from..*at];
            from = *at;
            [small, &piece[..]]
        });
        let mut left = limit;
        let mut filled = 0;
        let mut fill = |piece: &'a [u8]| {
            let piece = &piece[..piece.len().min(left)];
            if !piece.is_empty() && filled < MAX_SLICES {
                left -= piece.len();
                slices[filled] = IoSlice::new(piece);
                filled += 1;
            }
            left > 0 && filled < MAX_SLICES
        };
        if pieces.all(&mut fill) {
            let last = self.large.back().map_or(self.sent, |(at, _)| *at);
            fill(&self.tail[last..]);
        }
        filled
    }

    /// The same as [`slices`](Self::slices), with `piece` behind all that waits.
    pub(super) fn slices_before<'a>(
        &'a self,
        slices: &mut [IoSlice<'a>; MAX_SLICES],
        piece: &'a [u8],
        limit: usize,
    ) -> usize {
        let filled = self.slices(slices, limit);
        let room = limit.saturating_sub(self.len());
        if filled == MAX_SLICES || room == 0 {
            return filled;
        }
        slices[filled] = IoSlice::new(&piece[..piece.len().min(room)]);
        filled + 1
    }

    /// An array for [`slices`](Self::slices) to fill.
    pub(super) fn no_slices<'a>() -> [IoSlice<'a>; MAX_SLICES] {
        [IoSlice::new(&[]); MAX_SLICES]
    }

    /// The bytes to write next if they are one piece, at most `limit` of them. They need no
    /// vectored write.
    pub(super) fn single(&self, limit: usize) -> Option<&[u8]> {
        let Some((at, piece)) = self.large.front() else {
            let unsent = &self.tail[self.sent..];
            return Some(&unsent[..unsent.len().min(limit)]);
        };
        if self.sent < *at {
            return None;
        }
        piece.get(..limit)
    }

    /// Takes `n` bytes off the front: they are written.
    pub(super) fn advance(&mut self, mut n: usize) {
        while let Some((at, piece)) = self.large.front_mut() {
            let small = n.min(*at - self.sent);
            self.sent += small;
            n -= small;
            let step = n.min(piece.len());
            piece.advance(step);
            n -= step;
            self.large_len -= step;
            if !piece.is_empty() {
                return;
            }
            self.large.pop_front();
        }
        self.sent += n;
        if self.sent == self.tail.len() {
            self.sent = 0;
            self.tail.clear();
            self.release();
        }
    }

    /// Moves the rest to the front of its memory, if there is little: the next write begins there
    /// again. This also happens between large pieces; otherwise a stream that is never fully
    /// written would keep all its small ones.
    pub(super) fn compact(&mut self) {
        let left = self.tail.len() - self.sent;
        if self.sent > 0 && self.sent >= left {
            self.tail.copy_within(self.sent.., 0);
            self.tail.truncate(left);
            for (at, _) in &mut self.large {
                *at -= self.sent;
            }
            self.sent = 0;
        }
    }

    /// Takes everything that waits to be written, in wire order.
    pub(super) fn take(&mut self) -> BytesMut {
        let mut all = BytesMut::with_capacity(self.len());
        for (at, piece) in self.large.drain(..) {
            all.extend_from_slice(&self.tail[self.sent..at]);
            self.sent = at;
            all.extend_from_slice(&piece);
        }
        self.large_len = 0;
        all.extend_from_slice(&self.tail[self.sent..]);
        self.sent = 0;
        self.tail.clear();
        all
    }
}

impl fmt::Debug for WriteBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Its contents are messages: too long and too private for a log.
        f.debug_struct("WriteBuf")
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}

/// See [`WriteBuf::mark`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Mark {
    large: usize,
    pub(super) tail: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A peer that never takes all of a stream of alternating small and large pieces.
    #[test]
    fn a_buffer_that_never_empties_keeps_order_and_holds_no_memory() {
        let mut buf = WriteBuf::new(true);
        let mut bytes = (0_u8..251).cycle();
        let mut written = (0_u8..251).cycle();
        for _ in 0..500 {
            buf.tail().extend(bytes.by_ref().take(1000));
            buf.put(bytes.by_ref().take(40_000).collect());
            while buf.len() > 64 * 1024 {
                let mut slices = WriteBuf::no_slices();
                let filled = buf.slices(&mut slices, 30_000);
                let n = slices[..filled].iter().map(|it| it.len()).sum();
                for slice in &slices[..filled] {
                    assert!(slice.iter().all(|it| written.next() == Some(*it)));
                }
                buf.advance(n);
            }
            buf.compact();
            assert!(buf.tail.capacity() < 64 * 1024, "{}", buf.tail.capacity());
        }
        assert!(buf.take().iter().all(|it| written.next() == Some(*it)));
    }

    #[test]
    fn memory_of_one_copied_mebibyte_is_kept_and_more_is_not() {
        for (body, is_kept) in [(1 << 20, true), (1 << 21, false)] {
            let mut buf = WriteBuf::new(true);
            for turn in 0..2 {
                if buf.has_no_memory() {
                    buf.take_memory();
                }
                assert_eq!(buf.tail().capacity() >= 4 + body, is_kept && turn == 1);
                buf.tail().reserve(4 + body);
                buf.tail().resize(4 + body, 7);
                buf.advance(4 + body);
                // An idle end holds none.
                assert_eq!(buf.tail().capacity(), 0);
            }
        }
    }

    #[test]
    fn little_memory_stays_where_it_is() {
        let mut buf = WriteBuf::new(true);
        buf.tail().extend_from_slice(&[7; STAYS]);
        let place = buf.tail().as_ptr();
        buf.advance(STAYS);
        assert!(!buf.has_no_memory());
        assert_eq!(buf.tail().as_ptr(), place);
    }
}
