//! [`Hello`]: what each side says first over the socket, and the descriptors that come with it.

use super::error::PeerError;
use super::ring::{SMALLEST, START};

/// How many bytes a hello has.
pub(super) const LEN: usize = 32;

/// How many descriptors come with a hello of a side that has memory: the memory and the bell.
pub(super) const DESCRIPTORS: usize = 2;

const MAGIC: [u8; 8] = *b"\0aq-shm\n";
const VERSION: u16 = 1;

/// The side passes its memory and its bell.
const MEMORY: u16 = 1;
/// The side goes on over the socket if one of the two has no memory.
const FALLBACK: u16 = 2;

/// The side takes descriptors that are passed later, or closes them.
const TAKES: u32 = 1;

/// What one side says of itself. On the wire, in little-endian order:
///
/// | offset | |
/// |---|---|
/// | 0 | magic |
/// | 8 | version, 16 bits |
/// | 10 | flags, 16 bits: 1 memory, 2 fallback |
/// | 12 | features, 32 bits: 1 takes descriptors; unknown ones are ignored |
/// | 16 | the largest ring that this side reads, 64 bits |
/// | 24 | 0 |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Hello {
    pub(super) memory: bool,
    pub(super) fallback: bool,
    /// It takes descriptors.
    pub(super) takes: bool,
    /// The largest ring that the side reads.
    pub(super) reads: u64,
}

impl Hello {
    pub(super) fn encode(&self) -> [u8; LEN] {
        let flags = if self.memory { MEMORY } else { 0 } | if self.fallback { FALLBACK } else { 0 };
        let mut wire = [0; LEN];
        wire[..8].copy_from_slice(&MAGIC);
        wire[8..10].copy_from_slice(&VERSION.to_le_bytes());
        wire[10..12].copy_from_slice(&flags.to_le_bytes());
        let features = if self.takes { TAKES } else { 0 };
        wire[12..16].copy_from_slice(&features.to_le_bytes());
        wire[16..24].copy_from_slice(&self.reads.to_le_bytes());
        wire
    }

    /// Parses a hello, or as much of it as has come; `None`: more is to come.
    pub(super) fn parse(wire: &[u8]) -> Result<Option<Self>, PeerError> {
        let first = wire.len().min(MAGIC.len());
        if wire[..first] != MAGIC[..first] {
            return Err(PeerError::Magic);
        }
        let Some((wire, _)) = wire.split_first_chunk::<LEN>() else {
            return Ok(None);
        };
        let [_, _, _, _, _, _, _, _, v0, v1, f0, f1, a, b, c, d, ..] = *wire;
        let theirs = u16::from_le_bytes([v0, v1]);
        if theirs != VERSION {
            let ours = VERSION;
            return Err(PeerError::Version { theirs, ours });
        }
        let flags = u16::from_le_bytes([f0, f1]);
        let [.., r0, r1, r2, r3, r4, r5, r6, r7, _, _, _, _, _, _, _, _] = *wire;
        let reads = u64::from_le_bytes([r0, r1, r2, r3, r4, r5, r6, r7]);
        // What it has not seen yet may be a ring of the first size.
        if !reads.is_power_of_two() || reads < START.max(SMALLEST) {
            return Err(PeerError::Hello(
                "the largest ring that it reads is no such size",
            ));
        }
        Ok(Some(Self {
            memory: flags & MEMORY != 0,
            fallback: flags & FALLBACK != 0,
            takes: u32::from_le_bytes([a, b, c, d]) & TAKES != 0,
            reads,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HELLO: Hello = Hello {
        memory: true,
        fallback: false,
        takes: true,
        reads: 1 << 20,
    };

    #[test]
    fn a_hello_parses_once_all_of_it_has_come() {
        for hello in [
            HELLO,
            Hello {
                memory: false,
                fallback: true,
                takes: false,
                reads: START,
            },
        ] {
            let wire = hello.encode();
            for len in 0..LEN {
                assert_eq!(Hello::parse(&wire[..len]), Ok(None));
            }
            assert_eq!(Hello::parse(&wire), Ok(Some(hello)));
        }
    }

    #[test]
    fn other_bytes_are_refused_at_the_first_difference() {
        assert_eq!(Hello::parse(b"h"), Err(PeerError::Magic));
        assert_eq!(Hello::parse(b"\0aq-shn"), Err(PeerError::Magic));
        let mut wire = HELLO.encode();
        wire[8] = 2;
        let version = PeerError::Version { theirs: 2, ours: 1 };
        assert_eq!(Hello::parse(&wire), Err(version));
        for reads in [0, 4096, (1 << 20) + 1, u64::MAX] {
            let wire = Hello { reads, ..HELLO }.encode();
            assert!(
                matches!(Hello::parse(&wire), Err(PeerError::Hello(_))),
                "{reads}"
            );
        }
    }
}
