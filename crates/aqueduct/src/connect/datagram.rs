//! [`Datagrams`]: a datagram socket. Each datagram is a message.

mod accept;
mod bound;
mod outgoing;

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};

use futures_core::Stream;
use socket2::{SockAddr, SockRef};
use tokio::io::Interest;

use self::outgoing::{Outgoing, To};
use super::connection::{Connection, MessageLink};
use super::link::{Fate, Link};
use super::message::Message;
use super::peer::{Credentials, Peer};
use super::receiver::{Inlet, MessageReceiver};
use super::sender::MessageSender;
use crate::frame::{FrameError, Framing, Late, TooLong, received};
use crate::io::source::{Direction, Source};
use crate::io::sys::recv_datagram;

pub(crate) use self::accept::Accepting;
pub(crate) use self::bound::{BoundPath, BoundSocket};

/// A datagram socket, bound or connected.
pub(crate) struct Datagrams {
    /// Registered for reading alone.
    source: Source,
    /// A duplicate registered for writing alone, made when a send first has to wait: a socket that is
    /// registered for both is woken whenever its peer reads.
    writing: OnceLock<Source>,
    max_receive: usize,
    max_send: usize,
    /// What happens to a datagram above `max_receive`.
    too_long: TooLong,
    /// How many of them were skipped or truncated.
    over: AtomicU64,
    /// Whether the network reports after a send that the port is not in use (ICMP).
    reports: bool,
    /// The receiving half of a connected socket was dropped, so the sending half discards replies.
    discards: AtomicBool,
    /// How many more datagrams are received without waiting.
    queued: AtomicUsize,
}

/// The least memory that a datagram takes of its socket's buffer, with the kernel's bookkeeping (`SKB_TRUESIZE`, `include/linux/skbuff.h`).
const LEAST_IN_BUFFER: usize = 512;

impl Datagrams {
    /// Receives messages of at most the size that `framing` allows, and sends of at most `max_send`.
    pub(crate) fn new(fd: OwnedFd, framing: &Framing, max_send: usize) -> io::Result<Self> {
        Ok(Self {
            source: Source::socket(fd, Interest::READABLE)?.looking_again(),
            writing: OnceLock::new(),
            max_receive: framing.max_message().max(1),
            max_send,
            too_long: framing.when_too_long(),
            over: AtomicU64::new(0),
            reports: false,
            discards: AtomicBool::new(false),
            queued: AtomicUsize::new(usize::MAX),
        })
    }

    /// Checks after each send whether the network has reported the port as unused.
    pub(crate) fn reporting(self) -> Self {
        let reports = true;
        Self { reports, ..self }
    }

    /// A connection to the peer that the socket is connected to.
    pub(crate) fn connection(self, framing: Framing, peer: Peer) -> Connection {
        Connection::messages(Connected(Arc::new(self)), framing, peer)
    }

    /// Receives the datagrams of all senders.
    pub(crate) fn receiver(self) -> MessageReceiver {
        MessageReceiver::new(Incoming::new(Origin::Bound(BoundSocket::shared(self))))
    }

    /// Receives one datagram; `None` if it was skipped.
    fn receive(&self, fd: BorrowedFd<'_>) -> io::Result<Option<Arrived>> {
        let (body, datagram) = received(self.max_receive, |buf| {
            let datagram = recv_datagram(fd, buf)?;
            Ok((datagram.len.min(buf.len()), datagram))
        })?;
        let peer = match (datagram.credentials, datagram.from.as_socket()) {
            (Some(it), _) => Peer::Process(Credentials {
                uid: it.uid,
                gid: it.gid,
                pid: (it.pid > 0).then_some(it.pid),
            }),
            (None, Some(address)) => Peer::Address(address),
            (None, None) => Peer::Unknown,
        };
        let message = || Message::new(body).with_peer(peer.clone());
        let (len, max) = (datagram.len, self.max_receive);
        let message = match self.too_long {
            _ if len <= max => Ok(message()),
            TooLong::Fail => Err(FrameError::TooLarge { len, max }.received()),
            TooLong::Skip => {
                self.warn("skipped", len);
                return Ok(None);
            }
            TooLong::Truncate => {
                self.warn("truncated", len);
                Ok(message())
            }
        };
        // A socket that is not bound has an address without a name.
        let from = Some(datagram.from).filter(|it| it.len() > 0 && !it.is_unnamed());
        Ok(Some(Arrived {
            message,
            from,
            peer,
        }))
    }

    fn warn(&self, what: &str, bytes: usize) {
        let count = self.over.fetch_add(1, Ordering::Relaxed) + 1;
        // A sender of many must not fill the log.
        if count.is_power_of_two() {
            let max = self.max_receive;
            tracing::warn!(
                target: "aqueduct::connect",
                "{what} a datagram of {bytes} bytes, over the limit of {max} ({count} so far)"
            );
        }
    }

    /// Polls for a datagram. Only the last task to poll is woken.
    fn poll_receive(&self, cx: &mut Context<'_>) -> Poll<io::Result<Arrived>> {
        loop {
            let polled = self
                .source
                .poll_io(cx, Direction::Read, |fd| self.receive(fd));
            if let Some(arrived) = ready!(polled)? {
                return Poll::Ready(Ok(arrived));
            }
        }
    }

    /// Receives a queued datagram, also if epoll has not reported it yet; `None` if there is none.
    fn receive_now(&self) -> io::Result<Option<Arrived>> {
        loop {
            if self.queued.load(Ordering::Relaxed) == 0 {
                return Ok(None);
            }
            self.queued.fetch_sub(1, Ordering::Relaxed);
            match self.receive(self.as_fd()) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Ok(None) => {}
                arrived => return arrived,
            }
        }
    }

    /// Sends one datagram without waiting; to the connected peer, unless a name is given.
    fn send_now(&self, body: &[u8], to: Option<&SockAddr>) -> io::Result<()> {
        let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
        let socket = SockRef::from(&self.source);
        loop {
            let sent = match to {
                None => socket.send_with_flags(body, flags),
                Some(name) => socket.send_to_with_flags(body, name, flags),
            };
            match sent {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                sent => return sent.map(drop),
            }
        }
    }

    /// The registration for writing.
    fn writing(&self) -> io::Result<&Source> {
        if let Some(source) = self.writing.get() {
            return Ok(source);
        }
        let source = self.source.socket_again(Interest::WRITABLE)?;
        Ok(self.writing.get_or_init(|| source))
    }

    /// Makes further sends to a Unix socket fail with `EPIPE`. Queued datagrams stay.
    fn refuse(&self) {
        let socket = SockRef::from(&self.source);
        let _ = socket.shutdown(std::net::Shutdown::Read);
        // UDP cannot tell its senders.
        if !socket.local_addr().is_ok_and(|it| it.is_unix()) {
            self.stop();
        }
    }

    /// From now on only as many datagrams are received as the socket can hold: its senders may go
    /// on for ever.
    fn stop(&self) {
        if let Ok(bytes) = SockRef::from(&self.source).recv_buffer_size() {
            let most = bytes / LEAST_IN_BUFFER + 1;
            self.queued.store(most, Ordering::Relaxed);
        }
    }
}

impl AsFd for Datagrams {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.source.as_fd()
    }
}

/// A received datagram.
struct Arrived {
    /// An error concerns this datagram alone.
    message: io::Result<Message>,
    /// The name of the sending socket, if it has one.
    from: Option<SockAddr>,
    peer: Peer,
}

/// A socket that is connected to one peer.
struct Connected(Arc<Datagrams>);

impl Connected {
    fn outgoing(&self) -> Outgoing {
        Outgoing::new(Arc::clone(&self.0), To::Peer)
    }

    fn incoming(&self) -> MessageReceiver {
        MessageReceiver::new(Incoming::new(Origin::Connected(Arc::clone(&self.0))))
    }
}

impl MessageLink for Connected {
    fn max_message(&self) -> Option<usize> {
        Some(self.0.max_send)
    }

    fn split(self: Box<Self>) -> (MessageSender, MessageReceiver) {
        (MessageSender::frames(self.outgoing()), self.incoming())
    }

    fn into_receiver(self: Box<Self>) -> MessageReceiver {
        self.incoming()
    }

    fn into_sender(self: Box<Self>) -> MessageSender {
        drop(self.incoming());
        MessageSender::frames(self.outgoing())
    }

    fn into_link(self: Box<Self>) -> Link {
        Link::messages(self.outgoing(), self.incoming())
            .with_fate(Fate::Unknown)
            .without_end()
    }
}

/// Where messages come from.
pub(crate) enum Origin {
    Connected(Arc<Datagrams>),
    Bound(BoundSocket),
}

/// The messages that a socket receives.
pub(crate) struct Incoming {
    from: Origin,
    /// How many more messages to deliver, if limited.
    left: Option<u64>,
    stopped: bool,
    done: bool,
}

impl Incoming {
    pub(crate) fn new(from: Origin) -> Self {
        Self {
            from,
            left: None,
            stopped: false,
            done: false,
        }
    }

    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Arrived>>> {
        match (&mut self.from, self.stopped) {
            (Origin::Connected(socket), false) => socket.poll_receive(cx).map(Some),
            (Origin::Connected(socket), true) => Poll::Ready(socket.receive_now().transpose()),
            (Origin::Bound(socket), false) => socket.poll_receive(cx),
            (Origin::Bound(socket), true) => Poll::Ready(socket.receive_now().transpose()),
        }
    }
}

impl Stream for Incoming {
    type Item = io::Result<Message>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.done || self.left == Some(0) {
            return Poll::Ready(None);
        }
        let item = match ready!(self.poll_receive(cx)) {
            None => return Poll::Ready(None),
            Some(Ok(arrived)) => arrived.message,
            Some(Err(error)) => {
                tracing::debug!(target: "aqueduct::connect", %error, "receiving");
                // The network reports an unused port. It may be in use later.
                self.done = error.kind() != io::ErrorKind::ConnectionRefused;
                Err(error)
            }
        };
        if let Some(left) = &mut self.left {
            *left -= 1;
        }
        Poll::Ready(Some(item))
    }
}

impl Inlet for Incoming {
    fn stop(mut self: Pin<&mut Self>) {
        match &self.from {
            Origin::Bound(socket) => {
                socket.refuse();
            }
            Origin::Connected(socket) => socket.stop(),
        }
        self.stopped = true;
    }

    fn limit(mut self: Pin<&mut Self>, count: u64) {
        self.left = Some(count);
    }

    fn late(self: Pin<&mut Self>, _owed: u64, _sent: u64) -> Late {
        match &self.from {
            // A network loses and reorders.
            Origin::Connected(socket) if socket.reports => Late::Unknown,
            _ => Late::InOrder { lost: 0 },
        }
    }

    fn unfinished(self: Pin<&mut Self>) -> usize {
        0
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        if let Origin::Connected(socket) = &self.from {
            socket.discards.store(true, Ordering::Relaxed);
        }
    }
}
