//! The frames of the handshake: what parses prints as the very same bytes.
#![no_main]

use aqueduct::fuzzing::{hello, verdict};
use aqueduct_fuzz::{Meter, most};
use libfuzzer_sys::fuzz_target;

#[global_allocator]
static METER: Meter = Meter;

/// A hello, printed again, and what is wrong with one.
const MOST: usize = 1024;

fuzz_target!(|frame: &[u8]| {
    let (hello, used) = most(|| hello(frame));
    assert!(used <= MOST, "{used} bytes in use");
    match hello {
        Ok(Some(printed)) => assert_eq!(printed.as_bytes(), frame),
        Ok(None) => {}
        Err(error) => assert!(!error.is_empty()),
    }
    if let Some(printed) = verdict(frame) {
        // The version of a verdict does not matter.
        let tail = printed.split_once(' ').map(|it| it.1.as_bytes());
        assert!(tail.is_some_and(|it| frame.ends_with(it)));
    }
});
