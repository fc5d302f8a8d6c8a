//! [`Crowd`]: waiting for room in a pipe that other processes write to as well.

use std::future::pending;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use nix::fcntl::{FcntlArg, fcntl};
use nix::poll::PollFlags;
use tokio::task::coop::poll_proceed;
use tokio_util::sync::ReusableBoxFuture;

use super::fd::{self, Direction, interrupted, would_block};
use super::reactor::bell::Waiter;
use super::reactor::{Slot, Trouble};

/// After so many waits in a row that met no other writer it waits alone again.
const ALONE: u32 = 16;

/// The first trial comes after this many wake-ups that another writer used, the next ones after more
/// each time, up to the second number.
const FIRST_TRIAL: u32 = 1;
const LAST_TRIAL: u32 = 4096;

/// When a writer that waits alone tries to wait in a crowd.
pub(crate) struct Trials {
    /// How many wake-ups that other writers use are left until the next trial, and how many there
    /// were before it.
    left: AtomicU32,
    interval: AtomicU32,
}

impl Default for Trials {
    fn default() -> Self {
        Self {
            left: AtomicU32::new(FIRST_TRIAL),
            interval: AtomicU32::new(FIRST_TRIAL),
        }
    }
}

impl Trials {
    /// Counts a wake-up that another writer used. Returns whether it is time for a trial.
    pub(crate) fn is_due(&self) -> bool {
        // Not exact if several wait at a time, nor need it be.
        let left = self.left.load(Ordering::Relaxed).saturating_sub(1);
        if left > 0 {
            self.left.store(left, Ordering::Relaxed);
            return false;
        }
        let next = self.interval.load(Ordering::Relaxed).saturating_mul(4);
        self.interval.store(next.min(LAST_TRIAL), Ordering::Relaxed);
        self.left.store(next.min(LAST_TRIAL), Ordering::Relaxed);
        true
    }
}

/// The wait for room in a pipe by the thread that sleeps in `epoll_wait(2)` itself.
///
/// The kernel wakes writers only when a full pipe is read. Of those that wait exclusively it wakes
/// one, so that one wakes the next when it leaves room behind, as the kernel does for blocking
/// writers (`wake_next_writer` in `fs/pipe.c`).
#[derive(Debug)]
pub(crate) struct Crowd {
    state: Mutex<State>,
    slot: Arc<Slot>,
    fd: Arc<OwnedFd>,
}

struct State {
    waiting: ReusableBoxFuture<'static, Result<(), Trouble>>,
    waits: bool,
    /// Woken, and nothing was written since.
    woken: bool,
    /// Something was written after a wake-up, and the pipe was not seen full since.
    owes: bool,
    alone: u32,
}

impl Crowd {
    /// Waits there from now on, at first to find out whether there are others.
    pub(crate) fn join(fd: Arc<OwnedFd>) -> Result<Self, Trouble> {
        let slot = Slot::in_process(Arc::clone(&fd), Direction::Write)?;
        Ok(Self {
            state: Mutex::new(State {
                waiting: ReusableBoxFuture::new(pending()),
                waits: false,
                woken: false,
                owes: false,
                alone: 0,
            }),
            slot: Arc::new(slot),
            fd,
        })
    }

    /// Polls a write to its end. `None`: it would block, and is to wait elsewhere.
    pub(crate) fn poll_io<R>(
        &self,
        cx: &mut Context<'_>,
        mut op: impl FnMut(BorrowedFd<'_>) -> io::Result<R>,
    ) -> Poll<Option<io::Result<R>>> {
        let mut state = self.lock();
        loop {
            if state.waits {
                let waited = ready!(state.waiting.poll(cx));
                state.waits = false;
                if let Err(trouble) = waited {
                    tracing::warn!(
                        ?trouble,
                        "cannot wait for room in a pipe with other writers"
                    );
                    return Poll::Ready(None);
                }
                state.woken = true;
            }
            let budget = ready!(poll_proceed(cx));
            let result = op(self.fd.as_fd());
            if interrupted(&result) {
                continue;
            }
            let done = !would_block(&result);
            if std::mem::take(&mut state.woken) {
                self.slot.attempted(done);
                state.owes = true;
            }
            if done {
                budget.made_progress();
                return Poll::Ready(Some(result));
            }
            // Full: the next read wakes another one.
            state.owes = false;
            state.alone = match self.slot.is_crowded() {
                true => 0,
                false if state.alone == ALONE => return Poll::Ready(None),
                false => state.alone + 1,
            };
            let slot = Arc::clone(&self.slot);
            let wait = async move { slot.wait(Waiter::Always).await };
            state.waiting.set(wait);
            state.waits = true;
        }
    }

    /// Wakes the next writer if a wake-up has left room behind: nothing is written for now.
    pub(crate) fn pass_on(&self) {
        if std::mem::take(&mut self.lock().owes) {
            wake_next(self.fd.as_fd());
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        // The wait first, then a wake-up that it may have used up.
        let state = self.state.get_mut();
        let state = state.unwrap_or_else(PoisonError::into_inner);
        self.slot.deregister();
        if state.waits || state.woken || state.owes {
            wake_next(self.fd.as_fd());
        }
    }
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State")
            .field("waits", &self.waits)
            .field("owes", &self.owes)
            .finish_non_exhaustive()
    }
}

/// Wakes one process that waits for room in a pipe, if there is room.
///
/// Setting a pipe's capacity, even to what it is, wakes a writer: `pipe_resize_ring` in `fs/pipe.c`.
/// If another process has changed it in between, that change is undone.
fn wake_next(pipe: BorrowedFd<'_>) {
    let writable = fd::poll_now(pipe, PollFlags::POLLOUT);
    if !writable.is_ok_and(|it| it.contains(PollFlags::POLLOUT)) {
        return;
    }
    let capacity = fcntl(pipe, FcntlArg::F_GETPIPE_SZ);
    let set = capacity.and_then(|it| fcntl(pipe, FcntlArg::F_SETPIPE_SZ(it)));
    if let Err(errno) = set {
        // It wakes by itself after some 50 ms.
        tracing::debug!(%errno, "cannot wake the next writer of a pipe");
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::io::{Read, Write};
    use std::time::Duration;

    use tokio::task::coop::unconstrained;
    use tokio_test::assert_pending;
    use tokio_test::task::spawn;

    use super::*;

    const WRITERS: usize = 10;
    const DEADLINE: Duration = Duration::from_secs(30);

    /// A full pipe, and writers that wait for room and know of each other.
    fn full() -> (io::PipeReader, Vec<Crowd>) {
        let (reader, mut writer) = io::pipe().unwrap();
        fd::set_nonblocking(&writer, true).unwrap();
        while writer.write(&[0; 4096]).is_ok() {}
        let crowds = (0..WRITERS).map(|_| {
            let crowd = Crowd::join(Arc::new(writer.try_clone().unwrap().into())).unwrap();
            crowd.slot.attempted(false);
            crowd
        });
        let crowds = crowds.collect();
        (reader, crowds)
    }

    fn write(fd: BorrowedFd<'_>) -> io::Result<usize> {
        Ok(nix::unistd::write(fd, &[1; 4096])?)
    }

    async fn until(mut holds: impl FnMut() -> bool) {
        let waits = async {
            while !holds() {
                tokio::time::sleep(Duration::from_micros(100)).await;
            }
        };
        tokio::time::timeout(DEADLINE, waits).await.unwrap();
    }

    /// The thread looks for itself now and then, so one good time of several counts.
    #[tokio::test]
    async fn room_in_a_pipe_wakes_one_writer_of_many() {
        // Its writer has room, so its wait ends when the thread has started. It stays until the end.
        let (_reader, writer) = io::pipe().unwrap();
        let started = Crowd::join(Arc::new(writer.into())).unwrap();
        started.slot.wait(Waiter::Always).await.unwrap();
        let mut woken = Vec::new();
        for _ in 0..20 {
            let (mut reader, crowds) = full();
            let writes = crowds
                .iter()
                .map(|crowd| spawn(unconstrained(poll_fn(|cx| crowd.poll_io(cx, write)))));
            let mut writes: Vec<_> = writes.collect();
            for write in &mut writes {
                assert_pending!(write.poll());
            }
            reader.read_exact(&mut [0; 4096]).unwrap();
            until(|| writes.iter().any(|it| it.is_woken())).await;
            woken.push(writes.iter().filter(|it| it.is_woken()).count());
        }
        assert!(woken.contains(&1), "{woken:?}");
    }
}
