//! [`ReadHalf`], [`WriteHalf`]: the two directions of a connection by shared memory.

mod lending;
mod waits;

use std::io::{self, IoSlice};
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::coop;

pub(super) use self::lending::Frame;
use self::waits::Waits;
use super::error::PeerError;
use super::passing::{Incoming, Outgoing};
use super::ring::{Half as Which, Patience, Rx, Tx};
use super::wire::{Way, Wire};
use crate::connect::{Half, Rest};
use crate::io::sys::memory::Room;
use crate::unix::halves;

/// This many bytes count as one operation against the task's cooperative budget.
const OPERATION: usize = 64 * 1024;

/// A read or write counts as at least this many bytes.
const LEAST: usize = 1024;

/// Splits a connection.
pub(super) fn halves(wire: Arc<Wire>) -> (ReadHalf, WriteHalf) {
    // What is written early could not go over the socket later, where nobody writes again.
    let early = if wire.falls_back() {
        None
    } else {
        wire.take_room()
    };
    let tx = early.map(|(room, start)| Tx::new(room, start));
    let reader = ReadHalf {
        wire: Arc::clone(&wire),
        state: Reading::Greeting,
        budget: Budget::default(),
        patience: Waits::default(),
        passed: Incoming::default(),
    };
    let writer = WriteHalf {
        wire,
        state: match tx {
            Some(tx) => Writing::Early(tx),
            None => Writing::Greeting,
        },
        budget: Budget::default(),
        passes: Outgoing::default(),
    };
    (reader, writer)
}

/// The reading half.
///
/// # Cancel safety
///
/// A dropped read has taken nothing.
#[derive(Debug)]
pub(super) struct ReadHalf {
    wire: Arc<Wire>,
    state: Reading,
    budget: Budget,
    patience: Waits,
    passed: Incoming,
}

#[derive(Debug)]
enum Reading {
    /// Before both hellos.
    Greeting,
    Memory(Rx),
    Socket(halves::ReadHalf),
    Ended,
}

/// The writing half. Shutting it down, or dropping it, ends this direction.
///
/// # Cancel safety
///
/// A dropped write has written nothing.
#[derive(Debug)]
pub(super) struct WriteHalf {
    wire: Arc<Wire>,
    state: Writing,
    budget: Budget,
    passes: Outgoing,
}

#[derive(Debug)]
enum Writing {
    /// A server before the client's hello.
    Greeting,
    /// A client before the server's hello: it writes into the first ring.
    Early(Tx<Room>),
    Memory(Tx<Room>),
    Socket(halves::WriteHalf),
    Finished,
}

impl ReadHalf {
    /// Learns which way the bytes go, once both hellos are there.
    fn poll_greeted(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.state = match ready!(self.wire.poll_open(Which::Read, Some(cx)))? {
            Way::Memory { reads, .. } => Reading::Memory(Rx::new(reads)),
            Way::Socket => match self.wire.take_reader() {
                Some(reader) => Reading::Socket(reader),
                None => Reading::Ended,
            },
            Way::Closed if self.wire.has_lost() => {
                return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
            }
            Way::Closed => Reading::Ended,
        };
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for ReadHalf {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        loop {
            match &mut this.state {
                Reading::Greeting => ready!(this.poll_greeted(cx))?,
                Reading::Memory(rx) => {
                    let wire = &*this.wire;
                    if this.budget.is_spent() {
                        wire.checked(this.passed.close_all(wire, cx))?;
                    }
                    ready!(this.budget.poll(cx));
                    let before = buf.filled().len();
                    let read = rx.poll_read(wire, cx, buf, &mut this.patience);
                    let n = buf.filled().len() - before;
                    if n == 0 {
                        wire.checked(this.passed.close_all(wire, cx))?;
                    }
                    let read = ready!(read);
                    this.budget.count(n);
                    if buf.remaining() == 0 {
                        this.patience.expect_more();
                    }
                    return Poll::Ready(wire.checked(read));
                }
                Reading::Socket(reader) => return Pin::new(reader).poll_read(cx, buf),
                Reading::Ended => return Poll::Ready(Ok(())),
            }
        }
    }
}

impl Half for ReadHalf {
    /// Only the peer's own end is the end of what it has written: it writes without asking anybody.
    fn stop(&mut self) -> Rest {
        match &mut self.state {
            Reading::Socket(reader) => reader.stop(),
            _ => Rest::Comes,
        }
    }

    fn duplicate(&self) -> Option<OwnedFd> {
        self.wire.duplicate()
    }

    fn polls_for(&mut self, limit: Duration) -> bool {
        self.patience.polls_for(limit);
        true
    }
}

impl WriteHalf {
    fn poll_put(&mut self, cx: &mut Context<'_>, bufs: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        loop {
            if matches!(self.state, Writing::Greeting) {
                ready!(self.poll_settled(Some(cx)))?;
            }
            let wire = &*self.wire;
            if wire.is_gone() {
                return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
            }
            let (tx, early) = match &mut self.state {
                Writing::Early(tx) => (tx, true),
                Writing::Memory(tx) => (tx, false),
                Writing::Socket(writer) => {
                    return Pin::new(writer).poll_write_vectored(cx, bufs);
                }
                Writing::Greeting | Writing::Finished => {
                    return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
                }
            };
            ready!(self.budget.poll(cx));
            let put = put(tx, wire, bufs);
            let n = wire.checked(put)?;
            let some = n > 0 || bufs.iter().all(|it| it.is_empty());
            if early {
                wire.set_written();
                // The peer may have said hello, and gone to sleep, just before this was written.
                if self.poll_settled((!some).then_some(&mut *cx))?.is_pending() && !some {
                    return Poll::Pending;
                }
            } else if n > 0 {
                tx.publish(wire)?;
            } else if !some {
                let room = ready!(tx.poll_room(wire, cx, 1));
                wire.checked(room)?;
            }
            if some {
                self.budget.count(n);
                return Poll::Ready(Ok(n));
            }
        }
    }

    /// Learns which way the bytes go, if both hellos are there. A waiter is woken once they are.
    fn poll_settled(&mut self, waiter: Option<&mut Context<'_>>) -> Poll<io::Result<()>> {
        let early = match &self.state {
            Writing::Greeting => false,
            Writing::Early(_) => true,
            _ => return Poll::Ready(Ok(())),
        };
        let way = match self.wire.poll_open(Which::Write, waiter) {
            Poll::Ready(way) => way?,
            Poll::Pending => return Poll::Pending,
        };
        let state = std::mem::replace(&mut self.state, Writing::Finished);
        let tx = match state {
            Writing::Early(tx) => Some(tx),
            _ => self
                .wire
                .take_room()
                .map(|(room, start)| Tx::new(room, start)),
        };
        self.state = match (way, tx) {
            (Way::Memory { writes, .. }, Some(mut tx)) => {
                tx.grow_to(writes);
                if early {
                    tx.publish(&*self.wire)?;
                }
                Writing::Memory(tx)
            }
            // Nothing was written early: `halves` has seen to that.
            (Way::Socket, _) => match self.wire.take_writer() {
                Some(writer) => Writing::Socket(writer),
                None => Writing::Finished,
            },
            (Way::Memory { .. } | Way::Closed, _) => {
                return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
            }
        };
        Poll::Ready(Ok(()))
    }

    fn finish(&mut self) {
        let mut is_told = false;
        match std::mem::replace(&mut self.state, Writing::Finished) {
            // It cannot be seen yet whether the peer sleeps.
            Writing::Early(mut tx) => {
                let _ = tx.finish(&*self.wire);
            }
            Writing::Memory(mut tx) => {
                // A peer that has gone need not be told.
                let _ = tx.finish(&*self.wire);
                is_told = true;
            }
            Writing::Finished => return,
            Writing::Greeting | Writing::Socket(_) => {}
        }
        self.wire.finished(is_told);
    }
}

/// Writes as much as there is room for.
fn put(tx: &mut Tx<Room>, wire: &Wire, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
    let mut done = 0;
    for buf in bufs {
        let n = tx.put(wire, buf)?;
        done += n;
        if n < buf.len() {
            break;
        }
    }
    Ok(done)
}

impl AsyncWrite for WriteHalf {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.get_mut().poll_put(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.get_mut().poll_put(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.finish();
        Poll::Ready(Ok(()))
    }
}

/// The peer sees the end, also where nobody shut this half down.
impl Drop for WriteHalf {
    fn drop(&mut self) {
        self.finish();
    }
}

impl Wire {
    /// Closes the connection after a lie of the peer.
    fn checked<T>(&self, result: io::Result<T>) -> io::Result<T> {
        if let Err(error) = &result
            && PeerError::of(error).is_some()
        {
            self.close();
        }
        result
    }
}

/// What a half has moved since it last counted against its task's budget.
#[derive(Debug, Default)]
struct Budget(usize);

impl Budget {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.is_spent() {
            ready!(coop::poll_proceed(cx)).made_progress();
            self.0 = 0;
        }
        Poll::Ready(())
    }

    /// Whether [`poll`](Self::poll) asks the runtime next.
    fn is_spent(&self) -> bool {
        self.0 >= OPERATION
    }

    fn count(&mut self, bytes: usize) {
        self.0 += bytes.max(LEAST);
    }
}
