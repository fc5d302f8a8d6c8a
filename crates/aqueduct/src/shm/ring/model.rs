//! The exhaustive check of the ring: every order of the steps of a writer and a reader, with the
//! reorderings that the memory model allows, and every mutation of the protocol that must be found.

use std::future::poll_fn;
use std::io;
use std::panic::Location;
use std::sync::Mutex as StdMutex;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use loom::cell::UnsafeCell;
use loom::future::{AtomicWaker, block_on};
use loom::sync::atomic::AtomicU64;
use loom::sync::{Arc, Mutex};
use loom::thread;
use tokio::io::ReadBuf;

use super::{Data, Half, Link, Patience, Rung, Rx, Tx, Word};

/// The largest ring.
const MOST: u64 = 4;

/// One change to the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mutation {
    None,
    /// The fence on this line of `ring.rs` is left out.
    Fence(u32),
    /// A store of this word orders nothing.
    Relaxed(Word),
    /// The look after the epoch was made odd is left out.
    NoSecondLook,
    /// Every sleep has the same epoch.
    NoFreshEpoch,
    /// The ring is not read once more after the peer's end.
    NoLookAfterEnd,
    /// A bell wakes the reading half only.
    OneHalf,
}

static MUTATION: StdMutex<Mutation> = StdMutex::new(Mutation::None);
/// The lines with a fence, found by running the protocol.
static FENCES: StdMutex<Vec<u32>> = StdMutex::new(Vec::new());

fn mutation() -> Mutation {
    *MUTATION.lock().unwrap()
}

/// The fence of `ring.rs`.
#[track_caller]
pub(super) fn fence(ordering: Ordering) {
    let line = Location::caller().line();
    let mut fences = FENCES.lock().unwrap();
    if !fences.contains(&line) {
        fences.push(line);
    }
    drop(fences);
    if mutation() != Mutation::Fence(line) {
        loom::sync::atomic::fence(ordering);
    }
}

/// The memory of one process, and the bell that wakes it.
struct Side {
    words: [AtomicU64; 6],
    data: [UnsafeCell<u8>; MOST as usize],
    rung: Mutex<(bool, bool)>,
    /// Of the tasks of both halves, which have this one bell.
    wakers: [AtomicWaker; 2],
}

// Loom finds every access to `data` that is not ordered.
#[allow(unsafe_code)]
// SAFETY: as above.
unsafe impl Sync for Side {}

impl Side {
    fn new() -> Self {
        let words: [AtomicU64; 6] = std::array::from_fn(|_| AtomicU64::new(0));
        Self {
            words,
            data: std::array::from_fn(|_| UnsafeCell::new(0)),
            rung: Mutex::new((false, false)),
            wakers: std::array::from_fn(|_| AtomicWaker::new()),
        }
    }

    fn word(&self, word: Word) -> &AtomicU64 {
        &self.words[word as usize]
    }

    fn ring(&self) {
        self.rung.lock().unwrap().0 = true;
        self.wake();
    }

    /// The other process is gone.
    fn lose_peer(&self) {
        self.rung.lock().unwrap().1 = true;
        self.wake();
    }

    fn wake(&self) {
        self.wakers[Half::Read as usize].wake();
        if mutation() != Mutation::OneHalf {
            self.wakers[Half::Write as usize].wake();
        }
    }
}

/// What one process sees.
struct View {
    own: Arc<Side>,
    peer: Arc<Side>,
    /// What a mutated look returns: the value seen before.
    seen: StdMutex<[u64; 6]>,
    blind: StdMutex<bool>,
}

impl View {
    fn new(own: &Arc<Side>, peer: &Arc<Side>) -> Self {
        Self {
            own: Arc::clone(own),
            peer: Arc::clone(peer),
            seen: StdMutex::default(),
            blind: StdMutex::new(false),
        }
    }
}

impl Link for View {
    fn store(&self, word: Word, value: u64, ordering: Ordering) {
        let is_epoch = matches!(word, Word::DataEpoch | Word::RoomEpoch);
        let sleeps = is_epoch && value & 1 == 1;
        *self.blind.lock().unwrap() = sleeps && mutation() == Mutation::NoSecondLook;
        let value = match mutation() {
            Mutation::NoFreshEpoch if is_epoch => value & 1,
            _ => value,
        };
        let ordering = match mutation() {
            Mutation::Relaxed(relaxed) if relaxed == word => Ordering::Relaxed,
            _ => ordering,
        };
        self.own.word(word).store(value, ordering);
    }

    fn load(&self, word: Word) -> u64 {
        let looks = matches!(word, Word::Head | Word::Tail | Word::Fin);
        if looks && *self.blind.lock().unwrap() {
            return self.seen.lock().unwrap()[word as usize];
        }
        let value = self.peer.word(word).load(Ordering::Relaxed);
        self.seen.lock().unwrap()[word as usize] = value;
        value
    }

    fn copy_out(&self, at: usize, len: usize, buf: &mut ReadBuf<'_>) {
        for cell in &self.peer.data[at..at + len] {
            #[allow(unsafe_code)]
            // SAFETY: loom checks that no write is concurrent.
            buf.put_slice(&[cell.with(|it| unsafe { *it })]);
        }
    }

    fn ring(&self) -> io::Result<()> {
        self.peer.ring();
        Ok(())
    }

    fn register(&self, half: Half, cx: &mut Context<'_>) {
        self.own.wakers[half as usize].register_by_ref(cx.waker());
    }

    fn poll_rung(&self) -> Poll<io::Result<Rung>> {
        *self.blind.lock().unwrap() = false;
        let mut rung = self.own.rung.lock().unwrap();
        // As readiness says: the end hides bells that rang before it.
        if rung.1 {
            *self.blind.lock().unwrap() = mutation() == Mutation::NoLookAfterEnd;
            return Poll::Ready(Ok(Rung::Gone));
        }
        if std::mem::take(&mut rung.0) {
            return Poll::Ready(Ok(Rung::Bell));
        }
        Poll::Pending
    }
}

struct Ring(Arc<Side>);

impl Data for Ring {
    fn write(&mut self, at: usize, bytes: &[u8]) {
        for (cell, byte) in self.0.data[at..].iter().zip(bytes) {
            #[allow(unsafe_code)]
            // SAFETY: loom checks that no other access is concurrent.
            cell.with_mut(|it| unsafe { *it = *byte });
        }
    }
}

/// Sleeps at once.
struct Sleepy;

impl Patience for Sleepy {
    fn paid(&mut self) {}

    fn poll_again(&mut self, _: &mut Context<'_>) -> Poll<bool> {
        Poll::Ready(false)
    }
}

fn writer(own: &Arc<Side>, start: u64, most: u64) -> Tx<Ring> {
    own.word(Word::Size).store(start, Ordering::Relaxed);
    let mut tx = Tx::new(Ring(Arc::clone(own)), start);
    tx.grow_to(most);
    tx
}

async fn send(tx: &mut Tx<Ring>, link: &View, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let n = tx.put(link, bytes)?;
        bytes = &bytes[n..];
        if n > 0 {
            tx.publish(link)?;
        } else {
            poll_fn(|cx| tx.poll_room(link, cx, 1)).await?;
        }
    }
    Ok(())
}

async fn receive(rx: &mut Rx, link: &View, at_most: usize) -> io::Result<Vec<u8>> {
    let mut all = Vec::new();
    loop {
        let mut bytes = [0; 8];
        let mut buf = ReadBuf::new(&mut bytes[..at_most]);
        poll_fn(|cx| rx.poll_read(link, cx, &mut buf, &mut Sleepy)).await?;
        if buf.filled().is_empty() {
            return Ok(all);
        }
        all.extend_from_slice(buf.filled());
    }
}

/// Sends bytes that are shown together.
async fn reserve(tx: &mut Tx<Ring>, link: &View, bytes: &[u8]) -> io::Result<()> {
    poll_fn(|cx| tx.poll_room(link, cx, bytes.len() as u64)).await?;
    let (data, [(at, first), (_, _)]) = tx.spare(0, bytes.len());
    data.write(at, &bytes[..first]);
    data.write(0, &bytes[first..]);
    tx.show(link, bytes.len());
    tx.publish(link)
}

/// Receives bytes that are there together, and holds their room while it reads them.
async fn lend(rx: &mut Rx, link: &View, len: usize) -> io::Result<Vec<u8>> {
    let there = poll_fn(|cx| rx.poll_there(link, cx, len as u64, &mut Sleepy)).await?;
    let len = len.min(there as usize);
    let mut bytes = [0; 8];
    let mut buf = ReadBuf::new(&mut bytes);
    for (at, len) in rx.spans(len) {
        link.copy_out(at, len, &mut buf);
    }
    rx.skip(link, len);
    Ok(buf.filled().to_vec())
}

/// Runs `model` in every order with up to two voluntary switches, or as many as
/// `LOOM_MAX_PREEMPTIONS` says.
fn explore(model: impl Fn() + Sync + Send + 'static) {
    explore_to(2, model);
}

fn explore_to(switches: usize, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound.get_or_insert(switches);
    builder.check(model);
}

/// A stream through a ring that starts with `start` bytes and grows to `most`, and its end.
fn streams(start: u64, most: u64, bytes: &'static [u8], at_most: usize) {
    explore(move || {
        let (a, b) = (Arc::new(Side::new()), Arc::new(Side::new()));
        let mut tx = writer(&a, start, most);
        let (here, there) = (View::new(&a, &b), View::new(&b, &a));
        let reader = thread::spawn(move || {
            let mut rx = Rx::new(most);
            block_on(receive(&mut rx, &there, at_most)).unwrap()
        });
        block_on(send(&mut tx, &here, bytes)).unwrap();
        tx.finish(&here).unwrap();
        assert_eq!(reader.join().unwrap(), bytes);
    });
}

/// A ring of one byte, where each side waits for the other.
fn a_full_ring() {
    streams(1, 1, b"abc", 8);
}

/// A ring that grows from one byte to four.
fn a_growing_ring() {
    streams(1, MOST, b"abc", 1);
}

/// A peer that answers after this side has ended its direction.
fn a_half_close() {
    explore(|| {
        let (a, b) = (Arc::new(Side::new()), Arc::new(Side::new()));
        let (mut asks, mut answers) = (writer(&a, 1, 1), writer(&b, 1, 1));
        let (here, there) = (View::new(&a, &b), View::new(&b, &a));
        let peer = thread::spawn(move || {
            let asked = block_on(receive(&mut Rx::new(1), &there, 8)).unwrap();
            block_on(send(&mut answers, &there, &asked)).unwrap();
            answers.finish(&there).unwrap();
        });
        block_on(send(&mut asks, &here, b"x")).unwrap();
        asks.finish(&here).unwrap();
        assert_eq!(block_on(receive(&mut Rx::new(1), &here, 8)).unwrap(), b"x");
        peer.join().unwrap();
    });
}

/// A writer that dies without a word: everything that it published is read.
fn a_dead_writer() {
    explore(|| {
        let (a, b) = (Arc::new(Side::new()), Arc::new(Side::new()));
        let mut tx = writer(&a, 2, 2);
        let (here, there) = (View::new(&a, &b), View::new(&b, &a));
        let reader = thread::spawn(move || block_on(receive(&mut Rx::new(2), &there, 8)).unwrap());
        block_on(send(&mut tx, &here, b"ab")).unwrap();
        b.lose_peer();
        assert_eq!(reader.join().unwrap(), b"ab");
    });
}

/// A reader that dies before it has taken everything: the writer does not wait for ever.
fn a_dead_reader() {
    explore(|| {
        let (a, b) = (Arc::new(Side::new()), Arc::new(Side::new()));
        let mut tx = writer(&a, 1, 1);
        let (here, there) = (View::new(&a, &b), View::new(&b, &a));
        let alive = Arc::clone(&a);
        let reader = thread::spawn(move || {
            let mut rx = Rx::new(1);
            let mut byte = [0];
            let mut buf = ReadBuf::new(&mut byte);
            let read = poll_fn(|cx| rx.poll_read(&there, cx, &mut buf, &mut Sleepy));
            block_on(read).unwrap();
            alive.lose_peer();
        });
        let error = block_on(send(&mut tx, &here, b"abcd")).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
        reader.join().unwrap();
    });
}

/// Frames of two bytes, reserved in a ring that first has to grow, and lent.
fn a_lent_ring() {
    explore(|| {
        let (a, b) = (Arc::new(Side::new()), Arc::new(Side::new()));
        let mut tx = writer(&a, 1, 2);
        let (here, there) = (View::new(&a, &b), View::new(&b, &a));
        let reader = thread::spawn(move || {
            let mut rx = Rx::new(2);
            for bytes in [&b"ab"[..], b"cd", b""] {
                // A ring is read for its size before more than one byte is waited for.
                block_on(poll_fn(|cx| rx.poll_there(&there, cx, 1, &mut Sleepy))).unwrap();
                assert_eq!(block_on(lend(&mut rx, &there, 2)).unwrap(), bytes);
            }
        });
        block_on(reserve(&mut tx, &here, b"ab")).unwrap();
        block_on(reserve(&mut tx, &here, b"cd")).unwrap();
        tx.finish(&here).unwrap();
        reader.join().unwrap();
    });
}

/// A frame that a writer without reservations writes piece by piece is lent as a whole.
fn a_frame_in_pieces() {
    explore(|| {
        let (a, b) = (Arc::new(Side::new()), Arc::new(Side::new()));
        let mut tx = writer(&a, 2, 2);
        let (here, there) = (View::new(&a, &b), View::new(&b, &a));
        let reader = thread::spawn(move || {
            let mut rx = Rx::new(2);
            assert_eq!(block_on(lend(&mut rx, &there, 1)).unwrap(), b"a");
            assert_eq!(block_on(lend(&mut rx, &there, 2)).unwrap(), b"bc");
        });
        for bytes in [b"a", b"b", b"c"] {
            block_on(send(&mut tx, &here, bytes)).unwrap();
        }
        reader.join().unwrap();
    });
}

/// Two tasks of one process with one bell: one of them waits for room, the other for data. Three
/// threads have so many orders that one voluntary switch takes as long as two do elsewhere.
fn two_halves() {
    explore_to(1, || {
        let (a, b) = (Arc::new(Side::new()), Arc::new(Side::new()));
        let (mut asks, mut answers) = (writer(&a, 1, 1), writer(&b, 1, 1));
        let (writes, reads) = (View::new(&a, &b), View::new(&a, &b));
        let there = View::new(&b, &a);
        let writer = thread::spawn(move || block_on(send(&mut asks, &writes, b"ab")).unwrap());
        let reader = thread::spawn(move || {
            let mut rx = Rx::new(1);
            let mut byte = [0];
            let mut buf = ReadBuf::new(&mut byte);
            block_on(poll_fn(|cx| {
                rx.poll_read(&reads, cx, &mut buf, &mut Sleepy)
            }))
            .unwrap();
            assert_eq!(buf.filled(), b"x");
        });
        let mut rx = Rx::new(1);
        for bytes in [b"a", b"b"] {
            assert_eq!(block_on(lend(&mut rx, &there, 1)).unwrap(), bytes);
        }
        block_on(send(&mut answers, &there, b"x")).unwrap();
        writer.join().unwrap();
        reader.join().unwrap();
    });
}

const MODELS: [fn(); 8] = [
    a_full_ring,
    a_growing_ring,
    a_half_close,
    a_dead_writer,
    a_dead_reader,
    a_lent_ring,
    a_frame_in_pieces,
    two_halves,
];

/// Which mutation this process is to try, by its place in [`mutations`].
const VARIABLE: &str = "AQUEDUCT_MUTATION";

/// The lines of the fences that were met without a mutation.
const MET: &str = "AQUEDUCT_FENCES";

/// All mutations. Every fence has been met before.
fn mutations() -> Vec<Mutation> {
    let mut fences = FENCES.lock().unwrap().clone();
    fences.sort_unstable();
    assert_eq!(fences.len(), 5, "{fences:?}");
    let fences = fences.into_iter().map(Mutation::Fence);
    let others = [
        Mutation::Relaxed(Word::Head),
        Mutation::Relaxed(Word::Tail),
        Mutation::NoSecondLook,
        Mutation::NoFreshEpoch,
        Mutation::NoLookAfterEnd,
        Mutation::OneHalf,
    ];
    fences.chain(others).collect()
}

/// Without a mutation; then each mutation in a process of its own, since loom cannot unwind from a
/// deadlock.
#[test]
fn every_order_is_sound_and_every_mutation_is_found() {
    if let Ok(fences) = std::env::var(MET) {
        let fences = fences.split(',').map(|it| it.parse().unwrap());
        *FENCES.lock().unwrap() = fences.collect();
    } else {
        for model in MODELS {
            model();
        }
    }
    let mutations = mutations();
    let met = FENCES
        .lock()
        .unwrap()
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(",");
    if let Ok(mutation) = std::env::var(VARIABLE) {
        *MUTATION.lock().unwrap() = mutations[mutation.parse::<usize>().unwrap()];
        for model in MODELS {
            model();
        }
        return;
    }
    for (i, mutation) in mutations.iter().enumerate() {
        let mut again = std::process::Command::new(std::env::current_exe().unwrap());
        let test = "shm::ring::model::every_order_is_sound_and_every_mutation_is_found";
        again.args(["--exact", test]).env("RUST_BACKTRACE", "0");
        again.env(MET, &met);
        let output = again.env(VARIABLE, i.to_string()).output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        let what = [
            "deadlock",
            "Causality",
            "left == right",
            "MAX_BRANCHES",
            "Model exceeded",
        ];
        let what = what.into_iter().find(|it| said.contains(it));
        println!("{mutation:?}: {}", what.unwrap_or("-"));
        assert!(!output.status.success(), "{mutation:?} is not found");
        assert!(what.is_some(), "{mutation:?}: {said}");
    }
}
