//! The end of a recording: a torn record, or a whole one whose length was damaged.

use super::{FACTS, PREFIX, prefix};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tail {
    /// The first part of one record and no more: it may be torn.
    Torn,
    /// More than that may be there.
    Damaged,
}

/// Judges the bytes after the length of the last record, which announces more than there is.
///
/// They are more than a torn record if they would be a whole one with a smaller length, or if a
/// valid record begins anywhere in them. A damaged length hides one of these.
pub(super) fn judge(crc: u32, rest: &[u8]) -> Tail {
    if is_shorter(crc, rest) || holds_record(rest) {
        return Tail::Damaged;
    }
    Tail::Torn
}

/// Whether the check fits a length that is smaller than the recorded one.
fn is_shorter(crc: u32, rest: &[u8]) -> bool {
    let mut so_far = crc32fast::Hasher::new();
    so_far.update(&rest[..rest.len().min(FACTS)]);
    for length in FACTS..=rest.len() {
        if length > FACTS {
            so_far.update(&rest[length - 1..length]);
        }
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&(length as u32).to_le_bytes());
        hasher.combine(&so_far);
        if hasher.finalize() == crc {
            return true;
        }
    }
    false
}

/// Whether a valid record begins somewhere in `rest` and ends in it.
fn holds_record(rest: &[u8]) -> bool {
    // The checks of all beginnings, so that the check of any part costs the same.
    let mut sums = None;
    (0..rest.len().saturating_sub(PREFIX + FACTS - 1)).any(|at| {
        let Some((crc, length)) = prefix(&rest[at..]) else {
            return false;
        };
        let length = length as usize;
        let end = at + PREFIX + length;
        if length < FACTS || end > rest.len() {
            return false;
        }
        let sums = sums.get_or_insert_with(|| beginnings(rest));
        part(sums, at + 4, end) == crc
    })
}

/// The check of each beginning of `bytes`, the empty one first.
fn beginnings(bytes: &[u8]) -> Vec<u32> {
    let mut hasher = crc32fast::Hasher::new();
    let mut sums = vec![hasher.clone().finalize()];
    for at in 0..bytes.len() {
        hasher.update(&bytes[at..=at]);
        sums.push(hasher.clone().finalize());
    }
    sums
}

/// The check of `from..to`, computed from those of the beginnings.
fn part(sums: &[u32], from: usize, to: usize) -> u32 {
    let len = (to - from) as u64;
    let mut shifted = crc32fast::Hasher::new_with_initial(sums[from]);
    // Combined with a part whose check is zero, the difference is left.
    shifted.combine(&crc32fast::Hasher::new_with_initial_len(0, len));
    shifted.finalize() ^ sums[to]
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use bytes::BytesMut;
    use proptest::prelude::*;

    use super::*;
    use crate::record::encode;

    fn record(body: &[u8]) -> BytesMut {
        let mut record = BytesMut::new();
        let message = bytes::Bytes::copy_from_slice(body).into();
        encode(SystemTime::now(), &message, &mut record).unwrap();
        record
    }

    /// The bytes after the length of a record, and its check.
    fn judged(tail: &[u8]) -> Tail {
        let (crc, _) = prefix(tail).unwrap();
        judge(crc, &tail[PREFIX..])
    }

    proptest! {
        #[test]
        fn the_check_of_a_part_is_that_of_its_bytes(
            bytes in proptest::collection::vec(any::<u8>(), 0..300),
            a in 0..300_usize,
            b in 0..300_usize,
        ) {
            let (a, b) = (a.min(bytes.len()), b.min(bytes.len()));
            let (from, to) = (a.min(b), a.max(b));
            let sums = beginnings(&bytes);
            prop_assert_eq!(part(&sums, from, to), crc32fast::hash(&bytes[from..to]));
        }

        #[test]
        fn a_record_cut_anywhere_is_torn(
            body in proptest::collection::vec(any::<u8>(), 0..300),
            cut in 0..300_usize,
        ) {
            let record = record(&body);
            let cut = (PREFIX + cut).min(record.len() - 1);
            prop_assert_eq!(judged(&record[..cut]), Tail::Torn);
        }

        #[test]
        fn a_larger_length_is_damage_whatever_follows(
            bodies in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..50), 1..4),
            bit in 0..24_u32,
        ) {
            let mut tail = BytesMut::new();
            for body in &bodies {
                tail.extend_from_slice(&record(body));
            }
            let (_, length) = prefix(&tail).unwrap();
            let larger = length ^ (1 << bit);
            if larger as usize > tail.len() - PREFIX {
                tail[4..8].copy_from_slice(&larger.to_le_bytes());
                prop_assert_eq!(judged(&tail), Tail::Damaged);
            }
        }
    }
}
