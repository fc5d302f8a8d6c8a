use std::any::Any;
use std::future::{Future, poll_fn};
use std::io;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context as Task, Poll, ready};
use std::time::Duration;

use futures_core::Stream;
use futures_util::FutureExt;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

use super::respond::LINGER;
use super::stats::Counters;
use super::supervisor::{Serving, Supervisor};
use super::{Context, Error, Stats};
use crate::codec::BoxError;
use crate::connect::Listener;
use crate::connect::timeouts::Timeouts;
use crate::io::accept::Accepting;
use crate::io::timer::timeout;

/// Half of the default limit on open files.
const MAX_CONNECTIONS: usize = 512;

const GRACE: Duration = Duration::from_secs(10);

/// How long [`Options::serve`] waits, after the grace period, for aborted handlers to reach an
/// await point: 1 s.
const ABORT_WAIT: Duration = Duration::from_secs(1);

/// Limits and times of a service.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use aqueduct::service::Options;
///
/// let mut options = Options::new();
/// options
///     .max_connections(100)
///     .idle_timeout(Duration::from_secs(60))
///     .grace(Duration::from_secs(30));
/// ```
#[derive(Clone, Debug)]
pub struct Options {
    max_connections: usize,
    timeouts: Timeouts,
    grace: Duration,
}

impl Options {
    /// Creates the default options, which [the module](super#limits) lists.
    pub fn new() -> Self {
        Self {
            max_connections: MAX_CONNECTIONS,
            timeouts: Timeouts::default(),
            grace: GRACE,
        }
    }

    /// Sets how many connections are served at once, at least 1.
    ///
    /// At the limit no more are accepted: clients wait in the kernel's backlog until another
    /// connection ends. Stay below the process's limit on open files (`RLIMIT_NOFILE`).
    pub fn max_connections(&mut self, connections: usize) -> &mut Self {
        self.max_connections = connections.clamp(1, Semaphore::MAX_PERMITS);
        self
    }

    /// Sets how long a client may take to begin its first message.
    ///
    /// The default is 10 s; `None` is no limit.
    pub fn first_timeout(&mut self, limit: impl Into<Option<Duration>>) -> &mut Self {
        self.timeouts.first = limit.into();
        self
    }

    /// Sets how long a client may take to finish a message.
    ///
    /// The default is 30 s; `None` is no limit.
    pub fn message_timeout(&mut self, limit: impl Into<Option<Duration>>) -> &mut Self {
        self.timeouts.message = limit.into();
        self
    }

    /// Sets how long a client may be silent between two messages.
    ///
    /// The default is 5 min; `None` is no limit.
    pub fn idle_timeout(&mut self, limit: impl Into<Option<Duration>>) -> &mut Self {
        self.timeouts.idle = limit.into();
        self
    }

    /// Sets how long a client may take to receive sent data.
    ///
    /// The default is 30 s; `None` is no limit.
    pub fn send_timeout(&mut self, limit: impl Into<Option<Duration>>) -> &mut Self {
        self.timeouts.send = limit.into();
        self
    }

    /// Sets how long handlers may take to end at shutdown (10 s by default).
    pub fn grace(&mut self, grace: Duration) -> &mut Self {
        self.grace = grace;
        self
    }

    /// Runs `handler` for each connection of `listener` until `shutdown`.
    ///
    /// It also ends when the listener does.
    ///
    /// Each handler runs in a separate task. At the end it waits for the handlers, as [the
    /// module](super#shutdown) describes. If the listener simply ends, handlers may take any time
    /// until `shutdown`.
    ///
    /// Temporary errors of the listener (`EMFILE` and similar, a connection aborted before it was
    /// accepted) are waited out with growing pauses; a listener of this crate has already done so.
    ///
    /// It returns within the grace period and one second, even if a handler blocks its thread and
    /// cannot be aborted.
    ///
    /// # Errors
    ///
    /// - [`Error::Accept`] with the errno if the listener broke, after the connections have ended
    ///   in order.
    /// - [`Error::NoRuntime`] without a runtime.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the listener and aborts all handlers, each at its next await
    /// point.
    pub fn serve<L, C, H, F, E>(
        &self,
        listener: L,
        shutdown: CancellationToken,
        handler: H,
    ) -> impl Future<Output = Result<Stats, Error>> + use<L, C, H, F, E>
    where
        L: Stream<Item = io::Result<C>> + 'static,
        C: Send + 'static,
        H: Fn(C, Context) -> F + Send + Sync + 'static,
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<BoxError>,
    {
        let options = self.clone();
        async move {
            Handle::try_current().map_err(Error::NoRuntime)?;
            Running::new(&options, &shutdown)
                .serve(listener, handler)
                .await
        }
    }
}

impl Default for Options {
    fn default() -> Self {
        Self::new()
    }
}

/// A handler of connections.
trait Handler<C>: Send + Sync + 'static {
    fn handle(
        &self,
        connection: C,
        context: Context,
    ) -> impl Future<Output = Result<(), BoxError>> + Send;
}

impl<C, H, F, E> Handler<C> for H
where
    H: Fn(C, Context) -> F + Send + Sync + 'static,
    F: Future<Output = Result<(), E>> + Send + 'static,
    E: Into<BoxError>,
{
    fn handle(
        &self,
        connection: C,
        context: Context,
    ) -> impl Future<Output = Result<(), BoxError>> + Send {
        self(connection, context).map(|handled| handled.map_err(Into::into))
    }
}

/// A running service.
struct Running {
    timeouts: Timeouts,
    grace: Duration,
    places: Arc<Semaphore>,
    tracker: TaskTracker,
    counters: Arc<Counters>,
    /// Tells handlers to finish.
    stop: CancellationToken,
    /// Ends the streams that end at shutdown.
    end_streams: CancellationToken,
    /// Drops the handlers.
    abort: CancellationToken,
}

impl Running {
    fn new(options: &Options, shutdown: &CancellationToken) -> Self {
        Self {
            timeouts: options.timeouts,
            grace: options.grace,
            places: Arc::new(Semaphore::new(options.max_connections)),
            tracker: TaskTracker::new(),
            counters: Arc::default(),
            // A child: a broken listener stops only this service, not its user's token.
            stop: shutdown.child_token(),
            end_streams: CancellationToken::new(),
            abort: CancellationToken::new(),
        }
    }

    async fn serve<L, C, H>(self, listener: L, handler: H) -> Result<Stats, Error>
    where
        L: Stream<Item = io::Result<C>> + 'static,
        C: Send + 'static,
        H: Handler<C>,
    {
        let supervisor = Supervisor::from_env();
        let serving = self.supervised(listener, handler, &supervisor);
        let mut serving = std::pin::pin!(serving);
        let mut watchdog = std::pin::pin!(supervisor.watchdog());
        poll_fn(|cx| {
            // Never ready.
            let _ = watchdog.as_mut().poll(cx);
            serving.as_mut().poll(cx)
        })
        .await
    }

    async fn supervised<L, C, H>(
        &self,
        listener: L,
        handler: H,
        supervisor: &Supervisor,
    ) -> Result<Stats, Error>
    where
        L: Stream<Item = io::Result<C>> + 'static,
        C: Send + 'static,
        H: Handler<C>,
    {
        let _abort_on_drop = self.abort.clone().drop_guard();
        let serving = Serving::begin();
        supervisor.notify("READY=1").await;
        // Boxed so that it is dropped, and the backlog refused, before the handlers end.
        let mut listener = Box::pin(listener);
        let accepted = self.accept(listener.as_mut(), Arc::new(handler)).await;
        let closed = closed(&*listener);
        drop(listener);
        self.tracker.close();
        if let Err(error) = &accepted {
            tracing::warn!(%error, "the listener failed: shutting down");
            self.stop.cancel();
        }
        let ended = self.stop.run_until_cancelled(self.tracker.wait()).await;
        if ended.is_none() {
            if serving.end() {
                let n = self.tracker.len();
                let state = format!("STOPPING=1\nSTATUS=connections still open: {n}");
                supervisor.notify(&state).await;
            }
            // A server that does not answer must not hold it up for longer than a peer.
            let _ = tokio::join!(self.drain(), timeout(self.grace, closed));
        }
        let stats = self.counters.stats();
        tracing::debug!(?stats, "served");
        match accepted {
            Ok(()) => Ok(stats),
            Err(source) => Err(Error::Accept { source, stats }),
        }
    }

    /// Accepts until shutdown, or until the listener ends or breaks.
    async fn accept<L, C, H>(&self, mut listener: Pin<&mut L>, handler: Arc<H>) -> io::Result<()>
    where
        L: Stream<Item = io::Result<C>> + 'static,
        C: Send + 'static,
        H: Handler<C>,
    {
        let mut accepting = Accepting::default();
        loop {
            let next = async {
                // First a place, then a connection: without a place it stays in the backlog.
                let place = Arc::clone(&self.places).acquire_owned().await;
                let connection = next(listener.as_mut(), &mut accepting).await;
                (place, connection)
            };
            let Some((place, connection)) = self.stop.run_until_cancelled(next).await else {
                return Ok(());
            };
            match connection? {
                Some(connection) => self.spawn(connection, place.ok(), Arc::clone(&handler)),
                None => return Ok(()),
            }
        }
    }

    fn spawn<C, H>(&self, connection: C, place: Option<OwnedSemaphorePermit>, handler: Arc<H>)
    where
        C: Send + 'static,
        H: Handler<C>,
    {
        let id = Counters::count(&self.counters.accepted);
        let now = self.tracker.len() as u64 + 1;
        self.counters.most_at_once.fetch_max(now, Ordering::Relaxed);
        // Separate tokens for each connection, so that they do not share one lock for every
        // message.
        let context = Context::new(
            id,
            self.timeouts,
            // Within the grace period, of which the streams leave a half.
            LINGER.min(self.grace / 4),
            self.stop.child_token(),
            self.end_streams.child_token(),
        );
        let abort = self.abort.child_token();
        let counters = Arc::clone(&self.counters);
        let span = tracing::debug_span!("connection", id);
        let task = async move {
            tracing::debug!("accepted");
            let handling = async { handler.handle(connection, context.clone()).await };
            let handling = AssertUnwindSafe(handling).catch_unwind();
            let ended = abort.run_until_cancelled_owned(handling).await;
            count(ended, context.conduct().is_timed_out(), &counters);
            // Only now that the connection is closed.
            drop(place);
        };
        self.tracker.spawn(task.instrument(span));
    }

    /// Tells the handlers to end, and makes sure that they do.
    async fn drain(&self) {
        tracing::info!(connections = self.tracker.len(), "shutting down");
        let half = self.grace / 2;
        if timeout(half, self.tracker.wait()).await.is_ok() {
            return;
        }
        self.end_streams.cancel();
        let rest = self.grace - half;
        if timeout(rest, self.tracker.wait()).await.is_ok() {
            return;
        }
        tracing::warn!(
            connections = self.tracker.len(),
            grace = ?self.grace,
            "aborting connections: their handlers did not end in time"
        );
        self.abort.cancel();
        if timeout(ABORT_WAIT, self.tracker.wait()).await.is_err() {
            tracing::warn!(
                handlers = self.tracker.len(),
                "handlers block their threads and cannot be aborted"
            );
        }
    }
}

/// Returns [`Listener::closed`], or a future that is ready for any other stream.
fn closed(listener: &dyn Any) -> impl Future<Output = ()> + use<> {
    let closed = listener.downcast_ref().map(Listener::closed);
    async move {
        if let Some(closed) = closed {
            closed.await;
        }
    }
}

/// Accepts the next connection, however often that fails for a temporary reason.
async fn next<L, C>(mut listener: Pin<&mut L>, accepting: &mut Accepting) -> io::Result<Option<C>>
where
    L: Stream<Item = io::Result<C>>,
{
    let next = poll_fn(|cx| {
        let one = |cx: &mut Task<'_>| {
            Poll::Ready(match ready!(listener.as_mut().poll_next(cx)) {
                Some(Ok(connection)) => Ok(Some(connection)),
                Some(Err(error)) => Err(error),
                None => Ok(None),
            })
        };
        accepting.poll_next(cx, one, Ok)
    });
    next.await.transpose().map(Option::flatten)
}

/// Counts how a handler ended. The rest counts as aborted.
fn count(
    ended: Option<Result<Result<(), BoxError>, Box<dyn Any + Send>>>,
    timed_out: bool,
    counters: &Counters,
) {
    let counter = match ended {
        None => return tracing::debug!("aborted"),
        Some(Err(panic)) => {
            tracing::error!(
                panic = panic_message(panic.as_ref()),
                "the handler panicked: its connection is lost"
            );
            &counters.panicked
        }
        Some(Ok(_)) if timed_out => {
            tracing::debug!("timed out");
            &counters.timed_out
        }
        Some(Ok(Ok(()))) => {
            tracing::debug!("finished");
            &counters.finished
        }
        Some(Ok(Err(error))) => {
            tracing::info!(error = error.as_ref(), "the handler failed");
            &counters.failed
        }
    };
    Counters::count(counter);
}

fn panic_message(panic: &(dyn Any + Send)) -> &str {
    if let Some(message) = panic.downcast_ref::<&str>() {
        message
    } else if let Some(message) = panic.downcast_ref::<String>() {
        message
    } else {
        "(no message)"
    }
}

#[cfg(test)]
mod tests;
