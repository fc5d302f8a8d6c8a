//! [`Outgoing`], [`Incoming`]: descriptors that go with messages, over the socket of the hello.
//!
//! The writer sends the number of the message, 8 bytes in little-endian order counted from 0, and with
//! it the descriptors (`SCM_RIGHTS`, unix(7)). It counts that in the word at [`PASSED`], and shows the
//! message only then, so a reader that sees the message finds its descriptors in the socket. The count
//! tells a reader of other messages that there is nothing to receive.

use std::io;
use std::mem;
use std::os::fd::{AsFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::error::PeerError;
use super::memory::PASSED;
use super::wire::Wire;
use crate::frame::FrameError;
use crate::io::sys::{self, Received};
use crate::unix::descriptors::{MAX_FDS, check_limit, send_now};

/// How many messages' descriptors one poll of a half that reads bytes closes at most.
const AT_ONCE: usize = 16;

/// The descriptors that a writing half passes.
#[derive(Debug, Default)]
pub(super) struct Outgoing {
    sent: u64,
    /// The socket's registration, while it is full.
    waiting: Option<AsyncFd<Arc<OwnedFd>>>,
}

impl Outgoing {
    /// Sends the descriptors of a message that is shown next.
    pub(super) fn poll_pass(
        &mut self,
        wire: &Wire,
        cx: &mut Context<'_>,
        number: u64,
        fds: &[RawFd],
    ) -> Poll<io::Result<()>> {
        if !wire.peer_takes() {
            return Poll::Ready(Err(PeerError::NoDescriptors.into()));
        }
        loop {
            // So few bytes are taken as a whole.
            match send_now(wire.socket(), &number.to_le_bytes(), fds) {
                Ok(_) => break,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                Err(e) if e.kind() == io::ErrorKind::ConnectionReset => {
                    return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
                }
                Err(e) => return Poll::Ready(Err(e)),
            }
            let waiting = match &self.waiting {
                Some(waiting) => waiting,
                None => {
                    let socket = Arc::clone(wire.socket());
                    let registered = sys::register(socket, Interest::WRITABLE)?;
                    self.waiting.insert(registered)
                }
            };
            ready!(waiting.poll_write_ready(cx))?.clear_ready();
        }
        self.waiting = None;
        self.sent += 1;
        wire.store_at(PASSED, self.sent);
        Poll::Ready(Ok(()))
    }
}

/// The descriptors that a reading half receives.
#[derive(Debug, Default)]
pub(super) struct Incoming {
    /// How many messages with descriptors were received.
    received: u64,
    /// The number of the last one of them, and what it brought until that is taken or closed.
    last: Option<(u64, Vec<OwnedFd>)>,
    /// What it brought is incomplete: this process could not open all of it.
    is_truncated: bool,
    /// The half reads messages, whose descriptors can be taken.
    pub(super) keeps: bool,
    /// What the peer did wrong, until it is reported.
    lie: Option<PeerError>,
}

impl Incoming {
    /// The descriptors of the message of that number, the next one of this half.
    pub(super) fn take(
        &mut self,
        wire: &Wire,
        number: u64,
        max: usize,
    ) -> io::Result<Vec<OwnedFd>> {
        check_limit(max)?;
        if let Err(error) = self.look(wire, number) {
            // The end of the stream follows.
            self.lie = Some(error.clone());
            return Err(error.into());
        }
        let fds = match &mut self.last {
            Some((of, fds)) if *of == number => mem::take(fds),
            _ => return Ok(Vec::new()),
        };
        if mem::take(&mut self.is_truncated) || fds.len() > max {
            let taken = fds.len();
            return Err(FrameError::DescriptorsTruncated { taken, max }.into());
        }
        Ok(fds)
    }

    /// Closes the descriptors of the message of that number, which is over.
    pub(super) fn close(&mut self, wire: &Wire, number: u64) {
        if wire.word_at(PASSED) == self.received && self.last.is_none() {
            return;
        }
        match self.look(wire, number) {
            Ok(()) => {}
            Err(error) => self.lie = Some(error),
        }
        if let Some((of, fds)) = &mut self.last
            && *of == number
        {
            fds.clear();
            self.is_truncated = false;
        }
    }

    /// Closes what has come, in a half that reads bytes. Its task is woken if that is not all.
    pub(super) fn close_all(&mut self, wire: &Wire, cx: &mut Context<'_>) -> io::Result<()> {
        for _ in 0..AT_ONCE {
            if self.keeps || wire.word_at(PASSED) == self.received {
                return Ok(());
            }
            self.receive(wire)?;
        }
        cx.waker().wake_by_ref();
        Ok(())
    }

    /// What the peer did wrong, once.
    pub(super) fn lie(&mut self) -> Option<PeerError> {
        self.lie.take()
    }

    /// Receives the descriptors of the message of that number, if it has any: those of earlier ones
    /// are taken or closed.
    fn look(&mut self, wire: &Wire, number: u64) -> Result<(), PeerError> {
        let last = self.last.as_ref().map(|(of, _)| *of);
        if last.is_some_and(|it| it >= number) || wire.word_at(PASSED) == self.received {
            return Ok(());
        }
        let (of, received) = self.receive(wire)?;
        if of < number || last.is_some_and(|it| it >= of) {
            return Err(PeerError::Passing("they are of an earlier message"));
        }
        self.is_truncated = received.fds_truncated;
        self.last = Some((of, received.fds));
        Ok(())
    }

    /// Receives the number of a message and its descriptors, which the peer says to have sent.
    fn receive(&mut self, wire: &Wire) -> Result<(u64, Received), PeerError> {
        let mut number = [0; 8];
        let received = loop {
            match sys::recv_with_fds(wire.socket().as_fd(), &mut number, MAX_FDS) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                // The socket was closed, or has nothing.
                Err(_) | Ok(Received { len: 0, .. }) => {
                    return Err(PeerError::Passing("there are fewer than it says"));
                }
                Ok(received) => break received,
            }
        };
        if received.len != number.len() {
            return Err(PeerError::Passing("they do not come with a number"));
        }
        if received.fds.is_empty() && !received.fds_truncated {
            return Err(PeerError::Passing("a number comes without any"));
        }
        self.received += 1;
        Ok((u64::from_le_bytes(number), received))
    }
}
