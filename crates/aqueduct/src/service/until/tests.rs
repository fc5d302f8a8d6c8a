use futures_util::{FutureExt, SinkExt, StreamExt, stream};
use tokio::sync::mpsc;

use super::*;
use crate::channel::Channel;
use crate::codec::Text;
use crate::connect::timeouts::Timeouts;
use crate::service::Context;
use crate::service::respond::LINGER;

fn context() -> (Context, CancellationToken, CancellationToken) {
    let stop = CancellationToken::new();
    let end = CancellationToken::new();
    let timeouts = Timeouts::NONE;
    let context = Context::new(1, timeouts, LINGER, stop.clone(), end.clone());
    (context, stop, end)
}

/// Tokio lets a task take a number of items from a channel and then returns `Pending` to let others
/// run. The stream has not ended then.
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
async fn it_gives_items_until_shutdown_and_keeps_the_inner_stream() {
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
async fn the_end_of_streams_wakes_one_that_waits_inside_a_message() {
    let (context, stop, end) = context();
    context.conduct().set_receiving(true);
    let mut items = context.until_shutdown(stream::pending::<()>());
    stop.cancel();
    assert!(items.next().now_or_never().is_none());
    let mut waiting = tokio_test::task::spawn(items.next());
    assert!(waiting.poll().is_pending());
    end.cancel();
    assert!(waiting.is_woken());
    assert_eq!(tokio_test::assert_ready!(waiting.poll()), None);
}

/// Libraries such as tarpc ask for a stream and sink in one value, and send their last replies
/// after the stream has ended.
#[tokio::test]
async fn a_channel_that_has_ended_for_its_reader_still_sends() {
    let (context, stop, _end) = context();
    let (here, mut there) = Channel::<String, String>::pair(Text);
    let mut here = context.until_shutdown(here);
    there.send("asked".into()).await.unwrap();
    stop.cancel();
    assert_eq!(here.next().await.unwrap().unwrap(), "asked");
    assert!(here.next().await.is_none());
    here.send("answered".into()).await.unwrap();
    SinkExt::<String>::close(&mut here).await.unwrap();
    assert_eq!(there.recv().await.unwrap().unwrap(), "answered");
    assert!(there.recv().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn closing_a_conversation_drains_the_peer_for_a_limited_time() {
    let (context, ..) = context();
    let (here, mut there) = Channel::<String, String>::pair(Text);
    let begun = tokio::time::Instant::now();
    let closed = tokio::spawn(async move { context.close(here).await });
    // Many more than the channel holds, so somebody must take them.
    for n in 0..1000 {
        there.send(n.to_string()).await.unwrap();
    }
    assert!(there.recv().await.is_none(), "this side has ended");
    closed.await.unwrap().unwrap();
    assert_eq!(begun.elapsed(), LINGER);
}
