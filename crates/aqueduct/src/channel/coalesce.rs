//! [`Coalesced`]: a sink that gathers the items of a burst of sends.

use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::sync::{Arc, PoisonError};
use std::task::{Context, Poll, Wake, Waker, ready};
use std::time::Duration;

#[cfg(all(test, aqueduct_loom))]
use loom::sync::{Mutex, MutexGuard};
#[cfg(not(all(test, aqueduct_loom)))]
use std::sync::{Mutex, MutexGuard};

use bytes::Bytes;
use futures_sink::Sink;
use tokio::runtime::Handle;
use tokio::task::yield_now;

use crate::frame::BoxFrameSink;
use crate::io::timer::{Sleep, sleep};

/// How long closing waits for the peer to take queued items.
pub(super) const DEFAULT_CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// A task that Tokio made yield has its own turn within this many turns of the flusher: of tasks
/// that yield at the same time, the last may be the first.
const TURNS: u8 = 2;

/// The sender's side of a sink that a separate task, the *flusher*, flushes too.
///
/// ```text
///  at rest ── send: written at once ──> burst ── sends: gathered
///     ^                                   │
///     └── the flusher has its turn, since the sending task waits or yields: all is written
/// ```
pub(super) struct Coalesced(Arc<Shared>);

/// The state that [`Coalesced`] wraps. `send` uses it directly, since a sink cannot distinguish
/// `send` from `feed` and `flush`.
pub(super) struct Shared {
    state: Mutex<State>,
    wakers: Arc<Wakers>,
    /// Wakes both sides: the sink beneath knows only one waker.
    both: Waker,
}

struct State {
    /// `None` once it was closed, or everything was sent and the sender is gone.
    sink: Option<BoxFrameSink>,
    /// There is a flusher.
    manned: bool,
    /// A burst: the flusher will flush.
    burst: bool,
    /// The sending task has not paused; it was made to yield or waits for room. For this many turns
    /// of the flusher the burst is not over.
    goes_on: u8,
    /// An error that the flusher met, for the next call.
    error: Option<io::Error>,
    /// The sender was dropped.
    gone: bool,
}

#[derive(Default)]
struct Wakers {
    flusher: Mutex<Option<Waker>>,
    sender: Mutex<Option<Waker>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn set(slot: &Mutex<Option<Waker>>, cx: &Context<'_>) {
    match &mut *lock(slot) {
        Some(waker) => waker.clone_from(cx.waker()),
        slot => *slot = Some(cx.waker().clone()),
    }
}

fn wake(slot: &Mutex<Option<Waker>>) {
    let waker = lock(slot).take();
    if let Some(waker) = waker {
        waker.wake();
    }
}

impl Wake for Wakers {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        wake(&self.flusher);
        wake(&self.sender);
    }
}

impl State {
    /// A burst, if this is one, is not over when the flusher has had its turn.
    fn goes_on(&mut self) {
        self.goes_on = if self.burst { TURNS } else { 0 };
    }
}

impl Coalesced {
    pub(super) fn new(sink: BoxFrameSink) -> (Self, Arc<Shared>) {
        let wakers = Arc::<Wakers>::default();
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                sink: Some(sink),
                manned: false,
                burst: false,
                goes_on: 0,
                error: None,
                gone: false,
            }),
            both: Waker::from(Arc::clone(&wakers)),
            wakers,
        });
        (Self(Arc::clone(&shared)), shared)
    }
}

impl Shared {
    /// Uses the sink for the sender.
    fn poll(
        &self,
        state: &mut State,
        cx: &Context<'_>,
        mut operation: impl FnMut(
            Pin<&mut (dyn Sink<Bytes, Error = io::Error> + Send)>,
            &mut Context<'_>,
        ) -> Poll<io::Result<()>>,
    ) -> Poll<io::Result<()>> {
        if let Some(error) = state.error.take() {
            return Poll::Ready(Err(error));
        }
        let Some(sink) = &mut state.sink else {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        };
        let mut both = Context::from_waker(&self.both);
        let done = operation(sink.as_mut(), &mut both);
        if done.is_ready() {
            return done;
        }
        // Registered again, since the task to wake must be known before polling.
        set(&self.wakers.sender, cx);
        operation(sink.as_mut(), &mut both)
    }

    /// The sending task is made to yield.
    pub(super) fn goes_on(&self) {
        lock(&self.state).goes_on();
    }

    /// Queues the frame, and flushes unless the flusher is about to.
    pub(super) fn poll_send(
        self: &Arc<Self>,
        cx: &Context<'_>,
        frame: &mut Option<Bytes>,
    ) -> Poll<io::Result<()>> {
        let mut state = lock(&self.state);
        if frame.is_some() {
            let room = self.poll(&mut state, cx, |sink, cx| sink.poll_ready(cx));
            if room.is_pending() {
                state.goes_on();
            }
            ready!(room)?;
            if let (Some(sink), Some(frame)) = (&mut state.sink, frame.take()) {
                sink.as_mut().start_send(frame)?;
            }
        }
        if state.burst && state.error.is_none() {
            return Poll::Ready(Ok(()));
        }
        ready!(self.poll(&mut state, cx, |sink, cx| sink.poll_flush(cx)))?;
        if state.manned {
            state.burst = true;
            drop(state);
            wake(&self.wakers.flusher);
        } else if let Ok(runtime) = Handle::try_current() {
            state.manned = true;
            state.burst = true;
            drop(state);
            runtime.spawn(Flusher {
                shared: Arc::clone(self),
                patience: None,
            });
        }
        Poll::Ready(Ok(()))
    }
}

impl Sink<Bytes> for Coalesced {
    type Error = io::Error;

    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = lock(&self.0.state);
        self.0.poll(&mut state, cx, |sink, cx| sink.poll_ready(cx))
    }

    fn start_send(self: Pin<&mut Self>, frame: Bytes) -> io::Result<()> {
        match &mut lock(&self.0.state).sink {
            Some(sink) => sink.as_mut().start_send(frame),
            None => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = lock(&self.0.state);
        self.0.poll(&mut state, cx, |sink, cx| sink.poll_flush(cx))
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = lock(&self.0.state);
        // The flusher has no part in this.
        state.burst = false;
        ready!(self.0.poll(&mut state, cx, |sink, cx| sink.poll_close(cx)))?;
        state.sink = None;
        Poll::Ready(Ok(()))
    }
}

impl Drop for Coalesced {
    /// Writes what `send` has taken: now if possible, otherwise by the flusher.
    fn drop(&mut self) {
        let mut state = lock(&self.0.state);
        state.gone = true;
        if state.burst
            && let Some(sink) = &mut state.sink
        {
            let mut both = Context::from_waker(&self.0.both);
            if sink.as_mut().poll_flush(&mut both).is_pending() {
                drop(state);
                return wake(&self.0.wakers.flusher);
            }
        }
        let sink = state.sink.take();
        drop(state);
        wake(&self.0.wakers.flusher);
        drop(sink);
    }
}

/// The task that runs when the sending one waits or yields.
struct Flusher {
    shared: Arc<Shared>,
    /// The time left for it once the sender is gone.
    patience: Option<Pin<Box<Sleep>>>,
}

impl Future for Flusher {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Self { shared, patience } = &mut *self;
        set(&shared.wakers.flusher, cx);
        let mut guard = lock(&shared.state);
        let state = &mut *guard;
        if let Some(sink) = &mut state.sink
            && state.burst
        {
            let mut both = Context::from_waker(&shared.both);
            match sink.as_mut().poll_flush(&mut both) {
                Poll::Ready(Ok(())) if state.goes_on > 0 => {
                    state.goes_on -= 1;
                    // Tokio's way to yield. A plain wake-up would give this task the next turn,
                    // too.
                    let _ = pin!(yield_now()).poll(cx);
                }
                Poll::Ready(Ok(())) => state.burst = false,
                Poll::Ready(Err(error)) => {
                    state.burst = false;
                    if state.gone {
                        tracing::warn!(
                            target: "aqueduct::unsent", %error,
                            "dropped with unsent data: close before drop"
                        );
                    }
                    state.error = Some(error);
                }
                Poll::Pending if state.gone => {
                    let patience =
                        patience.get_or_insert_with(|| Box::pin(sleep(DEFAULT_CLOSE_TIMEOUT)));
                    ready!(patience.as_mut().poll(cx));
                }
                Poll::Pending => return Poll::Pending,
            }
        }
        if !state.gone && state.sink.is_some() {
            return Poll::Pending;
        }
        let sink = state.sink.take();
        drop(guard);
        drop(sink);
        Poll::Ready(())
    }
}

impl Drop for Flusher {
    /// Also when its runtime ends: from then on each send is flushed separately.
    fn drop(&mut self) {
        let mut state = lock(&self.shared.state);
        state.manned = false;
        state.burst = false;
        drop(state);
        wake(&self.shared.wakers.sender);
    }
}

#[cfg(all(test, aqueduct_loom))]
mod model;
#[cfg(test)]
#[cfg(not(aqueduct_loom))]
mod tests;
