//! [`every_point`]: any operation, dropped wherever it waits.

use std::future::Future;
use std::task::Poll;

use tokio::task::{coop, yield_now};
use tokio_test::task;

use crate::deadline;

/// The most points that one operation is dropped at; none of ours has as many.
const MOST: usize = 200;

/// When a future that waits is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moment {
    /// While it waits.
    Asleep,
    /// When what it waits for has come and its task was woken, and before it is polled again.
    Woken,
}

pub(crate) const MOMENTS: [Moment; 2] = [Moment::Asleep, Moment::Woken];

/// Drops an operation at every point where it waits, and checks what that leaves behind.
///
/// It returns the number of points, and prints it after `name`.
///
/// A point is the first poll, or a poll after a wake-up, that returns `Pending`. Each is tried
/// twice: the future is dropped while it waits, and after it was woken but before it is polled
/// again. The first point is an additional one, at which the task's cooperative budget is used up.
///
/// For each try `set_up` creates both sides anew. `operation` waits; until it is woken, `step` is
/// called repeatedly for the other side. `check` gets both sides, and the operation's output if it
/// was not dropped.
///
/// # Panics
///
/// If the operation never waits, since then nothing was tried; if it waits without end; if `check`
/// panics.
pub async fn every_point<H, T, O>(
    name: &str,
    mut set_up: impl AsyncFnMut() -> (H, T),
    operation: impl AsyncFn(&mut H) -> O,
    mut step: impl AsyncFnMut(&mut T),
    mut check: impl AsyncFnMut(H, T, Option<O>),
) -> usize {
    let mut points = 0;
    'points: for nth in 1.. {
        assert!(nth < MOST, "{name} waits more than {MOST} times");
        for moment in MOMENTS {
            let (mut here, mut there) = set_up().await;
            let other = async || step(&mut there).await;
            let output = drop_at((nth, moment), operation(&mut here), other).await;
            let done = output.is_some();
            deadline(check(here, there, output)).await;
            if done {
                break 'points;
            }
        }
        points += 1;
    }
    let (mut here, there) = set_up().await;
    spend_budget().await;
    let output = match task::spawn(operation(&mut here)).poll() {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    };
    points += usize::from(output.is_none());
    deadline(check(here, there, output)).await;
    println!("await points tried: {name}: {points}");
    assert!(points > 0, "{name} never waits: this tested nothing");
    points
}

/// Drops `future` where it waits for the `nth` time, with `step` for the other side in between.
/// Gives its output if it does not wait as often.
pub(crate) async fn drop_at<F: Future>(
    (nth, moment): (usize, Moment),
    future: F,
    mut step: impl AsyncFnMut(),
) -> Option<F::Output> {
    let mut future = task::spawn(future);
    let mut waits = 0;
    let run = async {
        loop {
            if let Poll::Ready(output) = future.poll() {
                return Some(output);
            }
            waits += 1;
            if (waits, moment) == (nth, Moment::Asleep) {
                return None;
            }
            while !future.is_woken() {
                step().await;
                yield_now().await;
            }
            if waits == nth {
                return None;
            }
        }
    };
    deadline(run).await
}

/// Leaves this task without a budget for its next operation.
pub(crate) async fn spend_budget() {
    yield_now().await;
    while coop::has_budget_remaining() {
        coop::consume_budget().await;
    }
}
