//! [`Socket`]: a connected `SOCK_SEQPACKET` socket.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use socket2::{Domain, SockRef, Type};
use tokio::io::Interest;
use tokio::task::coop::consume_budget;

use crate::connect::OpenError;
use crate::frame::{FrameError, received};
use crate::io::source::{Direction, Source};
use crate::unix::address::Address;
use crate::unix::connect::ConnectOptions;
use crate::unix::descriptors::{check, check_limit, recv_now, send_now};

/// The largest message that is sent or accepted, unless set.
pub(super) const DEFAULT_MAX_MESSAGE: usize = 1024 * 1024;

/// The kernel's overhead in the send buffer beyond the message (`unix_dgram_sendmsg`).
const SEND_OVERHEAD: usize = 32;

/// A message, and the descriptors that arrived with it.
type Received = (Bytes, Vec<OwnedFd>);

/// A connected `SOCK_SEQPACKET` socket. The [module](super) documents its promises.
///
/// `Socket::try_from(OwnedFd)` takes over a connected one from elsewhere.
///
/// # Examples
///
/// ```
/// use aqueduct::unix::seqpacket;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> std::io::Result<()> {
/// let (a, b) = seqpacket::pair()?;
/// a.send(b"hello").await?;
/// drop(a);
/// assert_eq!(b.recv().await?.as_deref(), Some(&b"hello"[..]));
/// assert_eq!(b.recv().await?, None);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Socket {
    /// Registered for reading only.
    source: Source,
    /// A duplicate registered for writing only, created when a send has to wait for the first time.
    /// A socket that is registered for both is woken when the peer reads its messages.
    writing: OnceLock<Source>,
    /// Whether the kernel has reported a reset that was not passed on yet.
    reset: AtomicBool,
    max_receive: usize,
    max_send: usize,
}

impl ConnectOptions {
    /// Connects a [`seqpacket`](super) socket, otherwise as [`connect`](Self::connect).
    ///
    /// # Errors
    ///
    /// See [`connect`](Self::connect).
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: nothing is left open.
    pub async fn connect_seqpacket(&self, address: impl AsRef<Path>) -> Result<Socket, OpenError> {
        let address = Address::new(address);
        let (fd, attempt) = Box::pin(self.open(address, Type::SEQPACKET)).await?;
        let max_message = self.max_message.unwrap_or(DEFAULT_MAX_MESSAGE);
        Socket::new(fd, max_message).map_err(|e| attempt.failed(e))
    }
}

impl Socket {
    pub(in crate::unix) fn new(fd: OwnedFd, max_message: usize) -> io::Result<Self> {
        let max_message = max_message.max(1);
        let max_send = make_room(&fd, max_message)?;
        Ok(Self {
            source: Source::socket(fd, Interest::READABLE)?.looking_again(),
            writing: OnceLock::new(),
            reset: AtomicBool::new(false),
            max_receive: max_message,
            max_send,
        })
    }

    /// Takes over a socket whose open file description others share: its mode stays unchanged,
    /// since no call here depends on it.
    pub(crate) fn from_shared(fd: OwnedFd, max_message: usize) -> io::Result<Self> {
        check_socket(&fd)?;
        Self::new(fd, max_message)
    }

    /// Returns the largest message that can be sent, in bytes.
    ///
    /// That is the limit that was set, or the kernel's if that is lower.
    pub fn max_message(&self) -> usize {
        self.max_send
    }

    /// Sends one message, waiting for room. Any number of tasks may send at once.
    ///
    /// # Errors
    ///
    /// [`FrameError::Empty`], [`FrameError::TooLarge`]. `EPIPE` if the peer has closed or no longer
    /// receives.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a dropped send has sent nothing.
    pub async fn send(&self, message: &[u8]) -> io::Result<()> {
        self.send_with_fds::<BorrowedFd<'_>>(message, &[]).await
    }

    /// Sends one message with duplicates of open file descriptors, at most 253.
    ///
    /// # Errors
    ///
    /// As for [`send`](Self::send), and [`FrameError::TooManyDescriptors`]. `ETOOMANYREFS` if too
    /// many of the user's descriptors are in flight (the limit is `RLIMIT_NOFILE`).
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a dropped send has sent nothing.
    pub async fn send_with_fds<F: AsFd>(&self, message: &[u8], fds: &[F]) -> io::Result<()> {
        let raw = check(message, fds)?;
        consume_budget().await;
        match self.send_raw(message, &raw) {
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
            result => return result,
        }
        let send = |_: BorrowedFd<'_>| self.send_raw(message, &raw);
        self.writing()?.io(Interest::WRITABLE, send).await
    }

    /// Sends one message if there is room now.
    ///
    /// # Errors
    ///
    /// As for [`send`](Self::send), and `WouldBlock` if there is no room.
    pub fn try_send(&self, message: &[u8]) -> io::Result<()> {
        let raw = check::<BorrowedFd<'_>>(message, &[])?;
        self.send_raw(message, &raw)
    }

    /// Receives one message; `None` at the end of the stream.
    ///
    /// Any number of tasks may receive at once.
    ///
    /// # Errors
    ///
    /// - [`FrameError::TooLarge`], or [`FrameError::DescriptorsTruncated`] if descriptors arrived
    ///   with the message (use [`recv_with_fds`](Self::recv_with_fds)). These cost that message,
    ///   and the next one can be received.
    /// - `ECONNRESET` instead of the end, after all messages of the peer, if it closed with
    ///   messages unread.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a dropped receive has taken nothing.
    pub async fn recv(&self) -> io::Result<Option<Bytes>> {
        let message = self.recv_with_fds(0).await?;
        Ok(message.map(|(body, _)| body))
    }

    /// Receives one message with at most `max_fds` descriptors.
    ///
    /// `None` is the end of the stream.
    ///
    /// The descriptors are close-on-exec, in the order they were sent.
    ///
    /// # Errors
    ///
    /// As for [`recv`](Self::recv). If more descriptors arrive, all are closed. `InvalidInput` for
    /// a `max_fds` above 253.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a dropped receive has taken nothing.
    pub async fn recv_with_fds(&self, max_fds: usize) -> io::Result<Option<(Bytes, Vec<OwnedFd>)>> {
        check_limit(max_fds)?;
        let receive = |fd: BorrowedFd<'_>| self.receive(fd, max_fds);
        self.source.io(Interest::READABLE, receive).await
    }

    /// Receives one message if there is one now; `None` at the end of the stream.
    ///
    /// # Errors
    ///
    /// As for [`recv`](Self::recv), and `WouldBlock` if there is none.
    pub fn try_recv(&self) -> io::Result<Option<Bytes>> {
        let message = self.receive(self.as_fd(), 0)?;
        Ok(message.map(|(body, _)| body))
    }

    /// Ends this direction: the peer receives the sent messages, then the end of stream, and can
    /// still answer. Sending fails from now on.
    pub(super) fn shutdown_write(&self) -> io::Result<()> {
        SockRef::from(&self.source).shutdown(std::net::Shutdown::Write)
    }

    /// Polls for room and sends. Only the last task to poll is woken.
    pub(super) fn poll_send(&self, cx: &mut Context<'_>, message: &[u8]) -> Poll<io::Result<()>> {
        match self.writing() {
            Ok(source) => source.poll_io(cx, Direction::Write, |_| self.send_raw(message, &[])),
            Err(e) => Poll::Ready(Err(e)),
        }
    }

    /// Polls for a message. Only the last task to poll is woken.
    pub(super) fn poll_recv(&self, cx: &mut Context<'_>) -> Poll<io::Result<Option<Bytes>>> {
        let received = self
            .source
            .poll_io(cx, Direction::Read, |fd| self.receive(fd, 0));
        received.map_ok(|message| message.map(|(body, _)| body))
    }

    fn receive(&self, fd: BorrowedFd<'_>, max_fds: usize) -> io::Result<Option<Received>> {
        self.before_a_reset(Option::is_none, || receive(fd, self.max_receive, max_fds))
    }

    /// Receives messages that the peer had sent before it left with messages of ours unread, and
    /// reports that instead of the end.
    ///
    /// The kernel reports it at once and once, before the messages that are still there
    /// (`sock_error` in `__skb_try_recv_datagram`): a receiver that stops at an error would never
    /// see them.
    fn before_a_reset<R>(
        &self,
        is_end: impl Fn(&R) -> bool,
        mut receive: impl FnMut() -> io::Result<R>,
    ) -> io::Result<R> {
        let mut received = receive();
        if let Err(error) = &received
            && error.raw_os_error() == Some(libc::ECONNRESET)
        {
            self.reset.store(true, Ordering::Relaxed);
            received = receive();
        }
        match received {
            Ok(last) if is_end(&last) && self.reset.swap(false, Ordering::Relaxed) => {
                Err(io::Error::from_raw_os_error(libc::ECONNRESET))
            }
            received => received,
        }
    }

    /// Whether the kernel has reported a reset that the receiver has yet to report.
    pub(super) fn was_reset(&self) -> bool {
        self.reset.load(Ordering::Relaxed)
    }

    fn send_raw(&self, message: &[u8], fds: &[RawFd]) -> io::Result<()> {
        let too_large = |limit| FrameError::TooLarge {
            len: message.len(),
            max: limit,
        };
        if message.len() > self.max_send {
            return Err(too_large(self.max_send).into());
        }
        let mut sent = send_now(&self.source, message, fds);
        if let Err(error) = &sent
            && error.raw_os_error() == Some(libc::ECONNRESET)
        {
            // Reported once, to whichever call comes first; the receiver has to report it.
            self.reset.store(true, Ordering::Relaxed);
            sent = send_now(&self.source, message, fds);
        }
        match sent {
            // Somebody else has made the send buffer smaller.
            Err(e) if e.raw_os_error() == Some(libc::EMSGSIZE) => {
                let buffer = SockRef::from(&self.source).send_buffer_size()?;
                Err(too_large(buffer.saturating_sub(SEND_OVERHEAD)).into())
            }
            result => result.map(|_| ()),
        }
    }

    /// The registration for writing.
    fn writing(&self) -> io::Result<&Source> {
        if let Some(source) = self.writing.get() {
            return Ok(source);
        }
        let source = self.source.socket_again(Interest::WRITABLE)?;
        // Another task may have been faster. Then its registration stays, and this one is dropped.
        Ok(self.writing.get_or_init(|| source))
    }
}

/// Makes the send buffer large enough for messages of `max_message` bytes, if allowed. Returns the
/// largest message that fits.
pub(crate) fn make_room(fd: impl AsFd, max_message: usize) -> io::Result<usize> {
    let fd = fd.as_fd();
    let socket = SockRef::from(&fd);
    let wanted = max_message.saturating_add(SEND_OVERHEAD);
    let mut buffer = socket.send_buffer_size()?;
    if buffer < wanted {
        // The kernel takes as much as it allows, and doubles what it is told (socket(7)).
        let half = wanted.div_ceil(2).min(i32::MAX as usize / 2);
        socket.set_send_buffer_size(half)?;
        buffer = socket.send_buffer_size()?;
    }
    Ok(max_message.min(buffer.saturating_sub(SEND_OVERHEAD)))
}

impl TryFrom<OwnedFd> for Socket {
    type Error = io::Error;

    /// Takes over a connected `SOCK_SEQPACKET` Unix socket.
    ///
    /// It becomes non-blocking, and `SO_PASSCRED` is turned off.
    fn try_from(fd: OwnedFd) -> io::Result<Self> {
        check_socket(&fd)?;
        SockRef::from(&fd).set_nonblocking(true)?;
        Self::new(fd, DEFAULT_MAX_MESSAGE)
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.source.as_fd()
    }
}

/// Creates two connected sockets.
///
/// # Errors
///
/// `EMFILE` or `ENFILE` if no file descriptor is free; an error outside a runtime.
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> std::io::Result<()> {
/// let (a, b) = aqueduct::unix::seqpacket::pair()?;
/// a.send(b"hello").await?;
/// assert_eq!(b.recv().await?.as_deref(), Some(&b"hello"[..]));
/// # Ok(()) }
/// ```
pub fn pair() -> io::Result<(Socket, Socket)> {
    let (a, b) = socket2::Socket::pair(Domain::UNIX, Type::SEQPACKET.nonblocking(), None)?;
    Ok((
        Socket::new(a.into(), DEFAULT_MAX_MESSAGE)?,
        Socket::new(b.into(), DEFAULT_MAX_MESSAGE)?,
    ))
}

fn check_socket(fd: &OwnedFd) -> io::Result<()> {
    let socket = SockRef::from(fd);
    let fits = socket.domain()? == Domain::UNIX && socket.r#type()? == Type::SEQPACKET;
    if !fits || socket.is_listener()? {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "the descriptor is not a connected Unix socket of type SOCK_SEQPACKET",
        ));
    }
    // With it each message brings control data that we have no use and no room for, and which looks
    // as if descriptors had been cut off.
    socket.set_passcred(false)
}

/// Receives one message of at most `limit` bytes; `None` at the end of the stream.
fn receive(fd: BorrowedFd<'_>, limit: usize, max_fds: usize) -> io::Result<Option<Received>> {
    let (body, fds) = received(limit, |buf| receive_into(fd, buf, max_fds))?;
    Ok((!body.is_empty()).then_some((body, fds)))
}

fn receive_into(
    fd: BorrowedFd<'_>,
    buf: &mut [u8],
    max_fds: usize,
) -> io::Result<(usize, Vec<OwnedFd>)> {
    let received = recv_now(fd, buf, max_fds)?;
    if received.len > buf.len() {
        let (len, max) = (received.len, buf.len());
        return Err(FrameError::TooLarge { len, max }.received());
    }
    Ok((received.len, received.fds))
}
