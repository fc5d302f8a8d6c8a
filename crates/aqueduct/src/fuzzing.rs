//! Parsers that are not public, for the targets in `fuzz/`; only there with `--cfg fuzzing`.

use std::os::fd::RawFd;

use crate::connect::activation;
use crate::mq::list;

/// How many bytes wait and which process is notified, by the text in a queue's file.
#[must_use]
pub fn queue_status(text: &str) -> (Option<u64>, Option<u32>) {
    (list::field(text, "QSIZE"), list::notified(text))
}

/// How many descriptors these values of `LISTEN_PID` and `LISTEN_FDS` hand down to process `own`.
#[must_use]
pub fn listen_fds(pid: Option<&str>, count: Option<&str>, own: u32) -> Option<RawFd> {
    activation::count_for(pid, count, own)
}
