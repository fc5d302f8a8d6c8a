//! [`BoundSocket`]: a datagram socket that receives from any sender.

use std::io;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use super::{Arrived, Datagrams};

/// The path of a bound socket. Dropping it removes the path.
pub(crate) trait BoundPath: Send + Sync {
    /// Waits until the path no longer leads to the socket.
    fn poll_lost(&mut self, cx: &mut Context<'_>) -> Poll<()>;

    /// Binds the path again, or returns the error with which the socket ends.
    fn bind_again(&mut self) -> io::Result<Datagrams>;
}

/// A bound socket, and the one that takes its place when its path is lost.
pub(crate) struct BoundSocket {
    /// Dropped before the socket.
    path: Option<Box<dyn BoundPath>>,
    socket: Arc<Datagrams>,
    /// Others may receive from it too, such as the service manager that has passed it down.
    shared: bool,
    /// The path is lost. What was sent before is delivered first.
    lost: bool,
    ended: bool,
}

impl BoundSocket {
    pub(crate) fn new(socket: Datagrams, path: Option<Box<dyn BoundPath>>) -> Self {
        Self {
            path,
            socket: Arc::new(socket),
            shared: false,
            lost: false,
            ended: false,
        }
    }

    /// A socket that was bound elsewhere.
    pub(crate) fn shared(socket: Datagrams) -> Self {
        let mut bound = Self::new(socket, None);
        bound.shared = true;
        bound
    }

    pub(super) fn socket(&self) -> &Arc<Datagrams> {
        &self.socket
    }

    /// Polls for a datagram. `None` after the error with which the socket ends.
    pub(super) fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Arrived>>> {
        loop {
            if self.ended {
                return Poll::Ready(None);
            }
            // Also pending, now and then, under a flood: when the task has used up its budget.
            if !self.lost
                && let Poll::Ready(arrived) = self.socket.poll_receive(cx)
            {
                return Poll::Ready(Some(arrived));
            }
            let Some(path) = &mut self.path else {
                return Poll::Pending;
            };
            if !self.lost {
                ready!(path.poll_lost(cx));
                self.lost = true;
                self.socket.refuse();
            }
            if let Some(last) = self.socket.receive_now().transpose() {
                return Poll::Ready(Some(last));
            }
            match path.bind_again() {
                Ok(socket) => {
                    self.socket = Arc::new(socket);
                    self.lost = false;
                }
                Err(error) => {
                    self.ended = true;
                    return Poll::Ready(Some(Err(error)));
                }
            }
        }
    }

    /// Receives a queued datagram after [`refuse`](Self::refuse). Those of a shared socket stay for
    /// its next receiver.
    pub(super) fn receive_now(&self) -> io::Result<Option<Arrived>> {
        match self.shared {
            true => Ok(None),
            false => self.socket.receive_now(),
        }
    }

    /// Makes further sends fail, unless the socket is shared.
    pub(super) fn refuse(&self) -> bool {
        if !self.shared {
            self.socket.refuse();
        }
        !self.shared
    }
}

impl Drop for BoundSocket {
    fn drop(&mut self) {
        // A reply may keep the socket open, from which nobody receives.
        self.refuse();
    }
}
