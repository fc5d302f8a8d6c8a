use futures_util::{FutureExt, StreamExt, stream};
use tokio::sync::mpsc;

use super::*;
use crate::serve::{DEFAULT_LINGER, Timeouts};

fn context() -> (Context, CancellationToken, CancellationToken) {
    let stop = CancellationToken::new();
    let end = CancellationToken::new();
    let timeouts = Timeouts::none();
    let context = Context::new(1, timeouts, DEFAULT_LINGER, stop.clone(), end.clone());
    (context, stop, end)
}

/// Tokio lets a task take so many items from a channel and then says `Pending` to let others run.
/// That is not the end of what is there.
#[tokio::test]
async fn having_to_wait_for_its_turn_is_no_reason_to_end() {
    let (context, stop, _end) = context();
    let (tx, mut rx) = mpsc::unbounded_channel();
    for n in 0..1000 {
        tx.send(n).unwrap();
    }
    stop.cancel();
    let there = context.until_shutdown(stream::poll_fn(|cx| rx.poll_recv(cx)));
    assert_eq!(there.count().await, 1000);
}

#[tokio::test]
async fn it_gives_items_until_shutdown_wakes_it_and_the_stream_within_lives_on() {
    let (context, stop, _end) = context();
    let (tx, mut rx) = mpsc::unbounded_channel();
    let mut items = context.until_shutdown(stream::poll_fn(|cx| rx.poll_recv(cx)));
    tx.send(1).unwrap();
    assert_eq!(items.next().await, Some(1));
    let mut waiting = tokio_test::task::spawn(items.next());
    assert!(waiting.poll().is_pending());
    stop.cancel();
    assert!(waiting.is_woken());
    assert_eq!(tokio_test::assert_ready!(waiting.poll()), None);
    drop(waiting);
    tx.send(2).unwrap();
    assert!(items.is_terminated());
    assert_eq!(items.next().await, None);
    assert_eq!(items.into_inner().next().await, Some(2));
}

#[tokio::test]
async fn the_end_of_streams_wakes_one_that_waits_for_the_rest_of_a_message() {
    let (context, stop, end) = context();
    context.set_receiving(true);
    let mut items = context.until_shutdown(stream::pending::<()>());
    stop.cancel();
    assert!(items.next().now_or_never().is_none());
    let mut waiting = tokio_test::task::spawn(items.next());
    assert!(waiting.poll().is_pending());
    end.cancel();
    assert!(waiting.is_woken());
    assert_eq!(tokio_test::assert_ready!(waiting.poll()), None);
}
