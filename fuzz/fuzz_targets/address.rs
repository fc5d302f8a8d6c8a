//! Addresses: no text makes the parser panic, and what it takes is printed as one printable line
//! that parses to the same endpoint.
#![no_main]

use aqueduct::Endpoint;
use aqueduct_fuzz::{Meter, most};
use libfuzzer_sys::fuzz_target;

#[global_allocator]
static METER: Meter = Meter;

fuzz_target!(|text: &str| {
    let (parsed, used) = most(|| text.parse::<Endpoint>());
    // A command of one-letter words is a list of strings, each with memory of its own, and the list
    // doubles as it grows.
    let bound = 64 * text.len() + 4096;
    assert!(used <= bound, "{used} bytes in use, {bound} allowed");
    match parsed {
        Ok(endpoint) => {
            let printed = endpoint.to_string();
            assert!(
                !printed.chars().any(char::is_control),
                "{printed:?} can be printed"
            );
            let again = printed.parse::<Endpoint>();
            assert_eq!(again.as_ref(), Ok(&endpoint), "of {printed:?}");
            assert_eq!(endpoint.to_string(), printed);
        }
        Err(error) => {
            let said = error.to_string();
            assert!(
                !said.is_empty() && !said.chars().any(char::is_control),
                "{said:?}"
            );
        }
    }
});
