//! [`Wire`]: what both halves of a connection share: socket, memory of both sides, and bells.

use std::io::{self, IoSlice};
use std::mem;
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll, Wake, Waker, ready};
use std::time::Duration;

use futures_util::task::AtomicWaker;
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use socket2::SockRef;
use tokio::io::unix::AsyncFd;
use tokio::io::{Interest, ReadBuf};
use tokio::runtime::Handle;

use super::error::PeerError;
use super::hello::{self, DESCRIPTORS, Hello};
use super::memory::{self, Made};
use super::ring::{Data, GONE, Half, Link, Rung, START, Word};
use crate::io::sys;
use crate::io::sys::memory::{Own, Room, Theirs};
use crate::io::timer::{Sleep, sleep};
use crate::unix::halves;

/// How long a client may take for its hello.
const PATIENCE: Duration = Duration::from_secs(5);

/// After this many sleeps the bell is emptied, long before it is full: each may have been rung for,
/// also one that found something before it waited.
const SLEEPS: u32 = 1024;

/// The settings of one side.
#[derive(Clone, Copy, Debug)]
pub(super) struct Settings {
    /// The largest ring, for writing and for reading.
    pub(super) capacity: u64,
    /// Whether to go on over the socket where memory cannot be shared.
    pub(super) fallback: bool,
}

/// How the bytes go after both hellos.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// By memory. The peer reads rings of up to this size, and writes ones of that size.
    Memory { writes: u64, reads: u64 },
    /// Over the socket, as `unix:` does.
    Socket,
    /// The peer has closed before it said hello.
    Closed,
}

/// What both halves of a connection share.
pub(super) struct Wire {
    settings: Settings,
    socket: Arc<OwnedFd>,
    own: OnceLock<Own>,
    /// Rings the peer.
    bell: OnceLock<OwnedFd>,
    peer: OnceLock<Peer>,
    way: OnceLock<Result<Way, Refusal>>,
    greeting: Mutex<Greeting>,
    wakers: Arc<Wakers>,
    /// Wakes the tasks of both halves.
    both: Waker,
    /// The peer has gone, or was found to lie.
    gone: AtomicBool,
    /// Something was written before the peer's hello.
    written: AtomicBool,
    /// How often a half went to sleep since the bell was emptied.
    sleeps: AtomicU32,
}

/// What the peer has passed.
struct Peer {
    memory: Theirs,
    /// The bell that it rings. Its end is the end of the peer, since only the peer has the other end.
    bell: AsyncFd<Arc<OwnedFd>>,
}

/// Hellos on their way, and what the halves are made of once both are there.
struct Greeting {
    /// Whether this side speaks first.
    is_client: bool,
    /// The socket's registration, until the peer's hello has come.
    waiting: Option<AsyncFd<Arc<OwnedFd>>>,
    limit: Option<Pin<Box<Sleep>>>,
    said: [u8; hello::LEN],
    got: usize,
    fds: Vec<OwnedFd>,
    runtime: Handle,
    memory: Option<OwnedFd>,
    room: Option<(Room, u64)>,
    socket: (Option<halves::ReadHalf>, Option<halves::WriteHalf>),
    /// The writing half has ended its direction before this side said hello.
    finished: bool,
}

/// An error that each half reports once more.
#[derive(Debug)]
enum Refusal {
    Peer(PeerError),
    System(io::ErrorKind, Option<i32>, String),
}

impl Refusal {
    fn of(error: io::Error) -> Self {
        match PeerError::of(&error) {
            Some(error) => Self::Peer(error.clone()),
            None => Self::System(error.kind(), error.raw_os_error(), error.to_string()),
        }
    }

    fn to_error(&self) -> io::Error {
        match self {
            Self::Peer(error) => error.clone().into(),
            Self::System(_, Some(errno), _) => io::Error::from_raw_os_error(*errno),
            Self::System(kind, None, text) => io::Error::new(*kind, text.clone()),
        }
    }
}

/// The tasks of both halves. One bell stands for data and for room.
#[derive(Default)]
struct Wakers {
    read: AtomicWaker,
    write: AtomicWaker,
}

impl Wakers {
    fn of(&self, half: Half) -> &AtomicWaker {
        match half {
            Half::Read => &self.read,
            Half::Write => &self.write,
        }
    }
}

impl Wake for Wakers {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.read.wake();
        self.write.wake();
    }
}

impl Wire {
    /// Makes this side's memory and says hello.
    pub(super) fn client(socket: OwnedFd, settings: Settings) -> io::Result<Arc<Self>> {
        let wire = Self::new(socket, settings, true)?;
        let mut greeting = wire.greeting();
        let bell = wire.make(&mut greeting)?;
        wire.say_hello(&mut greeting, bell)?;
        drop(greeting);
        Ok(Arc::new(wire))
    }

    /// Waits for a hello, which the halves do.
    pub(super) fn server(socket: OwnedFd, settings: Settings) -> io::Result<Arc<Self>> {
        Ok(Arc::new(Self::new(socket, settings, false)?))
    }

    fn new(socket: OwnedFd, settings: Settings, is_client: bool) -> io::Result<Self> {
        let socket = Arc::new(socket);
        let waiting = sys::register(Arc::clone(&socket), Interest::READABLE)?;
        let wakers = Arc::new(Wakers::default());
        Ok(Self {
            settings,
            socket,
            own: OnceLock::new(),
            bell: OnceLock::new(),
            peer: OnceLock::new(),
            way: OnceLock::new(),
            greeting: Mutex::new(Greeting {
                is_client,
                waiting: Some(waiting),
                limit: (!is_client).then(|| Box::pin(sleep(PATIENCE))),
                said: [0; hello::LEN],
                got: 0,
                fds: Vec::new(),
                runtime: Handle::try_current().map_err(io::Error::other)?,
                memory: None,
                room: None,
                socket: (None, None),
                finished: false,
            }),
            both: Waker::from(Arc::clone(&wakers)),
            wakers,
            gone: AtomicBool::new(false),
            written: AtomicBool::new(false),
            sleeps: AtomicU32::new(0),
        })
    }

    fn greeting(&self) -> MutexGuard<'_, Greeting> {
        self.greeting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes this side's memory and bell, and returns the end of the bell that the peer gets.
    /// `None`: it goes on without.
    fn make(&self, greeting: &mut Greeting) -> io::Result<Option<OwnedFd>> {
        let made = memory::make(self.settings.capacity).and_then(|it| Ok((it, memory::bell()?)));
        let (made, (bell, theirs)) = match made {
            Ok(made) => made,
            Err(error) if self.settings.fallback => {
                tracing::warn!(target: TARGET, %error, "no shared memory: going on over the socket");
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        let Made {
            fd,
            own,
            room,
            start,
        } = made;
        if greeting.finished {
            own.store(Word::Fin.offset(), 1, Ordering::Release);
        }
        let _ = (self.own.set(own), self.bell.set(bell));
        greeting.room = Some((room, start));
        greeting.memory = Some(fd);
        Ok(Some(theirs))
    }

    fn say_hello(&self, greeting: &mut Greeting, bell: Option<OwnedFd>) -> io::Result<()> {
        let hello = Hello {
            memory: bell.is_some(),
            fallback: self.settings.fallback,
            reads: self.settings.capacity.max(START),
        };
        let fds: Vec<_> = greeting.memory.iter().chain(&bell).collect();
        let raw: Vec<_> = fds.iter().map(|it| it.as_raw_fd()).collect();
        let rights = [ControlMessage::ScmRights(&raw)];
        let rights = if raw.is_empty() { &[] } else { &rights[..] };
        let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
        let (wire, socket) = (hello.encode(), self.socket.as_raw_fd());
        loop {
            match sendmsg::<()>(socket, &[IoSlice::new(&wire)], rights, flags, None) {
                Err(nix::errno::Errno::EINTR) => {}
                // The first bytes on a socket always fit, and all at once.
                sent => return sent.map(drop).map_err(io::Error::from),
            }
        }
    }

    /// Whether both hellos have been said.
    pub(super) fn is_open(&self) -> bool {
        self.way.get().is_some()
    }

    /// Waits until both hellos have been said.
    pub(super) fn poll_open(&self, half: Half, cx: &mut Context<'_>) -> Poll<io::Result<Way>> {
        let way = |way: &Result<Way, Refusal>| match way {
            Ok(way) => Ok(*way),
            Err(refusal) => Err(refusal.to_error()),
        };
        if let Some(done) = self.way.get() {
            return Poll::Ready(way(done));
        }
        self.wakers.of(half).register(cx.waker());
        let mut greeting = self.greeting();
        if let Some(done) = self.way.get() {
            return Poll::Ready(way(done));
        }
        let said = ready!(self.poll_hello(&mut greeting));
        greeting.waiting = None;
        greeting.limit = None;
        let fds = mem::take(&mut greeting.fds);
        let done = said.and_then(|hello| match hello {
            Some(hello) => self.agree(&mut greeting, hello, fds),
            None => Ok(Way::Closed),
        });
        if done.is_err() {
            // So that the peer does not wait.
            self.close();
        }
        drop(greeting);
        let done = self.way.get_or_init(|| done.map_err(Refusal::of));
        // The other half may wait for the same.
        self.both.wake_by_ref();
        Poll::Ready(way(done))
    }

    /// Receives the peer's hello; `None` if it has closed without one.
    fn poll_hello(&self, greeting: &mut Greeting) -> Poll<io::Result<Option<Hello>>> {
        let mut cx = Context::from_waker(&self.both);
        loop {
            match self.receive(greeting) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                said => return Poll::Ready(said),
            }
            if let Some(limit) = &mut greeting.limit
                && limit.as_mut().poll(&mut cx).is_ready()
            {
                return Poll::Ready(Err(PeerError::Silent(PATIENCE).into()));
            }
            let Some(waiting) = &greeting.waiting else {
                return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
            };
            ready!(waiting.poll_read_ready(&mut cx))?.clear_ready();
        }
    }

    fn receive(&self, greeting: &mut Greeting) -> io::Result<Option<Hello>> {
        loop {
            if let Some(hello) = Hello::parse(&greeting.said[..greeting.got])? {
                return Ok(Some(hello));
            }
            let room = &mut greeting.said[greeting.got..];
            let received = match sys::recv_with_fds(&self.socket, room, DESCRIPTORS + 1) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                received => received?,
            };
            greeting.fds.extend(received.fds);
            if received.fds_truncated || greeting.fds.len() > DESCRIPTORS {
                let count = greeting.fds.len().max(DESCRIPTORS + 1);
                return Err(PeerError::Descriptors(count).into());
            }
            match received.len {
                0 if greeting.got == 0 => return Ok(None),
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                n => greeting.got += n,
            }
        }
    }

    /// Decides how to go on. A server makes its memory and says its own hello.
    fn agree(&self, greeting: &mut Greeting, theirs: Hello, fds: Vec<OwnedFd>) -> io::Result<Way> {
        let expected = if theirs.memory { DESCRIPTORS } else { 0 };
        if fds.len() != expected {
            return Err(PeerError::Descriptors(fds.len()).into());
        }
        let mut fds = fds.into_iter();
        let passed = fds.next().zip(fds.next());
        let taken = match passed {
            Some((memory, bell)) => Some(self.take(greeting, memory, bell)?),
            None => None,
        };
        if !greeting.is_client {
            let made = match taken {
                Some(_) => self.make(greeting),
                None => Ok(None),
            };
            let (bell, failed) = match made {
                Ok(bell) => (bell, None),
                Err(error) => (None, Some(error)),
            };
            match self.say_hello(greeting, bell) {
                // It has gone. What it has written before is still there.
                Err(e) if e.kind() == io::ErrorKind::BrokenPipe => {}
                said => said?,
            }
            if let Some(error) = failed {
                return Err(error);
            }
            if greeting.finished {
                self.end_direction();
            }
        }
        if let Some((peer, reads)) = taken
            && self.own.get().is_some()
        {
            let _ = self.peer.set(peer);
            let writes = self.settings.capacity.min(theirs.reads);
            return Ok(Way::Memory { writes, reads });
        }
        if !(theirs.fallback && self.settings.fallback) {
            let side = match greeting.is_client {
                true if self.own.get().is_none() => "this side",
                false if theirs.memory => "this side",
                _ => "the peer",
            };
            return Err(PeerError::NoMemory(side).into());
        }
        let _guard = greeting.runtime.enter();
        let (reader, writer) = halves::split(self.socket.try_clone()?)?;
        greeting.socket = (Some(reader), Some(writer));
        if greeting.finished {
            greeting.socket.1 = None;
        }
        Ok(Way::Socket)
    }

    fn take(&self, greeting: &Greeting, memory: OwnedFd, bell: OwnedFd) -> io::Result<(Peer, u64)> {
        let (memory, reads) = memory::take(memory.as_fd(), self.settings.capacity.max(START))?;
        memory::check_bell(&bell)?;
        let _guard = greeting.runtime.enter();
        let bell = sys::register(Arc::new(bell), Interest::READABLE)?;
        Ok((Peer { memory, bell }, reads))
    }

    /// The data of this side's ring and its first size, once.
    pub(super) fn take_room(&self) -> Option<(Room, u64)> {
        self.greeting().room.take()
    }

    /// The reading half of the socket, once.
    pub(super) fn take_reader(&self) -> Option<halves::ReadHalf> {
        self.greeting().socket.0.take()
    }

    /// The writing half of the socket, once.
    pub(super) fn take_writer(&self) -> Option<halves::WriteHalf> {
        self.greeting().socket.1.take()
    }

    /// The writing half has ended its direction: says so, now or with the hello.
    pub(super) fn finished(&self) {
        let mut greeting = self.greeting();
        greeting.finished = true;
        greeting.socket.1 = None;
        if self.own.get().is_some() {
            drop(greeting);
            self.end_direction();
        }
    }

    /// Ends this direction of the socket too: what watches it sees when both have ended.
    fn end_direction(&self) {
        // It fails only if there is no peer any more.
        let _ = SockRef::from(&self.socket).shutdown(Shutdown::Write);
    }

    /// The peer broke the protocol: it must not wait for anything any more.
    pub(super) fn close(&self) {
        self.gone.store(true, Ordering::Relaxed);
        let _ = SockRef::from(&self.socket).shutdown(Shutdown::Both);
    }

    /// Whether the peer is known to have gone.
    pub(super) fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Relaxed)
    }

    /// Whether bytes may go over the socket instead.
    pub(super) fn falls_back(&self) -> bool {
        self.settings.fallback
    }

    /// Notes that something was written before the peer's hello.
    pub(super) fn set_written(&self) {
        self.written.store(true, Ordering::Relaxed);
    }

    /// Whether a peer that closed without a hello left something unread.
    pub(super) fn has_lost(&self) -> bool {
        self.written.load(Ordering::Relaxed)
    }

    /// Duplicates the socket, to be watched.
    pub(super) fn duplicate(&self) -> Option<OwnedFd> {
        self.socket.try_clone().ok()
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        if let Some(own) = self.own.get() {
            // A writer that is not waiting sees it with its next message.
            own.store(Word::DataEpoch.offset(), GONE, Ordering::Release);
            own.store(Word::RoomEpoch.offset(), GONE, Ordering::Release);
        }
        if !self.is_open() {
            // Closing a socket with unread bytes would be an error for the peer instead of the end.
            let mut greeting = self.greeting();
            let _ = self.receive(&mut greeting);
        }
    }
}

impl Link for Wire {
    #[inline]
    fn store(&self, word: Word, value: u64, ordering: Ordering) {
        if let Some(own) = self.own.get() {
            own.store(word.offset(), value, ordering);
            if matches!(word, Word::DataEpoch | Word::RoomEpoch) && value & 1 == 1 {
                self.sleeps.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// 0 before the peer's hello: nothing read, and awake.
    #[inline]
    fn load(&self, word: Word) -> u64 {
        self.peer
            .get()
            .map_or(0, |it| it.memory.load(word.offset()))
    }

    #[inline]
    fn copy_out(&self, at: usize, len: usize, buf: &mut ReadBuf<'_>) {
        if let Some(peer) = self.peer.get() {
            peer.memory.read(at, len, buf);
        }
    }

    fn ring(&self) -> io::Result<()> {
        let Some(bell) = self.bell.get() else {
            return Ok(());
        };
        match nix::unistd::write(bell, &[0]) {
            // It is full: the peer has been rung often enough.
            Ok(_) | Err(nix::errno::Errno::EAGAIN | nix::errno::Errno::EINTR) => Ok(()),
            Err(e) => {
                self.gone.store(true, Ordering::Relaxed);
                Err(e.into())
            }
        }
    }

    fn register(&self, half: Half, cx: &mut Context<'_>) {
        self.wakers.of(half).register(cx.waker());
    }

    fn poll_rung(&self) -> Poll<io::Result<Rung>> {
        let Some(peer) = self.peer.get() else {
            return Poll::Pending;
        };
        if self.sleeps.load(Ordering::Relaxed) >= SLEEPS {
            self.sleeps.store(0, Ordering::Relaxed);
            let mut bytes = [0; 4096];
            let mut buf = ReadBuf::new(&mut bytes);
            // What fails here is seen as the end, or with the next ring.
            let _ = sys::read_now(peer.bell.get_ref(), &mut buf);
            // One of the rings may have been for the other half: both look again.
            self.both.wake_by_ref();
            return Poll::Ready(Ok(Rung::Bell));
        }
        let mut cx = Context::from_waker(&self.both);
        let mut guard = ready!(peer.bell.poll_read_ready(&mut cx))?;
        if guard.ready().is_read_closed() {
            self.gone.store(true, Ordering::Relaxed);
            return Poll::Ready(Ok(Rung::Gone));
        }
        guard.clear_ready();
        Poll::Ready(Ok(Rung::Bell))
    }
}

impl Data for Room {
    #[inline]
    fn write(&mut self, at: usize, bytes: &[u8]) {
        Self::write(self, at, bytes);
    }
}

impl std::fmt::Debug for Wire {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Wire")
            .field("settings", &self.settings)
            .field("way", &self.way.get())
            .finish_non_exhaustive()
    }
}

const TARGET: &str = "aqueduct::shm";

#[cfg(test)]
#[cfg(not(aqueduct_loom))]
mod tests;
