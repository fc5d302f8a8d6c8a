//! Peers that have to be installed: socat, Python, logger, systemd-notify, Redis, HAProxy and memcached;
//! and groff. `.ci/run` installs them and runs this; plain `cargo test` leaves it out. Where one is missing
//! its tests fail. The test with rsyslog skips itself.

#[path = "../cli/readme.rs"]
mod readme;
#[path = "../cli/support.rs"]
#[expect(dead_code, reason = "the other tests use all of it")]
mod support;

mod datagrams;
mod groff;
mod python;
mod servers;
mod socat;
mod tls;

// Ends a test that hangs.
use aqueduct_watchdog as _;
