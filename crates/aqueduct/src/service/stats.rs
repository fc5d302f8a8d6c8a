use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use thiserror::Error;
use tokio::runtime::TryCurrentError;

/// Counts of a service's connections, by how they ended.
///
/// `accepted` is the sum of `finished`, `failed`, `timed_out`, `panicked` and `aborted`: each
/// connection is counted once. None is ever refused because of the limit; those beyond it wait in
/// the kernel's backlog.
///
/// # Examples
///
/// ```
/// use aqueduct::connect::Connection;
/// use aqueduct::service::CancellationToken;
/// use futures_util::stream;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (_here, there) = Connection::pair();
/// let handler = |_, _| async { std::io::Result::Ok(()) };
/// let stats = aqueduct::serve(stream::iter([Ok(there)]), CancellationToken::new(), handler).await?;
/// assert_eq!((stats.accepted, stats.finished), (1, 1));
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Connections that were accepted.
    pub accepted: u64,
    /// Handlers that returned `Ok`.
    pub finished: u64,
    /// Handlers that returned an error without exceeding a limit.
    pub failed: u64,
    /// Handlers that returned after their peer exceeded a time limit of
    /// [`Options`](super::Options).
    pub timed_out: u64,
    /// Handlers that panicked.
    pub panicked: u64,
    /// Handlers that had not ended by the deadline of the shutdown.
    pub aborted: u64,
    /// The largest number of connections at once.
    pub most_at_once: u64,
}

/// An error that ended a service early.
///
/// # Examples
///
/// ```
/// use std::io;
/// use aqueduct::connect::Connection;
/// use aqueduct::service::{CancellationToken, Error};
/// use futures_util::stream;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// let broken = stream::iter([Err::<Connection, _>(io::Error::other("broken"))]);
/// let handler = |_, _| async { io::Result::Ok(()) };
/// match aqueduct::serve(broken, CancellationToken::new(), handler).await {
///     Err(Error::Accept { source, stats, .. }) => println!("{source} after {}", stats.accepted),
///     other => panic!("{other:?}"),
/// }
/// # }
/// ```
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// The listener broke.
    ///
    /// Its connections were ended in order before this was reported.
    ///
    /// A shortage of descriptors or memory, or a connection that was aborted before it was
    /// accepted, does not break it: such errors are temporary.
    #[error("the listener failed and accepts no more connections: bind it again")]
    #[non_exhaustive]
    Accept {
        /// The error of accepting.
        source: io::Error,
        /// Counts of the connections.
        stats: Stats,
    },
    /// There is no Tokio runtime.
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

/// The counters of a running service.
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

    /// Ended connections are counted by their end; the rest count as aborted.
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
