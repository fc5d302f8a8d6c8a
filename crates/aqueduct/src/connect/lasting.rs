//! [`Lasting`]: a sending end over one connection after another, that loses nothing where the system
//! tells what was taken.

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures_sink::Sink;
use tokio::time::{Sleep, sleep};

use super::link::Link;
use super::{Message, MessageSender};
use crate::frame::FrameError;

/// The pause before it connects again, if the last connection took nothing. It doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// A peer that ends its own direction before anything was sent, so often in a row, does so with
/// every connection, and means nothing by it.
const UNUSED: u32 = 3;

/// How many bytes of messages wait at most while there is no connection that takes them.
const HIGH_WATER: usize = 64 * 1024;

type Connecting = Pin<Box<dyn Future<Output = io::Result<Link>> + Send>>;

/// Makes one connection after another.
pub(crate) type Connector = Box<dyn FnMut() -> Connecting + Send>;

/// ```text
///  Up ── peer ends its direction ──> Leaving ── all that was given has arrived ──> Idle
///  Up, Leaving ── broken ──> Idle ── Pausing ──> Connecting ──> Up
///  Up ── closed, and all is sent ──> Parting ── the peer has read all ──> Over
/// ```
pub(crate) struct Lasting {
    address: String,
    connector: Connector,
    state: State,
    /// Messages that the system has not wholly taken, in order.
    kept: VecDeque<Bytes>,
    kept_bytes: usize,
    /// The connection was not given all that is kept: what comes now waits behind that.
    behind: bool,
    /// How many connections in a row have taken nothing.
    fruitless: u32,
    /// How many peers in a row have ended their direction before anything was sent.
    unused: u32,
    broken: Arc<AtomicU64>,
}

enum State {
    Up(Link),
    /// The peer wants no more on this connection.
    Leaving(Link),
    Idle,
    Pausing(Pin<Box<Sleep>>),
    Connecting(Connecting),
    /// All is sent, and this end is closed.
    Parting(Link),
    Over,
}

impl Lasting {
    pub(crate) fn new(address: String, connector: Connector, first: Option<Link>) -> Self {
        Self {
            address,
            connector,
            state: first.map_or(State::Idle, State::Up),
            kept: VecDeque::new(),
            kept_bytes: 0,
            behind: false,
            fruitless: 0,
            unused: 0,
            broken: Arc::default(),
        }
    }

    pub(crate) fn into_sender(self) -> MessageSender {
        let broken = Arc::clone(&self.broken);
        MessageSender::new(self).counting(broken)
    }

    /// Drives towards a connection, and to leave one that its peer wants to be left.
    fn poll_up(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
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
                        self.change(|state| match state {
                            State::Up(link) => State::Leaving(link),
                            other => other,
                        });
                    }
                    Poll::Ready(Err(error)) => drop(self.lose(error)),
                },
                State::Leaving(_) => ready!(self.poll_leave(cx)),
                State::Idle if self.fruitless == 0 => {
                    self.state = State::Connecting((self.connector)());
                }
                State::Idle => {
                    let pause = FIRST_PAUSE * (1 << (self.fruitless - 1).min(10));
                    self.state = State::Pausing(Box::pin(sleep(pause.min(LONGEST_PAUSE))));
                }
                State::Pausing(pause) => {
                    ready!(pause.as_mut().poll(cx));
                    self.state = State::Connecting((self.connector)());
                }
                State::Connecting(connecting) => {
                    let connected = ready!(connecting.as_mut().poll(cx));
                    self.state = State::Idle;
                    let mut link = connected?;
                    tracing::debug!(
                        target: TARGET, address = %self.address, again = self.kept.len(),
                        "connected again"
                    );
                    let refused = self.give_kept(&mut link);
                    self.state = State::Up(link);
                    refused?;
                }
                State::Parting(_) | State::Over => {
                    let closed = "this end was closed before";
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::BrokenPipe, closed)));
                }
            }
        }
    }

    /// Gives a new connection what the last one has not taken. An error: a message is refused, which
    /// was let in while there was no connection to ask.
    fn give_kept(&mut self, link: &mut Link) -> io::Result<()> {
        self.behind = false;
        let mut refusal = Ok(());
        let mut at = 0;
        while let Some(body) = self.kept.get(at) {
            match link.give(body.clone()) {
                Err(error) if is_refusal(&error) => {
                    self.kept_bytes -= body.len();
                    self.kept.remove(at);
                    refusal = Err(error);
                }
                // The rest, and what comes behind it, goes to the next one.
                Err(_) => {
                    self.behind = true;
                    break;
                }
                Ok(()) => at += 1,
            }
        }
        refusal
    }

    /// Sends what was given to a connection that is to be left, and ends it.
    fn poll_leave(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let State::Leaving(link) = &mut self.state else {
            return Poll::Ready(());
        };
        let left = ready!(link.poll_part(cx));
        self.settle();
        match left {
            Ok(true) => {
                tracing::debug!(target: TARGET, address = %self.address, "left the connection");
                self.end_link();
            }
            Ok(false) => drop(self.lose(io::ErrorKind::TimedOut.into())),
            Err(error) => drop(self.lose(error)),
        }
        Poll::Ready(())
    }

    /// Forgets the messages that the system has taken.
    fn settle(&mut self) {
        let (State::Up(link) | State::Leaving(link) | State::Parting(link)) = &mut self.state
        else {
            return;
        };
        for _ in 0..link.taken() {
            if let Some(message) = self.kept.pop_front() {
                self.kept_bytes -= message.len();
                self.fruitless = 0;
                self.unused = 0;
            }
        }
    }

    /// The connection is of no more use. What it has not taken goes to the next one. Whether what
    /// it has taken may be lost.
    fn lose(&mut self, error: io::Error) -> bool {
        self.settle();
        let (State::Up(link) | State::Leaving(link) | State::Parting(link)) = &mut self.state
        else {
            return false;
        };
        let (given, again, address) = (link.given(), self.kept.len(), &self.address);
        let lost = given > 0 && link.may_have_lost(&error);
        if lost {
            self.broken.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(
                target: TARGET, %address, %error, given,
                "the connection broke: what its peer had not read of the messages given to it is lost"
            );
        } else {
            tracing::debug!(target: TARGET, %address, %error, given, again, "the connection broke");
        }
        self.end_link();
        lost
    }

    fn end_link(&mut self) {
        self.fruitless = self.fruitless.saturating_add(1);
        if let State::Up(link) | State::Leaving(link) | State::Parting(link) =
            std::mem::replace(&mut self.state, State::Idle)
        {
            link.abandon();
        }
    }

    fn change(&mut self, by: impl FnOnce(State) -> State) {
        self.state = by(std::mem::replace(&mut self.state, State::Idle));
    }

    /// Sends all that is kept. Ready with nothing kept: then there need be no connection.
    fn poll_sent(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            // Also to see that the peer wants to be left.
            let idle = self.kept.is_empty() && !matches!(self.state, State::Up(_));
            if idle && !matches!(self.state, State::Leaving(_)) {
                return Poll::Ready(Ok(()));
            }
            match self.poll_up(cx)? {
                Poll::Pending if !self.kept.is_empty() => return Poll::Pending,
                _ => {}
            }
            let State::Up(link) = &mut self.state else {
                return Poll::Ready(Ok(()));
            };
            let flushed = link.poll_flush(cx);
            self.settle();
            match flushed {
                Poll::Ready(Ok(())) if self.kept.is_empty() => return Poll::Ready(Ok(())),
                // A connection that was broken when it was made.
                Poll::Ready(Ok(())) => drop(self.lose(io::ErrorKind::BrokenPipe.into())),
                Poll::Ready(Err(error)) => drop(self.lose(error)),
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

impl Sink<Message> for Lasting {
    type Error = io::Error;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            ready!(self.poll_up(cx))?;
            let State::Up(link) = &mut self.state else {
                continue;
            };
            let ready = link.poll_ready(cx);
            self.settle();
            match ready {
                Poll::Ready(Err(error)) => drop(self.lose(error)),
                _ if self.kept_bytes >= HIGH_WATER => ready!(self.poll_sent(cx))?,
                ready => return ready,
            }
        }
    }

    fn start_send(mut self: Pin<&mut Self>, message: Message) -> io::Result<()> {
        let body = message.into_body();
        let len = body.len();
        let behind = self.behind;
        let given = match &mut self.state {
            State::Up(link) if !behind => link.give(body.clone()),
            State::Parting(_) | State::Over => Err(io::ErrorKind::BrokenPipe.into()),
            _ => Ok(()),
        };
        match given {
            Err(e) if is_refusal(&e) => Err(e),
            Err(e) if matches!(self.state, State::Parting(_) | State::Over) => Err(e),
            given => {
                self.kept.push_back(body);
                self.kept_bytes += len;
                if let Err(error) = given {
                    self.lose(error);
                }
                Ok(())
            }
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_sent(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            match &mut self.state {
                State::Over => return Poll::Ready(Ok(())),
                State::Parting(link) => match ready!(link.poll_part(cx)) {
                    Ok(known) => {
                        if !known {
                            tracing::warn!(
                                target: TARGET, address = %self.address,
                                "all was sent, and the peer does not tell whether it has read it"
                            );
                        }
                        self.end_link();
                        self.state = State::Over;
                    }
                    Err(error) => {
                        let lost = self.lose(io::Error::from(error.kind()));
                        if lost {
                            self.state = State::Over;
                            return Poll::Ready(Err(error));
                        }
                    }
                },
                _ => {
                    ready!(self.poll_sent(cx))?;
                    self.change(|state| match state {
                        State::Up(link) => State::Parting(link),
                        _ => State::Over,
                    });
                }
            }
        }
    }
}

/// Whether an error is of one message, and the end goes on.
fn is_refusal(error: &io::Error) -> bool {
    FrameError::of(error).is_some()
}

impl Drop for Lasting {
    fn drop(&mut self) {
        if !self.kept.is_empty() {
            tracing::warn!(
                target: TARGET, address = %self.address, messages = self.kept.len(),
                "dropped with messages unsent: flush or close before drop"
            );
        }
    }
}

const TARGET: &str = "aqueduct::connect";
