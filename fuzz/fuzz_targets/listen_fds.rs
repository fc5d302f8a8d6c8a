//! `LISTEN_PID` and `LISTEN_FDS`: a number of descriptors that can exist, or nothing.
#![no_main]

use aqueduct::fuzzing::listen_fds;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (&str, &str, u32)| {
    let (pid, count, own) = input;
    for pid in [pid, &own.to_string()] {
        if let Some(descriptors) = listen_fds(Some(pid), Some(count), own) {
            assert_eq!(pid.parse(), Ok(own), "they are for this process");
            assert_eq!(count.parse(), Ok(descriptors));
            assert!((0..=4096).contains(&descriptors));
        }
        assert_eq!(listen_fds(Some(pid), None, own), None);
        assert_eq!(listen_fds(None, Some(count), own), None);
    }
});
