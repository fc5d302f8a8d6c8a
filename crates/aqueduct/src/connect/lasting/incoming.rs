//! The receiving direction of [`Lasting`].

use std::io;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};

use futures_core::Stream;
use tokio::task::coop;

use super::{Lasting, State, ended_by_peer};
use crate::connect::link::Link;
use crate::connect::message::Message;
use crate::connect::receiver::MessageReceiver;
use crate::connect::reconnect::ReconnectEvent;
use crate::frame::Late;

/// How many broken connections are kept for messages that they had received.
pub(super) const MAX_UNREAD: usize = 8;

impl Lasting {
    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Message>>> {
        if self.left == Some(0) {
            return Poll::Ready(None);
        }
        let item = match ready!(self.poll_unread(cx)) {
            Some(message) => Some(Ok(message)),
            None => ready!(self.poll_live(cx)),
        };
        if let (Some(Ok(_)), Some(left)) = (&item, &mut self.left) {
            *left -= 1;
        }
        Poll::Ready(item)
    }

    fn poll_live(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Message>>> {
        loop {
            if self.stopped && !matches!(self.state, State::Up(_)) {
                return Poll::Ready(None);
            }
            let up = ready!(self.poll_up(cx));
            let link = match (&mut self.state, up) {
                (State::Up(link), Ok(())) => link,
                (State::GaveUp(_), Err(error)) => return Poll::Ready(Some(Err(error))),
                _ => return Poll::Ready(None),
            };
            if self.stopped && !self.sending {
                // The only message that TCP has for a peer.
                let _ = link.poll_close(cx);
            }
            match ready!(link.poll_next(cx)) {
                Ok(item) => return Poll::Ready(Some(item)),
                // This end was closed and the peer has read everything: this is its end of stream.
                Err(error) if link.is_closed() => {
                    self.change(State::Closed);
                    return Poll::Ready(error.filter(|_| !self.stopped).map(Err));
                }
                Err(error) => drop(self.lose(error.unwrap_or_else(ended_by_peer), false)),
            }
        }
    }

    /// Keeps the receiving direction of a broken connection, if it may have more.
    pub(super) fn keep_unread(&mut self, incoming: Option<MessageReceiver>) {
        self.unread.extend(incoming.filter(|_| self.receiving));
        if self.unread.len() > MAX_UNREAD {
            self.unread.pop_front();
            self.tell(&ReconnectEvent::Unread);
        }
    }

    /// Polls for the next message of a broken connection; `None` if all that had arrived was
    /// delivered.
    fn poll_unread(&mut self, cx: &mut Context<'_>) -> Poll<Option<Message>> {
        while let Some(incoming) = self.unread.front_mut() {
            match Pin::new(incoming).poll_next(cx) {
                Poll::Ready(Some(Ok(message))) => return Poll::Ready(Some(message)),
                // It waited for its turn, not for the peer.
                Poll::Pending if !coop::has_budget_remaining() => return Poll::Pending,
                _ => drop(self.unread.pop_front()),
            }
        }
        Poll::Ready(None)
    }

    /// What becomes of replies that are given up.
    pub(super) fn late(&mut self, owed: u64, sent: u64) -> Late {
        let lost = self.broken.load(Ordering::Relaxed);
        let asked = self.state.link().map_or(0, |link| link.given());
        let is_kept = !self.kept.is_empty();
        // Only a connection that has replaced theirs was given as little.
        if !is_kept && owed > 0 && asked <= sent {
            self.unread.clear();
            return Late::Dropped;
        }
        let lates = self.each_incoming().map(|it| it.late(owed, sent));
        let lates: Vec<_> = lates.collect();
        if lates.contains(&Late::Unknown) {
            return Late::Unknown;
        }
        match !is_kept && !lates.is_empty() && lates.iter().all(|it| *it == Late::Dropped) {
            true => Late::Dropped,
            false => Late::InOrder { lost },
        }
    }

    /// Nobody receives any more: incoming data is discarded.
    pub(super) fn refuse(&mut self) {
        self.receiving = false;
        self.unread.clear();
        self.state = match std::mem::replace(&mut self.state, State::Idle) {
            State::Up(link) => State::Up(Box::new(link.refuse())),
            state => state,
        };
    }

    pub(super) fn each_incoming(&mut self) -> impl Iterator<Item = &mut MessageReceiver> {
        let live = self.state.link().and_then(Link::incoming);
        self.unread.iter_mut().chain(live)
    }
}
