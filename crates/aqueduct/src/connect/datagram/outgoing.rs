//! [`Outgoing`]: the sending half of a datagram socket.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
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

/// Pauses between the attempts to send a reply: the kernel reports free room only for the receiver
/// that a socket is connected to.
const PAUSES: Backoff = Backoff::new(Duration::from_millis(1), Duration::from_millis(100));

/// How many replies are discarded with each send, at most.
const DISCARDS: usize = 16;

/// Where messages go.
#[derive(Clone, Debug)]
pub(super) enum To {
    /// The peer that the socket is connected to.
    Peer,
    Name(SockAddr),
    /// A sender that has no name.
    Nobody,
}

/// A sink of messages. It holds one message at most, while the receiver has no room.
pub(super) struct Outgoing {
    socket: Arc<Datagrams>,
    to: To,
    waiting: Option<Bytes>,
    pause: Option<Pin<Box<Sleep>>>,
    pauses: Backoff,
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
            closed: false,
        }
    }

    /// Discards replies once nobody can receive them, so that the peer does not wait for room here.
    /// An error is that of an earlier send.
    fn discard(&self) -> io::Result<()> {
        if !self.socket.discards.load(Ordering::Relaxed) {
            return Ok(());
        }
        for _ in 0..DISCARDS {
            match recv_datagram(&self.socket.source, &mut []) {
                Ok(_) => {}
                Err(e) if is_temporary(&e) => break,
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    fn send_now(&self, body: &[u8]) -> io::Result<()> {
        match &self.to {
            To::Peer => self.socket.send_now(body, None),
            To::Name(name) => self.socket.send_now(body, Some(name)),
            // An empty reply carries nothing that could be lost.
            To::Nobody if body.is_empty() => Ok(()),
            To::Nobody => Err(io::Error::new(
                io::ErrorKind::NotConnected,
                "cannot reply: the sender's socket has no name",
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
        // Also after an error: sending the same message again would fail again.
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
        // Pending whenever `poll_ready` is, also without budget: callers that flush until there is room
        // would spin otherwise.
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
