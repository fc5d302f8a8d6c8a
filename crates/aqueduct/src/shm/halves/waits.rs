//! [`Waits`]: how waits for data begin.

use std::pin::pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::task::yield_now;

use crate::io::polling::{Next, Polling, Round};
use crate::shm::ring::Patience;

/// From this many reads without a wait on, incoming data is a stream.
const STREAM: u32 = 2;

/// How waits for data begin: with a few looks, as long as that pays.
#[derive(Debug, Default)]
pub(super) struct Waits {
    polling: Option<Polling>,
    round: Round,
    spin: Spin,
    /// How many reads were done since the last wait.
    done: u32,
    decided: bool,
}

impl Waits {
    /// Polls for up to `limit`, in latency mode.
    pub(super) fn polls_for(&mut self, limit: Duration) {
        self.polling = Some(Polling::new(limit));
    }

    /// Incoming data is a stream.
    pub(super) fn expect_more(&mut self) {
        self.done = STREAM;
    }

    /// As sockets do: only in a runtime of one thread, unless it was asked for.
    fn decide(&mut self) {
        if !std::mem::replace(&mut self.decided, true)
            && self.polling.is_none()
            && let Ok(runtime) = Handle::try_current()
            && runtime.runtime_flavor() == RuntimeFlavor::CurrentThread
        {
            self.polling = Some(Polling::new(Duration::ZERO));
        }
    }
}

impl Patience for Waits {
    fn paid(&mut self) {
        self.done = self.done.saturating_add(1);
        self.spin.done();
        if let Some(polling) = &self.polling {
            polling.done(&mut self.round);
        }
    }

    fn poll_again(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        self.decide();
        let Some(polling) = &self.polling else {
            return Poll::Ready(false);
        };
        // Within a stream the two processes would take turns for each piece.
        if std::mem::take(&mut self.done) >= STREAM && !polling.is_asked_for() {
            return Poll::Ready(false);
        }
        if polling.is_asked_for() && self.spin.again() {
            return Poll::Ready(true);
        }
        match polling.next(&mut self.round) {
            Next::Again => Poll::Ready(true),
            Next::Yield => {
                let _ = pin!(yield_now()).poll(cx);
                Poll::Pending
            }
            Next::Sleep => Poll::Ready(false),
        }
    }
}

/// Looks without yielding the processor, in latency mode: a peer on another processor answers within
/// less time than yielding takes. On the same processor it can only answer meanwhile.
#[derive(Debug, Default)]
struct Spin {
    /// How many looks a wait begins with.
    looks: u32,
    /// How many of them are left in this wait, once it has begun.
    left: Option<u32>,
    /// How many waits have begun without any.
    waits: u32,
    /// How many do before one tries whether they pay by now.
    pause: u32,
}

impl Spin {
    /// Some microseconds.
    const MOST: u32 = 128;
    const LONGEST_PAUSE: u32 = 1024;

    fn again(&mut self) -> bool {
        let left = self.left.get_or_insert_with(|| {
            if self.looks == 0 {
                self.waits += 1;
                if self.waits > self.pause {
                    self.waits = 0;
                    self.pause = (self.pause * 2).clamp(16, Self::LONGEST_PAUSE);
                    return Self::MOST;
                }
            }
            self.looks
        });
        let more = *left > 0;
        if more {
            *left -= 1;
            std::hint::spin_loop();
        }
        more
    }

    /// The wait is over.
    fn done(&mut self) {
        match self.left.take() {
            Some(0) => self.looks /= 2,
            Some(_) => (self.looks, self.pause) = (Self::MOST, 0),
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns how many looks a wait takes if its data arrives at look `over_after`.
    fn looks(spin: &mut Spin, over_after: u32) -> u32 {
        let mut looks = 0;
        while looks < over_after && spin.again() {
            looks += 1;
        }
        if looks < over_after {
            assert!(!spin.again(), "no more of them in this wait");
        }
        spin.done();
        looks
    }

    #[test]
    fn looks_that_do_not_pay_are_left_out_more_and_more_often() {
        let mut spin = Spin::default();
        let tried: Vec<usize> = (0..5000)
            .filter(|_| looks(&mut spin, u32::MAX) > 0)
            .collect();
        assert_eq!(tried, [0, 17, 50, 115, 244, 501, 1014, 2039, 3064, 4089]);
    }

    #[test]
    fn looks_that_pay_are_taken_again_and_given_up_step_by_step() {
        let mut spin = Spin::default();
        for _ in 0..10 {
            assert_eq!(looks(&mut spin, 5), 5);
        }
        let failed: Vec<u32> = (0..10).map(|_| looks(&mut spin, u32::MAX)).collect();
        assert_eq!(failed, [128, 64, 32, 16, 8, 4, 2, 1, 128, 0]);
    }
}
