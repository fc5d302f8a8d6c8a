//! [`Half`]: a reading half, and what happens to the rest when reading stops.

use std::any::Any;
use std::io;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, ReadBuf};

use crate::io::Polled;

/// A boxed [`Half`].
pub(crate) type BoxHalf = Box<dyn Half + Send + Unpin>;

/// What happens to unread data once no more is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rest {
    /// It stays for the next reader.
    Stays,
    /// The peer was cut off. Data it has written still arrives, then an end that may lie inside a
    /// message; the peer knows that this message was not taken.
    CutOff,
    /// It is lost unless it is read, up to the end that the peer makes.
    Comes,
}

/// The reading half of a byte stream.
pub(crate) trait Half: AsyncRead + Any {
    /// Says that no more is wanted. Asked again at each end of a message for as long as the rest
    /// [stays](Rest::Stays).
    fn stop(&mut self) -> Rest;

    /// Returns how many bytes of the other direction have not arrived at the peer, if the system
    /// can tell; an error if they never will.
    fn undelivered(&self) -> io::Result<usize> {
        Ok(0)
    }

    /// Prepares for closing both halves so that the peer cannot take that for an end.
    fn abort(&mut self) {}

    /// Duplicates the descriptor of a socket, to be [watched](crate::io::hangup).
    fn duplicate(&self) -> Option<OwnedFd> {
        None
    }

    /// Polls for `limit` before each wait, if it does so itself; returns whether it does.
    fn polls_for(&mut self, _limit: Duration) -> bool {
        false
    }
}

impl Half for BoxHalf {
    fn stop(&mut self) -> Rest {
        (**self).stop()
    }

    fn undelivered(&self) -> io::Result<usize> {
        (**self).undelivered()
    }

    fn abort(&mut self) {
        (**self).abort();
    }

    fn duplicate(&self) -> Option<OwnedFd> {
        (**self).duplicate()
    }

    fn polls_for(&mut self, limit: Duration) -> bool {
        (**self).polls_for(limit)
    }
}

impl<R: Half + Unpin> Half for Polled<R> {
    fn stop(&mut self) -> Rest {
        self.get_mut().stop()
    }

    fn undelivered(&self) -> io::Result<usize> {
        self.get_ref().undelivered()
    }

    fn abort(&mut self) {
        self.get_mut().abort();
    }

    fn duplicate(&self) -> Option<OwnedFd> {
        self.get_ref().duplicate()
    }
}

/// A half that others read as well, now or later.
pub(crate) struct Shared<R>(pub(crate) R);

impl<R: AsyncRead + Unpin> AsyncRead for Shared<R> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl<R: AsyncRead + Unpin + 'static> Half for Shared<R> {
    fn stop(&mut self) -> Rest {
        Rest::Stays
    }
}
