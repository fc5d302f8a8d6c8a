//! Cancel safety: every operation's future is dropped at every point where it can wait, and nothing
//! is lost, doubled or left asleep.
//!
//! There are four such points: with nothing to wait for, but the task's cooperative budget is used
//! up, before and after what is waited for has come; waiting for the peer; woken but not polled again.

use std::future::Future;
use std::io::{self, IoSlice};
use std::time::{Duration, Instant};

use aqueduct::pipe::{self, Receiver, Sender, packet};
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio_test::{assert_pending, task};

use crate::pipe::{fill, take};
use crate::support::{deadline, woken};

/// Uses up this task's budget, so that the next budgeted operation waits before it begins.
async fn without_budget<F: Future>(make: impl FnOnce() -> F) {
    tokio::task::yield_now().await;
    while tokio::task::coop::has_budget_remaining() {
        tokio::task::coop::consume_budget().await;
    }
    let mut future = task::spawn(make());
    assert!(future.poll().is_pending(), "it had no budget");
    drop(future);
    tokio::task::yield_now().await;
}

macro_rules! dropped_everywhere {
    // `$make` makes the future anew, `$event` is what it waits for.
    ($make:expr, $event:expr) => {{
        without_budget(|| $make).await;
        {
            let mut waiting = task::spawn($make);
            assert_pending!(waiting.poll());
        }
        {
            let mut waiting = task::spawn($make);
            assert_pending!(waiting.poll());
            $event;
            woken(&waiting).await;
        }
        without_budget(|| $make).await;
    }};
}

async fn filled() -> (Sender, Receiver, usize) {
    let (sender, receiver) = pipe::pipe().unwrap();
    let size = fill(&sender).await;
    (sender, receiver, size)
}

#[tokio::test]
async fn readable_and_ready_and_poll_read_ready() {
    let (mut tx, rx) = pipe::pipe().unwrap();
    dropped_everywhere!(rx.readable(), tx.write_all(b"a").await.unwrap());
    assert_eq!(take(&rx, 1).await, b"a");
    assert!(rx.try_read(&mut [0; 1]).is_err());
    dropped_everywhere!(
        rx.ready(Interest::READABLE),
        tx.write_all(b"b").await.unwrap()
    );
    assert_eq!(take(&rx, 1).await, b"b");
    assert!(rx.try_read(&mut [0; 1]).is_err());
    dropped_everywhere!(
        std::future::poll_fn(|cx| rx.poll_read_ready(cx)),
        tx.write_all(b"c").await.unwrap()
    );
    assert_eq!(take(&rx, 1).await, b"c");
}

#[tokio::test]
async fn reads() {
    let (mut tx, mut rx) = pipe::pipe().unwrap();
    let mut buf = [0; 8];
    dropped_everywhere!(rx.read(&mut buf), tx.write_all(b"abc").await.unwrap());
    assert_eq!(deadline(rx.read(&mut buf)).await.unwrap(), 3);
    let mut bytes = Vec::new();
    dropped_everywhere!(rx.read_buf(&mut bytes), tx.write_all(b"def").await.unwrap());
    assert!(bytes.is_empty());
    assert_eq!(deadline(rx.read_buf(&mut bytes)).await.unwrap(), 3);
    assert_eq!(bytes, b"def");
}

#[tokio::test]
async fn writable_and_ready_and_poll_write_ready() {
    let (tx, rx, size) = filled().await;
    dropped_everywhere!(tx.writable(), drop(take(&rx, size).await));
    let size = fill(&tx).await;
    dropped_everywhere!(tx.ready(Interest::WRITABLE), drop(take(&rx, size).await));
    let size = fill(&tx).await;
    dropped_everywhere!(
        std::future::poll_fn(|cx| tx.poll_write_ready(cx)),
        drop(take(&rx, size).await)
    );
    deadline(tx.writable()).await.unwrap();
    assert_eq!(tx.try_write(b"x").unwrap(), 1);
}

#[tokio::test]
async fn writes() {
    let (mut tx, mut rx, size) = filled().await;
    dropped_everywhere!(tx.write(b"lost?"), drop(take(&rx, size).await));
    // What was not written is nowhere.
    tx.write_all(b"1").await.unwrap();
    assert_eq!(deadline(rx.read(&mut [0; 16])).await.unwrap(), 1);

    let size = fill(&tx).await;
    let slices = [IoSlice::new(b"lost?")];
    dropped_everywhere!(tx.write_vectored(&slices), drop(take(&rx, size).await));
    tx.write_all(b"2").await.unwrap();
    assert_eq!(deadline(rx.read(&mut [0; 16])).await.unwrap(), 1);
}

#[tokio::test]
async fn packet_receives() {
    let (tx, mut rx) = packet::pipe().unwrap();
    dropped_everywhere!(rx.recv(), tx.send(b"one").await.unwrap());
    assert_eq!(deadline(rx.recv()).await.unwrap().unwrap(), "one");
    dropped_everywhere!(rx.next(), tx.send(b"two").await.unwrap());
    assert_eq!(deadline(rx.next()).await.unwrap().unwrap(), "two");
    assert!(rx.try_recv().is_err());
}

#[tokio::test]
async fn packet_sends() {
    let (mut tx, rx) = packet::pipe().unwrap();
    fill_packets(&tx).await;
    dropped_everywhere!(tx.send(b"lost?"), empty(&rx));
    deadline(tx.send(b"last")).await.unwrap();
    assert_eq!(deadline(rx.recv()).await.unwrap().unwrap(), "last");

    // A sink owns what it has accepted, one message, and it accepts nothing more while the pipe is full.
    fill_packets(&tx).await;
    deadline(tx.feed(Bytes::from_static(b"held")))
        .await
        .unwrap();
    dropped_everywhere!(tx.flush(), empty(&rx));
    deadline(tx.flush()).await.unwrap();
    assert_eq!(deadline(rx.recv()).await.unwrap().unwrap(), "held");
    fill_packets(&tx).await;
    deadline(tx.feed(Bytes::from_static(b"held")))
        .await
        .unwrap();
    dropped_everywhere!(tx.feed(Bytes::from_static(b"lost?")), empty(&rx));
    deadline(tx.flush()).await.unwrap();
    assert_eq!(deadline(rx.recv()).await.unwrap().unwrap(), "held");
    fill_packets(&tx).await;
    deadline(tx.feed(Bytes::from_static(b"held")))
        .await
        .unwrap();
    dropped_everywhere!(
        SinkExt::send(&mut tx, Bytes::from_static(b"lost?")),
        empty(&rx)
    );
    deadline(tx.flush()).await.unwrap();
    assert_eq!(deadline(rx.recv()).await.unwrap().unwrap(), "held");
    assert!(rx.try_recv().is_err());
}

async fn fill_packets(tx: &packet::Sender) {
    deadline(tx.send(b"full")).await.unwrap();
    while tx.try_send(b"full").is_ok() {}
}

/// Takes all that is there, which must be nothing but what filled the pipe.
fn empty(rx: &packet::Receiver) {
    loop {
        match nix::unistd::read(rx, &mut [0; 8]) {
            Ok(n) => assert_eq!(n, 4, "a cancelled message was sent"),
            Err(e) => {
                assert_eq!(e, nix::errno::Errno::EAGAIN);
                break;
            }
        }
    }
}

/// Random cancellation under load: numbers stay complete and in order.
#[tokio::test]
async fn ten_thousand_messages_survive_cancelling_both_sides() {
    const COUNT: u32 = 10_000;
    let (tx, rx) = packet::pipe().unwrap();
    let sending = tokio::spawn(async move {
        let mut cancelled = 0_u32;
        for i in 0..COUNT {
            let message = i.to_ne_bytes();
            loop {
                tokio::select! {
                    biased;
                    sent = tx.send(&message) => break sent.unwrap(),
                    () = tokio::task::yield_now() => cancelled += 1,
                }
            }
        }
        cancelled
    });
    let mut cancelled = 0_u32;
    let receive = async {
        let mut expected = 0;
        while expected < COUNT {
            tokio::select! {
                biased;
                message = rx.recv() => {
                    let message = message.unwrap().unwrap();
                    assert_eq!(message[..], expected.to_ne_bytes());
                    expected += 1;
                }
                () = tokio::task::yield_now() => cancelled += 1,
            }
        }
        assert_eq!(rx.recv().await.unwrap(), None);
    };
    deadline(receive).await;
    let sends_cancelled = sending.await.unwrap();
    assert!(cancelled > 0 && sends_cancelled > 0);
}

/// `readable()` of Tokio's descriptors is not counted against the budget: a loop on an always-ready
/// one starves a timer on the same thread until it ends of itself.
#[tokio::test(flavor = "current_thread")]
async fn a_timer_fires_beside_an_always_ready_pipe() {
    let (mut tx, rx) = pipe::pipe().unwrap();
    tx.write_all(b"x").await.unwrap();
    beside_a_timer(async || {
        rx.readable().await?;
        rx.try_io(|| Ok(()))
    })
    .await;
    beside_a_timer(async || {
        tx.writable().await?;
        tx.try_io(|| Ok(()))
    })
    .await;
    let (mut tx, mut rx) = pipe::pipe().unwrap();
    let mut buf = [0; 1];
    beside_a_timer(async || {
        tx.write_all(b"x").await?;
        rx.read_exact(&mut buf).await.map(drop)
    })
    .await;
    let (tx, rx) = packet::pipe().unwrap();
    beside_a_timer(async || {
        tx.send(b"x").await?;
        rx.recv().await.map(drop)
    })
    .await;
}

/// Repeats `operation` until a timer of another task has fired on the same thread.
async fn beside_a_timer(mut operation: impl AsyncFnMut() -> io::Result<()>) {
    let timer = tokio::spawn(tokio::time::sleep(Duration::from_millis(10)));
    let give_up = Instant::now() + Duration::from_secs(10);
    while !timer.is_finished() {
        assert!(Instant::now() < give_up, "the timer starved");
        match operation().await {
            Err(e) if e.kind() != io::ErrorKind::WouldBlock => panic!("{e}"),
            _ => {}
        }
    }
}
