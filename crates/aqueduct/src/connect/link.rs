//! [`Link`]: one connection of an end that reconnects.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::Bytes;
use futures_core::Stream;
use futures_sink::Sink;
use tokio::io::AsyncWrite;
use tokio::time::Instant;

use super::byte_stream::ByteWriter;
use super::half::BoxHalf;
use super::message::Message;
use super::receiver::MessageReceiver;
use super::send_only::{Rest, Unwanted};
use super::sender::MessageSender;
use crate::frame::{FrameError, FramedWrite, Framing, Pace};
use crate::io::timer::{Sleep, sleep};

/// One connection of an end that reconnects, and which of its messages the system has taken.
pub(crate) struct Link {
    outlet: Outlet,
    incoming: Incoming,
    fate: Fate,
    given: u64,
    received: bool,
    since: Instant,
    /// Its sending direction was ended.
    closed: bool,
    /// Whether the peer can end its own direction.
    ends: bool,
    parting: Option<Parting>,
}

/// What the system reports about messages that it has taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Nothing.
    Unknown,
    /// Whether all of them have arrived, if the connection ends in order.
    Arrival,
    /// The peer can read them as long as it lives, and an error reports that it closed without
    /// doing so.
    Readable,
}

/// The waits of a connection whose sending direction was ended: the total limit, and the next look.
struct Parting {
    limit: Pin<Box<Sleep>>,
    tick: Pin<Box<Sleep>>,
}

/// How long closing waits for the peer to read everything, which it shows by ending its own
/// direction.
const FAREWELL: Duration = Duration::from_secs(10);

/// How often to check whether everything has arrived.
const TICK: Duration = Duration::from_millis(2);

/// A sink of whole messages that can be abandoned with something unsent.
pub(crate) trait MessageSink: Sink<Bytes, Error = io::Error> + Send {
    /// Discards what it has not sent.
    fn abandon(self: Pin<&mut Self>);

    /// Whether the peer has closed with messages unread, which the receiving direction has yet to
    /// report.
    fn was_reset(&self) -> bool;
}

enum Incoming {
    Wanted(MessageReceiver),
    Unwanted(Unwanted),
}

enum Outlet {
    Bytes {
        frames: FramedWrite<Counted>,
        /// For each message not wholly taken: the count of bytes taken once it is.
        ends: VecDeque<u64>,
    },
    Messages {
        sender: Pin<Box<dyn MessageSink>>,
        /// How many messages were given and may still wait: one at most.
        unsure: usize,
        /// How many messages were taken and not yet reported.
        taken: usize,
    },
    /// A sink that reports nothing: a message given to it counts as taken.
    Frames { sender: MessageSender, taken: usize },
}

impl Link {
    /// Over a byte stream whose peer is not listened to.
    pub(super) fn bytes(writer: ByteWriter, reader: BoxHalf, framing: Framing, pace: Pace) -> Self {
        let outlet = Outlet::bytes(writer, framing, pace);
        let unwanted = Unwanted::new(Rest::Bytes(reader));
        Self::new(outlet, Incoming::Unwanted(unwanted), Fate::Unknown)
    }

    /// Over a byte stream that is used in both directions.
    pub(super) fn two_way(
        writer: ByteWriter,
        incoming: MessageReceiver,
        framing: Framing,
        pace: Pace,
    ) -> Self {
        let outlet = Outlet::bytes(writer, framing, pace);
        Self::new(outlet, Incoming::Wanted(incoming), Fate::Unknown)
    }

    /// Over messages, where the peer gets what the system has taken.
    pub(crate) fn messages(sender: impl MessageSink + 'static, incoming: MessageReceiver) -> Self {
        let outlet = Outlet::Messages {
            sender: Box::pin(sender),
            unsure: 0,
            taken: 0,
        };
        Self::new(outlet, Incoming::Wanted(incoming), Fate::Readable)
    }

    /// Over any ends.
    pub(crate) fn frames(sender: MessageSender, incoming: MessageReceiver) -> Self {
        let outlet = Outlet::Frames { sender, taken: 0 };
        Self::new(outlet, Incoming::Wanted(incoming), Fate::Unknown)
    }

    fn new(outlet: Outlet, incoming: Incoming, fate: Fate) -> Self {
        Self {
            outlet,
            incoming,
            fate,
            given: 0,
            received: false,
            since: Instant::now(),
            closed: false,
            ends: true,
            parting: None,
        }
    }

    pub(super) fn with_fate(mut self, fate: Fate) -> Self {
        self.fate = fate;
        self
    }

    /// Does not wait for the end of the peer's direction, because it has none.
    pub(crate) fn without_end(mut self) -> Self {
        self.ends = false;
        self
    }

    /// Discards what the peer sends from now on.
    pub(super) fn refuse(self) -> Self {
        let incoming = match self.incoming {
            Incoming::Wanted(receiver) => {
                Incoming::Unwanted(Unwanted::new(Rest::Messages(Box::new(receiver))))
            }
            unwanted => unwanted,
        };
        Self { incoming, ..self }
    }

    /// Returns the receiving direction, if it is used.
    pub(super) fn incoming(&mut self) -> Option<&mut MessageReceiver> {
        match &mut self.incoming {
            Incoming::Wanted(receiver) => Some(receiver),
            Incoming::Unwanted(_) => None,
        }
    }

    /// Returns how many messages it was given.
    pub(super) fn given(&self) -> u64 {
        self.given
    }

    /// Whether its sending direction was ended.
    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }

    /// Whether something was received, or it has lasted for at least `long`.
    pub(super) fn has_lasted(&self, long: Duration) -> bool {
        self.received || self.since.elapsed() >= long
    }

    /// Returns how many more messages the system has wholly taken, in the order they were given.
    pub(super) fn taken(&mut self) -> usize {
        match &mut self.outlet {
            Outlet::Bytes { frames, ends, .. } => {
                let written = frames.get_ref().taken;
                let before = ends.len();
                while ends.front().is_some_and(|end| *end <= written) {
                    ends.pop_front();
                }
                before - ends.len()
            }
            Outlet::Messages { taken, .. } | Outlet::Frames { taken, .. } => std::mem::take(taken),
        }
    }

    /// Whether messages that the system has taken may be lost with this connection, which ended in
    /// order or by an error.
    pub(super) fn may_have_lost(&mut self, error: &io::Error, in_order: bool) -> bool {
        let reset = |e: &io::Error| e.kind() == io::ErrorKind::ConnectionReset;
        match (&mut self.incoming, self.fate) {
            (_, Fate::Unknown) | (Incoming::Wanted(_), _) => true,
            _ if in_order => false,
            (_, Fate::Arrival) => true,
            (Incoming::Unwanted(unwanted), Fate::Readable) => {
                // A peer that closes with something unread reports it in its own direction.
                let mut cx = Context::from_waker(Waker::noop());
                let unread = unwanted.poll_discard(&mut cx);
                reset(error)
                    || matches!(unread, Poll::Ready(Err(e)) if reset(&e))
                    || matches!(&self.outlet, Outlet::Messages { sender, .. } if sender.was_reset())
            }
        }
    }

    /// Whether it takes a message without having been polled for readiness.
    pub(super) fn takes_any(&self) -> bool {
        matches!(self.outlet, Outlet::Bytes { .. })
    }

    /// Gives it a message. An error is of this message (too large), or of the connection.
    pub(super) fn give(&mut self, body: Bytes) -> io::Result<()> {
        let given = match &mut self.outlet {
            Outlet::Bytes { frames, ends } => {
                let given = Pin::new(&mut *frames).start_send(body);
                if given.is_ok() {
                    ends.push_back(frames.get_ref().taken + frames.unsent() as u64);
                }
                given
            }
            Outlet::Messages { sender, unsure, .. } => {
                let given = sender.as_mut().start_send(body);
                *unsure += usize::from(given.is_ok());
                given
            }
            Outlet::Frames { sender, taken } => {
                let given = Pin::new(sender).start_send(Message::new(body));
                // The message may have been taken even after an error of the connection.
                *taken += usize::from(!given.as_ref().is_err_and(is_refusal));
                given
            }
        };
        self.given += u64::from(!given.as_ref().is_err_and(is_refusal));
        given
    }

    pub(super) fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let ready = match &mut self.outlet {
            Outlet::Bytes { frames, .. } => Pin::new(frames).poll_ready(cx),
            Outlet::Messages { sender, .. } => sender.as_mut().poll_ready(cx),
            Outlet::Frames { sender, .. } => Pin::new(sender).poll_ready(cx),
        };
        self.sure(&ready);
        ready
    }

    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = match &mut self.outlet {
            Outlet::Bytes { frames, .. } => Pin::new(frames).poll_flush(cx),
            Outlet::Messages { sender, .. } => sender.as_mut().poll_flush(cx),
            Outlet::Frames { sender, .. } => Pin::new(sender).poll_flush(cx),
        };
        self.sure(&flushed);
        flushed
    }

    /// Sends what it was given, and ends this direction.
    pub(super) fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.closed {
            ready!(self.poll_flush(cx))?;
            ready!(match &mut self.outlet {
                Outlet::Bytes { frames, .. } => Pin::new(frames).poll_close(cx),
                Outlet::Messages { sender, .. } => sender.as_mut().poll_close(cx),
                Outlet::Frames { sender, .. } => Pin::new(sender).poll_close(cx),
            })?;
            self.closed = true;
        }
        Poll::Ready(Ok(()))
    }

    /// Ends this direction, and waits until the peer has ended its own and everything has arrived.
    /// The peer has then read everything, unless it ended its direction first. `false`: that did
    /// not happen within [`FAREWELL`].
    pub(super) fn poll_part(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        ready!(self.poll_close(cx))?;
        if !self.ends {
            return Poll::Ready(Ok(true));
        }
        loop {
            let ended = self.poll_discard(cx)?.is_ready();
            if ended && self.undelivered()? == 0 {
                return Poll::Ready(Ok(true));
            }
            let Parting { limit, tick } = self.parting.get_or_insert_with(|| Parting {
                limit: Box::pin(sleep(FAREWELL)),
                tick: Box::pin(sleep(TICK)),
            });
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

    fn undelivered(&self) -> io::Result<usize> {
        match &self.incoming {
            Incoming::Unwanted(unwanted) => unwanted.undelivered(),
            Incoming::Wanted(_) => Ok(0),
        }
    }

    /// Abandons it with what it has not sent. The receiving direction may have more.
    pub(super) fn abandon(self) -> Option<MessageReceiver> {
        match self.outlet {
            Outlet::Bytes { frames, .. } => drop(frames.into_parts()),
            Outlet::Messages { mut sender, .. } => sender.as_mut().abandon(),
            Outlet::Frames { .. } => {}
        }
        match self.incoming {
            Incoming::Wanted(receiver) => Some(receiver),
            Incoming::Unwanted(_) => None,
        }
    }

    /// Polls for the next message, an error of one message only, or why the connection is unusable.
    pub(super) fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<io::Result<Message>, Option<io::Error>>> {
        let Incoming::Wanted(receiver) = &mut self.incoming else {
            return Poll::Ready(Err(None));
        };
        let next = ready!(Pin::new(receiver).poll_next(cx));
        Poll::Ready(match next {
            Some(Ok(message)) => {
                self.received = true;
                Ok(Ok(message))
            }
            // A refused frame is the end of the framing of a byte stream.
            Some(Err(error))
                if is_refusal(&error) && matches!(self.outlet, Outlet::Messages { .. }) =>
            {
                Ok(Err(error))
            }
            Some(Err(error)) => Err(Some(error)),
            None => Err(None),
        })
    }

    /// Discards what the peer sends; ready when it has ended its direction.
    pub(super) fn poll_discard(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.incoming {
            Incoming::Unwanted(unwanted) => unwanted.poll_discard(cx),
            Incoming::Wanted(_) => Poll::Pending,
        }
    }

    /// A packet that may have waited is sent if the sink says that nothing waits.
    fn sure(&mut self, result: &Poll<io::Result<()>>) {
        if let Outlet::Messages { unsure, taken, .. } = &mut self.outlet
            && matches!(result, Poll::Ready(Ok(())))
        {
            *taken += std::mem::take(unsure);
        }
    }
}

impl Outlet {
    fn bytes(writer: ByteWriter, framing: Framing, pace: Pace) -> Self {
        let writer = Counted { writer, taken: 0 };
        Self::Bytes {
            frames: FramedWrite::new(writer, framing).with_pace(pace),
            ends: VecDeque::new(),
        }
    }
}

/// Whether an error is of one message, and the connection goes on.
pub(super) fn is_refusal(error: &io::Error) -> bool {
    FrameError::of(error).is_some()
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
