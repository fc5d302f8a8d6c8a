//! [`SendOnly`]: the sending half of a connection whose other direction is unused.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures_core::Stream;
use futures_sink::Sink;
use tokio::io::{AsyncRead, ReadBuf};

use super::MessageReceiver;
use super::half::BoxHalf;
use crate::frame::{FrameError, NotQueued, QueueWith, WriteBody};
use crate::io::timer::{Sleep, sleep};

/// How long closing a sending end waits for a peer that has talked back to end its own direction.
///
/// Closing a socket with unread input resets the connection and discards data still on its way to
/// the peer (RFC 1122, 4.2.2.13).
pub(super) const LINGER: Duration = Duration::from_secs(1);

/// How many reads in a row discard data before the task yields.
const DISCARDS: usize = 16;

/// The unused direction of a connection.
pub(super) struct Unwanted {
    rest: Rest,
    /// The peer has ended it, or it has failed.
    ended: bool,
    /// Data was discarded, or may have to be.
    talkative: bool,
}

/// Items of the unused direction.
pub(crate) enum Rest {
    Bytes(BoxHalf),
    Messages(Box<MessageReceiver>),
}

impl Unwanted {
    pub(super) fn new(rest: Rest) -> Self {
        Self {
            rest,
            ended: false,
            talkative: false,
        }
    }

    /// Discards what is there; ready when the peer has ended its direction.
    pub(super) fn poll_discard(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        for _ in 0..DISCARDS {
            if self.ended {
                return Poll::Ready(Ok(()));
            }
            let more = match &mut self.rest {
                Rest::Bytes(reader) => {
                    let mut room = [0; 4096];
                    let mut buf = ReadBuf::new(&mut room);
                    let read = ready!(Pin::new(reader).poll_read(cx, &mut buf));
                    read.map(|()| !buf.filled().is_empty())
                }
                Rest::Messages(receiver) => match ready!(Pin::new(&mut **receiver).poll_next(cx)) {
                    // An error of one message only.
                    Some(Err(e)) if FrameError::of(&e).is_none() => Err(e),
                    received => Ok(received.is_some()),
                },
            };
            match more {
                Ok(true) => self.talkative = true,
                Ok(false) => self.ended = true,
                Err(error) => {
                    self.ended = true;
                    return Poll::Ready(Err(error));
                }
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Returns how many bytes of the other direction have not arrived at the peer, if the system
    /// can tell; an error if they never will.
    pub(super) fn undelivered(&self) -> io::Result<usize> {
        match &self.rest {
            Rest::Bytes(reader) => reader.undelivered(),
            Rest::Messages(_) => Ok(0),
        }
    }
}

/// A sink that discards what the peer sends, so that a peer which talks back never blocks, and that
/// closes so that the peer receives everything that was sent.
pub(super) struct SendOnly<S> {
    sink: S,
    unwanted: Unwanted,
    closed: bool,
    linger: Option<Pin<Box<Sleep>>>,
}

impl<S: Sink<Bytes, Error = io::Error> + Unpin> SendOnly<S> {
    pub(super) fn new(sink: S, rest: Rest) -> Self {
        Self {
            sink,
            unwanted: Unwanted::new(rest),
            closed: false,
            linger: None,
        }
    }

    /// Makes closing always wait for the peer to end its own direction.
    pub(super) fn lingering(mut self) -> Self {
        self.unwanted.talkative = true;
        self
    }

    /// Discards what the peer sends while waiting for the sink. An error of that direction is the
    /// connection's.
    fn beside<T>(
        &mut self,
        cx: &mut Context<'_>,
        sent: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if let Poll::Ready(Err(error)) = self.unwanted.poll_discard(cx)
            && !matches!(sent, Poll::Ready(Err(_)))
        {
            return Poll::Ready(Err(error));
        }
        sent
    }
}

impl<S: Sink<Bytes, Error = io::Error> + Unpin> Sink<Bytes> for SendOnly<S> {
    type Error = io::Error;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let ready = Pin::new(&mut self.sink).poll_ready(cx);
        if ready.is_ready() {
            return ready;
        }
        self.beside(cx, ready)
    }

    fn start_send(mut self: Pin<&mut Self>, body: Bytes) -> io::Result<()> {
        Pin::new(&mut self.sink).start_send(body)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.sink).poll_flush(cx);
        self.beside(cx, flushed)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.closed {
            let closed = Pin::new(&mut self.sink).poll_close(cx);
            ready!(self.beside(cx, closed))?;
            self.closed = true;
        }
        if let Poll::Ready(ended) = self.unwanted.poll_discard(cx) {
            return Poll::Ready(ended);
        }
        if !self.unwanted.talkative {
            return Poll::Ready(Ok(()));
        }
        let linger = &mut self.linger;
        let linger = linger.get_or_insert_with(|| Box::pin(sleep(LINGER)));
        linger.as_mut().poll(cx).map(Ok)
    }
}

impl<S: QueueWith> QueueWith for SendOnly<S> {
    fn is_straight(&mut self) -> bool {
        self.sink.is_straight()
    }

    fn queue_with(&mut self, write: &mut WriteBody<'_>) -> Result<(), NotQueued> {
        self.sink.queue_with(write)
    }
}
