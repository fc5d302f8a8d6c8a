//! Transports that read and write in pieces, with waits between.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Gives its pieces one per read, and `Pending` (with a wake-up) between any two.
pub(super) struct Pieces {
    pieces: Vec<Vec<u8>>,
    pause: bool,
}

impl Pieces {
    pub(super) fn new(pieces: impl IntoIterator<Item = impl Into<Vec<u8>>>) -> Self {
        let mut pieces: Vec<Vec<u8>> = pieces.into_iter().map(Into::into).collect();
        pieces.retain(|piece| !piece.is_empty());
        pieces.reverse();
        Self {
            pieces,
            pause: false,
        }
    }

    pub(super) fn byte_by_byte(bytes: &[u8]) -> Self {
        Self::new(bytes.iter().map(|byte| vec![*byte]))
    }
}

impl AsyncRead for Pieces {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.pause = !self.pause;
        if self.pause {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if let Some(mut piece) = self.pieces.pop() {
            let n = piece.len().min(buf.remaining());
            buf.put_slice(&piece[..n]);
            piece.drain(..n);
            if !piece.is_empty() {
                self.pieces.push(piece);
            }
        }
        Poll::Ready(Ok(()))
    }
}

/// Takes at most `step` bytes a write, and `Pending` between any two.
pub(super) struct Trickle {
    pub(super) written: Arc<Mutex<Vec<u8>>>,
    step: usize,
    gather: bool,
    pause: bool,
    pub(super) calls: Arc<Mutex<Vec<usize>>>,
}

impl Trickle {
    pub(super) fn new(step: usize, gather: bool) -> Self {
        Self {
            written: Arc::default(),
            step,
            gather,
            pause: false,
            calls: Arc::default(),
        }
    }

    fn take(&mut self, cx: &mut Context<'_>, bufs: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        self.pause = !self.pause;
        if self.pause {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let mut left = self.step;
        let mut written = self.written.lock().unwrap();
        for buf in bufs {
            let n = buf.len().min(left);
            written.extend_from_slice(&buf[..n]);
            left -= n;
        }
        self.calls.lock().unwrap().push(self.step - left);
        Poll::Ready(Ok(self.step - left))
    }
}

impl AsyncWrite for Trickle {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.take(cx, &[io::IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.take(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.gather
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
