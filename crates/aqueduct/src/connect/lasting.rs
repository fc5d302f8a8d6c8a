//! [`Lasting`]: the engine of all ends that connect again; [`Reconnect`] has its promise.

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker, ready};
use std::time::Duration;

use bytes::Bytes;
use futures_core::Stream;
use futures_sink::Sink;
use futures_util::task::AtomicWaker;
use tokio::task::coop;
use tokio::time::Instant;

use super::connection::{Connection, MessageLink};
use super::link::{Link, is_refusal};
use super::message::Message;
use super::peer::Peer;
use super::receiver::{Inlet, MessageReceiver};
use super::reconnect::{GaveUp, Reconnect, ReconnectEvent};
use super::sender::MessageSender;
use crate::frame::Framing;
use crate::io::backoff::Backoff;
use crate::io::timer::{Sleep, sleep};

/// A peer that ends its own direction before anything was sent, so often in a row, does so with
/// every connection, and means nothing by it.
const UNUSED: u32 = 3;

/// How many bytes of messages wait at most while there is no connection that takes them.
const HIGH_WATER: usize = 64 * 1024;

/// How many connections that broke are kept for messages which they had received.
const MAX_UNREAD: usize = 8;

type Attempt = Pin<Box<dyn Future<Output = io::Result<Connection>> + Send>>;

/// Makes one connection after another.
pub(super) type Connector = Box<dyn FnMut() -> Attempt + Send>;

impl Reconnect {
    /// A connection that `connect` makes, and makes again. The first attempt is made when it is first
    /// used.
    ///
    /// `connect` makes one connection each time it is called: to an
    /// [endpoint](super::Options::connect), or with [`Connection::from_io`] or
    /// [`Connection::from_frames`]. A [handshake](crate::handshake) belongs in there too.
    ///
    /// # Cancel safety
    ///
    /// Dropping a future of one of its ends leaves connecting where it is; the next call goes on.
    pub fn connect<F, A>(self, mut connect: F) -> Connection
    where
        F: FnMut() -> A + Send + 'static,
        A: Future<Output = io::Result<Connection>> + Send + 'static,
    {
        let connector: Connector = Box::new(move || Box::pin(connect()));
        self.over("a peer".into(), connector, None)
    }

    /// A connection over those that `connector` makes, beginning with `first`.
    pub(super) fn over(
        self,
        address: String,
        connector: Connector,
        first: Option<Connection>,
    ) -> Connection {
        let peer = first.as_ref().map_or(Peer::Unknown, |it| *it.peer());
        let framing = first.as_ref().map(Connection::max_message);
        let framing = framing.map_or_else(Framing::length, |it| Framing::length().max_frame(it));
        let wakers = Arc::new(Wakers::default());
        let lasting = Lasting {
            waker: Waker::from(Arc::clone(&wakers)),
            backoff: self.backoff(),
            policy: self,
            address,
            connector,
            state: first.map_or(State::Idle, |it| State::Made(Box::new(it))),
            failed: 0,
            trying_since: None,
            kept: VecDeque::new(),
            kept_bytes: 0,
            given: 0,
            ready: false,
            unused: 0,
            broken: Arc::default(),
            closing: false,
            sending: true,
            receiving: true,
            stopped: false,
            left: None,
            unread: VecDeque::new(),
        };
        let lasting = Shared {
            engine: Arc::new(Mutex::new(lasting)),
            wakers,
        };
        Connection::messages(lasting, framing, peer)
    }
}

/// | state | what ends it | next |
/// |---|---|---|
/// | `Idle` | a poll | `Connecting` |
/// | `Made` | a poll | `Up` |
/// | `Connecting` | success | `Up` |
/// | | failure | `Pausing`, or `GaveUp` |
/// | `Pausing` | its time | `Idle` |
/// | `Up` | an error; the peer's end, if it is received from | `Pausing`, `GaveUp`, or `Closed` |
/// | | the peer's end, if it is only sent to | `Leaving` |
/// | | closing, with all sent, if it is only sent to | `Parting` |
/// | `Leaving` | all that was given has arrived | `Idle` |
/// | `Parting` | the peer has read all | `Closed` |
struct Lasting {
    policy: Reconnect,
    /// What it connects to, for logs.
    address: String,
    connector: Connector,
    state: State,
    /// Wakes the users of both halves.
    waker: Waker,
    backoff: Backoff,
    /// Failures in a row, and when the first attempt of them began.
    failed: u32,
    trying_since: Option<Instant>,
    /// Messages that the system has not wholly taken, in order; the first `given` of them were given
    /// to the connection at hand.
    kept: VecDeque<Bytes>,
    kept_bytes: usize,
    given: usize,
    /// The connection at hand has room for a message.
    ready: bool,
    /// How many peers in a row have ended their direction before anything was sent.
    unused: u32,
    /// How many connections broke so that messages may be lost.
    broken: Arc<AtomicU64>,
    closing: bool,
    /// There is a sending half.
    sending: bool,
    /// There is a receiving half.
    receiving: bool,
    /// No new message is wanted, nor a connection for one.
    stopped: bool,
    /// How many messages may still be received, if that is limited.
    left: Option<u64>,
    /// The receiving directions of connections that the sending half found broken, oldest first.
    unread: VecDeque<MessageReceiver>,
}

enum State {
    Idle,
    /// It was made before the engine, and it is not known yet how it will be used.
    Made(Box<Connection>),
    Connecting {
        attempt: Attempt,
        limit: Pin<Box<Sleep>>,
    },
    Pausing(Pin<Box<Sleep>>),
    Up(Box<Link>),
    /// The peer wants no more on this connection.
    Leaving(Box<Link>),
    /// All is sent, and this end is closed.
    Parting(Box<Link>),
    Closed,
    GaveUp(GaveUp),
}

impl State {
    fn link(&mut self) -> Option<&mut Link> {
        match self {
            Self::Up(link) | Self::Leaving(link) | Self::Parting(link) => Some(link),
            _ => None,
        }
    }
}

impl Lasting {
    /// Drives towards a connection, and leaves one whose peer wants no more. Ready with `Up`.
    fn poll_up(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            // What both halves wait for wakes both.
            let waker = self.waker.clone();
            let mut both = Context::from_waker(&waker);
            match &mut self.state {
                State::Up(link) => match link.poll_discard(cx) {
                    Poll::Pending => return Poll::Ready(Ok(())),
                    Poll::Ready(Ok(())) if link.given() == 0 && self.unused >= UNUSED => {
                        return Poll::Ready(Ok(()));
                    }
                    Poll::Ready(Ok(())) => {
                        if link.given() == 0 {
                            self.unused += 1;
                        }
                        if let State::Up(link) = std::mem::replace(&mut self.state, State::Idle) {
                            self.state = State::Leaving(link);
                        }
                    }
                    Poll::Ready(Err(error)) => drop(self.lose(error, false)),
                },
                State::Leaving(link) => match ready!(link.poll_part(&mut both)) {
                    Ok(true) => drop(self.lose(ended_by_peer(), true)),
                    Ok(false) => drop(self.lose(io::ErrorKind::TimedOut.into(), false)),
                    Err(error) => drop(self.lose(error, false)),
                },
                State::Idle => {
                    self.trying_since.get_or_insert_with(Instant::now);
                    let limit = Box::pin(sleep(self.policy.attempt_timeout));
                    let attempt = (self.connector)();
                    self.state = State::Connecting { attempt, limit };
                }
                State::Made(_) => {
                    if let State::Made(first) = std::mem::replace(&mut self.state, State::Idle) {
                        self.up(*first);
                    }
                }
                State::Connecting { attempt, limit } => {
                    let result = match attempt.as_mut().poll(&mut both) {
                        Poll::Ready(result) => result,
                        Poll::Pending => {
                            ready!(limit.as_mut().poll(&mut both));
                            Err(no_connection_within(self.policy.attempt_timeout))
                        }
                    };
                    match result {
                        Ok(connection) => self.up(connection),
                        Err(error) => {
                            let retry = self.policy.retries(&error);
                            self.fail(Arc::new(error), retry);
                        }
                    }
                }
                State::Pausing(pause) => {
                    ready!(pause.as_mut().poll(&mut both));
                    self.state = State::Idle;
                }
                State::Parting(_) | State::Closed => return Poll::Ready(Err(closed())),
                State::GaveUp(error) => {
                    let error = error.clone().into();
                    if !self.receiving {
                        self.start_again();
                        self.state = State::Idle;
                    }
                    return Poll::Ready(Err(error));
                }
            }
        }
    }

    fn up(&mut self, connection: Connection) {
        let mut link = connection.into_link(self.receiving);
        if let (Some(incoming), Some(left)) = (link.incoming(), self.left) {
            incoming.limit(left);
        }
        self.state = State::Up(Box::new(link));
        self.ready = false;
        self.tell(&ReconnectEvent::Connected {
            failed: self.failed,
        });
        self.waker.wake_by_ref();
    }

    /// Counts a failure, and pauses or gives up.
    fn fail(&mut self, error: Arc<io::Error>, retry: bool) {
        self.failed = self.failed.saturating_add(1);
        let elapsed = self.trying_since.map_or(Duration::ZERO, |at| at.elapsed());
        let left = self
            .policy
            .give_up_after
            .map(|limit| limit.saturating_sub(elapsed));
        let late = left.is_some_and(|left| left.is_zero());
        let enough = self.policy.attempts.is_some_and(|max| self.failed >= max);
        if !retry || enough || late {
            let kind = match retry && late {
                true => io::ErrorKind::TimedOut,
                false => error.kind(),
            };
            let gave_up = GaveUp {
                attempts: self.failed,
                elapsed,
                source: error,
                kind,
            };
            self.tell(&ReconnectEvent::GaveUp(gave_up.clone()));
            self.change(State::GaveUp(gave_up));
            return;
        }
        let pause = self.backoff.pause();
        let pause = left.map_or(pause, |left| pause.min(left));
        self.tell(&ReconnectEvent::Retrying {
            error,
            failed: self.failed,
            pause,
        });
        self.change(State::Pausing(Box::pin(sleep(pause))));
    }

    /// The connection is of no more use: it broke, or its peer has ended it in order. What it has not
    /// taken goes to the next one. Whether what it has taken may be lost.
    fn lose(&mut self, error: io::Error, in_order: bool) -> bool {
        self.settle();
        let state = std::mem::replace(&mut self.state, State::Idle);
        let (State::Up(mut link) | State::Leaving(mut link) | State::Parting(mut link)) = state
        else {
            self.state = state;
            return false;
        };
        let taken = link.given() - self.given as u64;
        let at_risk = match link.may_have_lost(&error, in_order) {
            true => taken,
            false => 0,
        };
        if at_risk > 0 {
            self.broken.fetch_add(1, Ordering::Relaxed);
        }
        let error = Arc::new(error);
        self.tell(&ReconnectEvent::Lost {
            error: Arc::clone(&error),
            at_risk,
            again: self.kept.len() as u64,
        });
        // The peer had its share and lets another one have the rest.
        let handed_over = taken > 0 && at_risk == 0;
        let proved = handed_over || link.has_lasted(self.policy.longest_pause);
        self.keep_unread(link.abandon());
        (self.given, self.ready) = (0, false);
        if self.stopped || self.closing && self.kept.is_empty() {
            self.change(State::Closed);
        } else if proved {
            self.start_again();
            let pause = self.backoff.pause();
            match handed_over {
                true => self.change(State::Idle),
                false => self.change(State::Pausing(Box::pin(sleep(pause)))),
            }
        } else {
            self.fail(error, true);
        }
        at_risk > 0
    }

    /// Forgets the failures.
    fn start_again(&mut self) {
        (self.failed, self.trying_since) = (0, None);
        self.backoff.reset();
    }

    fn change(&mut self, state: State) {
        self.state = state;
        self.waker.wake_by_ref();
    }

    fn tell(&self, event: &ReconnectEvent) {
        self.policy.tell(&self.address, event);
    }
}

/// Sending.
impl Lasting {
    /// Forgets the messages that the system has taken.
    fn settle(&mut self) {
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

    /// Gives all that is kept to a connection. An error: a message is refused that was let in while
    /// there was no connection to ask, or there is none.
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

    /// Sends all that is kept. Ready with nothing kept: then there need be no connection.
    fn poll_sent(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            ready!(self.poll_give(cx))?;
            match &self.state {
                State::Made(_) | State::Up(_) | State::Leaving(_) => {}
                _ if self.kept.is_empty() => return Poll::Ready(Ok(())),
                _ => {}
            }
            // Also to see that the peer wants to be left.
            if self.poll_up(cx)?.is_pending() && !self.kept.is_empty() {
                return Poll::Pending;
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

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
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

    fn start_send(&mut self, body: Bytes) -> io::Result<()> {
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

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
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
                                "all was sent, and the peer does not tell whether it has read it"
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
                            // The receiving half gives the rest.
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

/// Receiving.
impl Lasting {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Message>>> {
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
                // The one thing that a peer over TCP can be told.
                let _ = link.poll_close(cx);
            }
            match ready!(link.poll_next(cx)) {
                Ok(item) => return Poll::Ready(Some(item)),
                // This end was closed and the peer has had it all: what comes now is its end.
                Err(error) if link.is_closed() => {
                    self.change(State::Closed);
                    return Poll::Ready(error.filter(|_| !self.stopped).map(Err));
                }
                Err(error) => drop(self.lose(error.unwrap_or_else(ended_by_peer), false)),
            }
        }
    }

    /// Keeps the receiving direction of a connection that broke, if it may have more.
    fn keep_unread(&mut self, incoming: Option<MessageReceiver>) {
        self.unread.extend(incoming.filter(|_| self.receiving));
        if self.unread.len() > MAX_UNREAD {
            self.unread.pop_front();
            self.tell(&ReconnectEvent::Unread);
        }
    }

    /// The next message of a connection that broke; `None` if all that had arrived was given.
    fn poll_unread(&mut self, cx: &mut Context<'_>) -> Poll<Option<Message>> {
        while let Some(incoming) = self.unread.front_mut() {
            match Pin::new(incoming).poll_next(cx) {
                Poll::Ready(Some(Ok(message))) => return Poll::Ready(Some(message)),
                // It had to wait for its turn, not for the peer.
                Poll::Pending if !coop::has_budget_remaining() => return Poll::Pending,
                _ => drop(self.unread.pop_front()),
            }
        }
        Poll::Ready(None)
    }

    /// Nobody receives any more: what comes is thrown away.
    fn refuse(&mut self) {
        self.receiving = false;
        self.unread.clear();
        self.state = match std::mem::replace(&mut self.state, State::Idle) {
            State::Up(link) => State::Up(Box::new(link.refuse())),
            state => state,
        };
    }

    fn each_incoming(&mut self) -> impl Iterator<Item = &mut MessageReceiver> {
        let live = self.state.link().and_then(Link::incoming);
        self.unread.iter_mut().chain(live)
    }
}

impl Drop for Lasting {
    fn drop(&mut self) {
        if !self.kept.is_empty() {
            tracing::warn!(
                target: "aqueduct::unsent", address = %self.address, messages = self.kept.len(),
                "dropped with messages unsent: flush or close before drop"
            );
        }
    }
}

/// The engine, shared by its two halves.
#[derive(Clone)]
struct Shared {
    engine: Arc<Mutex<Lasting>>,
    wakers: Arc<Wakers>,
}

/// The tasks that use the two halves.
#[derive(Default)]
struct Wakers {
    sending: AtomicWaker,
    receiving: AtomicWaker,
}

impl Wake for Wakers {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.sending.wake();
        self.receiving.wake();
    }
}

impl Shared {
    /// A panic of the user's functions leaves the engine as sound as it was.
    fn lock(&self) -> MutexGuard<'_, Lasting> {
        self.engine.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl MessageLink for Shared {
    fn max_message(&self) -> Option<usize> {
        None
    }

    fn split(self: Box<Self>) -> (MessageSender, MessageReceiver) {
        let broken = Arc::clone(&self.lock().broken);
        let sender = MessageSender::new(Sending(Self::clone(&self))).counting(broken);
        (sender, MessageReceiver::new(Receiving(*self)))
    }

    fn into_sender(self: Box<Self>) -> MessageSender {
        let (sender, receiver) = self.split();
        drop(receiver);
        sender
    }

    fn into_receiver(self: Box<Self>) -> MessageReceiver {
        let (sender, receiver) = self.split();
        drop(sender);
        receiver
    }
}

/// The sending half. Dropped without closing it leaves the connection to the other half.
struct Sending(Shared);

impl Sending {
    fn lock(&self, cx: &Context<'_>) -> MutexGuard<'_, Lasting> {
        let engine = self.0.lock();
        // Before anything is looked at: what the other half changes from now on wakes us.
        self.0.wakers.sending.register(cx.waker());
        engine
    }
}

impl Sink<Message> for Sending {
    type Error = io::Error;

    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.lock(cx).poll_ready(cx)
    }

    fn start_send(self: Pin<&mut Self>, message: Message) -> io::Result<()> {
        self.0.lock().start_send(message.into_body())
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.lock(cx).poll_sent(cx)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.lock(cx).poll_close(cx)
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        self.0.lock().sending = false;
    }
}

/// The receiving half.
struct Receiving(Shared);

impl Stream for Receiving {
    type Item = io::Result<Message>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut engine = self.0.lock();
        self.0.wakers.receiving.register(cx.waker());
        let item = ready!(engine.poll_next(cx));
        if matches!(engine.state, State::GaveUp(_)) && !matches!(item, Some(Ok(_))) {
            // After that error the stream has ended.
            engine.left = Some(0);
        }
        Poll::Ready(item)
    }
}

impl Inlet for Receiving {
    fn stop(self: Pin<&mut Self>) {
        let mut engine = self.0.lock();
        engine.stopped = true;
        for incoming in engine.each_incoming() {
            incoming.stop();
        }
    }

    fn limit(self: Pin<&mut Self>, count: u64) {
        let mut engine = self.0.lock();
        engine.left = Some(count);
        for incoming in engine.each_incoming() {
            incoming.limit(count);
        }
    }

    fn unfinished(self: Pin<&mut Self>) -> usize {
        let mut engine = self.0.lock();
        engine
            .each_incoming()
            .map(MessageReceiver::unfinished)
            .sum()
    }
}

impl Drop for Receiving {
    fn drop(&mut self) {
        self.0.lock().refuse();
    }
}

fn ended_by_peer() -> io::Error {
    let text = "the peer ended the connection";
    io::Error::new(io::ErrorKind::UnexpectedEof, text)
}

fn closed() -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, "this end was closed before")
}

fn no_connection_within(limit: Duration) -> io::Error {
    let text = format!("no connection within {limit:?}");
    io::Error::new(io::ErrorKind::TimedOut, text)
}

const TARGET: &str = "aqueduct::connect";

#[cfg(test)]
mod tests;
