use std::collections::VecDeque;
use std::fmt;
use std::io::IoSlice;

use bytes::{Buf, Bytes, BytesMut};

/// How many pieces one gathering write takes at most; Linux takes 1,024 (`IOV_MAX`), but a write
/// of many pieces holds small ones that are better copied together.
const MAX_SLICES: usize = 64;

/// Encoded bytes on their way out: small pieces copied together, large ones by reference.
///
/// In wire order: all of `sealed`, then `tail`.
pub struct WriteBuf {
    sealed: VecDeque<Bytes>,
    sealed_len: usize,
    tail: BytesMut,
    /// Whether the transport gathers; where it does not, large pieces are copied too.
    gather: bool,
}

impl WriteBuf {
    pub(super) fn new(gather: bool) -> Self {
        Self {
            sealed: VecDeque::new(),
            sealed_len: 0,
            tail: BytesMut::new(),
            gather,
        }
    }

    /// The buffer to encode small pieces into, behind all that is there.
    pub fn tail(&mut self) -> &mut BytesMut {
        &mut self.tail
    }

    /// Appends a large piece, without a copy where the transport gathers.
    pub fn put(&mut self, piece: Bytes) {
        if !self.gather {
            self.tail.extend_from_slice(&piece);
            return;
        }
        if !self.tail.is_empty() {
            let small = self.tail.split().freeze();
            self.seal(small);
        }
        if !piece.is_empty() {
            self.seal(piece);
        }
    }

    /// How many bytes wait to be written.
    pub fn len(&self) -> usize {
        self.sealed_len + self.tail.len()
    }

    /// Whether nothing waits to be written.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn seal(&mut self, piece: Bytes) {
        self.sealed_len += piece.len();
        self.sealed.push_back(piece);
    }

    /// Where the buffer stands, to go back to if an encoder fails.
    pub(super) fn mark(&self) -> Mark {
        Mark {
            sealed: self.sealed.len(),
            tail: self.tail.len(),
        }
    }

    /// Drops all that was appended since `mark`.
    pub(super) fn rewind(&mut self, mark: Mark) {
        if self.sealed.len() == mark.sealed {
            self.tail.truncate(mark.tail);
            return;
        }
        // The tail as it was then is now the front of the first piece sealed since.
        self.tail.clear();
        let since = self.sealed.split_off(mark.sealed);
        self.sealed_len -= since.iter().map(Bytes::len).sum::<usize>();
        if let Some(first) = since.front() {
            self.tail.extend_from_slice(&first[..mark.tail]);
        }
    }

    /// Fills `slices` with what to write next, at most `limit` bytes; returns how many it filled.
    pub(super) fn slices<'a>(
        &'a self,
        slices: &mut [IoSlice<'a>; MAX_SLICES],
        limit: usize,
    ) -> usize {
        let pieces = self
            .sealed
            .iter()
            .map(AsRef::as_ref)
            .chain([&self.tail[..]]);
        let mut left = limit;
        let mut filled = 0;
        for (slot, piece) in slices.iter_mut().zip(pieces) {
            if piece.is_empty() || left == 0 {
                break;
            }
            let piece = &piece[..piece.len().min(left)];
            left -= piece.len();
            *slot = IoSlice::new(piece);
            filled += 1;
        }
        filled
    }

    /// An array for [`slices`](Self::slices) to fill.
    pub(super) fn no_slices<'a>() -> [IoSlice<'a>; MAX_SLICES] {
        [IoSlice::new(&[]); MAX_SLICES]
    }

    /// The bytes to write next if they are one piece, at most `limit` of them.
    pub(super) fn single(&self, limit: usize) -> Option<&[u8]> {
        self.sealed
            .is_empty()
            .then(|| &self.tail[..self.tail.len().min(limit)])
    }

    /// Takes `n` bytes off the front: they are written.
    pub(super) fn advance(&mut self, mut n: usize) {
        while let Some(piece) = self.sealed.front_mut() {
            let step = n.min(piece.len());
            piece.advance(step);
            n -= step;
            self.sealed_len -= step;
            if !piece.is_empty() {
                return;
            }
            self.sealed.pop_front();
        }
        self.tail.advance(n);
    }

    /// All that waits to be written, in wire order; nothing waits afterwards.
    pub(super) fn take(&mut self) -> BytesMut {
        let mut all = BytesMut::with_capacity(self.len());
        for piece in self.sealed.drain(..) {
            all.extend_from_slice(&piece);
        }
        self.sealed_len = 0;
        all.unsplit(self.tail.split());
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
    sealed: usize,
    tail: usize,
}
