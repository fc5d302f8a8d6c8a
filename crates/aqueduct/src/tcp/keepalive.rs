//! [`Keepalive`]: finding out that a silent peer is gone.

use std::time::Duration;

use socket2::TcpKeepalive;

/// When and how often the kernel asks a silent peer whether it is still there.
///
/// A peer whose machine or network died says nothing, and a reader would wait for ever. With this
/// set on a stream, reading fails with `ETIMEDOUT` after `idle + interval * count` of silence
/// (tcp(7): `TCP_KEEPIDLE`, `TCP_KEEPINTVL`, `TCP_KEEPCNT`). The kernel counts in whole seconds,
/// at least one.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use aqueduct::tcp::{ConnectOptions, Keepalive};
///
/// let idle = Keepalive::new().idle(Duration::from_secs(20));
/// let options = ConnectOptions::new().keepalive(idle).clone();
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "it does nothing until given to options"]
pub struct Keepalive {
    idle: Duration,
    interval: Duration,
    count: u32,
}

impl Keepalive {
    /// Silence before the first question, unless set.
    pub const DEFAULT_IDLE: Duration = Duration::from_secs(60);

    /// Time between questions, unless set.
    pub const DEFAULT_INTERVAL: Duration = Duration::from_secs(10);

    /// Questions without an answer after which the connection is dead, unless set.
    pub const DEFAULT_COUNT: u32 = 6;

    /// The defaults: dead after two minutes of silence.
    pub const fn new() -> Self {
        Self {
            idle: Self::DEFAULT_IDLE,
            interval: Self::DEFAULT_INTERVAL,
            count: Self::DEFAULT_COUNT,
        }
    }

    /// Sets how long the peer may be silent before it is asked.
    pub const fn idle(mut self, idle: Duration) -> Self {
        self.idle = idle;
        self
    }

    /// Sets the time between one question and the next.
    pub const fn interval(mut self, interval: Duration) -> Self {
        self.interval = interval;
        self
    }

    /// Sets how many questions may go unanswered (the kernel takes 1 to 127).
    pub const fn count(mut self, count: u32) -> Self {
        self.count = count;
        self
    }

    pub(super) fn params(&self) -> TcpKeepalive {
        let second = Duration::from_secs(1);
        TcpKeepalive::new()
            .with_time(self.idle.max(second))
            .with_interval(self.interval.max(second))
            .with_retries(self.count)
    }
}

impl Default for Keepalive {
    fn default() -> Self {
        Self::new()
    }
}
