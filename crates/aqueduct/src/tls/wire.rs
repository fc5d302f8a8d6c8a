//! [`Wire`]: a TLS session over a TCP stream, from the handshake to the end of both directions.

use std::future::Future;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker, ready};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, BufReader, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{self, ClientConfig, ServerConfig};
use tokio_rustls::{Accept, Connect, TlsAcceptor, TlsConnector, TlsStream};

use super::error::{Role, TlsError};
use super::subject::subject_of;
use crate::io::sys;
use crate::io::timer::{Sleep, sleep};

/// rustls reads 4 KiB at a time. With this it costs one system call for two full records.
const READ: usize = 32 * 1024;

type Io = BufReader<TcpStream>;

/// A session. Both halves of a connection share it.
pub(super) struct Wire {
    state: Mutex<State>,
    both: Arc<Both>,
    peer: Role,
}

pub(super) struct State {
    phase: Phase,
    /// The writing half has ended. `close_notify` may still have to be sent.
    closing: bool,
    /// `close_notify` was sent.
    closed: bool,
    /// The subject of the peer's certificate, if it gave one that was verified.
    subject: Option<Arc<str>>,
    /// An error behind data that was delivered first.
    unread: Option<io::Error>,
}

enum Phase {
    Greeting {
        handshake: Handshake,
        limit: Pin<Box<Sleep>>,
        patience: Duration,
    },
    Open(Box<TlsStream<Io>>),
    Failed(Failure),
}

enum Handshake {
    Client(Box<Connect<Io>>),
    /// A server's, before anything has arrived.
    Silent(Option<(TcpStream, Arc<ServerConfig>)>),
    Server(Box<Accept<Io>>),
}

impl Handshake {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<TlsStream<Io>>> {
        if let Self::Silent(stream) = self {
            if let Some((stream, _)) = stream {
                ready!(stream.poll_read_ready(cx))?;
            }
            let Some((stream, config)) = stream.take() else {
                return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
            };
            let stream = BufReader::with_capacity(READ, stream);
            *self = Self::Server(Box::new(TlsAcceptor::from(config).accept(stream)));
        }
        match self {
            Self::Client(connect) => Pin::new(connect).poll(cx).map_ok(TlsStream::Client),
            Self::Server(accept) => Pin::new(accept).poll(cx).map_ok(TlsStream::Server),
            Self::Silent(_) => Poll::Pending,
        }
    }
}

/// A failed handshake, which both halves report.
struct Failure {
    kind: io::ErrorKind,
    error: Option<io::Error>,
}

impl Failure {
    fn new(error: io::Error) -> Self {
        Self {
            kind: error.kind(),
            error: Some(error),
        }
    }

    fn take(&mut self) -> io::Error {
        self.error.take().unwrap_or_else(|| self.kind.into())
    }
}

/// Wakes the tasks of both halves: either may have to go on with the handshake.
#[derive(Default)]
struct Both(Mutex<[Option<Waker>; 2]>);

#[derive(Clone, Copy)]
pub(super) enum Which {
    Read,
    Write,
}

impl Both {
    fn register(&self, which: Which, waker: &Waker) {
        let mut wakers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let slot = &mut wakers[which as usize];
        match slot {
            Some(known) => known.clone_from(waker),
            None => *slot = Some(waker.clone()),
        }
    }
}

impl Wake for Both {
    fn wake(self: Arc<Self>) {
        let wakers = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        wakers.into_iter().flatten().for_each(Waker::wake);
    }
}

impl Wire {
    pub(super) fn client(
        stream: TcpStream,
        config: Arc<ClientConfig>,
        name: ServerName<'static>,
        patience: Duration,
    ) -> Arc<Self> {
        let stream = BufReader::with_capacity(READ, stream);
        let handshake = TlsConnector::from(config).connect(name, stream);
        Self::new(
            Handshake::Client(Box::new(handshake)),
            Role::Server,
            patience,
        )
    }

    pub(super) fn server(
        stream: TcpStream,
        config: Arc<ServerConfig>,
        patience: Duration,
    ) -> Arc<Self> {
        let handshake = Handshake::Silent(Some((stream, config)));
        Self::new(handshake, Role::Client, patience)
    }

    fn new(handshake: Handshake, peer: Role, patience: Duration) -> Arc<Self> {
        let phase = Phase::Greeting {
            handshake,
            limit: Box::pin(sleep(patience)),
            patience,
        };
        Arc::new(Self {
            state: Mutex::new(State {
                phase,
                closing: false,
                closed: false,
                subject: None,
                unread: None,
            }),
            both: Arc::default(),
            peer,
        })
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Goes on with the handshake until it is done.
    pub(super) fn poll_open(&self, which: Which, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.lock().poll_open(self, which, cx)
    }

    /// The subject of the peer's certificate, if it gave one that was verified.
    pub(super) fn subject(&self) -> Option<Arc<str>> {
        self.lock().subject.clone()
    }

    /// Whether nothing of a server's handshake has been read yet.
    pub(super) fn is_unread(&self) -> bool {
        matches!(
            self.lock().phase,
            Phase::Greeting {
                handshake: Handshake::Silent(_),
                ..
            }
        )
    }

    /// Whether the client has sent nothing at all, which the runtime may not know yet.
    pub(super) fn is_silent(&self) -> bool {
        let state = self.lock();
        let Phase::Greeting {
            handshake: Handshake::Silent(Some((stream, _))),
            ..
        } = &state.phase
        else {
            return false;
        };
        let peeked = SockRef::from(stream).peek(&mut [MaybeUninit::uninit()]);
        peeked.is_err_and(|e| e.kind() == io::ErrorKind::WouldBlock)
    }

    /// Ends a handshake.
    pub(super) fn give_up(&self, error: io::Error) {
        self.lock().phase = Phase::Failed(Failure::new(error));
        Waker::from(Arc::clone(&self.both)).wake();
    }

    /// Gives a handshake at most `patience` from now on.
    pub(super) fn hurry(&self, hurry: Duration) {
        if let Phase::Greeting {
            limit, patience, ..
        } = &mut self.lock().phase
        {
            *limit = Box::pin(sleep(hurry));
            *patience = hurry;
        }
    }

    pub(super) fn poll_read(
        &self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut state = self.lock();
        ready!(state.poll_open(self, Which::Read, cx))?;
        state.go_on_closing(cx);
        if let Some(error) = state.unread.take() {
            return Poll::Ready(Err(TlsError::explain(error, self.peer)));
        }
        let Some(stream) = state.stream() else {
            return Poll::Ready(Ok(()));
        };
        let before = buf.filled().len();
        loop {
            let at = buf.filled().len();
            match Pin::new(&mut *stream).poll_read(cx, buf) {
                // What was read before is delivered first.
                Poll::Pending if at > before => return Poll::Ready(Ok(())),
                Poll::Ready(Err(error)) if at > before => {
                    state.unread = Some(error);
                    return Poll::Ready(Ok(()));
                }
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(error)) => {
                    return Poll::Ready(Err(TlsError::explain(error, self.peer)));
                }
                Poll::Ready(Ok(())) => {}
            }
            let (io, session) = stream.get_ref();
            let more = !session.wants_read() || !io.buffer().is_empty();
            if buf.filled().len() == at || buf.remaining() == 0 || !more {
                return Poll::Ready(Ok(()));
            }
        }
    }

    /// Writes by `write`, which gets the open stream.
    pub(super) fn poll_write<T>(
        &self,
        cx: &mut Context<'_>,
        write: impl FnOnce(Pin<&mut TlsStream<Io>>, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        let mut state = self.lock();
        ready!(state.poll_open(self, Which::Write, cx))?;
        let Some(stream) = state.stream() else {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        };
        write(Pin::new(&mut *stream), cx).map_err(|error| match last_words(stream) {
            Some(alert) => {
                TlsError::explain(io::Error::new(io::ErrorKind::InvalidData, alert), self.peer)
            }
            None => TlsError::explain(error, self.peer),
        })
    }

    /// Ends the writing direction.
    pub(super) fn poll_close(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.lock();
        ready!(state.poll_open(self, Which::Write, cx))?;
        state.closing = true;
        state.poll_closed(cx)
    }

    /// Ends the writing direction as far as that is possible at once. The reading half, or
    /// [`finish`](Self::finish), does the rest.
    pub(super) fn close_now(&self) {
        let mut state = self.lock();
        state.closing = true;
        state.go_on_closing(&mut Context::from_waker(Waker::noop()));
    }

    /// Whether `close_notify` is still to be sent.
    pub(super) fn is_unfinished(&self) -> bool {
        let state = self.lock();
        state.closing && !state.closed && matches!(state.phase, Phase::Open(_))
    }

    /// Sends `close_notify` once there is room for it.
    pub(super) async fn finish(&self) {
        let finished = std::future::poll_fn(|cx| self.lock().poll_closed(cx));
        // A peer that is gone need not be told.
        let _ = finished.await;
    }

    /// Returns how many bytes wait to be received by the peer.
    pub(super) fn undelivered(&self) -> io::Result<usize> {
        let mut state = self.lock();
        let Some(stream) = state.stream() else {
            return Ok(0);
        };
        let stream = stream.get_ref().0.get_ref();
        // A peer that has closed resets the connection when something arrives.
        let waiting = sys::unsent(stream)?;
        stream.take_error()?.map_or(Ok(waiting), Err)
    }

    /// Sends no `close_notify` any more. Closing the socket then resets the connection.
    pub(super) fn abort(&self) {
        let mut state = self.lock();
        state.closed = true;
        if let Some(stream) = state.stream() {
            // An error would mean that there is no connection.
            let _ = SockRef::from(stream.get_ref().0.get_ref()).set_linger(Some(Duration::ZERO));
        }
    }

    /// Duplicates the descriptor of the socket.
    pub(super) fn duplicate(&self) -> Option<OwnedFd> {
        let mut state = self.lock();
        let stream = state.stream()?.get_ref().0.get_ref();
        stream.as_fd().try_clone_to_owned().ok()
    }
}

impl State {
    fn stream(&mut self) -> Option<&mut TlsStream<Io>> {
        match &mut self.phase {
            Phase::Open(stream) => Some(stream),
            _ => None,
        }
    }

    fn poll_open(
        &mut self,
        wire: &Wire,
        which: Which,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        let (handshake, limit, patience) = match &mut self.phase {
            Phase::Open(_) => return Poll::Ready(Ok(())),
            Phase::Failed(failure) => return Poll::Ready(Err(failure.take())),
            Phase::Greeting {
                handshake,
                limit,
                patience,
            } => (handshake, limit, *patience),
        };
        wire.both.register(which, cx.waker());
        let waker = Waker::from(Arc::clone(&wire.both));
        let cx = &mut Context::from_waker(&waker);
        let shaken = match handshake.poll(cx) {
            Poll::Ready(Ok(stream)) => match subject_of(&stream) {
                Ok(subject) => {
                    self.subject = subject;
                    Ok(stream)
                }
                Err(length) => Err(TlsError::long_subject(length, wire.peer)),
            },
            Poll::Ready(Err(e)) if e.kind() == io::ErrorKind::UnexpectedEof => {
                Err(TlsError::closed_early(wire.peer))
            }
            Poll::Ready(Err(e)) => Err(TlsError::explain(e, wire.peer)),
            Poll::Pending => {
                ready!(limit.as_mut().poll(cx));
                Err(TlsError::silent(patience, wire.peer))
            }
        };
        // The other half may wait for the handshake.
        waker.wake_by_ref();
        match shaken {
            Ok(stream) => {
                self.phase = Phase::Open(Box::new(stream));
                Poll::Ready(Ok(()))
            }
            Err(error) => {
                let mut failure = Failure::new(error);
                let error = failure.take();
                self.phase = Phase::Failed(failure);
                Poll::Ready(Err(error))
            }
        }
    }

    fn poll_closed(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.closed {
            return Poll::Ready(Ok(()));
        }
        let Some(stream) = self.stream() else {
            return Poll::Ready(Ok(()));
        };
        let closed = ready!(Pin::new(stream).poll_shutdown(cx));
        self.closed = true;
        match closed {
            // The peer has gone already.
            Err(e) if e.kind() == io::ErrorKind::NotConnected => Poll::Ready(Ok(())),
            closed => Poll::Ready(closed),
        }
    }

    fn go_on_closing(&mut self, cx: &mut Context<'_>) {
        if self.closing && !self.closed {
            let _ = self.poll_closed(cx);
        }
    }
}

/// Looks for an alert that the peer sent before it broke the connection. Data before it stays for
/// the reader.
fn last_words(stream: &mut TlsStream<Io>) -> Option<rustls::Error> {
    match stream {
        TlsStream::Client(it) => {
            let (io, session) = it.get_mut();
            drain(io, |bytes| {
                session.read_tls(bytes).ok().filter(|n| *n > 0)?;
                Some(session.process_new_packets().err())
            })
        }
        TlsStream::Server(it) => {
            let (io, session) = it.get_mut();
            drain(io, |bytes| {
                session.read_tls(bytes).ok().filter(|n| *n > 0)?;
                Some(session.process_new_packets().err())
            })
        }
    }
}

/// Hands what has arrived to `process`, which returns `None` when it takes no more.
fn drain(
    io: &mut Io,
    mut process: impl FnMut(&mut &[u8]) -> Option<Option<rustls::Error>>,
) -> Option<rustls::Error> {
    let cx = &mut Context::from_waker(Waker::noop());
    loop {
        let mut bytes = [0; 4096];
        let mut buf = ReadBuf::new(&mut bytes);
        match Pin::new(&mut *io).poll_read(cx, &mut buf) {
            Poll::Ready(Ok(())) if !buf.filled().is_empty() => {}
            _ => return None,
        }
        let mut rest = buf.filled();
        while !rest.is_empty() {
            if let Some(error) = process(&mut rest)? {
                return Some(error);
            }
        }
    }
}
