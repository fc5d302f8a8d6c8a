//! [`Listener`] for `SOCK_SEQPACKET`.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_core::Stream;
use socket2::{SockRef, Type};
use tokio::io::Interest;

use super::{DEFAULT_MAX_MESSAGE, Socket};
use crate::io::accept::{Accepting, accept};
use crate::io::source::{Direction, Source};
use crate::unix::claim::Claim;
use crate::unix::listener::adopt_listener;

/// A `SOCK_SEQPACKET` socket that listens: a `Stream` of [`Socket`]s.
///
/// It treats failing accepts, its file and a foreign descriptor as [`unix::Listener`] does.
///
/// [`unix::Listener`]: crate::unix::Listener
#[derive(Debug)]
#[must_use = "dropping it closes the socket and removes its file"]
pub struct Listener {
    // Dropped first: see `Claim`.
    claim: Option<Claim>,
    source: Source,
    max_message: usize,
    accepting: Accepting,
}

impl Listener {
    pub(in crate::unix) fn new(
        fd: OwnedFd,
        claim: Option<Claim>,
        max_message: usize,
    ) -> io::Result<Self> {
        Ok(Self {
            claim,
            source: Source::socket(fd, Interest::READABLE)?,
            max_message,
            accepting: Accepting::default(),
        })
    }

    /// Sets the largest message of accepted connections, at least 1.
    pub fn with_max_message(mut self, bytes: usize) -> Self {
        self.max_message = bytes;
        self
    }

    /// Accepts one connection. Any number of tasks may wait at once.
    ///
    /// # Errors
    ///
    /// Those that do not pass; see [`Listener`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: no connection is lost.
    pub async fn accept(&self) -> io::Result<Socket> {
        let one = || self.source.io(Interest::READABLE, accept_now);
        accept(one, |fd| Socket::new(fd, self.max_message)).await
    }

    /// Whether dropping this removes files.
    pub fn owns_path(&self) -> bool {
        self.claim.is_some()
    }
}

impl Stream for Listener {
    type Item = io::Result<Socket>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        let (source, max_message) = (&this.source, this.max_message);
        this.accepting.poll_next(
            cx,
            |cx| source.poll_io(cx, Direction::Read, accept_now),
            |fd| Socket::new(fd, max_message),
        )
    }
}

impl TryFrom<OwnedFd> for Listener {
    type Error = io::Error;

    /// Takes over a listening `SOCK_SEQPACKET` Unix socket and puts it into non-blocking mode.
    fn try_from(fd: OwnedFd) -> io::Result<Self> {
        Self::new(
            adopt_listener(fd, Type::SEQPACKET)?,
            None,
            DEFAULT_MAX_MESSAGE,
        )
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.source.as_fd()
    }
}

fn accept_now(fd: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let flags = libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    let (socket, _) = SockRef::from(&fd).accept4(flags)?;
    Ok(socket.into())
}
