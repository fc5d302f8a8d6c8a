//! Message queues that are unlinked, and made anew, under those who wait for them.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use aqueduct::mq::{Driver, OpenOptions, Queue};
use aqueduct::{OpenError, OpenErrorKind};
use futures_util::StreamExt;
use tokio_test::assert_pending;
use tokio_test::task::spawn;

use crate::mq::{QueueName, over_both_drivers, stream};
use crate::mq_limits::own_namespace;
use crate::mq_open::run_alone;
use crate::mq_runtime::runtime;
use crate::support::{deadline, is_peer};

over_both_drivers!(
    a_waiting_receiver_is_told_that_its_queue_was_replaced,
    a_waiting_receiver_is_told_that_its_queue_was_put_away,
    what_was_sent_before_is_received_first,
    a_waiting_sender_is_told_and_has_sent_nothing,
    a_sender_that_need_not_wait_is_told_too,
    streams_end_with_it,
    every_task_that_waits_is_told,
    a_queue_that_stays_is_waited_for_through_many_looks,
    who_does_not_ask_is_not_told,
);

/// As often as is allowed.
const OFTEN: Option<Duration> = Some(Duration::from_millis(10));

/// A queue for two messages, and once more as it is opened by one who looks at its name.
fn watched(name: &QueueName, driver: Driver) -> (Queue, Arc<Queue>) {
    let made = name.create(driver, 2, 8);
    let mut options = OpenOptions::new();
    options.driver(driver).watch_name(OFTEN);
    (made, Arc::new(options.open(&name.0).unwrap()))
}

/// Checks for [`OpenErrorKind::Replaced`], by another queue or by none.
fn assert_replaced(error: &io::Error, by_another: bool) {
    let found = OpenError::of(error).unwrap_or_else(|| panic!("{error:?}"));
    assert_eq!(found.kind(), &OpenErrorKind::Replaced);
    assert_eq!(found.raw_os_error(), Some(libc::ESTALE));
    assert_eq!(error.to_string().contains("created again"), by_another);
    assert!(error.to_string().ends_with("open it again"), "{error}");
}

/// Begins to wait, has `change` done meanwhile, and waits to the end.
async fn meanwhile<F: Future>(wait: F, change: impl FnOnce()) -> F::Output {
    let mut wait = spawn(wait);
    assert!(wait.poll().is_pending());
    change();
    deadline(wait).await
}

async fn a_waiting_receiver_is_told_that_its_queue_was_replaced(driver: Driver) {
    let name = QueueName::new();
    let (made, queue) = watched(&name, driver);
    let remake = || {
        made.unlink().unwrap();
        name.create(driver, 1, 8).try_send(0, b"new").unwrap();
    };
    let error = meanwhile(queue.recv(), remake).await.unwrap_err();
    assert_replaced(&error, true);
    // The cure that it names.
    let again = name.open(driver);
    assert_eq!(again.recv().await.unwrap().into_body(), "new");
    // And for as long as the old one is used.
    assert_replaced(&queue.recv().await.unwrap_err(), true);
    let long = Duration::from_secs(3600);
    assert_replaced(&queue.recv_timeout(long).await.unwrap_err(), true);
}

async fn a_waiting_receiver_is_told_that_its_queue_was_put_away(driver: Driver) {
    let name = QueueName::new();
    let (made, queue) = watched(&name, driver);
    let error = meanwhile(queue.recv(), || made.unlink().unwrap()).await;
    assert_replaced(&error.unwrap_err(), false);
}

async fn what_was_sent_before_is_received_first(driver: Driver) {
    let name = QueueName::new();
    let (made, queue) = watched(&name, driver);
    made.try_send(1, b"first").unwrap();
    made.try_send(0, b"second").unwrap();
    made.unlink().unwrap();
    assert_eq!(queue.recv().await.unwrap().into_body(), "first");
    assert_eq!(queue.recv().await.unwrap().into_body(), "second");
    assert_replaced(&deadline(queue.recv()).await.unwrap_err(), false);
    // Whoever has the old one open can still put something there: it is not lost either.
    made.try_send(0, b"late").unwrap();
    assert_eq!(queue.recv().await.unwrap().into_body(), "late");
}

async fn a_waiting_sender_is_told_and_has_sent_nothing(driver: Driver) {
    let name = QueueName::new();
    let (made, queue) = watched(&name, driver);
    made.try_send(0, b"1").unwrap();
    made.try_send(0, b"2").unwrap();
    let error = meanwhile(queue.send(9, b"3"), || made.unlink().unwrap()).await;
    assert_replaced(&error.unwrap_err(), false);
    assert_eq!(made.try_recv().unwrap().into_body(), "1");
    // There is room now, and it is known to lead nowhere.
    assert_replaced(&queue.send(9, b"3").await.unwrap_err(), false);
    assert_replaced(&queue.try_send(9, b"3").unwrap_err(), false);
    assert_eq!(made.try_recv().unwrap().into_body(), "2");
    assert!(made.try_recv().is_err(), "nothing was sent");
}

async fn a_sender_that_need_not_wait_is_told_too(driver: Driver) {
    let name = QueueName::new();
    let (made, queue) = watched(&name, driver);
    made.unlink().unwrap();
    let told = async {
        loop {
            match queue.send(0, b"x").await {
                Ok(()) => drop(made.recv().await.unwrap()),
                Err(error) => return error,
            }
        }
    };
    assert_replaced(&deadline(told).await, false);
}

async fn streams_end_with_it(driver: Driver) {
    let name = QueueName::new();
    let (made, queue) = watched(&name, driver);
    let mut receiver = stream(&queue);
    let told = meanwhile(receiver.next(), || made.unlink().unwrap()).await;
    assert_replaced(&told.unwrap().unwrap_err(), false);
    assert!(receiver.next().await.is_none());
}

async fn every_task_that_waits_is_told(driver: Driver) {
    let name = QueueName::new();
    let (made, queue) = watched(&name, driver);
    let receivers = (0..10).map(|_| {
        let queue = Arc::clone(&queue);
        tokio::spawn(async move { queue.recv().await })
    });
    let receivers: Vec<_> = receivers.collect();
    tokio::task::yield_now().await;
    made.unlink().unwrap();
    for receiver in receivers {
        let told = deadline(receiver).await.unwrap();
        assert_replaced(&told.unwrap_err(), false);
    }
}

async fn a_queue_that_stays_is_waited_for_through_many_looks(driver: Driver) {
    let name = QueueName::new();
    let (made, queue) = watched(&name, driver);
    let (first, second) = (queue.recv(), queue.recv());
    let late = async {
        tokio::time::sleep(5 * OFTEN.unwrap()).await;
        made.send(0, b"1").await.unwrap();
        made.send(0, b"2").await.unwrap();
    };
    let (first, second, ()) = deadline(async { tokio::join!(first, second, late) }).await;
    let mut both = [first.unwrap().into_body(), second.unwrap().into_body()];
    both.sort();
    assert_eq!(both, ["1", "2"]);
}

async fn who_does_not_ask_is_not_told(driver: Driver) {
    let name = QueueName::new();
    let (made, watched) = watched(&name, driver);
    let unwatched = name.open(driver);
    let mut wait = spawn(unwatched.recv());
    assert_pending!(wait.poll());
    made.unlink().unwrap();
    assert_replaced(&deadline(watched.recv()).await.unwrap_err(), false);
    assert_pending!(wait.poll());
    made.send(0, b"x").await.unwrap();
    assert_eq!(deadline(wait).await.unwrap().into_body(), "x");
}

/// Without the listing a queue can be found by its name alone.
#[test]
fn it_is_seen_where_queues_cannot_be_listed() {
    const ROLE: &str = "mq_replaced::it_is_seen_where_queues_cannot_be_listed";
    if !is_peer(ROLE) {
        return run_alone(ROLE);
    }
    if !own_namespace(ROLE) {
        return;
    }
    runtime().block_on(async {
        for driver in [Driver::Pool, Driver::AsyncFd] {
            let name = QueueName::new();
            let (made, queue) = watched(&name, driver);
            let remake = || {
                made.unlink().unwrap();
                drop(name.create(driver, 1, 8));
            };
            let error = meanwhile(queue.recv(), remake).await.unwrap_err();
            assert_replaced(&error, true);
        }
    });
}
