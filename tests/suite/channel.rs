//! Typed channels over real pipes.

use std::io::{self, Write};
use std::time::Duration;

use aqueduct::codec::{Codec, Json, MessagePack, Postcard, Raw, Text};
use aqueduct::connect::Prioritized;
use aqueduct::frame::{FrameError, Framing};
use aqueduct::{Channel, Error, Receiver, Sender, pipe};
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use serde::{Deserialize, Serialize};
use tokio::io::AsyncWriteExt;
use tokio_test::{assert_pending, task};

use crate::support::deadline;

#[derive(Serialize, Deserialize, Clone, PartialEq, Debug)]
struct Message {
    number: u64,
    text: String,
    more: Option<Vec<u8>>,
}

impl Message {
    fn new(number: u64) -> Self {
        // From nothing to beyond what a pipe holds at once.
        let size = usize::try_from(number * number % 100_003).unwrap();
        Self {
            number,
            text: "x".repeat(size / 2),
            more: number.is_multiple_of(3).then(|| vec![0; size / 2]),
        }
    }
}

fn over_pipe<T, C>(framing: Framing, codec: C) -> (Sender<T>, Receiver<T>)
where
    C: Codec<T> + Clone + 'static,
{
    let (tx, rx) = pipe::pipe().unwrap();
    (
        Sender::new(tx.framed(framing.clone()), codec.clone()),
        Receiver::new(rx.framed(framing), codec),
    )
}

async fn all_arrive_in_order<C: Codec<Message> + Clone + 'static>(codec: C) {
    const COUNT: u64 = 200;
    let (mut sender, mut receiver) = over_pipe::<Message, C>(Framing::length(), codec);
    let sending = tokio::spawn(async move {
        for number in 0..COUNT {
            let message = Message::new(number);
            if number.is_multiple_of(7) {
                sender.send(message).await.unwrap();
            } else {
                sender.feed(message).await.unwrap();
            }
        }
        sender.close().await.unwrap();
        sender
    });
    let mut next = 0;
    let mut batch = Vec::new();
    while deadline(receiver.recv_many(&mut batch, 5)).await > 0 {
        for message in batch.drain(..) {
            assert_eq!(message.unwrap(), Message::new(next));
            next += 1;
        }
    }
    assert_eq!(next, COUNT);
    // It still lives, and still the end of the stream was seen.
    let mut sender = sending.await.unwrap();
    let late = sender.send(Message::new(next)).await;
    assert!(matches!(late, Err(Error::Closed)));
}

#[tokio::test]
async fn all_arrive_in_order_as_json() {
    all_arrive_in_order(Json).await;
}

#[tokio::test]
async fn all_arrive_in_order_as_postcard() {
    all_arrive_in_order(Postcard).await;
}

#[tokio::test]
async fn all_arrive_in_order_as_messagepack() {
    all_arrive_in_order(MessagePack).await;
}

#[tokio::test]
async fn two_one_way_pipes_make_a_channel() {
    let (to_there, from_here) = over_pipe::<String, _>(Framing::nul(), Text);
    let (to_here, from_there) = over_pipe::<Message, _>(Framing::length(), Json);
    let mut here = Channel::new(to_there, from_there);
    let mut there = Channel::new(to_here, from_here);
    let echo = tokio::spawn(async move {
        while let Some(text) = there.recv().await {
            let text = text.unwrap();
            let number = text.len() as u64;
            let more = None;
            there.send(Message { number, text, more }).await.unwrap();
        }
    });
    for text in ["", "a", "bc"] {
        deadline(here.send(text.into())).await.unwrap();
        let back = deadline(here.recv()).await.unwrap().unwrap();
        assert_eq!((back.number, back.text.as_str()), (text.len() as u64, text));
    }
    here.close().await.unwrap();
    assert!(deadline(here.recv()).await.is_none());
    echo.await.unwrap();
}

#[tokio::test]
async fn a_body_that_does_not_parse_costs_one_item() {
    let (tx, rx) = pipe::pipe().unwrap();
    let mut sender = Sender::new(tx.framed(Framing::lines()), OneWay);
    let mut receiver = Receiver::<Message>::new(rx.framed(Framing::lines()), Json);
    let good = r#"{"number":1,"text":"","more":null}"#;
    for line in [good, "garbage", "", good] {
        sender.feed(line).await.unwrap();
    }
    sender.close().await.unwrap();
    let mut results = Vec::new();
    while let Some(item) = deadline(receiver.recv()).await {
        results.push(match item {
            Ok(message) => Ok(message.number),
            Err(Error::Decode { len, codec, .. }) => Err((codec, len)),
            Err(other) => panic!("{other:?}"),
        });
    }
    assert_eq!(results, [Ok(1), Err(("json", 7)), Err(("json", 0)), Ok(1)]);
}

/// Sends text without a way back.
#[derive(Clone)]
struct OneWay;

impl aqueduct::codec::Format for OneWay {
    fn name(&self) -> &'static str {
        "one-way"
    }
}

impl aqueduct::codec::Encode<&'static str> for OneWay {
    fn encode(
        &self,
        item: &&'static str,
        dst: &mut bytes::BytesMut,
    ) -> Result<(), aqueduct::codec::BoxError> {
        dst.extend_from_slice(item.as_bytes());
        Ok(())
    }
}

impl aqueduct::codec::Decode<&'static str> for OneWay {
    fn decode(&self, _: Bytes) -> Result<&'static str, aqueduct::codec::BoxError> {
        Err("there is no way back".into())
    }
}

#[tokio::test]
async fn a_truncated_frame_is_unexpected_eof_after_whole_ones() {
    let (mut tx, rx) = pipe::pipe().unwrap();
    let frames = rx.framed(Framing::length());
    let mut receiver = Receiver::<String>::new(frames, Text);
    tx.write_all(b"\0\0\0\x02hi\0\0\0\x05tor").await.unwrap();
    drop(tx);
    assert_eq!(deadline(receiver.recv()).await.unwrap().unwrap(), "hi");
    let error = io::Error::from(deadline(receiver.recv()).await.unwrap().unwrap_err());
    assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    assert!(matches!(
        FrameError::of(&error),
        Some(FrameError::Truncated { .. })
    ));
    assert!(deadline(receiver.recv()).await.is_none());
}

/// The error names the size and the limit.
#[tokio::test]
async fn a_message_over_the_limit_is_refused_and_the_next_goes() {
    let framing = Framing::length().max_frame(100);
    let (mut sender, mut receiver) = over_pipe::<String, _>(framing, Text);
    let error = sender.send("x".repeat(101)).await.unwrap_err();
    let error = io::Error::from(error);
    let expected = FrameError::TooLarge { len: 101, max: 100 };
    assert_eq!(FrameError::of(&error), Some(&expected));
    sender.send("x".repeat(100)).await.unwrap();
    sender.close().await.unwrap();
    assert_eq!(deadline(receiver.recv()).await.unwrap().unwrap().len(), 100);
    assert!(deadline(receiver.recv()).await.is_none());
}

#[tokio::test]
async fn sending_to_a_reader_that_has_gone_is_epipe() {
    let (mut sender, receiver) = over_pipe::<String, _>(Framing::length(), Text);
    drop(receiver);
    let error = deadline(sender.send("x".into())).await.unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EPIPE));
}

#[tokio::test]
async fn close_drains_and_gives_up_at_its_deadline_without_loss() {
    let (mut sender, mut receiver) = over_pipe::<Bytes, _>(Framing::length(), Raw);
    // Far more than any pipe holds by default, and below the largest frame.
    let big = Bytes::from(vec![7; 1 << 20]);
    sender.feed(big.clone()).await.unwrap();
    match deadline(sender.close_timeout(Duration::from_millis(20))).await {
        Err(Error::TimedOut { .. }) => {}
        other => panic!("{other:?}"),
    }
    let reading = tokio::spawn(async move {
        let item = receiver.recv().await.unwrap().unwrap();
        assert!(receiver.recv().await.is_none());
        item
    });
    deadline(sender.close()).await.unwrap();
    assert_eq!(deadline(reading).await.unwrap(), big);
}

/// Nothing is doubled either.
#[tokio::test]
async fn dropping_every_future_at_every_poll_loses_nothing() {
    const COUNT: u64 = 2000;
    let (mut sender, mut receiver) = over_pipe::<Bytes, _>(Framing::length(), Raw);
    let item = |number: u64| {
        let mut body = number.to_be_bytes().to_vec();
        body.resize(8 + usize::try_from(number * 7 % 3000).unwrap(), 0);
        Bytes::from(body)
    };
    let (mut sent, mut received) = (0, 0);
    let mut pending = 0;
    let interleaved = async {
        while received < COUNT {
            while sent < COUNT {
                // Polled once and dropped, ready or not: the item stays with us until a permit is there.
                let mut reserving = task::spawn(sender.reserve());
                let std::task::Poll::Ready(permit) = reserving.poll() else {
                    pending += 1;
                    break;
                };
                permit.unwrap().send(item(sent)).unwrap();
                sent += 1;
            }
            let _dropped = task::spawn(sender.flush()).poll();
            loop {
                let mut receiving = task::spawn(receiver.recv());
                let std::task::Poll::Ready(got) = receiving.poll() else {
                    pending += 1;
                    break;
                };
                assert_eq!(got.unwrap().unwrap(), item(received));
                received += 1;
            }
            tokio::task::yield_now().await;
        }
    };
    deadline(interleaved).await;
    assert!(
        pending > 10,
        "futures were dropped while they waited: {pending}"
    );
    sender.close().await.unwrap();
    assert!(deadline(receiver.recv()).await.is_none());
}

#[tokio::test]
async fn idle_ends_wait_and_are_woken() {
    let (mut sender, mut receiver) = over_pipe::<String, _>(Framing::lines(), Text);
    let mut waiting = task::spawn(async move { receiver.recv().await.unwrap().unwrap() });
    assert_pending!(waiting.poll());
    sender.send("now".into()).await.unwrap();
    assert_eq!(deadline(waiting).await, "now");
}

#[tokio::test]
async fn the_halves_are_a_sink_and_a_stream() {
    let (sender, receiver) = over_pipe::<u32, _>(Framing::length(), Postcard);
    let numbers = futures_util::stream::iter((0..1000).map(Ok));
    let sending = tokio::spawn(numbers.forward(sender));
    let got: Vec<u32> = deadline(receiver.map(Result::unwrap).collect()).await;
    assert_eq!(got, (0..1000).collect::<Vec<_>>());
    sending.await.unwrap().unwrap();

    let (mut sender, _receiver) = over_pipe::<u32, _>(Framing::length(), Postcard);
    SinkExt::close(&mut sender).await.unwrap();
    assert!(matches!(
        SinkExt::send(&mut sender, 1).await,
        Err(Error::Closed)
    ));
}

/// Everything the receiver still delivers.
async fn rest(receiver: &mut Receiver<String>) -> Vec<String> {
    let mut rest = Vec::new();
    while let Some(item) = deadline(receiver.recv()).await {
        rest.push(item.unwrap());
    }
    rest
}

#[tokio::test]
async fn a_stopped_receiver_delivers_what_it_took_and_no_more() {
    let (tx, rx) = pipe::pipe().unwrap();
    let mut sender: Sender<&str> = tx.framed(Framing::lines()).typed(Text);
    let mut receiver: Receiver<String> = rx.framed(Framing::lines()).typed(Text);
    sender.send_all(["one", "two", "three"]).await.unwrap();
    assert_eq!(deadline(receiver.recv()).await.unwrap().unwrap(), "one");
    sender.send("left in the pipe").await.unwrap();
    receiver.stop();
    assert_eq!(rest(&mut receiver).await, ["two", "three"]);
    assert!(deadline(receiver.recv()).await.is_none());
}

#[tokio::test]
async fn a_stopped_end_of_an_address_leaves_the_rest_there() {
    let (rx, tx) = io::pipe().unwrap();
    let again = rx.try_clone().unwrap();
    let mut options = aqueduct::connect::Options::new();
    options.framing(Framing::lines());
    let endpoint = aqueduct::inherited::offer(rx).unwrap();
    let receiver = options.open_receiver(&endpoint).await.unwrap();
    let mut writer = tx;
    writer.write_all(b"one\ntwo\n").unwrap();
    let mut receiver: Receiver<String> = receiver.typed(Text);
    assert_eq!(deadline(receiver.recv()).await.unwrap().unwrap(), "one");
    writer.write_all(b"three\n").unwrap();
    receiver.stop();
    assert_eq!(rest(&mut receiver).await, ["two"]);
    drop((receiver, writer));
    assert_eq!(io::read_to_string(again).unwrap(), "three\n");
}

/// Priorities change nothing about stopping.
#[tokio::test]
async fn a_stopped_end_with_priorities_leaves_the_rest_there() {
    let name = crate::mq::QueueName::new();
    let queue = format!("mq:{}?capacity=8&max-message=8", name.0);
    let queue: aqueduct::Endpoint = queue.parse().unwrap();
    let receiver = queue.open_receiver().await.unwrap();
    let mut receiver: Receiver<Prioritized<String>> = receiver.prioritized(Text);
    let mut sender: Sender<Prioritized<&str>> =
        queue.open_sender().await.unwrap().prioritized(Text);
    for (priority, item) in [(3, "one"), (2, "two"), (1, "three")] {
        sender.send(Prioritized { priority, item }).await.unwrap();
    }
    let first = deadline(receiver.recv()).await.unwrap().unwrap();
    assert_eq!((first.priority, &*first.item), (3, "one"));
    receiver.stop();
    assert!(deadline(receiver.recv()).await.is_none());
    let mut next: Receiver<String> = queue.open_receiver().await.unwrap().typed(Text);
    assert_eq!(deadline(next.recv()).await.unwrap().unwrap(), "two");
}

#[tokio::test]
async fn a_signal_ends_a_receiver_that_waits_and_one_that_is_flooded() {
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let frames = futures_util::stream::pending();
    let mut waiting: Receiver<String> = Receiver::new(frames, Text).until(async {
        let _ = stopped.await;
    });
    assert_pending!(task::spawn(waiting.recv()).poll());
    stop.send(()).unwrap();
    assert!(deadline(waiting.recv()).await.is_none());

    let frames = futures_util::stream::repeat_with(|| Ok(Bytes::from("x"))).take(100);
    let mut flooded: Receiver<String> = Receiver::new(frames, Text).until(async {});
    assert_eq!(rest(&mut flooded).await.len(), 100);
}

/// A runtime that was built without timers.
fn timerless() -> tokio::runtime::Runtime {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_io().build().unwrap()
}

/// Sends until the pipe is full; how many items were sent.
async fn flood(sender: &mut Sender<String>) -> usize {
    let mut sent = 0;
    loop {
        let mut sending = task::spawn(sender.send("x".repeat(100)));
        let mut pending = sending.poll().is_pending();
        // The driver may have to look first.
        for _ in 0..10 {
            if pending {
                tokio::task::yield_now().await;
                pending = sending.poll().is_pending();
            }
        }
        if pending {
            return sent;
        }
        sent += 1;
    }
}

#[test]
fn close_needs_neither_a_timer_nor_a_runtime() {
    let runtime = timerless();
    let guard = runtime.enter();
    let (mut sender, _receiver) = over_pipe::<String, _>(Framing::length(), Text);
    let (mut channel, _peer) = Channel::<String, String>::pair(Text);
    let limit = Duration::from_millis(20);
    let closed = runtime.block_on(async {
        flood(&mut sender).await;
        sender.close_timeout(limit).await
    });
    assert!(
        matches!(closed, Err(Error::TimedOut { after }) if after == limit),
        "{closed:?}"
    );
    drop(guard);
    assert_pending!(task::spawn(sender.close()).poll());
    assert!(task::spawn(channel.close()).poll().is_ready());
}

#[test]
fn a_coalesced_sender_needs_no_timer_to_send_the_rest() {
    let (sent, received) = timerless().block_on(async {
        let (sender, mut receiver) = over_pipe::<String, _>(Framing::length(), Text);
        let mut sender = sender.coalesced();
        // One burst, which ends when the pipe is full.
        let mut sent = 0;
        while task::spawn(sender.send("x".repeat(100))).poll().is_ready() {
            sent += 1;
        }
        drop(sender);
        // The background task finds the pipe full.
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        let mut received = 0;
        while let Some(item) = receiver.recv().await {
            item.unwrap();
            received += 1;
        }
        (sent, received)
    });
    assert!(received >= sent, "{received} of {sent}");
}

#[tokio::test]
async fn handles_share_a_sender_and_keep_the_order_of_each_task() {
    const EACH: usize = 500;
    let (sender, mut receiver) = over_pipe::<(usize, usize), _>(Framing::length(), Postcard);
    let sender = sender.shared();
    for task in 0..4 {
        let sender = sender.clone();
        tokio::spawn(async move {
            for n in 0..EACH {
                sender.send((task, n)).await.unwrap();
                if n % 50 == 0 {
                    let all = [(task, EACH + n), (task, EACH + n + 1)];
                    sender.send_all(all).await.unwrap();
                }
            }
        });
    }
    drop(sender);
    let mut next = [0; 4];
    while let Some(item) = deadline(receiver.recv()).await {
        let (task, n) = item.unwrap();
        if n < EACH {
            assert_eq!(next[task], n);
            next[task] += 1;
        } else {
            // Nothing comes between those that were sent together.
            let (same, follows) = deadline(receiver.recv()).await.unwrap().unwrap();
            assert_eq!((same, follows), (task, n + 1));
        }
    }
    assert_eq!(next, [EACH; 4]);
}

#[tokio::test]
async fn a_reply_to_a_dropped_call_is_not_taken_for_another() {
    let (mut here, mut there) = Channel::<String, String>::pair(Text);
    {
        let mut dropped = task::spawn(here.call("one".into()));
        assert_pending!(dropped.poll());
    }
    let serving = tokio::spawn(async move {
        while let Some(request) = there.recv().await {
            there.send(request.unwrap().to_uppercase()).await.unwrap();
        }
    });
    assert_eq!(deadline(here.call("two".into())).await.unwrap(), "TWO");
    assert_eq!(deadline(here.call("three".into())).await.unwrap(), "THREE");
    here.close().await.unwrap();
    serving.await.unwrap();
    let ended = deadline(here.call("four".into())).await;
    assert!(matches!(ended, Err(Error::Closed)), "{ended:?}");
}
