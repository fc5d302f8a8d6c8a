//! Numbered messages with a checksum, of sizes that both sides can work out.

use bytes::{BufMut, Bytes, BytesMut};

/// Sender, number and checksum.
pub(crate) const HEADER: usize = 16;

/// Message `number` of `sender`, of `size` bytes (at least [`HEADER`]).
pub(crate) fn make(sender: u32, number: u64, size: usize) -> Bytes {
    let mut message = BytesMut::with_capacity(size.max(HEADER));
    message.put_u32(sender);
    message.put_u64(number);
    message.put_u32(0);
    let filler = (number as u8).wrapping_mul(31) ^ sender as u8;
    while message.len() < size {
        // Not the same byte throughout: a piece that is missing or moved changes the checksum.
        message.put_u8(filler.wrapping_add((message.len() % 251) as u8));
    }
    let checksum = checksum(&message);
    message[12..HEADER].copy_from_slice(&checksum.to_be_bytes());
    message.freeze()
}

/// The sender and the number of a message that is whole.
pub(crate) fn read(message: &[u8]) -> Option<(u32, u64)> {
    let (sender, rest) = message.split_first_chunk()?;
    let (number, rest) = rest.split_first_chunk()?;
    let (sum, _) = rest.split_first_chunk()?;
    let whole = u32::from_be_bytes(*sum) == checksum(message);
    whole.then(|| (u32::from_be_bytes(*sender), u64::from_be_bytes(*number)))
}

/// Of all but the checksum itself, and of the length.
fn checksum(message: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&message[..12]);
    hasher.update(&message[HEADER..]);
    hasher.update(&(message.len() as u64).to_be_bytes());
    hasher.finalize()
}

/// How large messages are.
#[derive(Clone, Copy, Debug, serde::Serialize, serde::Deserialize)]
pub(crate) struct Sizes {
    /// Nearly all messages are smaller than this.
    pub(crate) usual: usize,
    /// One in a hundred is up to this large.
    pub(crate) largest: usize,
}

impl Sizes {
    pub(crate) fn of(self, sender: u32, number: u64) -> usize {
        let mut random = fastrand::Rng::with_seed(number << 20 ^ u64::from(sender));
        let up_to = if random.u8(..100) == 0 {
            self.largest
        } else {
            self.usual
        };
        random.usize(HEADER..=up_to)
    }
}
