//! [`Returning`]: a sender's wait for its next reader.

use std::fmt;
use std::future::Future;
use std::io;
use std::os::fd::BorrowedFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use nix::sys::inotify::AddWatchFlags;
use tokio::time::Instant;

use super::TARGET;
use super::name::{Name, shown};
use crate::connect::OpenError;
use crate::io::watch::{FIRST_TICK, LAST_TICK, NameWatch, Watch};

/// A wait for a reader that takes longer than this is logged.
const PATIENCE: Duration = Duration::from_millis(200);

/// A sender's wait for another reader: [`ReaderGone::Wait`](super::ReaderGone::Wait).
pub(super) struct Returning {
    limit: Option<Duration>,
    name: Option<NameWatch>,
    gone: Option<Gone>,
}

/// The time since the last reader has closed the FIFO.
struct Gone {
    watch: Arc<Watch>,
    since: Instant,
    tick: Duration,
    pause: Option<Pin<Box<dyn Future<Output = ()> + Send + Sync>>>,
    told: bool,
}

impl Returning {
    pub(super) fn new(limit: Option<Duration>, name: Option<NameWatch>) -> Self {
        Self {
            limit,
            name,
            gone: None,
        }
    }

    /// Whether it waits for a reader.
    pub(super) fn is_waiting(&self) -> bool {
        self.gone.is_some()
    }

    /// There is a reader.
    pub(super) fn is_back(&mut self) {
        self.gone = None;
    }

    /// Waits for an event of a reader, or for a while. The caller then tries whether one is there.
    ///
    /// # Errors
    ///
    /// The time is up, or the path no longer names this FIFO.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        fd: BorrowedFd<'_>,
        name: &Name,
    ) -> Poll<io::Result<()>> {
        let path = name.path();
        if let Some(watch) = &mut self.name
            && self.gone.is_some()
            && name.poll_lost(cx, watch, fd)?.is_ready()
        {
            return Poll::Ready(Err(name.lost("send to fifo")));
        }
        let Some(gone) = &mut self.gone else {
            let watch = Watch::on(fd, path, AddWatchFlags::IN_OPEN);
            self.gone = Some(Gone {
                watch: Arc::new(watch),
                since: Instant::now(),
                tick: FIRST_TICK,
                pause: None,
                told: false,
            });
            // One may have come before the watch was set.
            return Poll::Ready(Ok(()));
        };
        let waited = gone.since.elapsed();
        let left = self.limit.map(|limit| limit.saturating_sub(waited));
        if left.is_some_and(|left| left.is_zero()) {
            let limit = self.limit.unwrap_or(waited);
            let error = OpenError::timed_out("send to fifo", shown(path), "reader", limit);
            return Poll::Ready(Err(error.into()));
        }
        if waited >= PATIENCE && !gone.told {
            gone.told = true;
            tracing::warn!(target: TARGET, ?path, "the reader has gone; waiting for another one");
        }
        let Gone {
            watch, tick, pause, ..
        } = gone;
        let pausing = pause.get_or_insert_with(|| {
            let watch = Arc::clone(watch);
            let limit = left.map_or(*tick, |left| left.min(*tick));
            Box::pin(async move {
                watch.changed_within(limit).await;
            })
        });
        ready!(pausing.as_mut().poll(cx));
        *pause = None;
        *tick = (*tick * 2).min(LAST_TICK);
        Poll::Ready(Ok(()))
    }
}

impl fmt::Debug for Returning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Returning")
            .field("limit", &self.limit)
            .field("gone", &self.gone.is_some())
            .finish_non_exhaustive()
    }
}
