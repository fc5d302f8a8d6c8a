//! [`Tx`] and [`Rx`]: the two ends of a ring of bytes, and how each sleeps and is woken.
//!
//! Each process writes only its own memory. The writer's has the data and the words `Head`, `Size`
//! and `Fin`; the reader's has `Tail`. Two more words of each process say whether it sleeps:
//! `DataEpoch` (for data) and `RoomEpoch` (for room). An odd epoch means asleep. A process that
//! publishes something rings the other's bell if the epoch is odd and it has not rung for that epoch
//! before. It is an epoch and not a flag, because the process that rings cannot reset a word of the
//! sleeper.
//!
//! | writer | reader |
//! |---|---|
//! | copies data, stores `Head`, **fence**, looks at `DataEpoch`, rings | makes `DataEpoch` odd, **fence**, looks at `Head`, sleeps |
//! | makes `RoomEpoch` odd, **fence**, looks at `Tail`, sleeps | copies data, stores `Tail`, **fence**, looks at `RoomEpoch`, rings |
//!
//! Between the fences at least one of the two sees the other's store, so no wake-up is lost. Each
//! sleep has a new epoch: one that has been rung for is not rung for again. A ring grows while it is
//! empty: the writer stores a larger `Size` only once the reader has taken everything, and the reader
//! loads it only while it has nothing.
//!
//! Everything that is loaded from the peer's memory is loaded once, into a private variable, and
//! checked before it is used. `ring/model.rs` tries this code in every order of its steps.

#[cfg(all(test, aqueduct_loom))]
mod model;

use std::io;
use std::sync::atomic::Ordering;
#[cfg(not(all(test, aqueduct_loom)))]
use std::sync::atomic::fence;
use std::task::{Context, Poll, ready};

use tokio::io::ReadBuf;

use super::error::PeerError;
#[cfg(all(test, aqueduct_loom))]
use model::fence;

/// How much is copied before it is shown to a reader that is awake.
const PIECE: usize = 16 * 1024;

/// The smallest ring.
pub(super) const SMALLEST: u64 = if cfg!(all(test, aqueduct_loom)) {
    1
} else {
    4096
};

/// The size with which a ring starts, if its capacity is not below.
pub(super) const START: u64 = 64 * 1024;

/// The epoch of a process that reads and writes nothing any more.
pub(super) const GONE: u64 = u64::MAX;

/// The control words of one process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Word {
    /// How many bytes were written in total.
    Head,
    /// The size of the ring in use: a power of two, at most the capacity.
    Size,
    /// 1 once no more is written.
    Fin,
    /// How many bytes of the peer's ring were read in total.
    Tail,
    /// Odd while asleep until there is data.
    DataEpoch,
    /// Odd while asleep until there is room.
    RoomEpoch,
}

/// What a ring is built on: the words of both sides, the peer's data and the bells.
pub(super) trait Link {
    /// Stores one of our own words.
    fn store(&self, word: Word, value: u64, ordering: Ordering);

    /// Loads a word of the peer, `Relaxed`.
    fn load(&self, word: Word) -> u64;

    /// Copies the peer's data. The range is within the capacity that the ring was made with.
    fn copy_out(&self, at: usize, len: usize, buf: &mut ReadBuf<'_>);

    /// Wakes the peer.
    fn ring(&self) -> io::Result<()>;

    /// Has a task woken by each later ring, and by the peer's end.
    fn register(&self, half: Half, cx: &mut Context<'_>);

    /// Waits until the bell has rung, or the peer has gone.
    fn poll_rung(&self) -> Poll<io::Result<Rung>>;
}

/// The data of our own ring.
pub(super) trait Data {
    fn write(&mut self, at: usize, bytes: &[u8]);
}

/// A range of a ring: its first byte, and how many there are.
pub(super) type Span = (usize, usize);

/// Where `len` bytes of a ring lie: up to the ring's edge, and from its beginning on.
fn spans(from: u64, len: usize, size: u64) -> [Span; 2] {
    // A size fits `usize`: its memory is mapped.
    let at = (from & (size - 1)) as usize;
    let first = len.min(size as usize - at);
    [(at, first), (0, len - first)]
}

/// Which task waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Half {
    Read,
    Write,
}

/// Why a wait is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rung {
    /// The peer rang.
    Bell,
    /// The peer has gone, and nothing will change any more.
    Gone,
}

/// How a wait for data begins.
pub(super) trait Patience {
    /// Something was read.
    fn paid(&mut self);

    /// Returns whether to look again before going to sleep. Pending: other tasks run first, and this
    /// one is woken.
    fn poll_again(&mut self, cx: &mut Context<'_>) -> Poll<bool>;
}

/// One's own sleep, and the ringing for the other's.
#[derive(Debug, Default)]
struct Sleep {
    /// Our epoch.
    epoch: u64,
    /// The peer's epoch that was rung for.
    rung: u64,
}

impl Sleep {
    /// Begins a sleep. The caller looks once more before it waits.
    fn arm(&mut self, link: &impl Link, word: Word) {
        self.epoch += if self.epoch & 1 == 0 { 1 } else { 2 };
        link.store(word, self.epoch, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    fn disarm(&mut self, link: &impl Link, word: Word) {
        if self.epoch & 1 == 1 {
            self.epoch += 1;
            link.store(word, self.epoch, Ordering::Relaxed);
        }
    }

    /// Rings if the peer sleeps. What it is woken for was stored before.
    fn wake(&mut self, link: &impl Link, word: Word) -> io::Result<()> {
        fence(Ordering::SeqCst);
        let epoch = link.load(word);
        if epoch & 1 == 0 || epoch == self.rung {
            return Ok(());
        }
        self.rung = epoch;
        link.ring()
    }
}

/// The writing end.
#[derive(Debug)]
pub(super) struct Tx<D> {
    data: D,
    head: u64,
    /// The reader's tail, as last seen.
    tail: u64,
    size: u64,
    most: u64,
    /// How much room was missing since the ring has this size; 0: none.
    lacked: u64,
    sleep: Sleep,
}

impl<D: Data> Tx<D> {
    /// For memory whose word `Size` is to be `start`.
    pub(super) fn new(data: D, start: u64) -> Self {
        Self {
            data,
            head: 0,
            tail: 0,
            size: start,
            most: start,
            lacked: 0,
            sleep: Sleep::default(),
        }
    }

    /// Sets up to which size the ring grows.
    pub(super) fn grow_to(&mut self, most: u64) {
        self.most = most.max(self.size);
    }

    /// Writes as much as there is room for, and shows it. [`publish`](Self::publish) must follow.
    pub(super) fn put(&mut self, link: &impl Link, bytes: &[u8]) -> io::Result<usize> {
        let mut done = 0;
        while done < bytes.len() {
            let rest = &bytes[done..];
            let mut free = self.free();
            if free < rest.len() {
                self.refresh(link)?;
                free = self.free();
            }
            if free == 0 {
                self.lacked = self.lacked.max(1);
                break;
            }
            // A size fits `usize`: its memory is mapped.
            let at = (self.head & (self.size - 1)) as usize;
            let to_edge = self.size as usize - at;
            let n = rest.len().min(free).min(to_edge).min(PIECE);
            self.data.write(at, &rest[..n]);
            self.head += n as u64;
            done += n;
            link.store(Word::Head, self.head, Ordering::Release);
        }
        Ok(done)
    }

    /// Wakes the reader for what was put.
    pub(super) fn publish(&mut self, link: &impl Link) -> io::Result<()> {
        self.sleep.wake(link, Word::DataEpoch)
    }

    /// Waits for room for `len` bytes, which must not exceed [`most`](Self::most).
    pub(super) fn poll_room(
        &mut self,
        link: &impl Link,
        cx: &mut Context<'_>,
        len: u64,
    ) -> Poll<io::Result<()>> {
        loop {
            if self.room() < len {
                self.refresh(link)?;
            }
            if self.room() >= len {
                self.sleep.disarm(link, Word::RoomEpoch);
                return Poll::Ready(Ok(()));
            }
            self.lacked = self.lacked.max(len);
            link.register(Half::Write, cx);
            self.sleep.arm(link, Word::RoomEpoch);
            self.refresh(link)?;
            if self.room() >= len {
                continue;
            }
            match ready!(link.poll_rung())? {
                Rung::Bell => {}
                Rung::Gone => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            }
        }
    }

    /// The largest size of the ring.
    pub(super) fn most(&self) -> u64 {
        self.most
    }

    /// How much room there is, as last seen.
    pub(super) fn room(&self) -> u64 {
        self.size - (self.head - self.tail)
    }

    /// The data, and where in it `len` bytes of room lie, `skip` bytes behind what was written.
    pub(super) fn spare(&mut self, skip: u64, len: usize) -> (&mut D, [Span; 2]) {
        assert!(skip + len as u64 <= self.room());
        let spans = spans(self.head + skip, len, self.size);
        (&mut self.data, spans)
    }

    /// Shows what was written into the room. [`publish`](Self::publish) must follow.
    pub(super) fn show(&mut self, link: &impl Link, len: usize) {
        assert!(len as u64 <= self.room());
        self.head += len as u64;
        link.store(Word::Head, self.head, Ordering::Release);
    }

    /// Says that no more is written, and wakes a reader that has not gone.
    pub(super) fn finish(&mut self, link: &impl Link) -> io::Result<()> {
        link.store(Word::Fin, 1, Ordering::Release);
        if link.load(Word::DataEpoch) == GONE {
            return Ok(());
        }
        self.publish(link)
    }

    fn free(&self) -> usize {
        // As above.
        self.room() as usize
    }

    /// Looks at the reader's tail.
    fn refresh(&mut self, link: &impl Link) -> io::Result<()> {
        let tail = link.load(Word::Tail);
        // What the reader has copied, it has copied before.
        fence(Ordering::Acquire);
        if tail.wrapping_sub(self.tail) > self.head - self.tail {
            return Err(PeerError::Index.into());
        }
        self.tail = tail;
        if self.lacked > 0 && tail == self.head {
            let lacked = std::mem::take(&mut self.lacked).next_power_of_two();
            let size = (self.size * 4).max(lacked).min(self.most);
            if size > self.size {
                self.size = size;
                link.store(Word::Size, size, Ordering::Relaxed);
            }
        }
        Ok(())
    }
}

/// The reading end.
#[derive(Debug)]
pub(super) struct Rx {
    tail: u64,
    /// The writer's head, as last seen.
    head: u64,
    /// The tail that the writer can see.
    shown: u64,
    /// The tail with which it was last looked whether the writer sleeps.
    released: u64,
    size: u64,
    most: u64,
    /// No more comes than is known to be there.
    ended: bool,
    sleep: Sleep,
}

impl Rx {
    /// Reads a ring of at most `most` bytes.
    pub(super) fn new(most: u64) -> Self {
        Self {
            tail: 0,
            head: 0,
            shown: 0,
            released: 0,
            size: SMALLEST,
            most,
            ended: false,
            sleep: Sleep::default(),
        }
    }

    /// Reads what there is, or waits. Nothing read is the end of the stream.
    pub(super) fn poll_read(
        &mut self,
        link: &impl Link,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
        patience: &mut impl Patience,
    ) -> Poll<io::Result<()>> {
        if buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        ready!(self.poll_there(link, cx, 1, patience))?;
        self.take(link, buf);
        patience.paid();
        self.count(link);
        Poll::Ready(Ok(()))
    }

    /// Waits until `len` bytes are there, or fewer and no more will come; returns how many there are.
    ///
    /// `len` must not exceed the [`size`](Self::size) of the ring that the next byte is in.
    pub(super) fn poll_there(
        &mut self,
        link: &impl Link,
        cx: &mut Context<'_>,
        len: u64,
        patience: &mut impl Patience,
    ) -> Poll<io::Result<u64>> {
        loop {
            if self.there() < len && !self.ended {
                self.refresh(link)?;
            }
            if self.there() >= len || self.has_finished(link)? {
                self.sleep.disarm(link, Word::DataEpoch);
                return Poll::Ready(Ok(self.there()));
            }
            self.release(link);
            if ready!(patience.poll_again(cx)) {
                continue;
            }
            link.register(Half::Read, cx);
            self.sleep.arm(link, Word::DataEpoch);
            self.refresh(link)?;
            if self.there() >= len || self.has_finished(link)? {
                continue;
            }
            match ready!(link.poll_rung())? {
                Rung::Bell => {}
                Rung::Gone => {
                    // It may have written something since the last look.
                    self.refresh(link)?;
                    self.ended = true;
                }
            }
        }
    }

    /// How many bytes are known to be there.
    pub(super) fn there(&self) -> u64 {
        self.head - self.tail
    }

    /// The size of the ring that the bytes that are there are in.
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// Where the first `len` bytes lie, which must be there.
    pub(super) fn spans(&self, len: usize) -> [Span; 2] {
        assert!(len as u64 <= self.there());
        spans(self.tail, len, self.size)
    }

    /// Takes the first `len` bytes, which must be there. The writer gets their room at once if nothing
    /// else is there.
    pub(super) fn skip(&mut self, link: &impl Link, len: usize) {
        assert!(len as u64 <= self.there());
        self.tail += len as u64;
        if self.head == self.tail {
            self.release(link);
        } else {
            self.count(link);
        }
    }

    /// Copies what is known to be there.
    fn take(&mut self, link: &impl Link, buf: &mut ReadBuf<'_>) {
        while self.head != self.tail && buf.remaining() > 0 {
            // A size fits `usize`: its memory is mapped.
            let at = (self.tail & (self.size - 1)) as usize;
            let there = (self.head - self.tail) as usize;
            let n = there.min(self.size as usize - at).min(buf.remaining());
            link.copy_out(at, n, buf);
            self.tail += n as u64;
        }
    }

    /// Whether the writer has finished. Then everything that it wrote is known.
    fn has_finished(&mut self, link: &impl Link) -> io::Result<bool> {
        if !self.ended && link.load(Word::Fin) != 0 {
            fence(Ordering::Acquire);
            self.refresh(link)?;
            self.ended = true;
        }
        Ok(self.ended)
    }

    /// Looks at the writer's head.
    fn refresh(&mut self, link: &impl Link) -> io::Result<()> {
        let head = link.load(Word::Head);
        // The data up to there, and the size of its ring, were written before.
        fence(Ordering::Acquire);
        if self.head == self.tail {
            let size = link.load(Word::Size);
            if !size.is_power_of_two() || !(SMALLEST..=self.most).contains(&size) {
                return Err(PeerError::Index.into());
            }
            self.size = size;
        }
        let there = head.wrapping_sub(self.tail);
        if there > self.size || there < self.head - self.tail {
            return Err(PeerError::Index.into());
        }
        self.head = head;
        Ok(())
    }

    /// Shows a writer that is awake what was read, an eighth of the ring at a time, and wakes one that
    /// sleeps once it can write half of the ring.
    fn count(&mut self, link: &impl Link) {
        if self.tail - self.released >= self.size / 2 {
            self.release(link);
        } else if self.tail - self.shown >= self.size / 8 {
            self.show(link);
        }
    }

    fn show(&mut self, link: &impl Link) {
        if self.tail != self.shown {
            self.shown = self.tail;
            link.store(Word::Tail, self.tail, Ordering::Release);
        }
    }

    /// Tells the writer what was read.
    fn release(&mut self, link: &impl Link) {
        if self.tail == self.released {
            return;
        }
        self.show(link);
        self.released = self.tail;
        // A writer that is gone needs no room.
        let _ = self.sleep.wake(link, Word::RoomEpoch);
    }
}
