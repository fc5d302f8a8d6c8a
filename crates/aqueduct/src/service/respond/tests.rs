use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::codec::Text;
use crate::connect::Connection;
use crate::connect::timeouts::Timeouts;
use crate::frame::Framing;

const S: Duration = Duration::from_secs(1);

struct Service {
    peer: DuplexStream,
    channel: Channel<String, String>,
    context: Context,
    stop: CancellationToken,
    end_streams: CancellationToken,
}

fn service() -> Service {
    let (peer, io) = duplex(1 << 16);
    let stop = CancellationToken::new();
    let end_streams = CancellationToken::new();
    let context = Context::new(1, Timeouts::NONE, LINGER, stop.clone(), end_streams.clone());
    Service {
        peer,
        channel: context.channel(Connection::from_io(io, Framing::lines()), Text),
        context,
        stop,
        end_streams,
    }
}

async fn replies(peer: &mut DuplexStream) -> String {
    let mut replies = String::new();
    peer.read_to_string(&mut replies).await.unwrap();
    replies
}

/// All requests of one read used to be answered in one go, on a thread that others wait for.
#[tokio::test]
async fn a_flood_of_small_requests_lets_other_tasks_run() {
    const REQUESTS: usize = 10_000;
    let mut it = service();
    let flood = "x\n".repeat(REQUESTS);
    it.peer.write_all(flood.as_bytes()).await.unwrap();
    it.peer.shutdown().await.unwrap();
    let answered = std::cell::Cell::new(0);
    let answer = |request| {
        answered.set(answered.get() + 1);
        std::future::ready(request)
    };
    let mut serving = pin!(respond(it.channel, &it.context, answer));
    // With the budget of one turn.
    tokio::task::yield_now().await;
    let first = poll_fn(|cx| Poll::Ready(serving.as_mut().poll(cx))).await;
    assert!(first.is_pending());
    assert!((1..1000).contains(&answered.get()), "{}", answered.get());
    let (result, replies) = tokio::join!(serving, replies(&mut it.peer));
    result.unwrap();
    assert_eq!(replies, flood);
}

#[tokio::test(start_paused = true)]
async fn at_shutdown_a_begun_request_is_waited_for_and_answered() {
    let mut it = service();
    let peer = async {
        it.peer.write_all(b"one\ntw").await.unwrap();
        sleep(S).await;
        it.stop.cancel();
        sleep(S).await;
        it.peer.write_all(b"o\n").await.unwrap();
        replies(&mut it.peer).await
    };
    let answer = |request| async move { request };
    let (result, replies) = tokio::join!(respond(it.channel, &it.context, answer), peer);
    result.unwrap();
    assert_eq!(replies, "one\ntwo\n");
}

#[tokio::test(start_paused = true)]
async fn shutdown_answers_present_requests_and_leaves_idle_peers() {
    let mut it = service();
    it.peer.write_all(b"one\ntwo\nthree\n").await.unwrap();
    it.stop.cancel();
    let answer = |request| async move {
        sleep(S).await;
        request
    };
    let serving = async { respond(it.channel, &it.context, answer).await };
    let (result, replies) = tokio::join!(serving, replies(&mut it.peer));
    result.unwrap();
    assert_eq!(replies, "one\ntwo\nthree\n");
}

// Requests that were taken are answered. Time is not paused: paused time stands still while there is
// something to do.
#[tokio::test]
async fn a_peer_that_never_stops_sending_is_ended_at_a_boundary() {
    let it = service();
    let (mut reading, mut writing) = tokio::io::split(it.peer);
    let flood = tokio::spawn(async move { while writing.write_all(b"more\n").await.is_ok() {} });
    let mut taken = 0;
    let answer = |request| {
        taken += 1;
        if taken == 100 {
            it.stop.cancel();
        }
        if taken == 200 {
            it.end_streams.cancel();
        }
        async move {
            tokio::task::yield_now().await;
            request
        }
    };
    let counting = async {
        let mut replies = String::new();
        reading.read_to_string(&mut replies).await.unwrap();
        replies.lines().count()
    };
    let (result, answered) = tokio::join!(respond(it.channel, &it.context, answer), counting);
    result.unwrap();
    assert_eq!((taken, answered), (200, 200));
    drop(reading);
    flood.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_half_sent_request_is_given_up_when_streams_end() {
    let mut it = service();
    it.peer.write_all(b"one\nnever").await.unwrap();
    let answer = |request| async move { request };
    let end = async {
        it.stop.cancel();
        sleep(S).await;
        it.end_streams.cancel();
        replies(&mut it.peer).await
    };
    let start = Instant::now();
    let (result, replies) = tokio::join!(respond(it.channel, &it.context, answer), end);
    result.unwrap();
    assert_eq!(replies, "one\n");
    assert_eq!(start.elapsed(), S + LINGER, "and the peer did not close");
}

#[tokio::test(start_paused = true)]
async fn no_reply_waits_for_the_answer_to_a_later_request() {
    let mut it = service();
    it.peer.write_all(b"quick\nslow\n").await.unwrap();
    let answer = |request: String| async move {
        if request == "slow" {
            sleep(3600 * S).await;
        }
        request
    };
    let serving = respond(it.channel, &it.context, answer);
    let peer = async {
        let mut reply = [0; 6];
        timeout(S, it.peer.read_exact(&mut reply))
            .await
            .unwrap()
            .unwrap();
        assert_eq!(&reply, b"quick\n");
        it.peer.shutdown().await.unwrap();
        assert_eq!(replies(&mut it.peer).await, "slow\n");
    };
    let (result, ()) = tokio::join!(serving, peer);
    result.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_bad_request_ends_the_conversation_after_earlier_replies() {
    let mut it = service();
    it.peer.write_all(b"one\n\xff\nthree\n").await.unwrap();
    let answer = |request| async move { request };
    let serving = async { respond(it.channel, &it.context, answer).await };
    let (result, replies) = tokio::join!(serving, replies(&mut it.peer));
    assert!(matches!(result, Err(Error::Decode { .. })), "{result:?}");
    assert_eq!(replies, "one\n");
}
