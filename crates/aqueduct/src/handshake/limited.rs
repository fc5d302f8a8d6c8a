use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_core::{FusedStream, Stream};
use futures_sink::Sink;

use crate::frame::FrameError;

/// A sink that refuses frames over a limit, on any transport.
///
/// # Errors
///
/// [`FrameError::TooLarge`] inside an [`io::Error`] for a frame over the limit. Nothing of it is
/// sent, and the sink goes on.
#[derive(Debug)]
#[must_use = "sinks do nothing unless polled"]
pub(super) struct LimitedSink<S> {
    inner: S,
    max: usize,
}

impl<S> LimitedSink<S> {
    /// Refuses frames of more than `max` bytes.
    pub(super) fn new(sink: S, max: usize) -> Self {
        Self { inner: sink, max }
    }
}

impl<S: Sink<Bytes, Error = io::Error> + Unpin> Sink<Bytes> for LimitedSink<S> {
    type Error = io::Error;

    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_ready(cx)
    }

    fn start_send(self: Pin<&mut Self>, frame: Bytes) -> io::Result<()> {
        let this = self.get_mut();
        let (len, max) = (frame.len(), this.max);
        if len > max {
            return Err(FrameError::TooLarge { len, max }.into());
        }
        Pin::new(&mut this.inner).start_send(frame)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_flush(cx)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_close(cx)
    }
}

/// A stream that ends at a frame over a limit, on any transport.
///
/// # Errors
///
/// [`FrameError::TooLarge`] inside an [`io::Error`]: the peer breaks the agreement. Then the stream
/// has ended.
#[derive(Debug)]
#[must_use = "streams do nothing unless polled"]
pub(super) struct LimitedStream<S> {
    inner: S,
    max: usize,
    ended: bool,
}

impl<S> LimitedStream<S> {
    /// Ends at a frame of more than `max` bytes.
    pub(super) fn new(stream: S, max: usize) -> Self {
        Self {
            inner: stream,
            max,
            ended: false,
        }
    }
}

impl<S: Stream<Item = io::Result<Bytes>> + Unpin> Stream for LimitedStream<S> {
    type Item = io::Result<Bytes>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        let this = self.get_mut();
        if this.ended {
            return Poll::Ready(None);
        }
        let item = ready!(Pin::new(&mut this.inner).poll_next(cx));
        let item = match item {
            Some(Ok(frame)) if frame.len() > this.max => {
                let (len, max) = (frame.len(), this.max);
                let error = FrameError::TooLarge { len, max };
                Some(Err(io::Error::new(io::ErrorKind::InvalidData, error)))
            }
            item => item,
        };
        this.ended = !matches!(item, Some(Ok(_)));
        Poll::Ready(item)
    }
}

impl<S: Stream<Item = io::Result<Bytes>> + Unpin> FusedStream for LimitedStream<S> {
    fn is_terminated(&self) -> bool {
        self.ended
    }
}
