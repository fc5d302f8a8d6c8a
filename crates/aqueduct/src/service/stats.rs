use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use thiserror::Error;
use tokio::runtime::TryCurrentError;

/// What became of the connections of a service.
///
/// `accepted` is the sum of `finished`, `failed`, `timed_out`, `panicked` and `aborted`: each
/// connection is counted once, by how it ended. None is ever refused for there being too many:
/// those wait in the kernel's backlog.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Connections that were accepted.
    pub accepted: u64,
    /// Handlers that returned `Ok`.
    pub finished: u64,
    /// Handlers that returned an error, if no limit had been exceeded.
    pub failed: u64,
    /// Handlers that returned, with or without an error, after their peer had exceeded one of the
    /// time limits of [`Options`](super::Options).
    pub timed_out: u64,
    /// Handlers that panicked.
    pub panicked: u64,
    /// Handlers that had not ended by the deadline of the shutdown.
    pub aborted: u64,
    /// The most connections that there were at once.
    pub most_at_once: u64,
}

/// Why a service ended before it was told to.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// The listener broke. The connections it had given were ended in order before this was
    /// reported.
    ///
    /// A want of descriptors or memory, or a connection that was aborted before it was accepted,
    /// is no such case: these pass.
    #[error("the listener failed and no more connections can come: bind it again")]
    #[non_exhaustive]
    Accept {
        /// What accepting reported.
        source: io::Error,
        /// What became of the connections.
        stats: Stats,
    },
    /// There is no Tokio runtime here.
    #[error("no Tokio runtime: serve within one")]
    NoRuntime(#[source] TryCurrentError),
}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        let kind = match &error {
            Error::Accept { source, .. } => source.kind(),
            Error::NoRuntime(_) => io::ErrorKind::Other,
        };
        Self::new(kind, error)
    }
}

/// The counting of a running service.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) accepted: AtomicU64,
    pub(super) finished: AtomicU64,
    pub(super) failed: AtomicU64,
    pub(super) timed_out: AtomicU64,
    pub(super) panicked: AtomicU64,
    pub(super) most_at_once: AtomicU64,
}

impl Counters {
    /// Adds one and returns the new count.
    pub(super) fn count(counter: &AtomicU64) -> u64 {
        counter.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// What has ended is counted by its end; the rest counts as aborted.
    pub(super) fn stats(&self) -> Stats {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let mut stats = Stats {
            accepted: get(&self.accepted),
            finished: get(&self.finished),
            failed: get(&self.failed),
            timed_out: get(&self.timed_out),
            panicked: get(&self.panicked),
            aborted: 0,
            most_at_once: get(&self.most_at_once),
        };
        let ended = stats.finished + stats.failed + stats.timed_out + stats.panicked;
        stats.aborted = stats.accepted - ended;
        stats
    }
}
