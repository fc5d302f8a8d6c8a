//! [`sleep`] and [`timeout`] that need no timer of the runtime, and no runtime.
//!
//! Tokio's timers panic in a runtime that was built without them, and there is no way to check this
//! beforehand. So a separate thread keeps time, which lives only while some task waits. A clock
//! that tests have paused is Tokio's: then its timers exist, and are used.

use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

use tokio::time::Instant;

/// How long the thread stays when nobody waits.
const IDLE: Duration = Duration::from_secs(10);

/// A deadline further away than any process lives.
const FAR: Duration = Duration::from_secs(86_400 * 365 * 30);

/// Completes at a deadline.
#[derive(Debug)]
pub(crate) struct Sleep {
    deadline: Instant,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    /// Not asked yet.
    Idle,
    Own(Key),
    Tokio(Pin<Box<tokio::time::Sleep>>),
}

/// The deadline, and a number that is used once.
type Key = (std::time::Instant, u64);

/// Completes after `duration`.
pub(crate) fn sleep(duration: Duration) -> Sleep {
    let now = Instant::now();
    sleep_until(now.checked_add(duration).unwrap_or_else(|| now + FAR))
}

/// Completes at `deadline`.
pub(crate) fn sleep_until(deadline: Instant) -> Sleep {
    Sleep {
        deadline,
        kind: Kind::Idle,
    }
}

/// The time is up.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Elapsed;

/// Returns the future's output, unless `limit` is over first.
pub(crate) async fn timeout<F: Future>(limit: Duration, future: F) -> Result<F::Output, Elapsed> {
    let mut future = pin!(future);
    let mut over = sleep(limit);
    poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(output) => Poll::Ready(Ok(output)),
        Poll::Pending => Pin::new(&mut over).poll(cx).map(|()| Err(Elapsed)),
    })
    .await
}

impl Sleep {
    pub(crate) fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Moves the deadline.
    pub(crate) fn reset(self: Pin<&mut Self>, deadline: Instant) {
        let this = self.get_mut();
        this.forget();
        this.deadline = deadline;
    }

    fn forget(&mut self) {
        if let Kind::Own(key) = std::mem::replace(&mut self.kind, Kind::Idle) {
            // Never under the lock: what drops with a waker may hold another sleep.
            let waker = lock().alarms.remove(&key);
            drop(waker);
        }
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        if let Kind::Tokio(sleep) = &mut this.kind {
            return sleep.as_mut().poll(cx);
        }
        if Instant::now() >= this.deadline {
            this.forget();
            return Poll::Ready(());
        }
        match this.kind {
            Kind::Own(key) => {
                let before = lock().rearm(key, cx.waker());
                drop(before);
            }
            _ if is_paused() => {
                let mut sleep = Box::pin(tokio::time::sleep_until(this.deadline));
                let slept = sleep.as_mut().poll(cx);
                this.kind = Kind::Tokio(sleep);
                return slept;
            }
            _ => this.kind = Kind::Own(lock().arm(this.deadline.into_std(), cx.waker())),
        }
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        self.forget();
    }
}

/// Whether Tokio's clock is not the system's: a test has paused it.
fn is_paused() -> bool {
    let before = std::time::Instant::now();
    let theirs = Instant::now().into_std();
    theirs < before || theirs > std::time::Instant::now()
}

static ALARMS: Mutex<Alarms> = Mutex::new(Alarms {
    alarms: BTreeMap::new(),
    used: 0,
    wakes: None,
});

static EARLIER: Condvar = Condvar::new();

struct Alarms {
    alarms: BTreeMap<Key, Waker>,
    used: u64,
    /// When the thread looks again. `None`: there is no thread.
    wakes: Option<std::time::Instant>,
}

fn lock() -> MutexGuard<'static, Alarms> {
    ALARMS.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Alarms {
    fn arm(&mut self, at: std::time::Instant, waker: &Waker) -> Key {
        self.used += 1;
        let key = (at, self.used);
        self.alarms.insert(key, waker.clone());
        match self.wakes {
            Some(wakes) if wakes <= at => {}
            Some(_) => {
                self.wakes = Some(at);
                EARLIER.notify_one();
            }
            None => {
                let run = thread::Builder::new().name("aqueduct-timer".into());
                match run.spawn(keep_time) {
                    Ok(_) => self.wakes = Some(at),
                    // The next one tries again.
                    Err(error) => tracing::warn!(
                        target: "aqueduct::timer", %error,
                        "cannot start the timer thread: a time limit may be exceeded"
                    ),
                }
            }
        }
        key
    }

    /// Wakes by this waker; returns the one before, to be dropped without the lock.
    fn rearm(&mut self, key: Key, waker: &Waker) -> Option<Waker> {
        match self.alarms.get(&key) {
            Some(kept) if kept.will_wake(waker) => None,
            _ => self.alarms.insert(key, waker.clone()),
        }
    }
}

/// The thread.
fn keep_time() {
    let mut alarms = lock();
    // When it ends, if nobody waits until then.
    let mut ends = None;
    loop {
        let now = std::time::Instant::now();
        let mut due = Vec::new();
        while let Some(first) = alarms.alarms.first_entry()
            && first.key().0 <= now
        {
            due.push(first.remove());
        }
        if !due.is_empty() {
            drop(alarms);
            due.into_iter().for_each(Waker::wake);
            alarms = lock();
            continue;
        }
        let next = alarms.alarms.first_key_value().map(|(key, _)| key.0);
        ends = next.map_or(Some(ends.unwrap_or(now + IDLE)), |_| None);
        let wakes = next.or(ends).unwrap_or(now);
        if wakes <= now {
            alarms.wakes = None;
            return;
        }
        alarms.wakes = Some(wakes);
        let waited = EARLIER.wait_timeout(alarms, wakes - now);
        alarms = waited.unwrap_or_else(PoisonError::into_inner).0;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::sync::{Arc, mpsc};
    use std::task::Wake;
    use std::thread::ThreadId;
    use std::time::Instant as Clock;

    use super::*;

    const DEADLINE: Duration = Duration::from_secs(30);

    struct Bell(mpsc::SyncSender<ThreadId>);

    impl Wake for Bell {
        fn wake(self: Arc<Self>) {
            let _ = self.0.try_send(thread::current().id());
        }
    }

    /// Runs a future without any runtime.
    fn run<F: Future>(future: F) -> F::Output {
        run_with(future, |_| {})
    }

    /// The same, noting the thread of each wake-up.
    fn run_with<F: Future>(future: F, mut note: impl FnMut(ThreadId)) -> F::Output {
        let (ring, rung) = mpsc::sync_channel(1);
        let waker = Waker::from(Arc::new(Bell(ring)));
        let mut future = pin!(future);
        loop {
            if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
                return output;
            }
            note(rung.recv_timeout(DEADLINE).expect("it is woken"));
        }
    }

    #[test]
    fn sleeps_end_in_time_and_order_without_a_runtime() {
        let start = Clock::now();
        let long = thread::spawn(|| run(sleep(Duration::from_millis(60))));
        run(sleep(Duration::from_millis(20)));
        assert!(start.elapsed() >= Duration::from_millis(20));
        long.join().unwrap();
        assert!(start.elapsed() >= Duration::from_millis(60));
        run(sleep(Duration::ZERO));
    }

    #[test]
    fn a_limit_ends_what_takes_longer_and_nothing_else() {
        let soon = Duration::from_millis(10);
        let never = std::future::pending::<()>();
        assert_eq!(run(timeout(soon, never)), Err(Elapsed));
        assert_eq!(run(timeout(Duration::MAX, async { 1 })), Ok(1));
    }

    #[test]
    fn a_sleep_that_is_dropped_or_moved_leaves_no_alarm() {
        let mut cx = Context::from_waker(Waker::noop());
        let mut asleep = sleep(FAR);
        assert!(Pin::new(&mut asleep).poll(&mut cx).is_pending());
        let Kind::Own(key) = asleep.kind else {
            panic!("{asleep:?}")
        };
        assert!(lock().alarms.contains_key(&key));
        Pin::new(&mut asleep).reset(Instant::now());
        assert!(!lock().alarms.contains_key(&key));
        assert!(Pin::new(&mut asleep).poll(&mut cx).is_ready());
    }

    /// It used to end with the last alarm, and each sleep started another thread.
    #[test]
    fn one_thread_serves_sleeps_that_follow_one_another() {
        let mut threads = HashSet::new();
        for _ in 0..20 {
            run_with(sleep(Duration::from_millis(2)), |thread| {
                threads.insert(thread);
            });
        }
        assert_eq!(threads.len(), 1);
    }

    /// A waker that is the last to hold another sleep, as that of a task that was given up.
    struct Holds(#[expect(dead_code, reason = "it is there to be dropped")] Mutex<Sleep>);

    impl Wake for Holds {
        fn wake(self: Arc<Self>) {}
    }

    #[test]
    fn a_waker_may_drop_another_sleep() {
        let (done, is_done) = mpsc::channel();
        thread::spawn(move || {
            let mut noop = Context::from_waker(Waker::noop());
            for is_replaced in [false, true] {
                let mut inner = sleep(FAR);
                assert!(Pin::new(&mut inner).poll(&mut noop).is_pending());
                let waker = Waker::from(Arc::new(Holds(Mutex::new(inner))));
                let mut outer = sleep(FAR);
                let mut cx = Context::from_waker(&waker);
                assert!(Pin::new(&mut outer).poll(&mut cx).is_pending());
                drop(waker);
                if is_replaced {
                    assert!(Pin::new(&mut outer).poll(&mut noop).is_pending());
                }
                drop(outer);
            }
            done.send(()).unwrap();
        });
        is_done.recv_timeout(DEADLINE).expect("it is not stuck");
    }

    #[tokio::test(start_paused = true)]
    async fn a_paused_clock_is_followed() {
        let start = Clock::now();
        sleep(FAR).await;
        assert!(start.elapsed() < DEADLINE);
    }
}
