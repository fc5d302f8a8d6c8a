//! [`Wire`]: what both halves of a connection share: socket, memory of both sides, and bells.

use std::io;
use std::net::Shutdown;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll, ready};

use socket2::SockRef;
use tokio::io::ReadBuf;
use tokio::runtime::Handle;

use super::bell::{self, Bells};
use super::error::PeerError;
use super::greeting::{Greeting, Said};
use super::hello::Hello;
use super::memory::{self, Made, Taken, label};
use super::ring::{Data, GONE, Half, Link, Rung, START, Word};
use crate::io::sys::memory::{Own, Room, Theirs};
use crate::unix::halves;

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
    peer: OnceLock<Theirs>,
    bells: Bells,
    way: OnceLock<Result<Way, Refusal>>,
    /// The peer takes descriptors.
    peer_takes: AtomicBool,
    opening: Mutex<Opening>,
    /// Something was written before the peer's hello.
    written: AtomicBool,
}

/// A connection before both hellos, and what its halves are made of once both are there.
struct Opening {
    greeting: Greeting,
    /// Whether this side speaks first.
    is_client: bool,
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

impl Wire {
    /// Makes this side's memory and says hello.
    pub(super) fn client(socket: OwnedFd, settings: Settings) -> io::Result<Arc<Self>> {
        let wire = Self::new(socket, settings, true)?;
        let mut opening = wire.opening();
        let bell = wire.make(&mut opening)?;
        wire.say_hello(&mut opening, bell)?;
        drop(opening);
        Ok(Arc::new(wire))
    }

    /// Waits for a hello, which the halves do.
    pub(super) fn server(socket: OwnedFd, settings: Settings) -> io::Result<Arc<Self>> {
        Ok(Arc::new(Self::new(socket, settings, false)?))
    }

    fn new(socket: OwnedFd, settings: Settings, is_client: bool) -> io::Result<Self> {
        let socket = Arc::new(socket);
        let greeting = Greeting::new(Arc::clone(&socket), is_client);
        Ok(Self {
            settings,
            socket,
            own: OnceLock::new(),
            peer: OnceLock::new(),
            bells: Bells::new(),
            way: OnceLock::new(),
            peer_takes: AtomicBool::new(false),
            opening: Mutex::new(Opening {
                greeting,
                is_client,
                runtime: Handle::try_current().map_err(io::Error::other)?,
                memory: None,
                room: None,
                socket: (None, None),
                finished: false,
            }),
            written: AtomicBool::new(false),
        })
    }

    fn opening(&self) -> MutexGuard<'_, Opening> {
        self.opening.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes this side's memory and bell, and returns the end of the bell that the peer gets.
    /// `None`: it goes on without.
    fn make(&self, opening: &mut Opening) -> io::Result<Option<OwnedFd>> {
        let made = memory::make(self.settings.capacity, self.socket.as_fd())
            .and_then(|it| Ok((it, bell::make()?)));
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
        if opening.finished {
            own.store(Word::Fin.offset(), 1, Ordering::Release);
        }
        let _ = self.own.set(own);
        self.bells.set_theirs(bell);
        opening.room = Some((room, start));
        opening.memory = Some(fd);
        Ok(Some(theirs))
    }

    /// Says hello. Where the memory cannot be passed, this side goes on without or fails, and the peer
    /// is told that there is none.
    fn say_hello(&self, opening: &mut Opening, bell: Option<OwnedFd>) -> io::Result<()> {
        let mut hello = Hello {
            memory: bell.is_some(),
            fallback: self.settings.fallback,
            takes: true,
            reads: self.settings.capacity.max(START),
        };
        let passed = opening.memory.as_ref().zip(bell.as_ref());
        match opening.greeting.say(hello, passed) {
            Err(e) if e.raw_os_error() == Some(libc::ETOOMANYREFS) => {}
            said => return said,
        }
        opening.memory = None;
        opening.room = None;
        hello.memory = false;
        opening.greeting.say(hello, None)?;
        let error = PeerError::InFlight;
        if self.settings.fallback {
            tracing::warn!(target: TARGET, %error, "no shared memory: going on over the socket");
            return Ok(());
        }
        Err(error.into())
    }

    /// Whether both hellos have been said.
    pub(super) fn is_open(&self) -> bool {
        self.way.get().is_some()
    }

    /// Waits until both hellos have been said, or looks whether they have.
    pub(super) fn poll_open(
        &self,
        half: Half,
        waiter: Option<&mut Context<'_>>,
    ) -> Poll<io::Result<Way>> {
        let way = |way: &Result<Way, Refusal>| match way {
            Ok(way) => Ok(*way),
            Err(refusal) => Err(refusal.to_error()),
        };
        if let Some(done) = self.way.get() {
            return Poll::Ready(way(done));
        }
        let waits = waiter.is_some();
        if let Some(cx) = waiter {
            self.bells.register(half, cx);
        }
        let mut opening = self.opening();
        if let Some(done) = self.way.get() {
            return Poll::Ready(way(done));
        }
        let mut both = waits.then(|| Context::from_waker(self.bells.waker()));
        let Opening {
            greeting, runtime, ..
        } = &mut *opening;
        let said = ready!(greeting.poll_said(runtime, both.as_mut()));
        let done = said.and_then(|said| match said {
            Some(said) => self.agree(&mut opening, said),
            None => Ok(Way::Closed),
        });
        if done.is_err() {
            // So that the peer does not wait.
            self.close();
        }
        drop(opening);
        let done = self.way.get_or_init(|| done.map_err(Refusal::of));
        // The other half may wait for the same.
        self.bells.waker().wake_by_ref();
        Poll::Ready(way(done))
    }

    /// Decides how to go on. A server makes its memory and says its own hello.
    fn agree(&self, opening: &mut Opening, said: Said) -> io::Result<Way> {
        let theirs = said.hello;
        self.peer_takes.store(theirs.takes, Ordering::Relaxed);
        let taken = match said.passed {
            Some((memory, bell)) => Some(self.take(opening, memory, bell)?),
            None => None,
        };
        if !opening.is_client {
            let made = match taken {
                Some(_) => self.make(opening),
                None => Ok(None),
            };
            let (bell, failed) = match made {
                Ok(bell) => (bell, None),
                Err(error) => (None, Some(error)),
            };
            match self.say_hello(opening, bell) {
                // It has gone, and what it has written before is still there; or it receives nothing
                // more, and must not wait for the hello.
                Err(e) if e.kind() == io::ErrorKind::BrokenPipe => {
                    let _ = SockRef::from(&self.socket).shutdown(Shutdown::Both);
                }
                said => said?,
            }
            if let Some(error) = failed {
                return Err(error);
            }
            if opening.finished {
                self.end_direction();
            }
        }
        if let (Some(taken), Some(own), true) = (taken, self.own.get(), opening.memory.is_some()) {
            own.store(label::PEER_AT, taken.inode, Ordering::Relaxed);
            let _ = self.peer.set(taken.memory);
            let writes = self.settings.capacity.min(theirs.reads);
            let reads = taken.ring;
            return Ok(Way::Memory { writes, reads });
        }
        if !(theirs.fallback && self.settings.fallback) {
            let side = match opening.is_client {
                true if opening.memory.is_none() => "this side",
                false if theirs.memory => "this side",
                _ => "the peer",
            };
            return Err(PeerError::NoMemory(side).into());
        }
        let _guard = opening.runtime.enter();
        let (reader, writer) = halves::split(self.socket.try_clone()?)?;
        opening.socket = (Some(reader), Some(writer));
        if opening.finished {
            opening.socket.1 = None;
        }
        Ok(Way::Socket)
    }

    /// Maps the peer's memory, and listens to the bell.
    fn take(&self, opening: &Opening, memory: OwnedFd, bell: OwnedFd) -> io::Result<Taken> {
        let taken = memory::take(memory.as_fd(), self.settings.capacity.max(START))?;
        let _guard = opening.runtime.enter();
        self.bells.set_own(bell::take(bell)?);
        Ok(taken)
    }

    /// The data of this side's ring and its first size, once.
    pub(super) fn take_room(&self) -> Option<(Room, u64)> {
        self.opening().room.take()
    }

    /// The reading half of the socket, once.
    pub(super) fn take_reader(&self) -> Option<halves::ReadHalf> {
        self.opening().socket.0.take()
    }

    /// The writing half of the socket, once.
    pub(super) fn take_writer(&self) -> Option<halves::WriteHalf> {
        self.opening().socket.1.take()
    }

    /// The writing half has ended its direction: says so, now or with the hello, unless the peer was
    /// told by the ring.
    pub(super) fn finished(&self, is_told: bool) {
        let mut opening = self.opening();
        opening.finished = true;
        opening.socket.1 = None;
        if opening.memory.is_some() {
            drop(opening);
            if !is_told {
                // A peer whose hello this side has not seen yet may sleep already.
                self.store(Word::Fin, 1, Ordering::Release);
                let _ = self.bells.ring();
            }
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
        self.bells.set_gone();
        let _ = SockRef::from(&self.socket).shutdown(Shutdown::Both);
    }

    /// Whether the peer is known to have gone.
    pub(super) fn is_gone(&self) -> bool {
        self.bells.is_gone()
    }

    /// The peer's memory, once its hello has come.
    pub(super) fn theirs(&self) -> Option<&Theirs> {
        self.peer.get()
    }

    /// The socket of the hello, over which descriptors go.
    pub(super) fn socket(&self) -> &Arc<OwnedFd> {
        &self.socket
    }

    /// Whether the peer takes descriptors.
    pub(super) fn peer_takes(&self) -> bool {
        self.peer_takes.load(Ordering::Relaxed)
    }

    /// Stores a word that is not one of the rings'.
    pub(super) fn store_at(&self, at: usize, value: u64) {
        if let Some(own) = self.own.get() {
            own.store(at, value, Ordering::Relaxed);
        }
    }

    /// Loads such a word of the peer; 0 before its hello.
    #[inline]
    pub(super) fn word_at(&self, at: usize) -> u64 {
        self.peer.get().map_or(0, |it| it.load(at))
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
            let _ = self.opening().greeting.receive();
        }
    }
}

impl Link for Wire {
    #[inline]
    fn store(&self, word: Word, value: u64, ordering: Ordering) {
        if let Some(own) = self.own.get() {
            own.store(word.offset(), value, ordering);
            if matches!(word, Word::DataEpoch | Word::RoomEpoch) && value & 1 == 1 {
                self.bells.count_sleep();
            }
        }
    }

    /// 0 before the peer's hello: nothing read, and awake.
    #[inline]
    fn load(&self, word: Word) -> u64 {
        self.peer.get().map_or(0, |it| it.load(word.offset()))
    }

    #[inline]
    fn copy_out(&self, at: usize, len: usize, buf: &mut ReadBuf<'_>) {
        if let Some(peer) = self.peer.get() {
            peer.read(at, len, buf);
        }
    }

    fn ring(&self) -> io::Result<()> {
        self.bells.ring()
    }

    fn register(&self, half: Half, cx: &mut Context<'_>) {
        self.bells.register(half, cx);
    }

    fn poll_rung(&self) -> Poll<io::Result<Rung>> {
        self.bells.poll_rung()
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
