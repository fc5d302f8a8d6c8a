use std::io;
use std::task::{Context, Poll};

use tokio::io::Interest;

use crate::io::source::{Direction, Source};
use crate::io::sys;

/// Tells when a process has exited, whoever waits for it and whether or not it was reaped.
#[derive(Debug)]
pub(super) struct Exit {
    /// `None`: it already has.
    pidfd: Option<Source>,
}

impl Exit {
    /// `process` must not have been reaped by anyone but through this handle, so that its number is
    /// still its own.
    pub(super) fn of(process: &tokio::process::Child) -> io::Result<Self> {
        let Some(pid) = process.id() else {
            return Ok(Self { pidfd: None });
        };
        // Readable from exit on, for good; nothing is ever read from it, so that it need not be
        // non-blocking (which Linux 5.3 could not do).
        let pidfd = Source::new(sys::pidfd_open(pid)?, Interest::READABLE)?;
        Ok(Self { pidfd: Some(pidfd) })
    }

    /// Ready when the process has exited. Only the last task that polled is woken.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(pidfd) = &self.pidfd else {
            return Poll::Ready(Ok(()));
        };
        let ready = pidfd.poll_ready(cx, Direction::Read);
        if let Poll::Ready(Ok(())) = ready {
            self.pidfd = None;
        }
        ready
    }
}
