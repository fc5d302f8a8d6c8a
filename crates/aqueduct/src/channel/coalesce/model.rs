//! The exhaustive check of the wake-ups: every order of the steps of a sender, the flusher and a
//! transport that takes written data at any time.

use std::future::poll_fn;

use loom::future::block_on;
use loom::sync::Condvar;
use loom::thread;

use super::*;

/// The transport, as the test sees it.
struct System {
    state: Mutex<Written>,
    changed: Condvar,
}

#[derive(Default)]
struct Written {
    queued: usize,
    sent: usize,
    /// How many flushes it takes before it makes the next one wait.
    takes: usize,
    waker: Option<Waker>,
}

impl System {
    fn new(takes: usize) -> Arc<Self> {
        let state = Mutex::new(Written {
            takes,
            ..Written::default()
        });
        Arc::new(Self {
            state,
            changed: Condvar::new(),
        })
    }

    /// From now on it takes everything.
    fn open(&self) {
        let mut state = lock(&self.state);
        state.takes = usize::MAX;
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn wait_until_sent(&self, count: usize) {
        let mut state = lock(&self.state);
        while state.sent < count {
            state = self.changed.wait(state).unwrap();
        }
    }
}

struct Transport(Arc<System>);

impl Sink<Bytes> for Transport {
    type Error = io::Error;

    fn poll_ready(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn start_send(self: Pin<&mut Self>, _: Bytes) -> io::Result<()> {
        lock(&self.0.state).queued += 1;
        Ok(())
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = lock(&self.0.state);
        if state.queued == 0 {
            return Poll::Ready(Ok(()));
        }
        if state.takes == 0 {
            state.waker = Some(cx.waker().clone());
            return Poll::Pending;
        }
        state.takes -= 1;
        state.sent += std::mem::take(&mut state.queued);
        self.0.changed.notify_all();
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_flush(cx)
    }
}

/// A sender with a flusher that has not begun.
fn world(system: &Arc<System>) -> (Coalesced, Arc<Shared>, Flusher) {
    let (sink, shared) = Coalesced::new(Box::pin(Transport(Arc::clone(system))));
    lock(&shared.state).manned = true;
    let flusher = Flusher {
        shared: Arc::clone(&shared),
        patience: None,
    };
    (sink, shared, flusher)
}

fn send(shared: &Arc<Shared>) {
    let mut frame = Some(Bytes::from_static(b"x"));
    block_on(poll_fn(|cx| shared.poll_send(cx, &mut frame))).unwrap();
}

/// Lets the transport take everything that waits, at any time.
fn opening(system: &Arc<System>) -> thread::JoinHandle<()> {
    let system = Arc::clone(system);
    thread::spawn(move || system.open())
}

/// Runs `model` in every order with up to three voluntary switches, or as many as
/// `LOOM_MAX_PREEMPTIONS` says.
fn explore(model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound.get_or_insert(3);
    builder.check(model);
}

#[test]
fn what_was_gathered_is_written_while_the_sender_does_nothing() {
    explore(|| {
        let system = System::new(usize::MAX);
        let (sink, shared, flusher) = world(&system);
        let flusher = thread::spawn(move || block_on(flusher));
        send(&shared);
        send(&shared);
        system.wait_until_sent(2);
        drop(sink);
        flusher.join().unwrap();
    });
}

/// The transport knows one waker, and must wake whichever of the two waits.
#[test]
fn a_transport_that_makes_them_wait_wakes_the_one_that_waits() {
    explore(|| {
        let system = System::new(0);
        let (sink, shared, flusher) = world(&system);
        let flusher = thread::spawn(move || block_on(flusher));
        let opening = opening(&system);
        send(&shared);
        send(&shared);
        system.wait_until_sent(2);
        drop(sink);
        flusher.join().unwrap();
        opening.join().unwrap();
    });
}

#[test]
fn what_was_gathered_is_written_after_the_sender_has_gone() {
    // Its clock stands still: the flusher's patience has no end.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    let _guard = runtime.enter();
    explore(|| {
        let system = System::new(1);
        let (sink, shared, flusher) = world(&system);
        let flusher = thread::spawn(move || block_on(flusher));
        let opening = opening(&system);
        send(&shared);
        send(&shared);
        drop(shared);
        drop(sink);
        flusher.join().unwrap();
        assert_eq!(lock(&system.state).sent, 2);
        opening.join().unwrap();
    });
}

#[test]
fn a_dropped_flusher_leaves_nobody_asleep_and_nothing_unsent() {
    explore(|| {
        let system = System::new(0);
        let (sink, shared, mut flusher) = world(&system);
        let dropping = thread::spawn(move || {
            let poll = |cx: &mut Context<'_>| Poll::Ready(Pin::new(&mut flusher).poll(cx));
            let _ = block_on(poll_fn(poll));
            drop(flusher);
        });
        let opening = opening(&system);
        send(&shared);
        send(&shared);
        let mut sink = sink;
        block_on(poll_fn(|cx| Pin::new(&mut sink).poll_flush(cx))).unwrap();
        assert_eq!(lock(&system.state).sent, 2);
        dropping.join().unwrap();
        opening.join().unwrap();
    });
}
