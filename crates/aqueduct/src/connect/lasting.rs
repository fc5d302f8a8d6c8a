//! [`Lasting`]: the engine of all ends that reconnect. [`Reconnect`] documents its promises.

mod halves;
mod incoming;
mod outgoing;

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::connection::Connection;
use super::link::Link;
use super::receiver::MessageReceiver;
use super::reconnect::{GaveUp, Reconnect, ReconnectEvent};
use crate::io::backoff::Backoff;
use crate::io::timer::{Sleep, sleep};

/// After this many peers in a row that end their direction before anything was sent, ending it has
/// no meaning: they do so with every connection.
const UNUSED: u32 = 3;

type Attempt = Pin<Box<dyn Future<Output = io::Result<Connection>> + Send>>;

/// Makes one connection after another.
pub(super) type Connector = Box<dyn FnMut() -> Attempt + Send>;

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
    /// The address it connects to, for logs.
    address: String,
    connector: Connector,
    state: State,
    /// Wakes the users of both halves.
    waker: Waker,
    backoff: Backoff,
    /// The number of failures in a row, and when the first attempt of them began.
    failed: u32,
    trying_since: Option<Instant>,
    /// Messages that the system has not wholly taken, in order. The first `given` of them were
    /// given to the current connection.
    kept: VecDeque<Bytes>,
    kept_bytes: usize,
    given: usize,
    /// The current connection has room for a message.
    ready: bool,
    /// How many peers in a row have ended their direction before anything was sent.
    unused: u32,
    /// How many connections broke and may have lost messages.
    broken: Arc<AtomicU64>,
    closing: bool,
    /// There is a sending half.
    sending: bool,
    /// There is a receiving half.
    receiving: bool,
    /// No new message is wanted, nor a connection for one.
    stopped: bool,
    /// How many messages may still be received, if limited.
    left: Option<u64>,
    /// The receiving directions of connections that the sending half found broken, oldest first.
    unread: VecDeque<MessageReceiver>,
}

enum State {
    Idle,
    /// The connection was made before the engine, and its use is not known yet.
    Made(Box<Connection>),
    Connecting {
        attempt: Attempt,
        limit: Pin<Box<Sleep>>,
    },
    Pausing(Pin<Box<Sleep>>),
    Up(Box<Link>),
    /// The peer wants no more on this connection.
    Leaving(Box<Link>),
    /// Everything is sent, and this end is closed.
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
            // An event that both halves wait for wakes both.
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

    /// Leaves the connection: it broke, or its peer ended it in order. Messages that it has not
    /// taken go to the next one. Returns whether messages that it has taken may be lost.
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
        // The peer had its share and leaves the rest to another process.
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

fn ended_by_peer() -> io::Error {
    let text = "the peer ended the connection";
    io::Error::new(io::ErrorKind::UnexpectedEof, text)
}

fn closed() -> io::Error {
    io::Error::new(
        io::ErrorKind::BrokenPipe,
        "cannot send: this end was closed before",
    )
}

fn no_connection_within(limit: Duration) -> io::Error {
    let text = format!("no connection within {limit:?}");
    io::Error::new(io::ErrorKind::TimedOut, text)
}

const TARGET: &str = "aqueduct::connect";

#[cfg(test)]
mod tests;
