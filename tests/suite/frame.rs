//! Framing: what arrives, however the bytes are cut, and what a broken stream does.

use std::io;
use std::task::Poll;

use aqueduct::frame::{FrameError, FramedRead, FramedWrite, Framing, Partial};
use bytes::{Bytes, BytesMut};
use futures_util::stream::FusedStream;
use futures_util::{SinkExt, StreamExt};
use tokio_test::{assert_pending, assert_ready_ok, task};
use tokio_util::codec::{Decoder, Encoder, LengthDelimitedCodec};

use self::transport::{Pieces, Trickle};
use crate::support::{Log, deadline};

mod broken_codec;
mod buffers;
mod codec;
mod collector;
mod delimited;
mod named;
mod properties;
mod transport;
mod wrong_guess;

/// The default limit.
const MAX_FRAME: usize = 1 << 20;

/// From this size on frames are not copied.
const LARGE: usize = 16 * 1024;

/// All items of a stream, each error by its kind and text.
async fn all<T>(
    mut frames: impl FusedStream<Item = io::Result<T>> + Unpin,
) -> Vec<Result<T, (io::ErrorKind, String)>> {
    let mut items = Vec::new();
    while let Some(item) = deadline(frames.next()).await {
        items.push(item.map_err(|e| (e.kind(), e.to_string())));
    }
    assert!(frames.is_terminated());
    assert!(deadline(frames.next()).await.is_none(), "over is over");
    items
}

fn encoded(framing: &Framing, bodies: &[Bytes]) -> BytesMut {
    let mut wire = BytesMut::new();
    for body in bodies {
        Encoder::encode(&mut framing.clone(), body.clone(), &mut wire).unwrap();
    }
    wire
}

/// The frame error that ends `items`.
async fn last_error(wire: &[u8], framing: Framing) -> (Vec<Bytes>, io::Error) {
    let mut frames = FramedRead::new(Pieces::byte_by_byte(wire), framing);
    let mut whole = Vec::new();
    loop {
        match deadline(frames.next()).await {
            Some(Ok(frame)) => whole.push(frame),
            Some(Err(e)) => {
                assert!(frames.next().await.is_none(), "an error ends the stream");
                return (whole, e);
            }
            None => panic!("ended without an error"),
        }
    }
}

#[tokio::test]
async fn frames_cross_byte_by_byte() {
    let bodies = ["", "a", "hello, world", "x"].map(Bytes::from);
    for framing in [Framing::length(), Framing::lines(), Framing::nul()] {
        let wire = encoded(&framing, &bodies);
        let frames = FramedRead::new(Pieces::byte_by_byte(&wire), framing);
        let got: Vec<_> = all(frames).await.into_iter().map(Result::unwrap).collect();
        assert_eq!(got, bodies, "an empty frame is a frame");
    }
}

#[tokio::test]
async fn raw_gives_what_a_read_gives() {
    let frames = FramedRead::new(Pieces::new(["ab", "c"]), Framing::raw());
    assert_eq!(all(frames).await, [Ok("ab".into()), Ok("c".into())]);

    // There is no limit to hold.
    let raw = Framing::raw().max_frame(0);
    let frames = FramedRead::new(Pieces::new(["abcde"]), raw.clone());
    assert_eq!(all(frames).await, [Ok("abcde".into())]);
    let large = Bytes::from(vec![b'x'; MAX_FRAME + 1]);
    let mut out = FramedWrite::new(Vec::new(), raw);
    out.send(large.clone()).await.unwrap();
    assert_eq!(out.into_parts().0, large);
}

#[tokio::test]
async fn length_framing_is_that_of_tokio_util() {
    let mut wire = BytesMut::new();
    let mut theirs = LengthDelimitedCodec::new();
    theirs
        .encode(Bytes::from("from theirs"), &mut wire)
        .unwrap();
    let ours = Framing::length().decode(&mut wire).unwrap();
    assert_eq!(ours.as_deref(), Some(&b"from theirs"[..]));
    Encoder::encode(&mut Framing::length(), Bytes::from("from ours"), &mut wire).unwrap();
    assert_eq!(theirs.decode(&mut wire).unwrap().unwrap(), "from ours");
}

#[tokio::test]
async fn truncated_frame_is_unexpected_eof_after_all_whole_ones() {
    for (framing, wire) in [
        (Framing::length(), &b"\0\0\0\x02ok\0\0"[..]),
        (Framing::length(), b"\0\0\0\x02ok\0\0\0\x05abc"),
        (Framing::length(), b"\0\0\0\x02ok\0\0\0\x05"),
        (Framing::nul().partial(Partial::Fail), b"ok\0abc"),
        (Framing::lines().partial(Partial::Fail), b"ok\nabc"),
    ] {
        let (whole, error) = last_error(wire, framing).await;
        assert_eq!(whole, ["ok"]);
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        assert!(matches!(
            FrameError::of(&error),
            Some(FrameError::Truncated { .. })
        ));
    }
    let (_, error) = last_error(b"\0\0\0\x05abc", Framing::length()).await;
    assert_eq!(
        error.to_string(),
        "stream ended inside a frame: received 7 bytes, 2 are missing"
    );
}

#[tokio::test]
async fn garbage_length_ends_the_stream_with_size_and_limit() {
    let wire = b"\0\0\0\x02ok\xff\xff\xff\xffgarbage and a whole frame: \0\0\0\x01x";
    let (whole, error) = last_error(wire, Framing::length()).await;
    assert_eq!(whole, ["ok"]);
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    assert_eq!(
        FrameError::of(&error),
        Some(&FrameError::TooLarge {
            len: 0xffff_ffff,
            max: MAX_FRAME
        })
    );
}

#[tokio::test]
async fn frame_limit_holds_at_both_ends_to_the_byte() {
    let (fits, over) = (Bytes::from(vec![b'x'; 1000]), Bytes::from(vec![b'x'; 1001]));
    for framing in [Framing::length(), Framing::lines(), Framing::nul()] {
        let small = framing.clone().max_frame(1000);
        let mut out = FramedWrite::new(Vec::new(), small.clone());
        out.feed(fits.clone()).await.unwrap();
        let error = out.feed(over.clone()).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        let expected = FrameError::TooLarge {
            len: 1001,
            max: 1000,
        };
        assert_eq!(FrameError::of(&error), Some(&expected));
        out.send(Bytes::from("next")).await.unwrap();
        let (wire, _) = out.into_parts();
        let frames = FramedRead::new(Pieces::new([wire]), small.clone());
        assert_eq!(all(frames).await, [Ok(fits.clone()), Ok("next".into())]);

        let wire = encoded(&framing, &[fits.clone(), over.clone()]);
        let (whole, error) = last_error(&wire, small).await;
        assert_eq!(whole, std::slice::from_ref(&fits));
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        assert!(matches!(
            FrameError::of(&error),
            Some(
                FrameError::TooLarge { max: 1000, .. } | FrameError::Unterminated { max: 1000, .. }
            )
        ));
    }
}

#[tokio::test]
async fn a_message_that_holds_its_delimiter_is_refused() {
    let mut out = FramedWrite::new(Vec::new(), Framing::lines());
    let error = out.send(Bytes::from("two\nlines")).await.unwrap_err();
    let expected = FrameError::ContainsDelimiter {
        delimiter: b'\n',
        at: 3,
    };
    assert_eq!(FrameError::of(&error), Some(&expected));
    out.send(Bytes::from("one")).await.unwrap();
    assert_eq!(out.into_parts().0, b"one\n");
}

#[tokio::test]
async fn dropping_next_at_every_await_point_loses_nothing() {
    let bodies: Vec<_> = (0..50)
        .map(|i| Bytes::from(format!("message {i}")))
        .collect();
    let wire = encoded(&Framing::length(), &bodies);
    let mut frames = FramedRead::new(Pieces::byte_by_byte(&wire), Framing::length());
    let mut got = Vec::new();
    let mut dropped = 0;
    loop {
        // Each future is polled once and dropped.
        let item = match task::spawn(frames.next()).poll() {
            Poll::Ready(Some(item)) => item.unwrap(),
            Poll::Ready(None) => break,
            Poll::Pending => {
                dropped += 1;
                continue;
            }
        };
        got.push(item);
    }
    assert!(dropped > wire.len() / 2, "{dropped} futures were dropped");
    assert_eq!(got, bodies);
}

#[tokio::test]
async fn dropping_next_borrowed_at_every_await_point_loses_nothing() {
    let bodies: Vec<_> = (0..50)
        .map(|i| Bytes::from(format!("message {i}")))
        .collect();
    let wire = encoded(&Framing::length(), &bodies);
    let mut frames = FramedRead::new(Pieces::byte_by_byte(&wire), Framing::length());
    let mut got = Vec::new();
    loop {
        match task::spawn(frames.next_borrowed()).poll() {
            Poll::Ready(Some(item)) => got.push(Bytes::copy_from_slice(item.unwrap())),
            Poll::Ready(None) => break,
            Poll::Pending => {}
        }
    }
    assert_eq!(got, bodies);
}

#[tokio::test]
async fn dropping_send_and_flush_at_every_await_point_tears_nothing() {
    let bodies: Vec<_> = (0..50)
        .map(|i| Bytes::from(format!("message {i}")))
        .collect();
    for gather in [false, true] {
        let mut out = FramedWrite::new(Trickle::new(3, gather), Framing::length()).with_chunk(64);
        for body in &bodies {
            // What is fed after `poll_ready` is taken for good.
            loop {
                let mut ready = task::spawn(&mut out);
                if ready
                    .enter(|cx, mut out| out.poll_ready_unpin(cx))
                    .is_ready()
                {
                    break;
                }
            }
            out.start_send_unpin(body.clone()).unwrap();
            let _ = task::spawn(out.flush()).poll();
        }
        while task::spawn(out.flush()).poll().is_pending() {}
        let wire = out.get_ref().written.lock().unwrap().clone();
        assert_eq!(wire, encoded(&Framing::length(), &bodies));
    }
}

#[tokio::test]
async fn a_sink_dropped_inside_a_frame_truncates_it_for_its_peer() {
    let (tx, rx) = aqueduct::pipe::pipe().unwrap();
    let mut tx = tx.framed(Framing::length());
    let mut rx = rx.framed(Framing::length());
    deadline(tx.send(Bytes::from("whole"))).await.unwrap();
    {
        let mut send = task::spawn(tx.send(Bytes::from(vec![7; MAX_FRAME])));
        assert_pending!(send.poll());
    }
    drop(tx);
    assert_eq!(deadline(rx.next()).await.unwrap().unwrap(), "whole");
    let error = deadline(rx.next()).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    assert!(deadline(rx.next()).await.is_none());
}

#[tokio::test]
async fn a_flush_that_waits_is_woken() {
    let (near, mut far) = tokio::io::duplex(8);
    let mut out = FramedWrite::new(near, Framing::raw());
    out.feed(Bytes::from("0123456789")).await.unwrap();
    let mut flush = task::spawn(out.flush());
    assert_pending!(flush.poll());
    let mut eight = [0; 8];
    tokio::io::AsyncReadExt::read_exact(&mut far, &mut eight)
        .await
        .unwrap();
    assert!(flush.is_woken());
    assert_ready_ok!(flush.poll());
}

#[tokio::test]
async fn a_transport_that_writes_nothing_is_an_error() {
    let mut out = FramedWrite::new(Trickle::new(0, false), Framing::lines());
    let error = deadline(out.send(Bytes::from("x"))).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::WriteZero);
    let (_, unsent) = out.into_parts();
    assert_eq!(unsent, "x\n");
}

#[test]
fn an_unflushed_sink_says_what_it_drops() {
    let ((), lines) = Log::record(|| {
        let mut flushed = FramedWrite::new(Vec::new(), Framing::lines());
        let mut fed = FramedWrite::new(Vec::new(), Framing::lines());
        let mut send = task::spawn(async {
            flushed.send(Bytes::from("x")).await.unwrap();
            fed.feed(Bytes::from("one")).await.unwrap();
            fed.feed(Bytes::from("two")).await.unwrap();
        });
        assert!(send.poll().is_ready());
    });
    let [line] = &lines[..] else {
        panic!("{lines:?}")
    };
    assert!(line.contains("WARN"), "{line}");
    assert!(line.contains("bytes=8 frames=2"), "{line}");
}

#[tokio::test]
async fn a_refused_borrowed_frame_leaves_nothing_behind() {
    let mut out = FramedWrite::new(Vec::new(), Framing::lines().max_frame(5));
    out.feed_borrowed(b"one").await.unwrap();
    out.feed_borrowed(b"a\nb").await.unwrap_err();
    out.feed_borrowed(b"too long").await.unwrap_err();
    out.feed_borrowed(b"two").await.unwrap();
    out.flush().await.unwrap();
    assert_eq!(out.into_parts().0, b"one\ntwo\n");
}
