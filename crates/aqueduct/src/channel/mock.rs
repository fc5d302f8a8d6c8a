//! A sink and a stream of frames that a test controls.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use futures_core::Stream;
use futures_sink::Sink;

/// The test's view and control of a [`MockSink`].
#[derive(Clone, Default)]
pub(super) struct Gate(Arc<Mutex<GateState>>);

#[derive(Default)]
pub(super) struct GateState {
    /// Frames that were handed over and not yet flushed.
    pub(super) queued: Vec<Bytes>,
    /// Frames that were flushed.
    pub(super) sent: Vec<Bytes>,
    /// How many more frames there is room for.
    pub(super) room: usize,
    /// Whether a flush gets through.
    pub(super) flushes: bool,
    /// Frames longer than this are refused by `start_send`.
    pub(super) max: Option<usize>,
    pub(super) closed: bool,
    waker: Option<Waker>,
}

impl Gate {
    pub(super) fn state(&self) -> MutexGuard<'_, GateState> {
        self.0.lock().unwrap()
    }

    pub(super) fn change(&self, change: impl FnOnce(&mut GateState)) {
        let mut state = self.state();
        change(&mut state);
        if let Some(waker) = state.waker.take() {
            waker.wake();
        }
    }
}

pub(super) struct MockSink(Gate);

/// A sink without room that does not flush, until the gate says so.
pub(super) fn sink() -> (Gate, MockSink) {
    let gate = Gate::default();
    (gate.clone(), MockSink(gate))
}

impl MockSink {
    fn poll(&self, cx: &mut Context<'_>, ready: impl Fn(&GateState) -> bool) -> Poll<()> {
        let mut state = self.0.state();
        if ready(&state) {
            return Poll::Ready(());
        }
        state.waker = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl Sink<Bytes> for MockSink {
    type Error = io::Error;

    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll(cx, |state| state.room > 0).map(Ok)
    }

    fn start_send(self: Pin<&mut Self>, frame: Bytes) -> io::Result<()> {
        let mut state = self.0.state();
        assert!(state.room > 0, "start_send without room");
        if state.max.is_some_and(|max| frame.len() > max) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        state.room -= 1;
        state.queued.push(frame);
        Ok(())
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        std::task::ready!(self.poll(cx, |state| state.flushes));
        let mut state = self.0.state();
        let queued = std::mem::take(&mut state.queued);
        state.sent.extend(queued);
        Poll::Ready(Ok(()))
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        std::task::ready!(self.as_mut().poll_flush(cx))?;
        self.0.state().closed = true;
        Poll::Ready(Ok(()))
    }
}

/// Feeds a [`MockStream`]; dropping it ends the stream.
pub(super) struct Feed(Arc<Mutex<FeedState>>);

#[derive(Default)]
struct FeedState {
    frames: VecDeque<Bytes>,
    ended: bool,
    waker: Option<Waker>,
}

impl Feed {
    pub(super) fn push(&self, frame: Bytes) {
        let mut state = self.0.lock().unwrap();
        state.frames.push_back(frame);
        if let Some(waker) = state.waker.take() {
            waker.wake();
        }
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.0.lock().unwrap().ended = true;
    }
}

pub(super) struct MockStream(Arc<Mutex<FeedState>>);

pub(super) fn stream() -> (Feed, MockStream) {
    let state = Arc::<Mutex<FeedState>>::default();
    (Feed(Arc::clone(&state)), MockStream(state))
}

impl Stream for MockStream {
    type Item = io::Result<Bytes>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut state = self.0.lock().unwrap();
        match state.frames.pop_front() {
            Some(frame) => Poll::Ready(Some(Ok(frame))),
            None if state.ended => Poll::Ready(None),
            None => {
                state.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}
