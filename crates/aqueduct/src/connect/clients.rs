//! [`Clients`]: all clients of a listener, as one stream of messages.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use futures_core::Stream;
use futures_util::stream::SelectAll;
use tokio::task::coop;
use tokio::time::Instant;

use super::accept::Bound;
use super::connection::Connection;
use super::message::Message;
use super::options::ClientLimits;
use super::peer::Peer;
use super::receiver::{Inlet, MessageReceiver};
use super::timeouts::{Limit, Timeouts, Timer};

/// How many warnings about clients are logged in each [`WINDOW`]; further ones are counted.
const WARNINGS: u32 = 10;
const WINDOW: Duration = Duration::from_secs(10);

/// ```text
/// Listening ── stop ──> Closing ── backlog is empty ──> Draining ── last client ends ──> over
///     └───────────────────── accept fails ────────────────>┘
/// ```
struct Clients {
    /// `None`: no more are accepted.
    listener: Option<Bound>,
    /// Accepts the clients that wait, and then no more.
    closing: bool,
    local: String,
    limits: ClientLimits,
    clients: SelectAll<Client>,
    all: Arc<All>,
    /// How many messages may still be delivered, if limited.
    left: Option<u64>,
    /// Since when nobody has asked for the next message.
    away: Option<Instant>,
    warnings: Warnings,
}

/// State shared by all clients of a listener.
#[derive(Default)]
struct All {
    /// For how long nobody asked for messages, in total, in microseconds. This time does not count
    /// against the clients.
    away: AtomicU64,
    /// How many clients have sent no message yet.
    silent: AtomicUsize,
}

impl Bound {
    /// Receives from all clients at the same time.
    pub(crate) fn into_receiver(mut self) -> MessageReceiver {
        if let Some(connection) = self.take_single() {
            return connection.into_receiver();
        }
        match self.take_receiver() {
            Some(receiver) => receiver,
            None => MessageReceiver::new(Clients::new(self)),
        }
    }
}

impl Clients {
    fn new(listener: Bound) -> Self {
        Self {
            local: listener.address().to_owned(),
            limits: listener.limits,
            listener: Some(listener),
            closing: false,
            clients: SelectAll::new(),
            all: Arc::default(),
            left: None,
            away: None,
            warnings: Warnings::default(),
        }
    }

    /// Accepts waiting clients while there is room. Pending: none waits, or none has room. An error
    /// is the last result of accepting.
    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        while self.clients.len() < self.limits.connections {
            if let Err(error) = ready!(self.poll_take(cx)) {
                return Poll::Ready(error);
            }
        }
        Poll::Pending
    }

    /// Accepts one client. Pending: none waits.
    fn poll_take(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(listener) = &mut self.listener else {
            return Poll::Pending;
        };
        let next = if self.closing {
            listener.accept_now().transpose()
        } else {
            ready!(listener.poll_accept(cx))
        };
        match next {
            Some(Ok(connection)) => self.take(connection),
            Some(Err(error)) => {
                self.listener = None;
                return Poll::Ready(Err(error));
            }
            None => self.listener = None,
        }
        Poll::Ready(Ok(()))
    }

    fn take(&mut self, connection: Connection) {
        let peer = connection.peer().clone();
        tracing::debug!(target: TARGET, address = %self.local, %peer, "a client came");
        let mut incoming = connection.collecting().into_receiver();
        if self.closing {
            incoming.stop();
        }
        let client = Client::new(incoming, peer, self.limits, Arc::clone(&self.all));
        self.clients.push(client);
    }

    /// When all places are taken, gives the place of the client that has been silent longest,
    /// without ever sending a message, to a waiting one.
    fn poll_replace(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let silent = self.all.silent.load(Ordering::Relaxed) > 0;
        // Without budget, clients seem to have nothing to deliver; this is called again.
        if self.closing || !silent || !coop::has_budget_remaining() {
            return Poll::Pending;
        }
        ready!(self.poll_take(cx))?;
        let silent = self.clients.iter_mut().filter(|it| it.is_silent());
        if let Some(client) = silent.min_by_key(|it| (it.has_begun(), it.came)) {
            let peer = client.peer.clone();
            client.leave();
            let most = self.limits.connections;
            self.warn(format_args!(
                "all {most} places were taken: closed the connection of {peer}, which had sent no \
                 message yet"
            ));
        }
        Poll::Ready(Ok(()))
    }

    fn warn(&mut self, sentence: std::fmt::Arguments<'_>) {
        let address = &self.local;
        let Some(before) = self.warnings.next() else {
            tracing::debug!(target: TARGET, %address, "{sentence}");
            return;
        };
        self.tell_left_out(before);
        tracing::warn!(target: TARGET, address = %self.local, "{sentence}");
    }

    fn tell_left_out(&self, warnings: u64) {
        if warnings > 0 {
            let address = &self.local;
            tracing::warn!(target: TARGET, %address, "{warnings} more like this: a client broke off");
        }
    }
}

impl Drop for Clients {
    fn drop(&mut self) {
        self.tell_left_out(self.warnings.left_out);
    }
}

impl Stream for Clients {
    type Item = io::Result<Message>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        if this.left == Some(0) {
            return Poll::Ready(None);
        }
        if let Some(since) = this.away.take() {
            let away = u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX);
            this.all.away.fetch_add(away, Ordering::Relaxed);
        }
        loop {
            if let Poll::Ready(error) = this.poll_accept(cx) {
                return Poll::Ready(Some(Err(error)));
            }
            let full = this.clients.len() >= this.limits.connections;
            match Pin::new(&mut this.clients).poll_next(cx) {
                Poll::Ready(Some(Ok(message))) => {
                    if let Some(left) = &mut this.left {
                        *left -= 1;
                    }
                    if this.limits.timeouts != Timeouts::NONE {
                        this.away = Some(Instant::now());
                    }
                    return Poll::Ready(Some(Ok(message)));
                }
                Poll::Ready(Some(Err((peer, error)))) => this.warn(format_args!(
                    "a client broke off, and its connection was closed: {peer}: {}",
                    Reason(&error)
                )),
                Poll::Ready(None) if this.listener.is_none() => return Poll::Ready(None),
                // A client has left, so there is room for one more.
                _ if full && this.clients.len() < this.limits.connections => {}
                _ if full => {
                    // Each client has been polled and has nothing to deliver.
                    if let Err(error) = ready!(this.poll_replace(cx)) {
                        return Poll::Ready(Some(Err(error)));
                    }
                }
                _ => return Poll::Pending,
            }
        }
    }
}

impl Inlet for Clients {
    fn stop(mut self: Pin<&mut Self>) {
        self.closing = true;
        if !self.listener.as_ref().is_some_and(Bound::refuse) {
            self.listener = None;
        }
        // Inserted again, so that each is polled once more and can end.
        for mut client in std::mem::take(&mut self.clients) {
            if let Some(incoming) = &mut client.incoming {
                incoming.stop();
            }
            self.clients.push(client);
        }
    }

    fn limit(mut self: Pin<&mut Self>, count: u64) {
        self.left = Some(count);
    }

    fn unfinished(self: Pin<&mut Self>) -> usize {
        let clients = self.get_mut().clients.iter_mut();
        let incoming = clients.filter_map(|it| it.incoming.as_mut());
        incoming.map(MessageReceiver::unfinished).sum()
    }
}

/// A client and its time limits.
struct Client {
    /// `None` once it has to leave.
    incoming: Option<MessageReceiver>,
    peer: Peer,
    limits: ClientLimits,
    all: Arc<All>,
    came: Instant,
    timer: Timer,
    /// It has sent a message.
    has_sent: bool,
    /// Wakes it to leave.
    waker: Option<Waker>,
}

impl Client {
    fn new(incoming: MessageReceiver, peer: Peer, limits: ClientLimits, all: Arc<All>) -> Self {
        all.silent.fetch_add(1, Ordering::Relaxed);
        Self {
            incoming: Some(incoming),
            peer,
            limits,
            all,
            came: Instant::now(),
            timer: Timer::default(),
            has_sent: false,
            waker: None,
        }
    }

    fn is_silent(&self) -> bool {
        // A client that was not polled yet may have a message.
        !self.has_sent && self.incoming.is_some() && self.timer.limit().is_some()
    }

    fn has_begun(&self) -> bool {
        self.timer.limit() == Some(Limit::Message)
    }

    fn speaks(&mut self) {
        if !self.has_sent {
            self.has_sent = true;
            self.all.silent.fetch_sub(1, Ordering::Relaxed);
        }
    }

    fn leave(&mut self) {
        self.speaks();
        self.incoming = None;
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// The client has nothing to deliver: ready when that has lasted too long.
    fn poll_patience(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        if !coop::has_budget_remaining() {
            return Poll::Pending;
        }
        let begun = self
            .incoming
            .as_mut()
            .map_or(0, MessageReceiver::unfinished)
            > 0;
        let limit = match self.has_sent {
            _ if begun => Limit::Message,
            true => Limit::Idle,
            false => Limit::First,
        };
        let away = Duration::from_micros(self.all.away.load(Ordering::Relaxed));
        self.timer.run(limit, self.limits.timeouts.get(limit), away);
        self.timer.poll(cx, away)
    }
}

impl Stream for Client {
    type Item = Result<Message, (Peer, io::Error)>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        let Some(incoming) = &mut this.incoming else {
            return Poll::Ready(None);
        };
        let error = match Pin::new(incoming).poll_next(cx) {
            Poll::Ready(Some(Ok(message))) => {
                this.speaks();
                this.timer.stop();
                return Poll::Ready(Some(Ok(message)));
            }
            Poll::Ready(None) => {
                this.incoming = None;
                return Poll::Ready(None);
            }
            Poll::Ready(Some(Err(error))) => error,
            Poll::Pending => match this.poll_patience(cx) {
                Poll::Ready(error) => error,
                Poll::Pending => {
                    this.waker = (!this.has_sent).then(|| cx.waker().clone());
                    return Poll::Pending;
                }
            },
        };
        this.incoming = None;
        Poll::Ready(Some(Err((this.peer.clone(), error))))
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.speaks();
    }
}

/// Lets a few warnings through and counts the others.
#[derive(Default)]
pub(crate) struct Warnings {
    since: Option<Instant>,
    given: u32,
    left_out: u64,
}

impl Warnings {
    /// Whether a warning may be logged, and how many were left out before.
    pub(crate) fn next(&mut self) -> Option<u64> {
        if self.since.is_none_or(|since| since.elapsed() >= WINDOW) {
            (self.since, self.given) = (Some(Instant::now()), 0);
        }
        if self.given == WARNINGS {
            self.left_out += 1;
            return None;
        }
        self.given += 1;
        Some(std::mem::take(&mut self.left_out))
    }
}

/// An error with its causes, in one line.
struct Reason<'a>(&'a io::Error);

impl std::fmt::Display for Reason<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)?;
        let mut cause = std::error::Error::source(self.0);
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

const TARGET: &str = "aqueduct::connect";
