//! Parsers that are not public, for the targets in `fuzz/`; only there with `--cfg fuzzing`.

use std::os::fd::RawFd;

use crate::connect::activation;
use crate::handshake::{Hello, Verdict};
use crate::{mq, shm};

/// How many bytes wait and which process is notified, by the text in a queue's file.
#[must_use]
pub fn queue_status(text: &str) -> (Option<u64>, Option<u32>) {
    (mq::field(text, "QSIZE"), mq::notified(text))
}

/// How many descriptors these values of `LISTEN_PID` and `LISTEN_FDS` hand down to process `own`.
#[must_use]
pub fn listen_fds(pid: Option<&str>, count: Option<&str>, own: u32) -> Option<RawFd> {
    activation::count_for(pid, count, own)
}

/// A frame of a handshake, printed again: as a hello of our version (`Ok(None)` for another one), or what
/// is wrong with it.
pub fn hello(frame: &[u8]) -> Result<Option<String>, String> {
    let hello = Hello::parse(frame).map_err(|error| error.to_string())?;
    Ok(hello.codec().is_some().then(|| hello.to_string()))
}

/// A verdict of a handshake, printed again.
#[must_use]
pub fn verdict(frame: &[u8]) -> Option<String> {
    Verdict::parse(frame)
        .ok()
        .map(|verdict| verdict.to_string())
}

/// The hello of a peer of `shm:`, encoded again, and what is wrong with one.
pub fn shm_hello(wire: &[u8]) -> Result<Option<Vec<u8>>, String> {
    shm::hello(wire).map_err(|error| error.to_string())
}

/// Reads and writes rings whose peer stores these values in its words, one after the other; returns how
/// many bytes were read, and the error that ended it.
pub fn shm_ring(words: &[u64], capacity: u32) -> (usize, Option<std::io::Error>) {
    shm::ring_of(words, capacity)
}
