//! [`Outgoing`]: messages on their way out of a datagram socket.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures_sink::Sink;
use socket2::{SockAddr, SockRef};
use tokio::task::coop::poll_proceed;

use super::Datagrams;
use crate::connect::link::MessageSink;
use crate::frame::FrameError;
use crate::io::backoff::Backoff;
use crate::io::source::Direction;
use crate::io::sys::recv_datagram;
use crate::io::timer::{Sleep, sleep};

/// Pauses before a reply is tried again: the kernel does not tell when a receiver that the socket is
/// not connected to has room.
const PAUSES: Backoff = Backoff::new(Duration::from_millis(1), Duration::from_millis(100));

/// How many unwanted datagrams are discarded at a time.
const DISCARDS: usize = 16;

/// Where messages go.
#[derive(Clone, Debug)]
pub(super) enum To {
    /// To the peer that the socket is connected to.
    Peer,
    Name(SockAddr),
    /// To a sender that has no name.
    Nobody,
}

/// A sink of messages. At most one waits in it, while its receiver has no room.
pub(super) struct Outgoing {
    socket: Arc<Datagrams>,
    to: To,
    waiting: Option<Bytes>,
    pause: Option<Pin<Box<Sleep>>>,
    pauses: Backoff,
    /// Whether what the peer sends is discarded.
    discards: bool,
    closed: bool,
}

impl Outgoing {
    pub(super) fn new(socket: Arc<Datagrams>, to: To) -> Self {
        Self {
            socket,
            to,
            waiting: None,
            pause: None,
            pauses: PAUSES,
            discards: false,
            closed: false,
        }
    }

    /// Discards what the peer sends, so that it never waits for room here.
    pub(super) fn discarding(mut self) -> Self {
        self.discards = true;
        self
    }

    /// Discards what the peer has sent. An error is of what was sent before.
    fn discard(&self) -> io::Result<()> {
        for _ in 0..DISCARDS {
            match self
                .discards
                .then(|| recv_datagram(&self.socket.source, &mut []))
            {
                Some(Ok(_)) => {}
                Some(Err(e)) if !is_temporary(&e) => return Err(e),
                _ => break,
            }
        }
        Ok(())
    }

    fn send_now(&self, body: &[u8]) -> io::Result<()> {
        match &self.to {
            To::Peer => self.socket.send_now(body, None),
            To::Name(name) => self.socket.send_now(body, Some(name)),
            // Nothing is lost with nothing.
            To::Nobody if body.is_empty() => Ok(()),
            To::Nobody => Err(io::Error::new(
                io::ErrorKind::NotConnected,
                "the sender has no name that a reply could go to",
            )),
        }
    }

    fn poll_waiting(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(body) = &self.waiting else {
            return Poll::Ready(Ok(()));
        };
        let sent = match self.to {
            To::Peer => {
                let source = self.socket.writing()?;
                let send = |_: std::os::fd::BorrowedFd<'_>| self.send_now(body);
                ready!(source.poll_io(cx, Direction::Write, send))
            }
            _ => loop {
                if let Some(pause) = &mut self.pause {
                    ready!(pause.as_mut().poll(cx));
                    self.pause = None;
                }
                match self.send_now(body) {
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                        self.pause = Some(Box::pin(sleep(self.pauses.pause())));
                    }
                    sent => break sent,
                }
            },
        };
        self.pauses.reset();
        // Sent or not: what failed once would fail each time.
        self.waiting = None;
        Poll::Ready(sent)
    }
}

impl Sink<Bytes> for Outgoing {
    type Error = io::Error;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let proceed = ready!(poll_proceed(cx));
        self.discard()?;
        ready!(self.poll_waiting(cx))?;
        proceed.made_progress();
        Poll::Ready(Ok(()))
    }

    fn start_send(mut self: Pin<&mut Self>, body: Bytes) -> io::Result<()> {
        if self.closed {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        if self.waiting.is_some() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "start_send without a poll_ready before it",
            ));
        }
        let (len, max) = (body.len(), self.socket.max_send);
        if len > max {
            return Err(FrameError::TooLarge { len, max }.into());
        }
        match self.send_now(&body) {
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                self.waiting = Some(body);
                Ok(())
            }
            sent => sent,
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Pending where `poll_ready` is, also for want of budget: some callers flush until there is
        // room, and would spin.
        drop(ready!(poll_proceed(cx)));
        self.discard()?;
        ready!(self.poll_waiting(cx))?;
        if self.socket.reports
            && let Some(error) = SockRef::from(&self.socket.source).take_error()?
        {
            return Poll::Ready(Err(error));
        }
        Poll::Ready(Ok(()))
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.as_mut().poll_flush(cx))?;
        self.closed = true;
        Poll::Ready(Ok(()))
    }
}

fn is_temporary(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
    )
}

impl MessageSink for Outgoing {
    fn abandon(mut self: Pin<&mut Self>) {
        self.waiting = None;
    }

    fn was_reset(&self) -> bool {
        false
    }
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        if let Some(message) = &self.waiting {
            tracing::warn!(
                target: "aqueduct::unsent",
                bytes = message.len(),
                "dropped with a message unsent"
            );
        }
    }
}
