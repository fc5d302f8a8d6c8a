//! The frames of the handshake: what parses prints as the very same bytes.
#![no_main]

use aqueduct::handshake::{Hello, MAX_HELLO, VERSION, Verdict};
use aqueduct_fuzz::{Meter, most};
use libfuzzer_sys::fuzz_target;

#[global_allocator]
static METER: Meter = Meter;

fuzz_target!(|frame: &[u8]| {
    let (hello, used) = most(|| Hello::parse(frame));
    assert!(used <= MAX_HELLO, "{used} bytes in use");
    match hello {
        Ok(hello) if hello.version() == VERSION => {
            assert_eq!(hello.to_string().as_bytes(), frame);
        }
        Ok(hello) => assert_eq!(hello.codec(), None),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    let (verdict, used) = most(|| Verdict::parse(frame));
    assert_eq!(used, 0);
    if let Ok(verdict) = verdict {
        // The version of a verdict does not matter.
        let printed = verdict.to_string();
        let tail = printed.split_once(' ').map(|it| it.1.as_bytes());
        assert!(tail.is_some_and(|it| frame.ends_with(it)));
    }
});
