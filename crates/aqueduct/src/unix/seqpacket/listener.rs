//! [`Listener`] for `SOCK_SEQPACKET`.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_core::Stream;
use socket2::Type;
use tokio::io::Interest;

use super::socket::{DEFAULT_MAX_MESSAGE, Socket};
use crate::connect::OpenError;
use crate::io::accept::{Accepting, accept};
use crate::io::source::{Direction, Source};
use crate::unix::address::Address;
use crate::unix::bind::BindOptions;
use crate::unix::claim::Claim;
use crate::unix::listener::{accept_now, adopt_listener};
use crate::unix::watch::SocketWatch;

/// A listening `SOCK_SEQPACKET` socket: a `Stream` of [`Socket`]s.
///
/// Failed accepts, its file and a descriptor from elsewhere are treated as by [`unix::Listener`].
///
/// # Examples
///
/// ```
/// use aqueduct::unix::{BindOptions, ConnectOptions};
/// use futures_util::StreamExt;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("service.sock");
/// let mut listener = BindOptions::new().bind_seqpacket(&path)?;
/// let client = ConnectOptions::new().connect_seqpacket(&path).await?;
/// let server = listener.next().await.ok_or("no client")??;
/// client.send(b"hello").await?;
/// assert_eq!(server.recv().await?.as_deref(), Some(&b"hello"[..]));
/// # Ok(()) }
/// ```
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

impl BindOptions {
    /// Binds a [`seqpacket`](super) socket and listens, otherwise as [`bind`](Self::bind).
    ///
    /// # Errors
    ///
    /// See [`bind`](Self::bind).
    pub fn bind_seqpacket(&self, address: impl AsRef<Path>) -> Result<Listener, OpenError> {
        self.bind_seqpacket_to(Address::new(address))
    }

    pub(in crate::unix) fn bind_seqpacket_to(
        &self,
        address: Address,
    ) -> Result<Listener, OpenError> {
        let (fd, claim, attempt) = self.open(address, Type::SEQPACKET)?;
        let max_message = self.max_message.unwrap_or(DEFAULT_MAX_MESSAGE);
        Listener::new(fd, claim, max_message).map_err(|e| attempt.failed(e))
    }
}

impl Listener {
    fn new(fd: OwnedFd, claim: Option<Claim>, max_message: usize) -> io::Result<Self> {
        Ok(Self {
            claim,
            source: Source::socket(fd, Interest::READABLE)?,
            max_message,
            accepting: Accepting::default(),
        })
    }

    /// Sets the largest message of accepted connections, at least 1.
    pub(in crate::unix) fn with_max_message(mut self, bytes: usize) -> Self {
        self.max_message = bytes;
        self
    }

    /// Accepts one connection. Any number of tasks may wait at once.
    ///
    /// # Errors
    ///
    /// Errors that are not temporary; see [`Listener`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: no connection is lost.
    pub async fn accept(&self) -> io::Result<Socket> {
        let one = || self.source.io(Interest::READABLE, accept_now);
        accept(one, |(fd, _)| Socket::new(fd, self.max_message)).await
    }
}

impl Listener {
    /// Watches whether the path still leads to this socket, if it created the path.
    pub(in crate::unix) fn watch_name(&self, every: Duration) -> Option<SocketWatch> {
        self.claim.as_ref()?.watch(every)
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
            |(fd, _)| Socket::new(fd, max_message),
        )
    }
}

impl TryFrom<OwnedFd> for Listener {
    type Error = io::Error;

    /// Takes over a listening `SOCK_SEQPACKET` Unix socket.
    ///
    /// It becomes non-blocking.
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
