//! Shared memory: a hello that parses is encoded as the same bytes, and words of a peer end in a typed
//! error, within the ring and within a fixed amount of memory.
#![no_main]

use aqueduct::fuzzing::{shm_hello, shm_ring};
use aqueduct::shm::PeerError;
use aqueduct_fuzz::{Meter, most};
use libfuzzer_sys::fuzz_target;

#[global_allocator]
static METER: Meter = Meter;

/// A copy of one read, and an error.
const MOST: usize = 64 * 1024;

fuzz_target!(|input: &[u8]| {
    match shm_hello(input) {
        Ok(Some(wire)) => {
            // Unknown flags and features are not kept.
            assert_eq!(wire[..10], input[..10]);
            assert_eq!(wire[16..24], input[16..24]);
        }
        Ok(None) => assert!(input.len() < 32),
        Err(error) => assert!(!error.is_empty()),
    }
    let Some((capacity, words)) = input.split_first() else {
        return;
    };
    // Two bytes are a small step, so that plausible values are found; eight are any value.
    let mut words = words;
    let mut values = Vec::new();
    let mut last = 0_u64;
    while let [kind, rest @ ..] = words {
        let (value, rest) = match (kind % 4, rest) {
            (0, [a, b, rest @ ..]) => (
                last.wrapping_add(u64::from(u16::from_le_bytes([*a, *b]))),
                rest,
            ),
            (1, [shift, rest @ ..]) => (1_u64 << (shift % 64), rest),
            (2, [a, b, c, d, e, f, g, h, rest @ ..]) => {
                (u64::from_le_bytes([*a, *b, *c, *d, *e, *f, *g, *h]), rest)
            }
            (_, rest) => (0, rest),
        };
        last = value;
        values.push(value);
        words = rest;
    }
    let ((_, error), used) = most(|| shm_ring(&values, u32::from(*capacity)));
    assert!(used <= MOST, "{used} bytes in use");
    if let Some(error) = error {
        let gone = error.kind() == std::io::ErrorKind::BrokenPipe;
        assert!(gone || PeerError::of(&error).is_some(), "{error:?}");
    }
});
