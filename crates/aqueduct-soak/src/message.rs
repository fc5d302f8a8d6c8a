//! Numbered messages with a checksum, of sizes that both sides can work out.
//!
//! They are printable, so that they are lines too.

use std::array;
use std::fmt::Write;

use bytes::{BufMut, Bytes, BytesMut};

/// Sender, number and checksum, in hexadecimal.
pub(crate) const HEADER: usize = 32;

/// Where the checksum begins.
const SUM: usize = 24;

/// Message `number` of `sender`, of `size` bytes (at least [`HEADER`]).
pub(crate) fn make(sender: u32, number: u64, size: usize) -> Bytes {
    let mut message = BytesMut::with_capacity(size.max(HEADER));
    // Writing to memory does not fail.
    let _ = write!(message, "{sender:08x}{number:016x}{:08x}", 0);
    let filler = (number as u8).wrapping_mul(31) ^ sender as u8;
    // Not the same byte throughout: a piece that is missing or moved changes the checksum.
    let filler: [u8; 251] = array::from_fn(|at| b' ' + filler.wrapping_add(at as u8) % 95);
    while message.len() < size {
        let more = filler.len().min(size - message.len());
        message.put_slice(&filler[..more]);
    }
    let checksum = format!("{:08x}", checksum(&message));
    message[SUM..HEADER].copy_from_slice(checksum.as_bytes());
    message.freeze()
}

/// The sender and the number of a message that is whole.
pub(crate) fn read(message: &[u8]) -> Option<(u32, u64)> {
    let (sender, number, sum) = header(message)?;
    (sum == checksum(message)).then_some((sender, number))
}

/// The number that the first bytes of a message say.
pub(crate) fn number(head: &[u8]) -> Option<u64> {
    header(head).map(|(_, number, _)| number)
}

fn header(message: &[u8]) -> Option<(u32, u64, u32)> {
    let header = std::str::from_utf8(message.get(..HEADER)?).ok()?;
    let sender = u32::from_str_radix(&header[..8], 16).ok()?;
    let number = u64::from_str_radix(&header[8..SUM], 16).ok()?;
    let sum = u32::from_str_radix(&header[SUM..], 16).ok()?;
    Some((sender, number, sum))
}

/// Of all but the checksum itself, and of the length.
fn checksum(message: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&message[..SUM]);
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
