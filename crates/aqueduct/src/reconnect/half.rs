use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_core::{FusedStream, Stream};
use futures_sink::Sink;

use super::Options;
use super::shared::{Connector, Shared, Wakers};

/// The sending half of a [`Reconnect`](super::Reconnect).
///
/// Dropping it without closing leaves the stream as it is: it goes on connecting.
///
/// # Errors
///
/// [`Error::Unflushed`](super::Error::Unflushed), once, after a loss of frames; nothing is given to
/// a further connection before that was reported. [`Error::GaveUp`](super::Error::GaveUp) when
/// there will be no more connection. A frame that the connection refuses as invalid, such as one
/// that is too large, costs nothing but itself.
#[derive(Debug)]
#[must_use = "sinks do nothing unless polled"]
pub struct ReconnectSink {
    shared: Arc<Mutex<Shared>>,
    wakers: Arc<Wakers>,
}

/// The receiving half of a [`Reconnect`](super::Reconnect).
///
/// It ends after the sink was closed and the connection has ended, or with one
/// [`Error::GaveUp`](super::Error::GaveUp). A connection that is lost is no error here; see
/// [`Options::on_event`].
#[derive(Debug)]
#[must_use = "streams do nothing unless polled"]
pub struct ReconnectStream {
    shared: Arc<Mutex<Shared>>,
    wakers: Arc<Wakers>,
    ended: bool,
}

pub(super) fn pair(options: Options, connector: Connector) -> (ReconnectSink, ReconnectStream) {
    let wakers = Arc::new(Wakers::default());
    let shared = Shared::new(options, connector, Arc::clone(&wakers));
    let shared = Arc::new(Mutex::new(shared));
    let sink = ReconnectSink {
        shared: Arc::clone(&shared),
        wakers: Arc::clone(&wakers),
    };
    let stream = ReconnectStream {
        shared,
        wakers,
        ended: false,
    };
    (sink, stream)
}

impl ReconnectSink {
    fn lock(&self, cx: &Context<'_>) -> MutexGuard<'_, Shared> {
        let shared = lock(&self.shared);
        // Before anything is looked at: what the other half changes from now on wakes us.
        self.wakers.sink.register(cx.waker());
        shared
    }
}

impl Sink<Bytes> for ReconnectSink {
    type Error = io::Error;

    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.lock(cx).poll_ready(cx)
    }

    fn start_send(self: Pin<&mut Self>, frame: Bytes) -> io::Result<()> {
        lock(&self.shared).start_send(frame)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.lock(cx).poll_flush(cx)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.lock(cx).poll_close(cx)
    }
}

impl Stream for ReconnectStream {
    type Item = io::Result<Bytes>;

    fn poll_next(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Bytes>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let item = {
            let mut shared = lock(&self.shared);
            self.wakers.stream.register(cx.waker());
            ready!(shared.poll_next(cx))
        };
        self.ended = !matches!(item, Some(Ok(_)));
        Poll::Ready(item)
    }
}

impl FusedStream for ReconnectStream {
    fn is_terminated(&self) -> bool {
        self.ended
    }
}

impl Drop for ReconnectStream {
    fn drop(&mut self) {
        lock(&self.shared).refuse_frames();
    }
}

/// A panic of the user's functions leaves the state as sound as it was.
fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}
