use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context as Task, Poll, ready};
use std::time::Duration;

use futures_core::{FusedStream, Stream};
use futures_sink::Sink;

use super::conduct::Conduct;
use crate::connect::timeouts::{Limit, TimedOut, Timeouts, Timer};

/// A stream of messages whose peer must keep the time limits.
///
/// The peer's time runs while this stream is polled and has nothing to deliver; see [the
/// module](super#limits). A peer that is too slow causes one error with a
/// [`TimedOut`](super::TimedOut) inside, which names the limit. Then the stream has ended.
#[must_use = "streams do nothing unless polled"]
pub(super) struct TimedStream<S> {
    inner: S,
    timeouts: Timeouts,
    timer: Timer,
    /// Whether a message has begun, asked when the stream has nothing to deliver.
    begun: fn(&mut S) -> bool,
    any_message: bool,
    ended: bool,
    conduct: Conduct,
}

impl<S> TimedStream<S> {
    /// `begun`: whether an unfinished message has begun.
    pub(super) fn new(inner: S, timeouts: Timeouts, begun: fn(&mut S) -> bool) -> Self {
        Self {
            inner,
            timeouts,
            timer: Timer::default(),
            begun,
            any_message: false,
            ended: false,
            conduct: Conduct::default(),
        }
    }

    /// Records in `conduct` what the peer does.
    pub(super) fn observed_by(mut self, conduct: Conduct) -> Self {
        self.conduct = conduct;
        self
    }

    fn waiting_for(&mut self) -> Limit {
        // A message that has begun stays so until it is whole, wherever its decoder keeps it.
        if self.timer.limit() == Some(Limit::Message) || (self.begun)(&mut self.inner) {
            Limit::Message
        } else if self.any_message {
            Limit::Idle
        } else {
            Limit::First
        }
    }
}

impl<S, T, E> Stream for TimedStream<S>
where
    S: Stream<Item = Result<T, E>> + Unpin,
    E: From<io::Error>,
{
    type Item = Result<T, E>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Task<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if this.ended {
            return Poll::Ready(None);
        }
        if let Poll::Ready(item) = Pin::new(&mut this.inner).poll_next(cx) {
            this.timer.stop();
            this.any_message = true;
            this.ended = !matches!(item, Some(Ok(_)));
            return Poll::Ready(item);
        }
        let limit = this.waiting_for();
        this.timer
            .run(limit, this.timeouts.get(limit), Duration::ZERO);
        this.conduct.set_receiving(limit == Limit::Message);
        let error = ready!(this.timer.poll(cx, Duration::ZERO));
        this.ended = true;
        this.conduct.set_timed_out(&error);
        Poll::Ready(Some(Err(error.into())))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        if self.ended { (0, Some(0)) } else { (0, None) }
    }
}

impl<S, T, E> FusedStream for TimedStream<S>
where
    S: Stream<Item = Result<T, E>> + Unpin,
    E: From<io::Error>,
{
    fn is_terminated(&self) -> bool {
        self.ended
    }
}

impl<S: fmt::Debug> fmt::Debug for TimedStream<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TimedStream")
            .field("inner", &self.inner)
            .field("timeouts", &self.timeouts)
            .field("running", &self.timer.limit())
            .field("ended", &self.ended)
            .finish_non_exhaustive()
    }
}

/// A sink whose peer must take sent data within the limit.
///
/// After an error with a [`TimedOut`](super::TimedOut) inside every later call fails the same way:
/// part of a frame may have been written, so the connection is unusable.
#[derive(Debug)]
#[must_use = "sinks do nothing unless polled"]
pub(super) struct TimedSink<S> {
    inner: S,
    timeouts: Timeouts,
    timer: Timer,
    /// The limit was exceeded.
    failed: bool,
    conduct: Conduct,
}

impl<S> TimedSink<S> {
    /// Limits a peer that receives.
    pub(super) fn new(sink: S, timeouts: Timeouts) -> Self {
        Self {
            inner: sink,
            timeouts,
            timer: Timer::default(),
            failed: false,
            conduct: Conduct::default(),
        }
    }

    /// Records in `conduct` what the peer does.
    pub(super) fn observed_by(mut self, conduct: Conduct) -> Self {
        self.conduct = conduct;
        self
    }

    fn poll_within<E: From<io::Error>>(
        &mut self,
        cx: &mut Task<'_>,
        poll: impl FnOnce(Pin<&mut S>, &mut Task<'_>) -> Poll<Result<(), E>>,
    ) -> Poll<Result<(), E>>
    where
        S: Unpin,
    {
        if let (true, Some(after)) = (self.failed, self.timeouts.get(Limit::Send)) {
            let again: io::Error = TimedOut::new(Limit::Send, after).into();
            return Poll::Ready(Err(again.into()));
        }
        if let Poll::Ready(result) = poll(Pin::new(&mut self.inner), cx) {
            self.timer.stop();
            return Poll::Ready(result);
        }
        let limit = self.timeouts.get(Limit::Send);
        self.timer.run(Limit::Send, limit, Duration::ZERO);
        let error = ready!(self.timer.poll(cx, Duration::ZERO));
        self.failed = true;
        self.conduct.set_timed_out(&error);
        Poll::Ready(Err(error.into()))
    }
}

impl<S, T, E> Sink<T> for TimedSink<S>
where
    S: Sink<T, Error = E> + Unpin,
    E: From<io::Error>,
{
    type Error = E;

    fn poll_ready(self: Pin<&mut Self>, cx: &mut Task<'_>) -> Poll<Result<(), E>> {
        self.get_mut()
            .poll_within(cx, |sink, cx| sink.poll_ready(cx))
    }

    fn start_send(self: Pin<&mut Self>, item: T) -> Result<(), E> {
        Pin::new(&mut self.get_mut().inner).start_send(item)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Task<'_>) -> Poll<Result<(), E>> {
        self.get_mut()
            .poll_within(cx, |sink, cx| sink.poll_flush(cx))
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Task<'_>) -> Poll<Result<(), E>> {
        self.get_mut()
            .poll_within(cx, |sink, cx| sink.poll_close(cx))
    }
}

#[cfg(test)]
mod tests;
