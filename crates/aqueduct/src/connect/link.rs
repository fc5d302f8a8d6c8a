use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::Bytes;
use futures_sink::Sink;
use tokio::io::AsyncWrite;
use tokio::time::{Instant, Sleep, sleep};

use super::MessageReceiver;
use super::byte_stream::ByteWriter;
use super::half::BoxHalf;
use super::send_only::{Rest, Unwanted};
use crate::frame::{FramedWrite, Framing, Pace};

/// One connection, and what of the messages given to it the system has taken.
pub(crate) struct Link {
    sink: Outlet,
    unwanted: Unwanted,
    given: u64,
    /// Whether the system tells what it has taken, and the peer reads that if it lives.
    knows: bool,
    /// Since this direction was ended: until when the peer is waited for, and when it is looked
    /// after next.
    parting: Option<Parting>,
}

struct Parting {
    limit: Pin<Box<Sleep>>,
    tick: Pin<Box<Sleep>>,
}

/// How long closing a sending end that connects again waits for its peer to have read all, which the
/// peer shows by ending its own direction.
pub(super) const FAREWELL: Duration = Duration::from_secs(10);

/// How often it is asked whether all has arrived.
const TICK: Duration = Duration::from_millis(2);

/// A sink of whole messages that can be left with something unsent.
pub(crate) trait MessageSink: Sink<Bytes, Error = io::Error> + Send {
    /// Forgets what it has not sent.
    fn abandon(self: Pin<&mut Self>);
}

enum Outlet {
    Bytes {
        frames: FramedWrite<Counted>,
        overhead: usize,
        /// For each message given and not wholly taken, how many bytes will have been taken then.
        ends: VecDeque<u64>,
        /// How many bytes were given.
        bytes: u64,
    },
    Messages {
        sender: Pin<Box<dyn MessageSink>>,
        /// How many were given and may still wait: one at most.
        unsure: usize,
        /// How many were taken and not yet asked for.
        taken: usize,
    },
}

impl Link {
    pub(crate) fn bytes(
        reader: BoxHalf,
        writer: ByteWriter,
        framing: Framing,
        pace: Pace,
        knows: bool,
    ) -> Self {
        let overhead = framing.overhead();
        let writer = Counted { writer, taken: 0 };
        Self {
            sink: Outlet::Bytes {
                frames: FramedWrite::new(writer, framing).with_pace(pace),
                overhead,
                ends: VecDeque::new(),
                bytes: 0,
            },
            unwanted: Unwanted::new(Rest::Bytes(reader)),
            given: 0,
            knows,
            parting: None,
        }
    }

    /// One that keeps message boundaries, and whose peer gets what the system has taken.
    pub(crate) fn messages(sender: impl MessageSink + 'static, rest: MessageReceiver) -> Self {
        Self {
            sink: Outlet::Messages {
                sender: Box::pin(sender),
                unsure: 0,
                taken: 0,
            },
            unwanted: Unwanted::new(Rest::Messages(Box::new(rest))),
            given: 0,
            knows: true,
            parting: None,
        }
    }

    /// How many messages it was given.
    pub(super) fn given(&self) -> u64 {
        self.given
    }

    /// How many messages more the system has wholly taken, of those given first.
    pub(super) fn taken(&mut self) -> usize {
        match &mut self.sink {
            Outlet::Bytes { frames, ends, .. } => {
                let written = frames.get_ref().taken;
                let before = ends.len();
                while ends.front().is_some_and(|end| *end <= written) {
                    ends.pop_front();
                }
                before - ends.len()
            }
            Outlet::Messages { taken, .. } => std::mem::take(taken),
        }
    }

    /// Whether messages that the system had taken may have been lost with this connection.
    pub(super) fn may_have_lost(&mut self, error: &io::Error) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        let reset = |e: &io::Error| e.kind() == io::ErrorKind::ConnectionReset;
        // A peer that is closed with something unread says so in its own direction.
        let unread =
            matches!(self.unwanted.poll_discard(&mut cx), Poll::Ready(Err(e)) if reset(&e));
        !self.knows || unread || reset(error)
    }

    /// Gives it a message. An error is of this message (too large), or of the connection.
    pub(super) fn give(&mut self, body: Bytes) -> io::Result<()> {
        match &mut self.sink {
            Outlet::Bytes {
                frames,
                overhead,
                ends,
                bytes,
            } => {
                let len = body.len() + *overhead;
                Pin::new(frames).start_send(body)?;
                *bytes += len as u64;
                ends.push_back(*bytes);
            }
            Outlet::Messages { sender, unsure, .. } => {
                sender.as_mut().start_send(body)?;
                *unsure += 1;
            }
        }
        self.given += 1;
        Ok(())
    }

    pub(super) fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let ready = match &mut self.sink {
            Outlet::Bytes { frames, .. } => Pin::new(frames).poll_ready(cx),
            Outlet::Messages { sender, .. } => sender.as_mut().poll_ready(cx),
        };
        self.sure(&ready);
        ready
    }

    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = match &mut self.sink {
            Outlet::Bytes { frames, .. } => Pin::new(frames).poll_flush(cx),
            Outlet::Messages { sender, .. } => sender.as_mut().poll_flush(cx),
        };
        self.sure(&flushed);
        flushed
    }

    /// Sends what it was given, ends this direction, and waits until the peer has ended its own and
    /// all has arrived there: then the peer has read all, if it did not end its direction first.
    /// `false`: that did not come within [`FAREWELL`].
    pub(super) fn poll_part(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        if self.parting.is_none() {
            ready!(self.poll_flush(cx))?;
            ready!(match &mut self.sink {
                Outlet::Bytes { frames, .. } => Pin::new(frames).poll_close(cx),
                Outlet::Messages { sender, .. } => sender.as_mut().poll_close(cx),
            })?;
        }
        let Parting { limit, tick } = self.parting.get_or_insert_with(|| Parting {
            limit: Box::pin(sleep(FAREWELL)),
            tick: Box::pin(sleep(Duration::ZERO)),
        });
        loop {
            let ended = self.unwanted.poll_discard(cx)?.is_ready();
            if ended && self.unwanted.undelivered()? == 0 {
                return Poll::Ready(Ok(true));
            }
            if limit.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Ok(false));
            }
            if !ended {
                return Poll::Pending;
            }
            ready!(tick.as_mut().poll(cx));
            tick.as_mut().reset(Instant::now() + TICK);
        }
    }

    /// Lets go of it, with what it has not sent.
    pub(super) fn abandon(self) {
        match self.sink {
            Outlet::Bytes { frames, .. } => drop(frames.into_parts()),
            Outlet::Messages { mut sender, .. } => sender.as_mut().abandon(),
        }
    }

    /// Throws away what the peer says; ready when it has ended its direction.
    pub(super) fn poll_discard(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.unwanted.poll_discard(cx)
    }

    /// A packet that may have waited is sent if the sink says that nothing waits.
    fn sure(&mut self, result: &Poll<io::Result<()>>) {
        if let Outlet::Messages { unsure, taken, .. } = &mut self.sink
            && matches!(result, Poll::Ready(Ok(())))
        {
            *taken += std::mem::take(unsure);
        }
    }
}

/// Counts what the system takes.
struct Counted {
    writer: ByteWriter,
    taken: u64,
}

impl Counted {
    fn count(&mut self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(n)) = &written {
            self.taken += *n as u64;
        }
        written
    }
}

impl AsyncWrite for Counted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.writer).poll_write(cx, buf);
        self.count(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.writer).poll_write_vectored(cx, bufs);
        self.count(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.writer.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.writer).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.writer).poll_shutdown(cx)
    }
}
