//! The two directions as a sink and a stream.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;

use aqueduct::frame::FrameError;
use bytes::Bytes;
use futures_util::stream::FusedStream;
use futures_util::{SinkExt, StreamExt};
use tokio_test::{assert_pending, assert_ready_ok};

use super::{fill, half, message_error, next, pair};
use crate::support::deadline;

/// The largest message unless set.
const MAX_MESSAGE: usize = 1024 * 1024;

#[tokio::test]
async fn the_halves_are_a_sink_and_a_stream_with_back_pressure() {
    let (a, b) = pair();
    let (mut sink, _a) = a.into_split();
    let (_b, mut stream) = b.into_split();
    let sending = tokio::spawn(async move {
        for i in 0..20_000_u32 {
            let mut message = vec![0; 100];
            message[..4].copy_from_slice(&i.to_be_bytes());
            sink.feed(message.into()).await.expect("sent");
        }
        sink.close().await.expect("closed");
        let error = sink
            .send(Bytes::from_static(b"late"))
            .await
            .expect_err("closed");
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    });
    let mut count = 0_u32;
    while let Some(message) = deadline(stream.next()).await {
        let message = message.expect("received");
        assert_eq!(message[..4], count.to_be_bytes());
        count += 1;
    }
    assert_eq!(count, 20_000);
    assert!(stream.is_terminated());
    assert!(deadline(stream.next()).await.is_none());
    deadline(sending).await.expect("no panic");
}

#[tokio::test]
async fn one_message_waits_in_a_full_sink_and_flush_sends_it() {
    let (a, b) = pair();
    let filled = fill(&a, &[1; 1000]);
    let (mut sink, _a) = a.into_split();
    {
        let mut feeding = tokio_test::task::spawn(sink.feed(Bytes::from(vec![2; 1000])));
        assert_ready_ok!(feeding.poll());
    }
    {
        let mut flushing = tokio_test::task::spawn(sink.flush());
        assert_pending!(flushing.poll());
    }
    {
        // Dropped before it was accepted: it is not sent.
        let mut feeding = tokio_test::task::spawn(sink.feed(Bytes::from(vec![9; 1000])));
        assert_pending!(feeding.poll());
    }
    for _ in 0..filled {
        assert_eq!(next(&b).await.expect("one more")[0], 1);
    }
    assert!(b.try_recv().is_err(), "it still waits");
    deadline(sink.flush()).await.expect("there is room");
    assert_eq!(next(&b).await.expect("one more")[0], 2);
    // Dropping it ends the direction, although the other half lives.
    drop(sink);
    assert_eq!(next(&b).await, None);
}

/// tarpc and others flush until there is room: a sink that had none for want of budget, and yet was
/// flushed at once, made them spin for ever.
#[tokio::test]
async fn a_sink_without_budget_is_not_ready_to_flush_either() {
    let (a, b) = pair();
    let (mut sink, _stream) = a.into_split();
    let until_spent = std::future::poll_fn(|cx| {
        // More than any budget.
        for _ in 0..1000 {
            if sink.poll_ready_unpin(cx).is_pending() {
                return Poll::Ready(sink.poll_flush_unpin(cx).is_pending());
            }
            sink.start_send_unpin(Bytes::from_static(b"x"))
                .expect("there is room");
            b.try_recv().expect("it is there");
        }
        panic!("the budget has no end");
    });
    assert!(until_spent.await);
}

#[tokio::test]
async fn a_message_too_large_is_one_error_and_the_end_is_final() {
    let (ours, theirs) = half();
    let (_sender, mut stream) = ours.into_split();
    let large = vec![0; MAX_MESSAGE + 1];
    theirs.set_send_buffer_size(large.len()).expect("an option");
    if theirs.send(&large).is_err() {
        eprintln!("skipped: net.core.wmem_max allows no message that large");
        return;
    }
    theirs.send(b"next").expect("sent");
    let refused = message_error(deadline(stream.next()).await.expect("an error"));
    let limit = MAX_MESSAGE;
    assert_eq!(
        refused,
        FrameError::TooLarge {
            len: limit + 1,
            max: limit
        }
    );
    let message = deadline(stream.next())
        .await
        .expect("one more")
        .expect("received");
    assert_eq!(&message[..], b"next");
    drop(theirs);
    assert!(deadline(stream.next()).await.is_none());
    assert!(deadline(stream.next()).await.is_none());
}

// Finding 2: a loop on a descriptor that is always ready must not starve the others.
#[tokio::test]
async fn a_stream_that_never_runs_dry_lets_other_tasks_run() {
    let (ours, theirs) = half();
    theirs.set_nonblocking(false).expect("an option");
    let stop = Arc::new(AtomicBool::new(false));
    let flood =
        {
            let stop = Arc::clone(&stop);
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) && theirs.send(&[0; 16]).is_ok() {}
            })
        };
    let other = {
        let stop = Arc::clone(&stop);
        tokio::spawn(async move {
            for _ in 0..100 {
                tokio::task::yield_now().await;
            }
            stop.store(true, Ordering::Relaxed);
        })
    };
    // With no turn for the other task this would go on for ever.
    deadline(async { while ours.recv().await.expect("received").is_some() {} }).await;
    deadline(other).await.expect("no panic");
    flood.join().expect("no panic");

    let (a, b) = pair();
    let turns = Arc::new(AtomicBool::new(false));
    let other = {
        let turns = Arc::clone(&turns);
        tokio::spawn(async move { turns.store(true, Ordering::Relaxed) })
    };
    let mut sent = 0_u32;
    while !turns.load(Ordering::Relaxed) {
        a.send(b"x").await.expect("sent");
        b.try_recv().expect("received");
        sent += 1;
        assert!(sent < 100_000, "the other task has no turn");
    }
    other.await.expect("no panic");
}
