//! [`Registrations`]: where one direction of a queue is registered to be waited for.

use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::str::FromStr;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use tokio::runtime::{Handle, Id};

use super::async_fd;
use crate::connect::{OpenError, OpenErrorKind};
use crate::io::reactor::Slot;
use crate::io::source::Direction;
use crate::mq::error::{explained, no_runtime};

/// Waits for a queue when a message cannot be sent or received at once.
///
/// Both drivers try first and wait only if they must. Both wait without losing or inventing a
/// message, whatever is cancelled, and need nothing from the queue's other side. The
/// [module](crate::mq#which-driver) says when to use which.
///
/// # Examples
///
/// ```
/// use aqueduct::mq::{Driver, OpenOptions};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let name = format!("/doc-driver-{}", std::process::id());
/// let mut options = OpenOptions::new();
/// options.create(true).capacity(2).max_message(8).unlink_on_drop(true);
/// let queue = options.driver(Driver::AsyncFd).open(&name)?;
/// queue.send(0, b"hello").await?;
/// assert_eq!(queue.recv().await?.body(), "hello");
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Driver {
    /// One thread of the runtime's blocking pool, for all its queues.
    ///
    /// It works in every runtime, with or without I/O driver and timer. The thread exists while any
    /// queue that has been waited for lives. If several processes wait for one queue, each message
    /// wakes [one of them](crate::mq#many-processes-at-one-queue). While a thread of the pool is busy, Tokio's paused
    /// clock (`tokio::time::pause`, in tests) does not advance by itself: use `AsyncFd` there.
    #[default]
    Pool,
    /// Tokio's own I/O driver, through [`AsyncFd`](tokio::io::unix::AsyncFd).
    ///
    /// It needs no thread, and has less latency and processor time than `Pool`. The runtime needs
    /// its I/O driver (`enable_io`). Do not use it if many processes, or many tasks of one process,
    /// wait for one queue: each message wakes them all. With 100 senders `Pool` is ten times as
    /// fast.
    AsyncFd,
}

/// Prints the value of the `driver` option of an address: `pool`, `asyncfd`.
impl fmt::Display for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pool => "pool",
            Self::AsyncFd => "asyncfd",
        })
    }
}

impl FromStr for Driver {
    type Err = OpenError;

    fn from_str(text: &str) -> Result<Self, OpenError> {
        match text {
            "pool" => Ok(Self::Pool),
            "asyncfd" => Ok(Self::AsyncFd),
            _ => {
                let cause = format!("there is no driver {text:?}");
                let error =
                    OpenError::new("wait for", "queues", OpenErrorKind::InvalidOption, cause);
                Err(error.with_cure("use pool or asyncfd"))
            }
        }
    }
}

/// One for each runtime that has waited; nearly always none or one.
///
/// Created late and dropped early: a registered descriptor costs a wake-up for each message in the
/// other direction, and one that is registered for the message itself a check for sleepers.
#[derive(Debug)]
pub(super) struct Registrations {
    driver: Driver,
    direction: Direction,
    fd: Arc<OwnedFd>,
    // An epoll instance takes each descriptor once, and one-shot events disarm all of it: if the
    // other direction has `fd` itself this one waits on a duplicate. It is created at the first
    // wait and kept: a later wait must not fail for lack of descriptors.
    duplicate: Option<OnceLock<Arc<OwnedFd>>>,
    list: RwLock<Vec<Arc<Registration>>>,
}

#[derive(Debug)]
pub(super) enum Registration {
    Pool(Slot),
    AsyncFd(async_fd::Registered),
}

impl Registrations {
    pub(super) fn new(
        driver: Driver,
        direction: Direction,
        fd: Arc<OwnedFd>,
        duplicate: bool,
    ) -> Self {
        Self {
            driver,
            direction,
            fd,
            duplicate: duplicate.then(OnceLock::new),
            list: RwLock::default(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        let list = self.list.read();
        list.unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// Where the current runtime waits.
    pub(super) fn current(&self) -> io::Result<Arc<Registration>> {
        let handle = Handle::try_current().map_err(|_| no_runtime())?;
        let usable = |it: &&Arc<Registration>| it.runtime() == Some(handle.id()) && it.is_alive();
        let list = self.list.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = list.iter().find(usable) {
            return Ok(Arc::clone(found));
        }
        drop(list);
        let mut list = self.list.write().unwrap_or_else(PoisonError::into_inner);
        list.retain(|it| it.is_alive());
        if let Some(found) = list.iter().find(usable) {
            return Ok(Arc::clone(found));
        }
        let fd = self.waited_on()?;
        let registration = Arc::new(match self.driver {
            Driver::Pool => {
                let slot = Slot::in_pool(&handle, fd, self.direction);
                Registration::Pool(slot.map_err(explained)?)
            }
            Driver::AsyncFd => {
                let registered = async_fd::Registered::new(&handle, fd, self.direction)?;
                Registration::AsyncFd(registered)
            }
        });
        list.push(Arc::clone(&registration));
        Ok(registration)
    }

    fn waited_on(&self) -> io::Result<Arc<OwnedFd>> {
        let Some(duplicate) = &self.duplicate else {
            return Ok(Arc::clone(&self.fd));
        };
        if let Some(made) = duplicate.get() {
            return Ok(Arc::clone(made));
        }
        let made = Arc::new(self.fd.try_clone()?);
        Ok(Arc::clone(duplicate.get_or_init(|| made)))
    }

    /// Deregisters idle directions; the next waiter registers again.
    pub(super) fn release(&self) {
        // The holder of the lock is about to wait.
        let Ok(mut list) = self.list.try_write() else {
            return;
        };
        // Waiting tasks hold the registration they wait at, and nobody can get one now. It is
        // dropped under the lock: the next owner of the lock registers the descriptor again, which
        // the kernel refuses until it has forgotten it. Nobody waits there, so no waker is dropped
        // with it.
        list.retain_mut(|it| Arc::get_mut(it).is_none_or(|it| !it.release()));
    }
}

impl Registration {
    pub(super) fn is_alive(&self) -> bool {
        match self {
            Self::Pool(slot) => slot.is_alive(),
            Self::AsyncFd(registered) => registered.is_alive(),
        }
    }

    fn runtime(&self) -> Option<Id> {
        match self {
            Self::Pool(slot) => slot.runtime(),
            Self::AsyncFd(registered) => Some(registered.runtime()),
        }
    }

    /// Deregisters it, or returns that it is to be dropped for that. Nobody waits there.
    fn release(&mut self) -> bool {
        match self {
            // It keeps its runtime's thread, so it stays.
            Self::Pool(slot) => {
                slot.deregister();
                false
            }
            Self::AsyncFd(_) => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::pin::pin;
    use std::task::Poll;
    use std::time::Duration;

    use super::*;
    use crate::mq::{OpenOptions, Queue};

    fn queue(test: &str, driver: Driver) -> Queue {
        let name = format!("/aqueduct-{test}-{driver}-{}", std::process::id());
        let mut options = OpenOptions::new();
        options.create_new(true).unlink_on_drop(true);
        options.capacity(1).max_message(8).driver(driver);
        options.open(&name).unwrap()
    }

    fn list(queue: &Queue, direction: Direction) -> &Registrations {
        &queue.side(direction).registrations
    }

    /// Polls once, which must not be enough, so that it sleeps where the queue is registered.
    async fn falls_asleep(future: std::pin::Pin<&mut impl Future>) {
        let mut future = future;
        poll_fn(|cx| match future.as_mut().poll(cx) {
            Poll::Ready(_) => panic!("it did not wait"),
            Poll::Pending => Poll::Ready(()),
        })
        .await;
    }

    async fn soon<T>(future: impl Future<Output = T>) -> T {
        let limit = Duration::from_secs(30);
        tokio::time::timeout(limit, future).await.unwrap()
    }

    async fn forgotten_and_known_again(driver: Driver) {
        let queue = queue("known-again", driver);
        for round in 0..3 {
            let mut receive = pin!(queue.recv());
            falls_asleep(receive.as_mut()).await;
            queue.try_send(0, &[round]).unwrap();
            assert_eq!(soon(receive).await.unwrap().into_body(), [round].as_slice());
            list(&queue, Direction::Read).release();

            queue.try_send(0, b"full").unwrap();
            let mut send = pin!(queue.send(0, b"waits"));
            falls_asleep(send.as_mut()).await;
            assert_eq!(queue.try_recv().unwrap().into_body(), "full");
            soon(send).await.unwrap();
            assert_eq!(queue.try_recv().unwrap().into_body(), "waits");
            list(&queue, Direction::Write).release();
        }
        let left = !list(&queue, Direction::Read).is_empty();
        assert_eq!(left, driver == Driver::Pool, "only its thread is kept");
    }

    #[tokio::test]
    async fn a_wait_after_the_kernel_was_told_to_forget_is_woken() {
        forgotten_and_known_again(Driver::Pool).await;
        forgotten_and_known_again(Driver::AsyncFd).await;
    }

    async fn not_while_somebody_waits(driver: Driver) {
        let queue = queue("somebody", driver);
        // The pool's thread starts with the first wait, and until then no task is asleep at the queue.
        let mut first = pin!(queue.recv());
        falls_asleep(first.as_mut()).await;
        queue.try_send(0, b"0").unwrap();
        assert_eq!(soon(first).await.unwrap().into_body(), "0");
        let mut receive = pin!(queue.recv());
        falls_asleep(receive.as_mut()).await;
        list(&queue, Direction::Read).release();
        // Another waiting task must not be refused for that either.
        let mut second = pin!(queue.recv());
        falls_asleep(second.as_mut()).await;
        queue.try_send(0, b"1").unwrap();
        assert_eq!(soon(receive).await.unwrap().into_body(), "1");
        list(&queue, Direction::Read).release();
        queue.try_send(0, b"2").unwrap();
        assert_eq!(soon(second).await.unwrap().into_body(), "2");
    }

    #[tokio::test]
    async fn the_kernel_is_not_told_to_forget_where_somebody_waits() {
        not_while_somebody_waits(Driver::Pool).await;
        not_while_somebody_waits(Driver::AsyncFd).await;
    }

    /// A registration that one thread has given up is registered by the next one at once.
    fn given_up_and_taken_at_a_time(driver: Driver) {
        let queue = queue("at-a-time", driver);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build();
        let runtime = runtime.unwrap();
        let queue = Arc::new(queue);
        for direction in [Direction::Read, Direction::Write] {
            let (done, all) = std::sync::mpsc::channel();
            for _ in 0..4 {
                let (queue, handle, done) =
                    (Arc::clone(&queue), runtime.handle().clone(), done.clone());
                std::thread::spawn(move || {
                    let _runtime = handle.enter();
                    let list = list(&queue, direction);
                    for _ in 0..20_000 {
                        drop(list.current().unwrap());
                        list.release();
                    }
                    // Not after the test's end: it is to be unlinked before that.
                    drop(queue);
                    done.send(()).unwrap();
                });
            }
            drop(done);
            for _ in 0..4 {
                let limit = Duration::from_secs(30);
                all.recv_timeout(limit).expect("it is always registered");
            }
        }
    }

    #[test]
    fn a_queue_that_is_given_up_can_be_registered_at_once() {
        given_up_and_taken_at_a_time(Driver::Pool);
        given_up_and_taken_at_a_time(Driver::AsyncFd);
    }
}
