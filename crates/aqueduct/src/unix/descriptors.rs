//! Passes open file descriptors over Unix sockets.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};

use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use tokio::io::Interest;
use tokio::net::UnixStream;

use crate::frame::FrameError;
use crate::io::sys::{self, Received};

/// The most descriptors that the kernel passes with one message (unix(7): `SCM_MAX_FD`).
pub(crate) const MAX_FDS: usize = 253;

/// Sends bytes and, with the first of them, duplicates of open file descriptors.
///
/// Returns how many of the bytes were taken, at least one; all descriptors were sent with it
/// (unix(7): `SCM_RIGHTS`). Write the rest of the bytes without them.
///
/// On a stream, descriptors mark a place between bytes. The kernel delivers them with the read that
/// takes the first byte they were sent with. That read may begin with bytes sent earlier, but never
/// continues beyond the bytes sent with them. So a protocol sends descriptors with the first bytes
/// of the frame they belong to, and states their number in the frame. Its receiver queues incoming
/// descriptors and assigns each frame its number of them. It must read with [`recv_with_fds`]
/// throughout: a plain read closes descriptors that arrive with its bytes. A
/// [`seqpacket`](super::seqpacket) socket is simpler.
///
/// # Errors
///
/// - [`FrameError::Empty`] without bytes, [`FrameError::TooManyDescriptors`] above 253.
/// - `EPIPE` if the peer has closed.
/// - `ETOOMANYREFS` if too many of the user's descriptors are in flight (the limit is
///   `RLIMIT_NOFILE`).
///
/// # Cancel safety
///
/// Cancel safe: either nothing was sent or the future was ready.
///
/// # Examples
///
/// ```
/// use aqueduct::unix::{recv_with_fds, send_with_fds};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> std::io::Result<()> {
/// let (ours, theirs) = tokio::net::UnixStream::pair()?;
/// let file = std::fs::File::open("/dev/null")?;
/// send_with_fds(&ours, b"f", &[file]).await?;
/// let (bytes, fds) = recv_with_fds(&theirs, &mut [0; 16], 1).await?;
/// assert_eq!((bytes, fds.len()), (1, 1));
/// # Ok(())
/// # }
/// ```
pub async fn send_with_fds<F: AsFd>(
    stream: &UnixStream,
    bytes: &[u8],
    fds: &[F],
) -> io::Result<usize> {
    let raw = check(bytes, fds)?;
    let send = || send_now(stream, bytes, &raw);
    stream.async_io(Interest::WRITABLE, send).await
}

/// Receives bytes and the descriptors that were sent with them.
///
/// At most `max_fds` descriptors are accepted; they are close-on-exec. 0 bytes are the end of the
/// stream, if there is room in `buf`.
///
/// # Errors
///
/// - [`FrameError::DescriptorsTruncated`] if more arrived, or if they could not be opened because
///   this process is at its limit. All were closed and the bytes of that read are lost, so the
///   stream is unusable.
/// - `InvalidInput` for a `max_fds` above 253.
///
/// # Cancel safety
///
/// Cancel safe: either nothing was received or the future was ready.
///
/// # Examples
///
/// ```
/// use aqueduct::unix::{recv_with_fds, send_with_fds};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> std::io::Result<()> {
/// let (ours, theirs) = tokio::net::UnixStream::pair()?;
/// let file = std::fs::File::open("/dev/null")?;
/// send_with_fds(&ours, b"f", &[file]).await?;
/// let mut buf = [0; 16];
/// let (bytes, fds) = recv_with_fds(&theirs, &mut buf, 1).await?;
/// assert_eq!((&buf[..bytes], fds.len()), (&b"f"[..], 1));
/// # Ok(()) }
/// ```
pub async fn recv_with_fds(
    stream: &UnixStream,
    buf: &mut [u8],
    max_fds: usize,
) -> io::Result<(usize, Vec<OwnedFd>)> {
    check_limit(max_fds)?;
    let receive = || {
        let received = recv_now(stream, buf, max_fds)?;
        Ok((received.len, received.fds))
    };
    stream.async_io(Interest::READABLE, receive).await
}

/// Checks a message to be sent, and returns the numbers of its descriptors, which stay borrowed.
pub(crate) fn check<F: AsFd>(bytes: &[u8], fds: &[F]) -> Result<Vec<RawFd>, FrameError> {
    if bytes.is_empty() {
        return Err(FrameError::Empty);
    }
    if fds.len() > MAX_FDS {
        return Err(FrameError::TooManyDescriptors {
            count: fds.len(),
            max: MAX_FDS,
        });
    }
    Ok(fds.iter().map(|fd| fd.as_fd().as_raw_fd()).collect())
}

/// Checks how many descriptors are to be accepted.
pub(crate) fn check_limit(max_fds: usize) -> io::Result<()> {
    if max_fds > MAX_FDS {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("at most {MAX_FDS} descriptors can arrive with one message"),
        ));
    }
    Ok(())
}

/// One `sendmsg(2)` that neither waits nor raises `SIGPIPE`.
pub(crate) fn send_now(socket: impl AsFd, bytes: &[u8], fds: &[RawFd]) -> io::Result<usize> {
    let bytes = [IoSlice::new(bytes)];
    let rights = [ControlMessage::ScmRights(fds)];
    let control = if fds.is_empty() { &[] } else { &rights[..] };
    let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
    let fd = socket.as_fd().as_raw_fd();
    loop {
        match sendmsg::<()>(fd, &bytes, control, flags, None) {
            Err(nix::errno::Errno::EINTR) => {}
            result => return Ok(result?),
        }
    }
}

/// One `recvmsg(2)` that does not wait. Returns all descriptors that arrived, or none.
pub(super) fn recv_now(socket: impl AsFd, buf: &mut [u8], max_fds: usize) -> io::Result<Received> {
    let received = loop {
        match sys::recv_with_fds(socket.as_fd(), buf, max_fds) {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            result => break result?,
        }
    };
    if received.fds_truncated || received.fds.len() > max_fds {
        return Err(FrameError::DescriptorsTruncated {
            taken: received.fds.len(),
            max: max_fds,
        }
        .into());
    }
    Ok(received)
}
