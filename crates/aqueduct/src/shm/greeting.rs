//! [`Greeting`]: the two hellos on their way over the socket.

use std::io::{self, IoSlice};
use std::mem;
use std::os::fd::{AsRawFd, OwnedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::runtime::Handle;

use super::error::PeerError;
use super::hello::{self, DESCRIPTORS, Hello};
use crate::io::sys;
use crate::io::timer::{Sleep, sleep};

/// How long a client may take for its hello, and a server before a client logs that it waits.
const PATIENCE: Duration = Duration::from_secs(5);

/// What a peer has said, and the memory and the bell that it passed.
pub(super) struct Said {
    pub(super) hello: Hello,
    pub(super) passed: Option<(OwnedFd, OwnedFd)>,
}

/// The hellos of both sides, until the peer's is there.
pub(super) struct Greeting {
    socket: Arc<OwnedFd>,
    /// The socket's registration, once it had to be waited for, until the peer's hello has come.
    waiting: Option<AsyncFd<Arc<OwnedFd>>>,
    limit: Option<Pin<Box<Sleep>>>,
    is_client: bool,
    said: [u8; hello::LEN],
    got: usize,
    fds: Vec<OwnedFd>,
}

impl Greeting {
    /// A client waits for the server's hello without a limit, as for a first message, and logs once
    /// that it waits.
    pub(super) fn new(socket: Arc<OwnedFd>, is_client: bool) -> Self {
        Self {
            socket,
            waiting: None,
            limit: Some(Box::pin(sleep(PATIENCE))),
            is_client,
            said: [0; hello::LEN],
            got: 0,
            fds: Vec::new(),
        }
    }

    /// Says hello, and passes this side's memory and the peer's end of its bell.
    pub(super) fn say(&self, hello: Hello, passed: Option<(&OwnedFd, &OwnedFd)>) -> io::Result<()> {
        let raw = passed.map(|(memory, bell)| [memory.as_raw_fd(), bell.as_raw_fd()]);
        let rights = raw.as_ref().map(|it| ControlMessage::ScmRights(it));
        let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
        let (wire, socket) = (hello.encode(), self.socket.as_raw_fd());
        loop {
            match sendmsg::<()>(
                socket,
                &[IoSlice::new(&wire)],
                rights.as_slice(),
                flags,
                None,
            ) {
                Err(Errno::EINTR) => {}
                // The first bytes on a socket always fit, and all at once.
                sent => return sent.map(drop).map_err(io::Error::from),
            }
        }
    }

    /// Receives the peer's hello; `None` if it has closed without one. What waits for it is that
    /// runtime, if there is a waiter.
    pub(super) fn poll_said(
        &mut self,
        runtime: &Handle,
        waiter: Option<&mut Context<'_>>,
    ) -> Poll<io::Result<Option<Said>>> {
        let said = ready!(self.poll_hello(runtime, waiter));
        self.waiting = None;
        self.limit = None;
        let fds = mem::take(&mut self.fds);
        let Some(hello) = said? else {
            return Poll::Ready(Ok(None));
        };
        let expected = if hello.memory { DESCRIPTORS } else { 0 };
        if fds.len() != expected {
            return Poll::Ready(Err(PeerError::Descriptors(fds.len()).into()));
        }
        let mut fds = fds.into_iter();
        let passed = fds.next().zip(fds.next());
        Poll::Ready(Ok(Some(Said { hello, passed })))
    }

    fn poll_hello(
        &mut self,
        runtime: &Handle,
        waiter: Option<&mut Context<'_>>,
    ) -> Poll<io::Result<Option<Hello>>> {
        let mut waiter = waiter;
        loop {
            match self.receive() {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                said => return Poll::Ready(said),
            }
            let Some(cx) = waiter.as_deref_mut() else {
                return Poll::Pending;
            };
            if let Some(limit) = &mut self.limit
                && limit.as_mut().poll(cx).is_ready()
            {
                if !self.is_client {
                    return Poll::Ready(Err(PeerError::Silent(PATIENCE).into()));
                }
                self.limit = None;
                tracing::warn!(
                    target: "aqueduct::shm",
                    "still waiting for the server's hello after {PATIENCE:?}: it is busy, or does not speak \
                     shm:; use unix: on this side, or shm: on the other"
                );
            }
            let waiting = match &self.waiting {
                Some(waiting) => waiting,
                None => {
                    let _guard = runtime.enter();
                    let registered = sys::register(Arc::clone(&self.socket), Interest::READABLE)?;
                    self.waiting.insert(registered)
                }
            };
            ready!(waiting.poll_read_ready(cx))?.clear_ready();
        }
    }

    /// Receives what is there of the peer's hello.
    pub(super) fn receive(&mut self) -> io::Result<Option<Hello>> {
        loop {
            if let Some(hello) = Hello::parse(&self.said[..self.got])? {
                return Ok(Some(hello));
            }
            let room = &mut self.said[self.got..];
            let received = match sys::recv_with_fds(&self.socket, room, DESCRIPTORS + 1) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                received => received?,
            };
            self.fds.extend(received.fds);
            if received.fds_truncated || self.fds.len() > DESCRIPTORS {
                let count = self.fds.len().max(DESCRIPTORS + 1);
                return Err(PeerError::Descriptors(count).into());
            }
            match received.len {
                0 if self.got == 0 => return Ok(None),
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                n => self.got += n,
            }
        }
    }
}
