//! [`Silence`]: how long nothing has passed.

use std::io;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::pump::Way;

/// When something has passed last. Without limits it costs nothing.
pub(super) struct Silence {
    start: Instant,
    /// How long a client may take to begin.
    first: Option<Duration>,
    /// How long nothing may pass in either direction.
    idle: Option<Duration>,
    moved: Mutex<Moved>,
}

#[derive(Clone, Copy)]
struct Moved {
    last: Instant,
    /// The client has sent something.
    begun: bool,
}

impl Silence {
    pub(super) fn new(first: Option<Duration>, idle: Option<Duration>) -> Self {
        let last = Instant::now();
        Self {
            start: last,
            first,
            idle,
            moved: Mutex::new(Moved { last, begun: false }),
        }
    }

    /// Something passes.
    pub(super) fn broken(&self, way: Way) {
        if self.first.is_some() || self.idle.is_some() {
            let mut moved = self.moved.lock().unwrap_or_else(PoisonError::into_inner);
            moved.last = Instant::now();
            moved.begun |= way == Way::There;
        }
    }

    /// Waits until a limit is reached.
    pub(super) async fn too_long(&self) -> io::Error {
        loop {
            let moved = *self.moved.lock().unwrap_or_else(PoisonError::into_inner);
            // A time beyond what the clock can hold is never reached.
            let first = self.first.filter(|_| !moved.begun);
            let first = first.and_then(|it| Some((self.start.checked_add(it)?, it)));
            let idle = self
                .idle
                .and_then(|it| Some((moved.last.checked_add(it)?, it)));
            let Some((due, limit)) = first.into_iter().chain(idle).min() else {
                return std::future::pending().await;
            };
            if Instant::now() < due {
                sleep_until(due).await;
                continue;
            }
            let sentence = match first == Some((due, limit)) {
                true => format!("the client sent nothing for {limit:?}"),
                false => format!("nothing passed for {limit:?}"),
            };
            return io::Error::new(io::ErrorKind::TimedOut, sentence);
        }
    }
}
