//! The sending direction of [`Lasting`].

use std::io;
use std::task::{Context, Poll, ready};

use bytes::Bytes;

use super::{Lasting, State, TARGET, closed};
use crate::connect::link::is_refusal;

/// How many bytes of messages wait at most while no connection takes them.
const HIGH_WATER: usize = 64 * 1024;

impl Lasting {
    /// Forgets the messages that the system has taken.
    pub(super) fn settle(&mut self) {
        let Some(link) = self.state.link() else {
            return;
        };
        for _ in 0..link.taken() {
            if let Some(message) = self.kept.pop_front() {
                self.kept_bytes -= message.len();
                self.given -= 1;
                self.unused = 0;
            }
        }
    }

    /// Gives everything that is kept to a connection. An error: a message that was accepted without
    /// a connection to ask is refused, or there is none.
    fn poll_give(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.given < self.kept.len() {
            ready!(self.poll_up(cx))?;
            let State::Up(link) = &mut self.state else {
                continue;
            };
            let ready = link.poll_ready(cx);
            self.settle();
            if let Err(error) = ready!(ready) {
                self.lose(error, false);
                continue;
            }
            let (State::Up(link), Some(body)) = (&mut self.state, self.kept.get(self.given)) else {
                continue;
            };
            let (len, given) = (body.len(), link.give(body.clone()));
            self.given += 1;
            match given {
                Ok(()) => self.settle(),
                Err(error) if is_refusal(&error) => {
                    self.given -= 1;
                    self.kept.remove(self.given);
                    self.kept_bytes -= len;
                    return Poll::Ready(Err(error));
                }
                Err(error) => drop(self.lose(error, false)),
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Sends everything that is kept. Ready if nothing is kept: no connection is needed then.
    pub(super) fn poll_sent(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            ready!(self.poll_give(cx))?;
            match &self.state {
                State::Made(_) | State::Up(_) | State::Leaving(_) => {}
                _ if self.kept.is_empty() => return Poll::Ready(Ok(())),
                _ => {}
            }
            // Also to see that the peer wants to be left.
            match self.poll_up(cx) {
                Poll::Pending if !self.kept.is_empty() => return Poll::Pending,
                // It was left, and no other one is needed.
                Poll::Ready(Err(_))
                    if self.kept.is_empty() && matches!(self.state, State::Closed) =>
                {
                    return Poll::Ready(Ok(()));
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                _ => {}
            }
            let State::Up(link) = &mut self.state else {
                return Poll::Ready(Ok(()));
            };
            let flushed = link.poll_flush(cx);
            self.settle();
            match flushed {
                Poll::Ready(Ok(())) if self.kept.is_empty() => return Poll::Ready(Ok(())),
                Poll::Ready(Ok(())) if self.given < self.kept.len() => {}
                Poll::Ready(Ok(())) => drop(self.lose(io::ErrorKind::BrokenPipe.into(), false)),
                Poll::Ready(Err(error)) => drop(self.lose(error, false)),
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    pub(super) fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            if self.closing {
                return Poll::Ready(Err(closed()));
            }
            ready!(self.poll_up(cx))?;
            ready!(self.poll_give(cx))?;
            let State::Up(link) = &mut self.state else {
                continue;
            };
            let ready = link.poll_ready(cx);
            self.settle();
            match ready {
                Poll::Ready(Err(error)) => drop(self.lose(error, false)),
                _ if self.kept_bytes >= HIGH_WATER => ready!(self.poll_sent(cx))?,
                ready => {
                    self.ready = ready.is_ready();
                    return ready;
                }
            }
        }
    }

    pub(super) fn start_send(&mut self, body: Bytes) -> io::Result<()> {
        match &self.state {
            State::GaveUp(error) if self.receiving => return Err(error.clone().into()),
            _ if self.closing => return Err(closed()),
            _ => {}
        }
        let ready = std::mem::take(&mut self.ready);
        let behind = self.given < self.kept.len();
        let len = body.len();
        let given = match &mut self.state {
            State::Up(link) if !behind && (ready || link.takes_any()) => {
                let given = link.give(body.clone());
                if given.as_ref().is_err_and(is_refusal) {
                    return given;
                }
                self.given += 1;
                given
            }
            _ => Ok(()),
        };
        self.kept.push_back(body);
        self.kept_bytes += len;
        match given {
            Ok(()) => self.settle(),
            Err(error) => drop(self.lose(error, false)),
        }
        Ok(())
    }

    pub(super) fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.closing = true;
        loop {
            match &mut self.state {
                State::Closed => return Poll::Ready(Ok(())),
                State::GaveUp(_) if self.kept.is_empty() => return Poll::Ready(Ok(())),
                State::Parting(link) => match ready!(link.poll_part(cx)) {
                    Ok(known) => {
                        if !known {
                            tracing::warn!(
                                target: TARGET, address = %self.address,
                                "everything was sent, but the peer did not confirm reading it"
                            );
                        }
                        if let State::Parting(link) =
                            std::mem::replace(&mut self.state, State::Closed)
                        {
                            link.abandon();
                        }
                    }
                    Err(error) => {
                        let told = io::Error::from(error.kind());
                        if self.lose(error, false) {
                            self.state = State::Closed;
                            return Poll::Ready(Err(told));
                        }
                    }
                },
                _ => {
                    ready!(self.poll_sent(cx))?;
                    match std::mem::replace(&mut self.state, State::Idle) {
                        State::Up(link) if !self.receiving => self.state = State::Parting(link),
                        State::Up(mut link) => {
                            // The receiving half delivers the rest.
                            let closed = link.poll_close(cx);
                            self.state = State::Up(link);
                            match ready!(closed) {
                                Ok(()) => return Poll::Ready(Ok(())),
                                Err(error) => drop(self.lose(error, false)),
                            }
                        }
                        State::GaveUp(error) => {
                            self.state = State::GaveUp(error);
                        }
                        _ => self.change(State::Closed),
                    }
                }
            }
        }
    }
}
