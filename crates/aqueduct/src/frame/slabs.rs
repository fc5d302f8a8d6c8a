//! [`Slabs`]: small frames copied side by side, without an allocation for each.

use std::ops::Range;

use bytes::{Bytes, BytesMut};

use super::pool::{self, STAYS};

/// Frames below this size, in bytes, are copied; larger ones are passed by reference: 16 KiB.
pub(crate) const COPY_BELOW: usize = 16 * 1024;

/// Frames up to the first size share memory of the second size. So one frame that is kept holds at
/// most that much, and never more than 32 times its size, or 1 KiB.
const CLASSES: [(usize, usize); 4] = [
    (128, SMALLEST),
    (1024, 4096),
    (4096, 16 * 1024),
    (COPY_BELOW, 32 * 1024),
];

/// Memory that any frame may share, however small.
const SMALLEST: usize = 1024;

/// Memory that small frames are copied into. It is reused as soon as all frames in it have been
/// dropped; a frame that is kept keeps only the little memory it shares.
#[derive(Debug, Default)]
pub(crate) struct Slabs {
    memory: [Option<BytesMut>; CLASSES.len()],
    /// A copy of the frames behind the first of several very small ones, split as they are asked
    /// for: one copy instead of many.
    run: Bytes,
    /// Where in the read buffer the copy was taken.
    run_at: usize,
}

impl Slabs {
    /// Copies the frame at `range` of `read`, which is smaller than [`COPY_BELOW`]. The bytes
    /// behind it must not change before [`forget`](Self::forget).
    #[inline]
    pub(super) fn copy(&mut self, read: &[u8], range: Range<usize>) -> Bytes {
        if range.start >= self.run_at && range.end <= self.run_at + self.run.len() {
            return self
                .run
                .slice(range.start - self.run_at..range.end - self.run_at);
        }
        self.copy_more(read, range)
    }

    /// Copies a frame that nothing follows.
    pub(crate) fn copy_one(&mut self, frame: &[u8]) -> Bytes {
        self.forget();
        self.copy(frame, 0..frame.len())
    }

    /// Gives back memory that an idle end does not need.
    pub(super) fn give_back(&mut self) {
        self.forget();
        for (slab, (_, size)) in self.memory.iter_mut().zip(CLASSES) {
            if size > STAYS
                && let Some(slab) = slab.take()
            {
                pool::give(slab, size);
            }
        }
    }

    /// The read buffer is about to change.
    pub(super) fn forget(&mut self) {
        self.run = Bytes::new();
    }

    #[inline(never)]
    fn copy_more(&mut self, read: &[u8], range: Range<usize>) -> Bytes {
        self.forget();
        let len = range.len();
        if len == 0 {
            return Bytes::new();
        }
        let Some(class) = CLASSES.iter().position(|(max, _)| len <= *max) else {
            return Bytes::copy_from_slice(&read[range]);
        };
        let (_, size) = CLASSES[class];
        let slab = self.memory[class].get_or_insert_default();
        if slab.capacity() < len && !slab.try_reclaim(len) {
            let used = if size > STAYS { pool::take(size) } else { None };
            *slab = used.unwrap_or_else(|| BytesMut::with_capacity(size));
        }
        let mut end = range.end;
        if size == SMALLEST {
            end = read.len().min(range.start + slab.capacity());
        }
        slab.extend_from_slice(&read[range.start..end]);
        let copied = slab.split().freeze();
        if end == range.end {
            return copied;
        }
        let frame = copied.slice(..len);
        self.run = copied;
        self.run_at = range.start;
        frame
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_used_again_once_its_frames_are_gone() {
        let mut slabs = Slabs::default();
        for (max, size) in CLASSES {
            let mut places = std::collections::HashSet::new();
            for _ in 0..1000 {
                places.insert(slabs.copy_one(&vec![7; max - 1]).as_ptr() as usize / size);
            }
            // One block spans at most two aligned ones.
            assert!(places.len() <= 2, "{places:?}");
        }
    }

    #[test]
    fn frames_of_every_size_are_what_they_were() {
        let mut slabs = Slabs::default();
        let mut kept = Vec::new();
        for len in (0..300).chain([1023, 1024, 1025, 4096, 4097, COPY_BELOW - 1]) {
            let body = vec![len as u8; len];
            kept.push((slabs.copy_one(&body), body));
        }
        for (frame, body) in kept {
            assert_eq!(frame, body);
        }
    }

    #[test]
    fn frames_that_came_together_are_what_they_were() {
        let mut slabs = Slabs::default();
        for turn in 0..3 {
            let mut read = Vec::new();
            let mut ranges = Vec::new();
            for len in (0..300)
                .chain([1, 5000, 0, 60, 60, 900, 60])
                .chain(120..140)
            {
                read.extend_from_slice(&[0; 4]);
                ranges.push(read.len()..read.len() + len);
                read.extend((0..len).map(|at| (at + len + turn) as u8));
            }
            slabs.forget();
            let frames: Vec<Bytes> = ranges
                .iter()
                .map(|range| slabs.copy(&read, range.clone()))
                .collect();
            for (frame, range) in frames.iter().zip(ranges) {
                assert_eq!(frame, &read[range]);
            }
        }
    }

    #[test]
    fn frames_that_came_together_share_memory_that_is_used_again() {
        let mut slabs = Slabs::default();
        let read = vec![7; 68 * 100];
        let mut places = std::collections::HashSet::new();
        for _ in 0..10 {
            slabs.forget();
            for i in 0..100 {
                let frame = slabs.copy(&read, i * 68 + 4..(i + 1) * 68);
                places.insert(frame.as_ptr() as usize / SMALLEST);
            }
        }
        assert!(places.len() <= 2, "{places:?}");
    }

    #[test]
    fn a_kept_frame_keeps_at_most_a_kibibyte_or_32_times_its_size() {
        let mut from = 1;
        for (max, size) in CLASSES {
            assert!(size <= (32 * from).max(SMALLEST), "{max}");
            from = max + 1;
        }
    }
}
