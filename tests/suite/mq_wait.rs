//! Message queues: waiting, cancelling, and many tasks.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aqueduct::mq::Driver;
use futures_util::StreamExt;
use tokio_test::assert_pending;
use tokio_test::task::{Spawn, spawn};

use crate::mq::{self, QueueName, over_both_drivers};
use crate::mq_runtime::runtime;
use crate::support::{deadline, woken};

over_both_drivers!(
    receives_cancelled_at_random_lose_and_double_nothing,
    cancelled_sends_are_never_delivered,
    sends_cancelled_at_random_are_delivered_if_and_only_if_done,
    tasks_waiting_on_one_queue_are_all_served,
    tasks_waiting_to_send_are_all_served,
    a_cancelled_waiter_passes_its_wake_up_on,
    a_resting_stream_does_not_keep_the_wake_up,
    streams_and_tasks_wait_together,
    what_waits_in_another_runtime_is_served_too,
);

/// A small generator, seeded: the tests must fail the same way twice.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

fn number(body: &[u8]) -> u32 {
    u32::from_le_bytes(body.try_into().expect("four bytes"))
}

/// Polls `future`, giving the runtime a turn between the polls, and drops it after `polls`.
async fn give_up_after<F: Future>(polls: u64, future: F) -> Option<F::Output> {
    let mut future = std::pin::pin!(future);
    for _ in 0..polls {
        if let Some(output) = futures_util::FutureExt::now_or_never(future.as_mut()) {
            return Some(output);
        }
        tokio::task::yield_now().await;
    }
    None
}

/// `spawn_blocking(mq_receive)` lost 50 of 50 messages this way.
async fn receives_cancelled_at_random_lose_and_double_nothing(driver: Driver) {
    const COUNT: u32 = 10_000;
    let name = QueueName::new();
    let queue = name.create(driver, 10, 8);
    let sender = name.open(driver);
    let send = tokio::spawn(async move {
        for i in 0..COUNT {
            sender.send(0, &i.to_le_bytes()).await.unwrap();
            if i % 7 == 0 {
                tokio::task::yield_now().await;
            }
        }
    });
    let mut random = Random(1);
    let mut cancelled = 0;
    let mut next = 0;
    while next < COUNT {
        // None, some or all polls; by a timer, too, which fires at any moment.
        let received = match random.below(8) {
            0 => {
                let timeout = Duration::from_micros(random.below(200));
                tokio::time::timeout(timeout, queue.recv()).await.ok()
            }
            _ => give_up_after(random.below(4), queue.recv()).await,
        };
        match received {
            Some(message) => {
                assert_eq!(
                    number(&message.unwrap().into_body()),
                    next,
                    "lost, doubled or out of order"
                );
                next += 1;
            }
            None => cancelled += 1,
        }
    }
    send.await.unwrap();
    assert!(cancelled > 100, "only {cancelled} receives were cancelled");
    assert_eq!(queue.attributes().unwrap().messages, 0);
}

/// A cancelled `spawn_blocking(mq_send)` was delivered later.
async fn cancelled_sends_are_never_delivered(driver: Driver) {
    let name = QueueName::new();
    let queue = name.create(driver, 1, 8);
    queue.send(0, b"first").await.unwrap();
    for _ in 0..200 {
        let mut send = spawn(queue.send(9, b"ghost"));
        assert_pending!(send.poll());
        tokio::task::yield_now().await;
        drop(send);
    }
    assert_eq!(queue.recv().await.unwrap().into_body(), "first");
    // A thread that held on to one would deliver it now.
    queue.send(0, b"last").await.unwrap();
    assert_eq!(queue.recv().await.unwrap().into_body(), "last");
    assert_eq!(queue.attributes().unwrap().messages, 0);
}

async fn sends_cancelled_at_random_are_delivered_if_and_only_if_done(driver: Driver) {
    const COUNT: u32 = 5000;
    let name = QueueName::new();
    let queue = Arc::new(name.create(driver, 2, 8));
    let receiver = name.open(driver);
    let receive = tokio::spawn(async move {
        let mut got = Vec::new();
        loop {
            match number(&receiver.recv().await.unwrap().into_body()) {
                u32::MAX => return got,
                i => got.push(i),
            }
        }
    });
    let mut random = Random(2);
    let mut done = Vec::new();
    for i in 0..COUNT {
        let body = i.to_le_bytes();
        if let Some(sent) = give_up_after(random.below(3), queue.send(0, &body)).await {
            sent.unwrap();
            done.push(i);
        }
    }
    assert!(done.len() < COUNT as usize, "none was cancelled");
    queue.send(0, &u32::MAX.to_le_bytes()).await.unwrap();
    assert_eq!(receive.await.unwrap(), done);
}

/// Polls the tasks that are woken until all are done, for as long as wake-ups come.
async fn drive<F: Future>(mut tasks: Vec<Spawn<F>>) -> Vec<F::Output> {
    let started = Instant::now();
    let mut done = Vec::new();
    while !tasks.is_empty() {
        for mut task in std::mem::take(&mut tasks) {
            match task.is_woken().then(|| task.poll()) {
                Some(std::task::Poll::Ready(output)) => done.push(output),
                _ => tasks.push(task),
            }
        }
        let left = tasks.len();
        assert!(
            started.elapsed() < Duration::from_secs(10),
            "{left} tasks stay asleep"
        );
        tokio::task::yield_now().await;
    }
    done
}

/// With one event for several messages, two receivers on one adapter hung in 200 of 200
/// rounds.
async fn tasks_waiting_on_one_queue_are_all_served(driver: Driver) {
    const TASKS: usize = 4;
    let name = QueueName::new();
    let queue = name.create(driver, TASKS, 8);
    let sender = name.open(driver);
    for round in 0..1000_u32 {
        let mut tasks: Vec<_> = (0..TASKS).map(|_| spawn(queue.recv())).collect();
        for task in &mut tasks {
            assert_pending!(task.poll());
        }
        if round % 2 == 0 {
            // All in their last wait, so that one event meets them all.
            tokio::task::yield_now().await;
            tasks
                .iter_mut()
                .filter(|it| it.is_woken())
                .for_each(|it| assert_pending!(it.poll()));
        }
        for i in 0..TASKS {
            sender.try_send(0, &[i as u8]).unwrap();
        }
        let mut got: Vec<_> = drive(tasks)
            .await
            .into_iter()
            .map(|it| it.unwrap().into_body()[0])
            .collect();
        got.sort_unstable();
        assert_eq!(got, [0, 1, 2, 3], "round {round}");
    }
}

async fn tasks_waiting_to_send_are_all_served(driver: Driver) {
    const TASKS: usize = 4;
    let name = QueueName::new();
    let queue = name.create(driver, TASKS, 8);
    let receiver = name.open(driver);
    for round in 0..250 {
        for _ in 0..TASKS {
            queue.try_send(0, b"full").unwrap();
        }
        let mut tasks: Vec<_> = (0..TASKS).map(|_| spawn(queue.send(0, b"more"))).collect();
        for task in &mut tasks {
            assert_pending!(task.poll());
        }
        assert_eq!(receiver.drain().unwrap(), TASKS);
        drive(tasks).await.into_iter().for_each(|it| it.unwrap());
        assert_eq!(receiver.drain().unwrap(), TASKS, "round {round}");
    }
}

/// A wake-up given to a task that is dropped before it looks is another one's.
async fn a_cancelled_waiter_passes_its_wake_up_on(driver: Driver) {
    let name = QueueName::new();
    let queue = name.create(driver, 1, 8);
    let sender = name.open(driver);
    // The pool's thread has started after this, so that one poll is the whole way to sleep.
    sender.try_send(0, b"0").unwrap();
    queue.recv().await.unwrap();
    let mut warm = spawn(queue.recv());
    assert_pending!(warm.poll());
    sender.try_send(0, b"0").unwrap();
    warm.await.unwrap();
    for round in 0..200 {
        let mut first = spawn(queue.recv());
        let mut second = spawn(queue.recv());
        assert_pending!(first.poll());
        assert_pending!(second.poll());
        sender.try_send(0, b"x").unwrap();
        woken(&first).await;
        drop(first);
        let got = drive(vec![second]).await.remove(0).unwrap();
        assert_eq!(got.into_body(), "x", "round {round}");
    }
}

/// A stream that was polled once and left alone waits still, but must not be the only one woken.
async fn a_resting_stream_does_not_keep_the_wake_up(driver: Driver) {
    let name = QueueName::new();
    let queue = Arc::new(name.create(driver, 2, 8));
    let sender = name.open(driver);
    let mut resting = spawn(mq::stream(&queue));
    let mut stream = mq::stream(&queue);
    for round in 0..200 {
        assert_pending!(resting.poll_next());
        tokio::task::yield_now().await;
        assert_pending!(resting.poll_next());
        let mut task = spawn(queue.recv());
        assert_pending!(task.poll());
        sender.try_send(0, b"x").unwrap();
        let got = drive(vec![task]).await.remove(0).unwrap();
        assert_eq!(got.into_body(), "x", "round {round}");

        // Another stream beside it.
        assert_pending!(resting.poll_next());
        let mut next = spawn(stream.next());
        assert_pending!(next.poll());
        sender.try_send(0, b"y").unwrap();
        let got = drive(vec![next]).await.remove(0).unwrap();
        assert_eq!(got.unwrap(), "y", "round {round}");
    }
}

async fn streams_and_tasks_wait_together(driver: Driver) {
    const COUNT: u32 = 3000;
    let name = QueueName::new();
    let queue = Arc::new(name.create(driver, 3, 8));
    let (done, mut results) = tokio::sync::mpsc::unbounded_channel();
    let mut tasks = tokio::task::JoinSet::new();
    for kind in 0..4 {
        let (queue, done) = (Arc::clone(&queue), done.clone());
        tasks.spawn(async move {
            let mut stream = mq::stream(&queue);
            loop {
                let body = match kind {
                    0 | 1 => queue.recv().await.unwrap().into_body(),
                    _ => stream.next().await.unwrap().unwrap(),
                };
                done.send(number(&body)).unwrap();
            }
        });
    }
    let sender = name.open(driver);
    for i in 0..COUNT {
        sender.send(0, &i.to_le_bytes()).await.unwrap();
    }
    let mut got = Vec::new();
    for _ in 0..COUNT {
        got.push(results.recv().await.unwrap());
    }
    got.sort_unstable();
    assert_eq!(got, (0..COUNT).collect::<Vec<_>>());
}

/// Wakers are somebody else's code, and the pool's thread runs them: a panic in one ends the thread,
/// but not the waits of all others.
#[tokio::test]
async fn a_waker_that_panics_ends_no_other_wait() {
    struct Panics;

    impl std::task::Wake for Panics {
        fn wake(self: Arc<Self>) {
            panic!("meant to be seen: this waker panics");
        }
    }

    deadline(async {
        let (name, other_name) = (QueueName::new(), QueueName::new());
        let queue = name.create(Driver::Pool, 2, 8);
        let other = other_name.create(Driver::Pool, 2, 8);
        // The thread has started after this, so that one poll is the whole way to sleep.
        queue
            .recv_timeout(Duration::from_millis(200))
            .await
            .unwrap_err();
        let mut waiting = spawn(other.recv());
        assert_pending!(waiting.poll());
        let mut panics = Box::pin(queue.recv());
        let waker = Arc::new(Panics).into();
        let polled = panics
            .as_mut()
            .poll(&mut std::task::Context::from_waker(&waker));
        assert!(polled.is_pending());
        queue.try_send(0, b"x").unwrap();
        woken(&waiting).await;
        assert_pending!(waiting.poll());
        other.try_send(0, b"y").unwrap();
        let got = drive(vec![waiting]).await.remove(0).unwrap();
        assert_eq!(got.into_body(), "y");
        // Nor is the message lost, nor the queue broken.
        drop(panics);
        assert_eq!(queue.recv().await.unwrap().into_body(), "x");
    })
    .await;
}

/// Each runtime has its own reactor, and a queue can wait in several.
async fn what_waits_in_another_runtime_is_served_too(driver: Driver) {
    let name = QueueName::new();
    let queue = Arc::new(name.create(driver, 4, 8));
    let there = Arc::clone(&queue);
    let other = std::thread::spawn(move || {
        runtime().block_on(async { there.recv().await.unwrap().into_body() })
    });
    let here = queue.recv();
    let sender = name.open(driver);
    let send = async {
        sender.send(0, b"1").await.unwrap();
        sender.send(0, b"2").await.unwrap();
    };
    let (here, ()) = tokio::join!(here, send);
    let other = tokio::task::spawn_blocking(|| other.join().unwrap())
        .await
        .unwrap();
    let mut both = [here.unwrap().into_body(), other];
    both.sort();
    assert_eq!(both, ["1", "2"]);
}

/// A task that was woken, moved to another runtime and found nothing waits on where it began: it is
/// there that the kernel has to be asked again, for those who wait there still.
#[test]
fn a_wait_that_moves_to_another_runtime_leaves_none_asleep() {
    for driver in [Driver::Pool, Driver::AsyncFd] {
        let (first, second) = (runtime(), runtime());
        let name = QueueName::new();
        let queue = name.create(driver, 2, 8);
        let other = name.open(driver);
        // The threads have started after this, so that one poll is the whole way to sleep.
        for runtime in [&first, &second] {
            let wait = queue.recv_timeout(Duration::from_millis(200));
            runtime.block_on(wait).unwrap_err();
        }
        for round in 0..50 {
            let mut moves = spawn(queue.recv());
            let mut stays = spawn(queue.recv());
            first.block_on(async {
                assert_pending!(moves.poll());
                assert_pending!(stays.poll());
                other.try_send(0, b"1").unwrap();
                woken(&moves).await;
            });
            assert_eq!(other.try_recv().unwrap().into_body(), "1");
            second.block_on(async { assert_pending!(moves.poll()) });
            first.block_on(async {
                if stays.is_woken() {
                    assert_pending!(stays.poll());
                }
                // Both are served, each by the runtime that it is polled in.
                other.try_send(0, b"2").unwrap();
                other.try_send(0, b"3").unwrap();
                let mut got: Vec<_> = drive(vec![moves, stays])
                    .await
                    .into_iter()
                    .map(|it| it.unwrap().into_body())
                    .collect();
                got.sort();
                assert_eq!(got, ["2", "3"], "{driver}, round {round}");
            });
        }
    }
}
