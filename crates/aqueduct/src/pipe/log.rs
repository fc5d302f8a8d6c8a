//! [`Log`]: the `tracing` events of an end.

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::panic::{RefUnwindSafe, UnwindSafe};

use bytes::Bytes;
use tracing::Span;

const TARGET: &str = "aqueduct::pipe";

const END: &str = "end of stream: the last writer has gone";

/// The span of one end, and its events: opened, peer gone, failed, closed.
///
/// Reads and writes are not logged. An end that is part of another one with its own span logs
/// nothing.
#[derive(Debug)]
pub(crate) struct Log(Span);

// Tokio's ends are unwind safe, and a span has no state that a panic could leave inconsistent.
impl UnwindSafe for Log {}
impl RefUnwindSafe for Log {}

impl Log {
    pub(crate) fn sender(fd: impl AsFd) -> Self {
        let fd = fd.as_fd().as_raw_fd();
        Self(tracing::debug_span!(target: TARGET, "pipe sender", fd)).opened()
    }

    pub(crate) fn receiver(fd: impl AsFd) -> Self {
        let fd = fd.as_fd().as_raw_fd();
        Self(tracing::debug_span!(target: TARGET, "pipe receiver", fd)).opened()
    }

    pub(crate) fn silent() -> Self {
        Self(Span::none())
    }

    fn opened(self) -> Self {
        self.event("opened");
        self
    }

    /// Logs the end of the stream and errors. `room`: how much could have been read.
    pub(super) fn read(&self, result: io::Result<usize>, room: usize) -> io::Result<usize> {
        match &result {
            Ok(0) if room > 0 => self.event(END),
            Ok(_) => {}
            Err(error) => self.failed(error),
        }
        result
    }

    /// The same as [`read`](Self::read), for an end that receives messages.
    pub(super) fn receive(&self, result: io::Result<Option<Bytes>>) -> io::Result<Option<Bytes>> {
        match &result {
            Ok(None) => self.event(END),
            Ok(Some(_)) => {}
            Err(error) => self.failed(error),
        }
        result
    }

    /// Logs errors.
    pub(super) fn write<T>(&self, result: io::Result<T>) -> io::Result<T> {
        if let Err(error) = &result {
            self.failed(error);
        }
        result
    }

    fn failed(&self, error: &io::Error) {
        match error.kind() {
            io::ErrorKind::WouldBlock => {}
            io::ErrorKind::BrokenPipe => self.event("the last reader has gone"),
            _ if self.0.is_disabled() => {}
            _ => tracing::debug!(target: TARGET, parent: &self.0, %error, "failed"),
        }
    }

    fn event(&self, what: &'static str) {
        if !self.0.is_disabled() {
            tracing::debug!(target: TARGET, parent: &self.0, "{what}");
        }
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.event("closed");
    }
}
