//! Giving way to other tasks: Tokio's cooperative budget.

use std::sync::Arc;
use std::time::Duration;

use aqueduct::bytes::Bytes;
use aqueduct::mq::Driver;

use super::{QueueName, over_both_drivers, sink, stream};

over_both_drivers!(
    always_ready_queue_lets_other_tasks_run,
    a_full_sink_without_budget_is_not_ready_to_flush_either,
);

/// A loop on something that is always ready must not keep other tasks from running.
async fn always_ready_queue_lets_other_tasks_run(driver: Driver) {
    use futures_util::{SinkExt, StreamExt};

    async fn runs_within<F: Future>(rounds: u32, mut round: impl FnMut() -> F) {
        let other = tokio::spawn(async {});
        for _ in 0..rounds {
            if other.is_finished() {
                return;
            }
            round().await;
        }
        panic!("no other task ran in {rounds} rounds");
    }

    let name = QueueName::new();
    let queue = Arc::new(name.create(driver, 2, 8));
    // Each by itself: either alone has to give way.
    runs_within(1000, || async {
        queue.send(0, b"x").await.unwrap();
        queue.try_recv().unwrap();
    })
    .await;
    runs_within(1000, || async {
        queue.try_send(0, b"x").unwrap();
        queue.recv().await.unwrap();
    })
    .await;
    runs_within(1000, || async {
        queue
            .send_timeout(0, b"x", Duration::from_secs(1))
            .await
            .unwrap();
        queue.recv_timeout(Duration::from_secs(1)).await.unwrap();
    })
    .await;
    let mut stream = stream(&queue);
    let other = tokio::spawn(async {});
    for _ in 0..1000 {
        if !other.is_finished() {
            queue.try_send(0, b"x").unwrap();
            stream.next().await.unwrap().unwrap();
        }
    }
    assert!(other.is_finished(), "the stream yields");
    let mut sink = sink(&queue);
    let other = tokio::spawn(async {});
    for _ in 0..1000 {
        if !other.is_finished() {
            sink.send("x".into()).await.unwrap();
            queue.try_recv().unwrap();
        }
    }
    assert!(other.is_finished(), "the sink yields");
}

/// tarpc and others flush until there is room: a sink that had none for want of budget, and yet
/// was flushed at once, made them spin for ever.
async fn a_full_sink_without_budget_is_not_ready_to_flush_either(driver: Driver) {
    use futures_util::Sink;
    use std::pin::Pin;
    use std::task::{Context, Poll};

    fn fed<S: Sink<I> + Unpin, I>(sink: &mut S, cx: &mut Context<'_>, item: impl Fn() -> I) {
        // More than any budget.
        for _ in 0..1000 {
            if Pin::new(&mut *sink).poll_ready(cx).is_pending() {
                assert!(Pin::new(sink).poll_flush(cx).is_pending());
                return;
            }
            assert!(Pin::new(&mut *sink).start_send(item()).is_ok());
        }
        panic!("the budget has no end");
    }

    let name = QueueName::new();
    let queue = Arc::new(name.create(driver, 10, 8));
    let mut sender = sink(&queue);
    std::future::poll_fn(|cx| {
        fed(&mut sender, cx, || {
            queue.drain().unwrap();
            Bytes::from("x")
        });
        Poll::Ready(())
    })
    .await;
}
