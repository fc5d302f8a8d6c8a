use std::future::Future;
use std::io;
use std::time::Duration;

use tokio::task::yield_now;
use tokio::time::timeout;

use crate::channel::Error;
use crate::channel::{Receiver, Sender, mock};
use crate::codec::Text;
use crate::frame::Framing;
use crate::pipe;

async fn deadline<T>(future: impl Future<Output = T>) -> T {
    let done = timeout(Duration::from_secs(30), future).await;
    done.expect("it took too long")
}

fn sender() -> (mock::Gate, Sender<&'static str>) {
    let (gate, sink) = mock::sink();
    gate.change(|state| {
        state.room = 100_000;
        state.flushes = true;
    });
    (gate, Sender::new(sink, Text).coalesced())
}

fn over_pipe() -> (Sender<String>, Receiver<String>) {
    let (tx, rx) = pipe::pipe().unwrap();
    (
        Sender::new(tx.framed(Framing::length()), Text).coalesced(),
        Receiver::new(rx.framed(Framing::length()), Text),
    )
}

#[tokio::test]
async fn the_first_of_a_burst_goes_at_once_the_rest_at_a_yield() {
    let (gate, mut sender) = sender();
    for _ in 0..3 {
        gate.state().sent.clear();
        sender.send("a").await.unwrap();
        assert_eq!(gate.state().sent, ["a"]);
        sender.send("b").await.unwrap();
        sender.send("c").await.unwrap();
        assert_eq!(gate.state().sent, ["a"]);
        yield_now().await;
        assert_eq!(gate.state().sent, ["a", "b", "c"]);
    }
}

#[tokio::test]
async fn messages_with_pauses_between_them_are_never_held_back() {
    let (gate, mut sender) = sender();
    for n in 1..100 {
        sender.send("x").await.unwrap();
        assert_eq!(gate.state().sent.len(), n);
        yield_now().await;
    }
}

#[tokio::test]
async fn a_loop_that_never_waits_holds_back_at_most_one_turn() {
    let (gate, mut sender) = sender();
    for n in 1..10_000 {
        sender.send("x").await.unwrap();
        assert!(gate.state().sent.len() + 1_100 > n, "{n}");
    }
    assert!(!gate.state().queued.is_empty(), "nothing was gathered");
}

/// A loop of sends is one burst, however often its task is made to yield: only its first item is
/// written separately. Once the task has paused, the next item is the first again.
#[tokio::test]
async fn a_burst_goes_on_when_the_task_is_made_to_yield() {
    let (gate, mut sender) = sender();
    let mut written = 0;
    let mut yields = 0;
    for n in 1..=10_000 {
        sender.send("x").await.unwrap();
        let state = gate.state();
        if n > 1 && state.sent.len() > written {
            // Earlier items were written, and this one is gathered.
            assert_eq!(state.sent.len(), n - 1);
            yields += 1;
        }
        written = state.sent.len();
    }
    assert!(yields > 5, "{yields}");
    // It is over once the flusher has found nothing for some turns.
    for _ in 0..10 {
        yield_now().await;
    }
    assert_eq!(gate.state().sent.len(), 10_000);
    sender.send("y").await.unwrap();
    assert_eq!(gate.state().sent.len(), 10_001);
}

#[tokio::test]
async fn a_burst_goes_on_when_a_send_has_waited_for_room() {
    let (gate, mut sender) = sender();
    sender.send("a").await.unwrap();
    sender.send("b").await.unwrap();
    gate.change(|state| state.room = 0);
    let mut sending = tokio_test::task::spawn(sender.send("c"));
    tokio_test::assert_pending!(sending.poll());
    gate.change(|state| state.room = 100);
    assert!(sending.is_woken());
    yield_now().await;
    assert_eq!(gate.state().sent, ["a", "b"]);
    tokio_test::assert_ready_ok!(sending.poll());
    assert_eq!(gate.state().sent, ["a", "b"]);
    yield_now().await;
    assert_eq!(gate.state().sent, ["a", "b", "c"]);
}

#[tokio::test]
async fn a_waiting_send_queues_its_item_once_however_often_polled() {
    let (gate, mut sender) = sender();
    gate.change(|state| {
        state.room = 0;
        state.flushes = false;
    });
    let mut sending = tokio_test::task::spawn(sender.send("a"));
    for _ in 0..3 {
        tokio_test::assert_pending!(sending.poll());
    }
    gate.change(|state| state.room = 100);
    assert!(sending.is_woken());
    for _ in 0..3 {
        tokio_test::assert_pending!(sending.poll());
    }
    gate.change(|state| state.flushes = true);
    assert!(sending.is_woken());
    tokio_test::assert_ready_ok!(sending.poll());
    assert_eq!(gate.state().sent, ["a"]);
}

#[tokio::test]
async fn flush_and_close_wait_for_all_as_ever() {
    let (gate, mut sender) = sender();
    for _ in 0..3 {
        sender.send("x").await.unwrap();
    }
    assert_eq!(gate.state().sent.len(), 1);
    sender.flush().await.unwrap();
    assert_eq!(gate.state().sent.len(), 3);
    sender.send("x").await.unwrap();
    sender.close().await.unwrap();
    assert_eq!(gate.state().sent.len(), 4);
    assert!(gate.state().closed);
    assert!(matches!(sender.send("y").await, Err(Error::Closed)));
}

#[tokio::test]
async fn an_error_of_the_burst_comes_with_the_next_call() {
    let (mut sender, receiver) = over_pipe();
    deadline(sender.send("a".into())).await.unwrap();
    drop(receiver);
    deadline(sender.send("b".into())).await.unwrap();
    yield_now().await;
    let error = deadline(sender.send("c".into())).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
}

/// The buffer is full when the sender is dropped.
#[tokio::test]
async fn items_are_written_though_their_sender_is_dropped() {
    let (mut sender, mut receiver) = over_pipe();
    let mut sent = 0;
    // More than the pipe holds: the last sends find no room.
    while let Ok(done) = timeout(
        Duration::from_millis(50),
        sender.send(format!("{sent:1000}")),
    )
    .await
    {
        done.unwrap();
        sent += 1;
    }
    drop(sender);
    let mut got = 0;
    while let Some(item) = deadline(receiver.recv()).await {
        assert_eq!(item.unwrap().trim().parse(), Ok(got));
        got += 1;
    }
    // The send that found no room may have been queued.
    assert!((sent..=sent + 1).contains(&got), "{got} of {sent}");
}

#[test]
fn a_sender_that_outlives_its_runtime_sends_each_by_itself() {
    let (gate, mut sender) = sender();
    let runtime = || {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
    };
    runtime().block_on(async {
        sender.send("a").await.unwrap();
        sender.send("b").await.unwrap();
    });
    // The flusher is gone, and its work is done by the next call.
    futures_util::FutureExt::now_or_never(sender.send("c"))
        .unwrap()
        .unwrap();
    assert_eq!(gate.state().sent, ["a", "b", "c"]);
    runtime().block_on(async {
        sender.send("d").await.unwrap();
        sender.send("e").await.unwrap();
        yield_now().await;
    });
    assert_eq!(gate.state().sent.len(), 5);
}

async fn all_arrive_in_order() {
    const ITEMS: usize = 30_000;
    let (mut sender, mut receiver) = over_pipe();
    let sending = tokio::spawn(async move {
        for n in 0..ITEMS {
            sender.send(n.to_string()).await.unwrap();
            if n % 1000 == 0 {
                yield_now().await;
            }
        }
        // Not closed: sent items are written nevertheless.
    });
    for n in 0..ITEMS {
        let item = deadline(receiver.recv()).await.unwrap().unwrap();
        assert_eq!(item, n.to_string());
    }
    assert!(deadline(receiver.recv()).await.is_none());
    deadline(sending).await.unwrap();
}

#[tokio::test]
async fn all_arrive_in_order_on_one_thread() {
    all_arrive_in_order().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_arrive_in_order_on_several_threads() {
    deadline(tokio::spawn(all_arrive_in_order())).await.unwrap();
}
