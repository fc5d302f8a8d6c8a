use std::time::Duration;

use bytes::Bytes;
use futures_util::{FutureExt, SinkExt, StreamExt, stream};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::time::{Instant, advance, sleep};

use super::*;
use crate::frame::{FrameError, FramedRead, FramedWrite, Framing};

const S: Duration = Duration::from_secs(1);

type Frames = TimedStream<FramedRead<DuplexStream>>;

/// A peer and its frames, limited to 10 s, 20 s and 30 s.
fn pair() -> (DuplexStream, Frames) {
    let (peer, io) = duplex(1 << 16);
    let timeouts = Timeouts {
        first: Some(10 * S),
        message: Some(20 * S),
        idle: Some(30 * S),
        ..Timeouts::default()
    };
    let frames = FramedRead::new(io, Framing::lines().max_frame(1000));
    (
        peer,
        TimedStream::new(frames, timeouts, |it| !it.read_buffer().is_empty()),
    )
}

/// Waits for the error and the end; returns the limit and the time of the error.
async fn timed_out(frames: &mut Frames, start: Instant) -> (Limit, Duration) {
    let error = frames.next().await.unwrap().unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    let limit = TimedOut::of(&error).unwrap().limit;
    assert_eq!(
        TimedOut::of(&error).unwrap().after,
        frames.timeouts.get(limit).unwrap()
    );
    assert!(frames.next().await.is_none());
    assert!(frames.is_terminated());
    (limit, start.elapsed())
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_sends_nothing_meets_the_first_limit() {
    let (_peer, mut frames) = pair();
    let start = Instant::now();
    assert_eq!(timed_out(&mut frames, start).await, (Limit::First, 10 * S));
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_sends_a_byte_a_second_meets_the_message_limit() {
    let (mut peer, mut frames) = pair();
    let start = Instant::now();
    let drip = async {
        loop {
            sleep(S).await;
            peer.write_all(b"x").await.unwrap();
        }
    };
    tokio::select! {
        () = drip => unreachable!(),
        // It began after one second.
        met = timed_out(&mut frames, start) => assert_eq!(met, (Limit::Message, 21 * S)),
    }
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_falls_silent_meets_the_idle_limit() {
    let (mut peer, mut frames) = pair();
    for _ in 0..3 {
        peer.write_all(b"one\n").await.unwrap();
        assert_eq!(frames.next().await.unwrap().unwrap(), "one");
        assert!(frames.next().now_or_never().is_none());
        advance(29 * S).await;
    }
    peer.write_all(b"two\n").await.unwrap();
    assert_eq!(frames.next().await.unwrap().unwrap(), "two");
    let start = Instant::now();
    assert_eq!(timed_out(&mut frames, start).await, (Limit::Idle, 30 * S));
}

#[tokio::test(start_paused = true)]
async fn each_begun_message_has_its_own_time() {
    let (mut peer, mut frames) = pair();
    let peer = async {
        for _ in 0..5 {
            sleep(9 * S).await;
            peer.write_all(b"be").await.unwrap();
            sleep(19 * S).await;
            peer.write_all(b"gun\n").await.unwrap();
        }
        peer
    };
    let frames = async {
        for _ in 0..5 {
            assert_eq!(frames.next().await.unwrap().unwrap(), "begun");
        }
    };
    tokio::join!(peer, frames);
}

#[tokio::test(start_paused = true)]
async fn the_time_of_the_handler_is_not_the_peers() {
    let (mut peer, mut frames) = pair();
    peer.write_all(b"one\n").await.unwrap();
    assert!(frames.next().await.unwrap().is_ok());
    advance(3600 * S).await;
    assert!(frames.next().now_or_never().is_none());
    advance(29 * S).await;
    peer.write_all(b"two\n").await.unwrap();
    assert!(frames.next().await.unwrap().is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_message_that_has_arrived_is_given_however_late() {
    let (mut peer, mut frames) = pair();
    assert!(frames.next().now_or_never().is_none());
    peer.write_all(b"one\ntw").await.unwrap();
    advance(3600 * S).await;
    assert_eq!(frames.next().await.unwrap().unwrap(), "one");
    let start = Instant::now();
    assert_eq!(
        timed_out(&mut frames, start).await,
        (Limit::Message, 20 * S)
    );
}

/// tokio-util's decoder takes the length out of the buffer as soon as it is there.
#[tokio::test(start_paused = true)]
async fn a_message_has_begun_even_if_the_decoder_keeps_its_start() {
    let (mut peer, io) = duplex(1 << 16);
    let frames = FramedRead::with_codec(io, tokio_util::codec::LengthDelimitedCodec::new());
    let timeouts = Timeouts {
        first: Some(10 * S),
        message: Some(20 * S),
        ..Timeouts::default()
    };
    let mut frames = TimedStream::new(frames, timeouts, |it| !it.read_buffer().is_empty());
    let start = Instant::now();
    peer.write_all(&[0, 0]).await.unwrap();
    assert!(frames.next().now_or_never().is_none());
    advance(15 * S).await;
    peer.write_all(&[0, 10]).await.unwrap();
    let error = frames.next().await.unwrap().unwrap_err();
    assert_eq!(TimedOut::of(&error).unwrap().limit, Limit::Message);
    assert_eq!(start.elapsed(), 20 * S);
}

#[tokio::test(start_paused = true)]
async fn a_frame_without_end_meets_the_frame_limit_at_once() {
    let (mut peer, mut frames) = pair();
    peer.write_all(&[b'x'; 2000]).await.unwrap();
    let error = frames.next().await.unwrap().unwrap_err();
    assert!(matches!(
        FrameError::of(&error),
        Some(FrameError::Unterminated { .. })
    ));
    assert!(frames.next().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn whole_messages_have_a_first_and_an_idle_limit() {
    let timeouts = Timeouts {
        first: Some(10 * S),
        idle: Some(30 * S),
        ..Timeouts::default()
    };
    let one = stream::iter([io::Result::Ok(Bytes::new())]).chain(stream::pending());
    let mut messages = TimedStream::new(one, timeouts, |_| false);
    assert!(messages.next().await.unwrap().is_ok());
    let start = Instant::now();
    let error = messages.next().await.unwrap().unwrap_err();
    assert_eq!(TimedOut::of(&error).unwrap().limit, Limit::Idle);
    assert_eq!(start.elapsed(), 30 * S);
}

/// The sink stays failed.
#[tokio::test(start_paused = true)]
async fn a_peer_that_does_not_read_meets_the_send_limit() {
    let (peer, io) = duplex(16);
    let frames = FramedWrite::new(io, Framing::length());
    let mut sink = TimedSink::new(frames, seven_seconds_to_send());
    sink.send(Bytes::from("fits")).await.unwrap();
    let start = Instant::now();
    let error = sink.send(Bytes::from(vec![0; 100])).await.unwrap_err();
    assert_eq!(start.elapsed(), 7 * S);
    assert_eq!(TimedOut::of(&error).unwrap().limit, Limit::Send);
    for _ in 0..2 {
        let error = sink.flush().await.unwrap_err();
        assert_eq!(TimedOut::of(&error).unwrap().limit, Limit::Send);
    }
    drop(peer);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_reads_in_time_gets_all() {
    let (mut peer, io) = duplex(16);
    let frames = FramedWrite::new(io, Framing::raw());
    let mut sink = TimedSink::new(frames, seven_seconds_to_send());
    let reading = async {
        for _ in 0..5 {
            sleep(6 * S).await;
            peer.read_exact(&mut [0; 50]).await.unwrap();
        }
    };
    let sending = async {
        for _ in 0..5 {
            sink.send(Bytes::from(vec![0; 50])).await.unwrap();
        }
    };
    tokio::join!(reading, sending);
}

fn seven_seconds_to_send() -> Timeouts {
    Timeouts {
        send: Some(7 * S),
        ..Timeouts::default()
    }
}

#[test]
fn each_limit_is_said_in_its_own_words() {
    for (limit, said) in [
        (Limit::First, "sent no first message"),
        (Limit::Message, "did not finish a message it had begun"),
        (Limit::Idle, "sent no further message"),
        (Limit::Send, "did not take what was sent to it"),
    ] {
        let error = io::Error::from(TimedOut::new(limit, S));
        assert!(error.to_string().contains(said), "{error}");
        let inside = TimedOut::of(&error).unwrap();
        assert_eq!((inside.limit, inside.after), (limit, S));
    }
}
