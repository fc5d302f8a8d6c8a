//! Message queues: runtimes that are missing, busy or gone, and what idle queues cost.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use aqueduct::connect::Message;
use aqueduct::mq::{Driver, Queue};
use aqueduct::{OpenError, OpenErrorKind};
use futures_util::StreamExt;
use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::resource::{UsageWho, getrusage};
use tokio::runtime::{Builder, Runtime};
use tokio_test::task::{Spawn, spawn};
use tokio_test::{assert_pending, assert_ready};

use crate::mq::{QueueName, stream};
use crate::mq_open::run_alone;
use crate::support::{deadline, is_peer, woken};

pub(crate) fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

fn typed(error: &io::Error) -> &OpenError {
    OpenError::of(error).unwrap_or_else(|| panic!("not typed: {error:?}"))
}

/// Without a runtime whatever needs no wait works, and the rest is an error, not a panic.
#[test]
fn no_runtime_is_a_typed_error() {
    use tokio_test::task::spawn;
    for driver in [Driver::Pool, Driver::AsyncFd] {
        let name = QueueName::new();
        let queue = name.create(driver, 1, 8);
        let error = assert_ready!(spawn(queue.recv()).poll()).unwrap_err();
        assert_eq!(typed(&error).kind(), &OpenErrorKind::NoRuntime);
        let error = assert_ready!(spawn(queue.recv_timeout(Duration::MAX)).poll()).unwrap_err();
        assert_eq!(typed(&error).kind(), &OpenErrorKind::NoRuntime);

        queue.try_send(0, b"1").unwrap();
        let error = assert_ready!(spawn(queue.send(0, b"2")).poll()).unwrap_err();
        assert_eq!(typed(&error).kind(), &OpenErrorKind::NoRuntime);
        assert_eq!(
            assert_ready!(spawn(queue.recv()).poll())
                .unwrap()
                .into_body(),
            "1"
        );
        assert_ready!(spawn(queue.send(0, b"3")).poll()).unwrap();
    }
}

/// A runtime that goes ends the waits in it; the queue works in the next one.
#[test]
fn a_runtime_that_goes_ends_its_waits_and_nothing_else() {
    for driver in [Driver::Pool, Driver::AsyncFd] {
        for started in [false, true] {
            let name = QueueName::new();
            let queue = Arc::new(name.create(driver, 1, 8));
            let first = runtime();
            if started {
                first.block_on(async {
                    let _ = queue.recv_timeout(Duration::from_millis(20)).await;
                });
            }
            let waiting = Arc::clone(&queue);
            let mut recv = spawn(async move { waiting.recv().await });
            first.block_on(async { assert_pending!(recv.poll()) });
            drop(first);
            assert!(
                recv.is_woken(),
                "{driver}: the wait must not sleep for ever"
            );
            let error = assert_ready!(recv.poll()).unwrap_err();
            assert_eq!(typed(&error).kind(), &OpenErrorKind::NoRuntime);
            let mut stream = stream(&queue);
            let second = runtime();
            second.block_on(async {
                let recv = deadline(stream.next());
                let send = async {
                    tokio::task::yield_now().await;
                    queue.send(0, b"x").await.unwrap();
                };
                assert_eq!(tokio::join!(recv, send).0.unwrap().unwrap(), "x");
            });
        }
    }
}

/// With the pool exhausted a receive hung until a thread was free.
#[test]
fn an_exhausted_pool_is_a_typed_error_after_a_bounded_wait() {
    let runtime = Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(1)
        .build();
    let runtime = runtime.unwrap();
    runtime.block_on(async {
        let name = QueueName::new();
        let queue = name.create(Driver::Pool, 1, 8);
        let (release, held) = std::sync::mpsc::channel::<()>();
        let holder = tokio::task::spawn_blocking(move || held.recv());
        let started = Instant::now();
        let error = deadline(queue.recv()).await.unwrap_err();
        assert_eq!(typed(&error).kind(), &OpenErrorKind::LimitReached);
        assert!(error.to_string().contains("free in 1s;"), "{error}");
        assert!(started.elapsed() >= Duration::from_secs(1));
        // What needs no wait needs no thread.
        queue.send(0, b"1").await.unwrap();
        assert_eq!(queue.recv().await.unwrap().into_body(), "1");
        // The other driver needs none at all.
        let other = name.open(Driver::AsyncFd);
        let (got, ()) = tokio::join!(other.recv(), async { queue.send(0, b"2").await.unwrap() });
        assert_eq!(got.unwrap().into_body(), "2");
        // And when the thread is free it goes on by itself.
        drop(release);
        let _ = holder.await;
        let send = async {
            tokio::task::yield_now().await;
            other.send(0, b"3").await.unwrap();
        };
        assert_eq!(
            tokio::join!(deadline(queue.recv()), send)
                .0
                .unwrap()
                .into_body(),
            "3"
        );
    });
}

/// No descriptor for the reactor is an error of the wait, not a panic or a hang later.
#[test]
fn no_descriptor_for_the_wait_is_an_error_and_passes() {
    const ROLE: &str = "mq_runtime::no_descriptor_for_the_wait_is_an_error_and_passes";
    if !is_peer(ROLE) {
        return run_alone(ROLE);
    }
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    use std::os::fd::AsFd;
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, 64, hard).unwrap();
    let runtime = runtime();
    runtime.block_on(async {
        let name = QueueName::new();
        let queue = name.create(Driver::Pool, 1, 8);
        let mut all = VecDeque::new();
        while let Ok(fd) = queue.as_fd().try_clone_to_owned() {
            all.push_back(fd);
        }
        // None free, then one, for the epoll instance but not for what wakes it.
        for _ in 0..2 {
            let error = deadline(queue.recv()).await.unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::EMFILE));
            all.pop_front();
        }
        all.clear();
        let sender = name.open(Driver::Pool);
        let send = async { sender.send(0, b"x").await.unwrap() };
        assert_eq!(
            tokio::join!(deadline(queue.recv()), send)
                .0
                .unwrap()
                .into_body(),
            "x"
        );
    });
}

/// Tokio panics where the system refuses the pool's first thread; the wait must not.
#[test]
fn no_thread_for_the_pool_is_a_typed_error_and_passes() {
    const ROLE: &str = "mq_runtime::no_thread_for_the_pool_is_a_typed_error_and_passes";
    if !is_peer(ROLE) {
        return run_alone(ROLE);
    }
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    // The limit does not hold for root.
    if nix::unistd::geteuid().is_root() {
        nix::unistd::setresuid(54_321.into(), 54_321.into(), 54_321.into()).unwrap();
    }
    let (soft, hard) = getrlimit(Resource::RLIMIT_NPROC).unwrap();
    let runtime = runtime();
    runtime.block_on(async {
        let name = QueueName::new();
        let queue = name.create(Driver::Pool, 1, 8);
        setrlimit(Resource::RLIMIT_NPROC, 1, hard).unwrap();
        let error = deadline(queue.recv()).await.unwrap_err();
        assert_eq!(typed(&error).kind(), &OpenErrorKind::LimitReached);
        assert_eq!(typed(&error).raw_os_error(), Some(libc::EAGAIN));
        setrlimit(Resource::RLIMIT_NPROC, soft, hard).unwrap();
        let send = async {
            tokio::task::yield_now().await;
            queue.send(0, b"x").await.unwrap();
        };
        let (got, ()) = tokio::join!(deadline(queue.recv()), send);
        assert_eq!(got.unwrap().into_body(), "x");
    });
}

fn cpu() -> Duration {
    let usage = getrusage(UsageWho::RUSAGE_SELF).unwrap();
    let duration = |it: nix::sys::time::TimeVal| {
        Duration::new(it.tv_sec() as u64, (it.tv_usec() * 1000) as u32)
    };
    duration(usage.user_time()) + duration(usage.system_time())
}

fn threads() -> usize {
    names_of_threads().len()
}

fn names_of_threads() -> Vec<String> {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let name = |it: std::fs::DirEntry| std::fs::read_to_string(it.path().join("comm"));
    let names = tasks.filter_map(|it| name(it.unwrap()).ok());
    // The one that keeps time goes by itself when nothing waits for it any more.
    names.filter(|it| it.trim() != "aqueduct-timer").collect()
}

/// 200 idle queues: one thread, no processor time, and a runtime that goes at once.
fn idle_queues(driver: Driver, pool_threads: usize) {
    const QUEUES: usize = 200;
    let before = threads();
    let names: Vec<_> = (0..QUEUES).map(|_| QueueName::new()).collect();
    let queues: Vec<Arc<Queue>> = names
        .iter()
        .map(|name| Arc::new(name.create(driver, 1, 8)))
        .collect();
    // The drop is timed by a clock and this machine may be busy: one good time of several.
    let mut times = Vec::new();
    for attempt in 0..5 {
        let runtime = runtime();
        let waiting: Vec<_> = queues
            .iter()
            .map(Arc::clone)
            .map(|it| runtime.spawn(async move { it.recv().await }))
            .collect();
        runtime.block_on(async {
            // All tasks have been polled and all waits have begun when the last queue is served.
            for (name, task) in names.iter().zip(waiting) {
                name.open(driver).send(0, b"x").await.unwrap();
                deadline(task).await.unwrap().unwrap();
            }
        });
        let queues = queues.iter().map(Arc::clone);
        let waiting: Vec<_> = queues
            .map(|it| runtime.spawn(async move { it.recv().await }))
            .collect();
        runtime.block_on(async {
            tokio::task::yield_now().await;
            assert_eq!(
                threads() - before,
                pool_threads,
                "threads for {QUEUES} queues: {:?}",
                names_of_threads()
            );
            if attempt == 0 {
                let used = cpu();
                tokio::time::sleep(Duration::from_secs(1)).await;
                let used = cpu() - used;
                assert!(
                    used < Duration::from_millis(10),
                    "{used:?} of processor time, idle"
                );
            }
        });
        let started = Instant::now();
        drop(runtime);
        times.push(started.elapsed());
        // The queues live on, and their waits have ended.
        for task in waiting {
            assert!(task.is_finished());
        }
        assert_eq!(threads(), before, "no thread is left");
    }
    assert!(
        times.iter().min().unwrap() < &Duration::from_millis(50),
        "{times:?}"
    );
    println!("{driver}: drop(runtime) with {QUEUES} idle queues: {times:?}");
}

/// 400 at a time could be more than the system allows, so both are one test.
#[test]
fn two_hundred_idle_queues_cost_a_thread_and_nothing_else() {
    const ROLE: &str = "mq_runtime::two_hundred_idle_queues_cost_a_thread_and_nothing_else";
    if !is_peer(ROLE) {
        return run_alone(ROLE);
    }
    crate::mq_limits::own_namespace(ROLE);
    idle_queues(Driver::Pool, 1);
    idle_queues(Driver::AsyncFd, 0);
}

/// One idle blocking `mq_receive` kept the process alive for ever.
#[test]
fn a_process_ends_by_itself_with_idle_queues() {
    const ROLE: &str = "mq_runtime::a_process_ends_by_itself_with_idle_queues";
    static ALIVE: OnceLock<Vec<Arc<Queue>>> = OnceLock::new();
    if !is_peer(ROLE) {
        return run_alone(ROLE);
    }
    let names = [QueueName::new(), QueueName::new()];
    let drivers = [Driver::Pool, Driver::AsyncFd];
    let made = names.iter().zip(drivers);
    let queues: Vec<_> = made
        .map(|(name, it)| Arc::new(name.create(it, 1, 8)))
        .collect();
    // Alive when the runtime goes, and to the end of the process.
    ALIVE.set(queues.clone()).unwrap();
    let mut builder = Builder::new_multi_thread();
    let runtime = builder.worker_threads(1).enable_all().build().unwrap();
    for queue in queues {
        // The wait has begun, thread and all, when this returns.
        runtime
            .block_on(queue.recv_timeout(Duration::from_millis(20)))
            .unwrap_err();
        runtime.spawn(async move { queue.recv().await });
    }
    // No bound on this, as at the end of `main`: it would wait for the thread for ever.
    drop(runtime);
}

/// Breaks the driver's epoll instance, as a program does that closes descriptors it does not own:
/// the thread's next call meets something else by that number, and fails.
struct Breaker {
    /// The epoll instances that are not the driver's.
    others: Vec<i32>,
}

impl Breaker {
    fn new() -> Self {
        Self { others: epolls() }
    }

    /// `queue` is empty, and `waits` are waits in the same runtime that have begun.
    async fn fail<F: Future<Output = io::Result<Message>>>(
        &self,
        queue: &Queue,
        waits: &mut [Spawn<F>],
    ) {
        let send = async {
            tokio::task::yield_now().await;
            queue.send(0, b"start").await.unwrap();
        };
        let (started, ()) = tokio::join!(deadline(queue.recv()), send);
        assert_eq!(started.unwrap().into_body(), "start");
        let mut last = spawn(queue.recv());
        assert_pending!(last.poll());
        // With the thread there they know to the kernel, too.
        for wait in waits {
            assert_pending!(wait.poll());
        }

        let mut found = epolls();
        found.retain(|it| !self.others.contains(it));
        let [epoll] = found[..] else {
            panic!("{found:?}")
        };
        let file = std::fs::File::open("/proc/self/status").unwrap();
        nix::unistd::close(epoll).unwrap();
        let other = fcntl(&file, FcntlArg::F_DUPFD_CLOEXEC(epoll)).unwrap();
        assert_eq!(other, epoll);
        // It still sleeps in the old instance, until this ends.
        queue.send(0, b"last").await.unwrap();
        assert_eq!(deadline(last).await.unwrap().into_body(), "last");
    }
}

fn epolls() -> Vec<i32> {
    let fds = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
    let epolls = fds.filter(|it| {
        std::fs::read_link(it.path()).is_ok_and(|it| it.ends_with("anon_inode:[eventpoll]"))
    });
    let numbers = epolls.map(|it| it.file_name());
    numbers
        .map(|it| it.to_str().unwrap().parse().unwrap())
        .collect()
}

#[test]
fn a_failed_driver_restarts_and_a_failing_one_says_why() {
    const ROLE: &str = "mq_runtime::a_failed_driver_restarts_and_a_failing_one_says_why";
    if !is_peer(ROLE) {
        return run_alone(ROLE);
    }
    let runtime = runtime();
    let breaker = Breaker::new();
    runtime.block_on(async {
        let names = [QueueName::new(), QueueName::new()];
        let [other, queue] = names.each_ref().map(|it| it.create(Driver::Pool, 1, 8));
        let mut waits = [spawn(queue.recv())];
        assert_pending!(waits[0].poll());
        breaker.fail(&other, &mut waits).await;
        // It goes on in another thread.
        woken(&waits[0]).await;
        assert_pending!(waits[0].poll());
        breaker.fail(&other, &mut waits).await;
        let [wait] = waits;
        let error = deadline(wait).await.unwrap_err();
        assert_eq!(typed(&error).raw_os_error(), Some(libc::EINVAL));
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        assert!(
            error.to_string().contains("use the driver asyncfd"),
            "{error}"
        );

        let send = async {
            tokio::task::yield_now().await;
            queue.send(0, b"x").await.unwrap();
        };
        let (got, ()) = tokio::join!(deadline(queue.recv()), send);
        assert_eq!(got.unwrap().into_body(), "x");
    });
}
