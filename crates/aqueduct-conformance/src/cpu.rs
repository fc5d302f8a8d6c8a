//! What is measured in CPU time, so that what else runs on the machine does not count.

use std::future::Future;
use std::time::Duration;

use nix::time::{ClockId, clock_getcpuclockid, clock_gettime};
use nix::unistd::Pid;

/// What an idle process may use in a second.
const IDLE: Duration = Duration::from_millis(10);

/// Checks that `waiting` waits for a second, and that each of these processes uses next to nothing
/// meanwhile.
pub(crate) async fn uses_no_cpu(processes: &[u32], waiting: impl Future) {
    let used = || {
        let each = processes.iter().map(|it| {
            let clock = clock_getcpuclockid(Pid::from_raw(it.cast_signed()));
            time(clock.expect("it is there"))
        });
        each.collect::<Vec<_>>()
    };
    let before = used();
    let waited = tokio::time::timeout(Duration::from_secs(1), waiting).await;
    assert!(waited.is_err(), "nothing was sent");
    for (before, after) in before.into_iter().zip(used()) {
        let used = after - before;
        assert!(used < IDLE, "{used:?} in a second");
    }
}

/// Checks that 10 ms timers fire within 50 ms of this thread's CPU time.
pub(crate) async fn timers() {
    for _ in 0..20 {
        let before = this_thread();
        tokio::time::sleep(Duration::from_millis(10)).await;
        let took = this_thread() - before;
        assert!(
            took < Duration::from_millis(50),
            "the timer waited {took:?}"
        );
    }
}

/// Keeps this thread busy for a microsecond: the slower of two sides.
pub(crate) fn busy_if(slow: bool) {
    let begin = this_thread();
    while slow && this_thread() - begin < Duration::from_micros(1) {}
}

fn this_thread() -> Duration {
    time(ClockId::CLOCK_THREAD_CPUTIME_ID)
}

fn time(clock: ClockId) -> Duration {
    clock_gettime(clock).expect("it can be read").into()
}
