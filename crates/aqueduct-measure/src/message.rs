//! The messages that are moved.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// What the last eight bytes differ from the first by.
pub(crate) const TAIL: u64 = 0x5eed_0fa1_1b0d_1e55;
/// The message that ends the warm-up.
pub(crate) const START: u64 = 1 << 56;
/// The last message.
pub(crate) const LAST: u64 = 2 << 56;

/// The smallest message that can be verified.
pub const MIN_SIZE: usize = 16;

/// One prepared message, as bytes and as a value.
#[derive(Debug)]
pub struct Message {
    /// The body, for cases that move bytes.
    pub bytes: Bytes,
    /// The value, for cases that move values of a type.
    pub item: Item,
}

/// A value of 64 bytes, for the cases that serialise.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Item {
    /// Its place in the sequence.
    pub head: u64,
    /// A time in nanoseconds.
    pub time: u64,
    /// A place.
    pub position: [f64; 3],
    /// A speed.
    pub speed: f32,
    /// Bits.
    pub flags: u32,
    /// Who.
    pub id: u64,
    /// Follows from `head`.
    pub tail: u64,
}

impl Item {
    fn new(head: u64) -> Self {
        Self {
            head,
            time: 1_764_054_000_123_456_789,
            position: [47.376_887, 8.541_694, 408.25 + head as f64],
            speed: 13.5,
            flags: 0x00ff_00aa,
            id: 9_007_199_254_740_993,
            tail: head ^ TAIL,
        }
    }
}

/// Messages that are sent in turn, over and over, and the two that mark the phases.
#[derive(Debug)]
pub struct Ring {
    messages: Vec<Message>,
    start: Message,
    last: Message,
}

impl Ring {
    /// Prepares messages of `size` bytes, which live as long as the process.
    ///
    /// There are eight of them, four of a large size: more than one, so that no case gains from
    /// sending the same memory again, and few enough for a cache.
    pub fn new(size: usize) -> &'static Self {
        let size = size.max(MIN_SIZE);
        let count = if size > 256 << 10 { 4 } else { 8 };
        let ring = Self {
            messages: (0..count).map(|head| message(size, head)).collect(),
            start: message(size, START),
            last: message(size, LAST),
        };
        Box::leak(Box::new(ring))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.messages.len()
    }

    /// Never.
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// The message at a place in the ring.
    pub fn get(&self, index: usize) -> &Message {
        &self.messages[index]
    }

    pub(crate) fn start(&self) -> &Message {
        &self.start
    }

    pub(crate) fn last(&self) -> &Message {
        &self.last
    }
}

fn message(size: usize, head: u64) -> Message {
    let mut body: Vec<u8> = (0..size)
        .map(|at| (at as u64).wrapping_mul(31).wrapping_add(head * 7) as u8)
        .collect();
    body[..8].copy_from_slice(&head.to_le_bytes());
    body[size - 8..].copy_from_slice(&(head ^ TAIL).to_le_bytes());
    Message {
        bytes: body.into(),
        item: Item::new(head),
    }
}
