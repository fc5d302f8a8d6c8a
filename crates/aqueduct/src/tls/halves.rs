//! [`connection`]: the two directions of a TLS session, as a [`Connection`].

use std::io::{self, IoSlice};
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::runtime::Handle;

use super::wire::Wire;
use crate::connect::{ByteStream, Connection, Half, Peer, Rest};
use crate::frame::{Framing, Pace};
use crate::io::timer::timeout;

/// How long a dropped connection waits for room to end TLS.
const PATIENCE: Duration = Duration::from_secs(10);

/// Takes the socket out of a connection.
pub(super) fn stream_of(mut connection: Connection) -> io::Result<(TcpStream, Peer)> {
    let peer = connection.peer().clone();
    let bytes = connection.take_bytes();
    let socket = bytes.and_then(|bytes| bytes.into_socket().ok());
    // All it takes is a free descriptor.
    let short = || io::Error::from_raw_os_error(libc::EMFILE);
    let stream = std::net::TcpStream::from(socket.ok_or_else(short)?);
    stream.set_nonblocking(true)?;
    Ok((TcpStream::from_std(stream)?, peer))
}

pub(super) fn connection(wire: Arc<Wire>, peer: Peer, framing: Framing) -> Connection {
    let peer = match (peer, wire.subject()) {
        (Peer::Address(address), Some(subject)) => Peer::Certified { address, subject },
        (peer, _) => peer,
    };
    let last = Arc::new(Last(wire));
    let (reader, writer) = (ReadHalf(Arc::clone(&last)), WriteHalf(last));
    let bytes = ByteStream::of(reader, writer);
    Connection::bytes(bytes, framing, Pace::default(), peer)
}

/// Held by both halves.
struct Last(Arc<Wire>);

/// Without a reader, a `close_notify` that found no room is sent by a task of its own: otherwise
/// the peer, who has everything else, would report a torn end.
impl Drop for Last {
    fn drop(&mut self) {
        if self.0.is_unfinished()
            && let Ok(runtime) = Handle::try_current()
        {
            let wire = Arc::clone(&self.0);
            runtime.spawn(async move { timeout(PATIENCE, wire.finish()).await.ok() });
        }
    }
}

/// The reading half.
pub(super) struct ReadHalf(Arc<Last>);

/// The writing half. Shutting it down, or dropping it, ends this direction.
pub(super) struct WriteHalf(Arc<Last>);

impl AsyncRead for ReadHalf {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.0.0.poll_read(cx, buf)
    }
}

/// As with TCP, an end of the other direction is the only message for a peer.
impl Half for ReadHalf {
    fn stop(&mut self) -> Rest {
        Rest::Comes
    }

    fn undelivered(&self) -> io::Result<usize> {
        self.0.0.undelivered()
    }

    fn abort(&mut self) {
        self.0.0.abort();
    }

    fn duplicate(&self) -> Option<OwnedFd> {
        self.0.0.duplicate()
    }
}

impl AsyncWrite for WriteHalf {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let wire = &self.0.0;
        wire.poll_write(cx, |stream, cx| stream.poll_write(cx, buf))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let wire = &self.0.0;
        wire.poll_write(cx, |stream, cx| stream.poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let wire = &self.0.0;
        wire.poll_write(cx, |stream, cx| stream.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.0.poll_close(cx)
    }
}

/// The peer sees the end, also where nobody shut this half down.
impl Drop for WriteHalf {
    fn drop(&mut self) {
        self.0.0.close_now();
    }
}
