//! [`Slabs`]: small frames copied side by side, without an allocation for each.

use bytes::{Bytes, BytesMut};

use super::COPY_BELOW;

/// Frames up to this size share memory of that size: what one frame that is kept can hold back is
/// the second number, and never more than 32 times its own size, or 1 KiB.
const CLASSES: [(usize, usize); 4] = [
    (128, 1024),
    (1024, 4096),
    (4096, 16 * 1024),
    (COPY_BELOW, 32 * 1024),
];

/// Memory that small frames are copied into. It is used again as soon as all frames in it have been
/// dropped; a frame that is kept keeps only the little it shares memory with.
#[derive(Default)]
pub(super) struct Slabs([BytesMut; CLASSES.len()]);

impl Slabs {
    /// Copies `frame`, which is smaller than [`COPY_BELOW`].
    pub(super) fn copy(&mut self, frame: &[u8]) -> Bytes {
        if frame.is_empty() {
            return Bytes::new();
        }
        let class = CLASSES.iter().position(|(max, _)| frame.len() <= *max);
        let Some((slab, (_, size))) = class.map(|i| (&mut self.0[i], CLASSES[i])) else {
            return Bytes::copy_from_slice(frame);
        };
        if slab.capacity() < frame.len() && !slab.try_reclaim(frame.len()) {
            *slab = BytesMut::with_capacity(size);
        }
        slab.extend_from_slice(frame);
        slab.split().freeze()
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
                places.insert(slabs.copy(&vec![7; max - 1]).as_ptr() as usize / size);
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
            kept.push((slabs.copy(&body), body));
        }
        for (frame, body) in kept {
            assert_eq!(frame, body);
        }
    }

    #[test]
    fn a_kept_frame_keeps_at_most_a_kibibyte_or_32_times_its_size() {
        let mut from = 1;
        for (max, size) in CLASSES {
            assert!(size <= (32 * from).max(1024), "{max}");
            from = max + 1;
        }
    }
}
