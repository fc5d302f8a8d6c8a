//! Framing: what arrives, however the bytes are cut, and what a broken stream does.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use aqueduct::frame::{
    COPY_BELOW, DEFAULT_MAX_FRAME, FrameEncoder, FrameError, FramedRead, FramedWrite, Framing,
    WriteBuf,
};
use bytes::{BufMut, Bytes, BytesMut};
use futures_util::stream::FusedStream;
use futures_util::{SinkExt, StreamExt};
use proptest::prelude::*;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio_test::{assert_pending, assert_ready_ok, task};
use tokio_util::codec::{BytesCodec, Decoder, Encoder, LengthDelimitedCodec, LinesCodec};

use crate::support::{Log, deadline};

/// Gives its pieces one per read, and `Pending` (with a wake-up) between any two.
struct Pieces {
    pieces: Vec<Vec<u8>>,
    pause: bool,
}

impl Pieces {
    fn new(pieces: impl IntoIterator<Item = impl Into<Vec<u8>>>) -> Self {
        let mut pieces: Vec<Vec<u8>> = pieces.into_iter().map(Into::into).collect();
        pieces.retain(|piece| !piece.is_empty());
        pieces.reverse();
        Self {
            pieces,
            pause: false,
        }
    }

    fn byte_by_byte(bytes: &[u8]) -> Self {
        Self::new(bytes.iter().map(|byte| vec![*byte]))
    }
}

impl AsyncRead for Pieces {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.pause = !self.pause;
        if self.pause {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if let Some(mut piece) = self.pieces.pop() {
            let n = piece.len().min(buf.remaining());
            buf.put_slice(&piece[..n]);
            piece.drain(..n);
            if !piece.is_empty() {
                self.pieces.push(piece);
            }
        }
        Poll::Ready(Ok(()))
    }
}

/// Takes at most `step` bytes a write, and `Pending` between any two.
struct Trickle {
    written: Arc<Mutex<Vec<u8>>>,
    step: usize,
    gather: bool,
    pause: bool,
    calls: Arc<Mutex<Vec<usize>>>,
}

impl Trickle {
    fn new(step: usize, gather: bool) -> Self {
        Self {
            written: Arc::default(),
            step,
            gather,
            pause: false,
            calls: Arc::default(),
        }
    }

    fn take(&mut self, cx: &mut Context<'_>, bufs: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        self.pause = !self.pause;
        if self.pause {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let mut left = self.step;
        let mut written = self.written.lock().unwrap();
        for buf in bufs {
            let n = buf.len().min(left);
            written.extend_from_slice(&buf[..n]);
            left -= n;
        }
        self.calls.lock().unwrap().push(self.step - left);
        Poll::Ready(Ok(self.step - left))
    }
}

impl AsyncWrite for Trickle {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.take(cx, &[io::IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.take(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.gather
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

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

    let frames = FramedRead::new(Pieces::new(["abcde"]), Framing::raw().max_frame(2));
    let got = all(frames).await;
    assert_eq!(got, [Ok("ab".into()), Ok("cd".into()), Ok("e".into())]);

    // What is received must move, whatever the limit: it would gather in memory.
    let frames = FramedRead::new(Pieces::new(["ab"]), Framing::raw().max_frame(0));
    assert_eq!(all(frames).await, [Ok("a".into()), Ok("b".into())]);
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
        (Framing::nul(), b"ok\0abc"),
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
        "stream ended inside a frame: 7 bytes came, 2 more were to come"
    );
}

#[tokio::test]
async fn last_line_needs_no_newline() {
    let frames = FramedRead::new(Pieces::byte_by_byte(b"a\r\nnoeol"), Framing::lines());
    assert_eq!(all(frames).await, [Ok("a\r".into()), Ok("noeol".into())]);
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
            max: DEFAULT_MAX_FRAME
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
            Some(FrameError::TooLarge { max: 1000, .. })
        ));
    }
}

#[tokio::test]
async fn a_length_without_its_body_reserves_no_memory() {
    // A header that announces 64 MiB, and the body never comes.
    let (mut far, near) = tokio::io::duplex(64);
    far.write_all(&(64u32 << 20).to_be_bytes()).await.unwrap();
    far.write_all(b"four").await.unwrap();
    let framing = Framing::length().max_frame(64 << 20);
    let mut frames = task::spawn(FramedRead::new(near, framing));
    assert_pending!(frames.poll_next());
    assert_eq!(frames.read_buffer().len(), 8);
    assert!(frames.memory() <= 256 * 1024);
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

/// tokio-util's `FramedRead` gives an error, `None`, and then goes on with what follows.
#[tokio::test]
async fn a_foreign_decoder_is_fused_too() {
    let wire = b"a\nb\ntoo long\nc\nd\n";
    let codec = LinesCodec::new_with_max_length(3);
    let mut frames = FramedRead::with_codec(&wire[..], codec);
    let mut got = Vec::new();
    while let Some(item) = frames.next().await {
        got.push(item.map_err(drop));
    }
    assert_eq!(got, [Ok("a".into()), Ok("b".into()), Err(())]);
    assert!(frames.next().await.is_none());
    assert!(frames.next().await.is_none());
}

#[tokio::test]
async fn foreign_codecs_work_both_ways() {
    let mut out = FramedWrite::with_codec(Vec::new(), LinesCodec::new());
    out.send("one").await.unwrap();
    out.send("two").await.unwrap();
    let (wire, unsent) = out.into_parts();
    assert!(unsent.is_empty());
    let frames = FramedRead::with_codec(&wire[..], BytesCodec::new());
    assert_eq!(all(frames).await, [Ok(BytesMut::from("one\ntwo\n"))]);
}

/// Writes half of each item, and fails on every second one.
struct Half(bool);

impl Encoder<&'static str> for Half {
    type Error = io::Error;

    fn encode(&mut self, item: &'static str, dst: &mut BytesMut) -> io::Result<()> {
        dst.put_slice(item.as_bytes());
        self.0 = !self.0;
        if self.0 {
            Ok(())
        } else {
            Err(io::ErrorKind::InvalidInput.into())
        }
    }
}

#[tokio::test]
async fn an_encoder_that_fails_leaves_nothing_behind() {
    let mut out = FramedWrite::with_codec(Vec::new(), Half(false));
    out.feed("one").await.unwrap();
    out.feed("half").await.unwrap_err();
    out.send("two").await.unwrap();
    assert_eq!(out.into_parts().0, b"onetwo");
}

/// Takes away what other frames have put into the buffer.
struct Clears;

impl Encoder<()> for Clears {
    type Error = io::Error;

    fn encode(&mut self, (): (), dst: &mut BytesMut) -> io::Result<()> {
        if dst.is_empty() {
            dst.put_slice(b"one");
        } else {
            dst.clear();
        }
        Ok(())
    }
}

#[tokio::test]
#[should_panic(expected = "an encoder appends")]
async fn an_encoder_that_takes_bytes_away_is_told_so() {
    let mut out = FramedWrite::with_codec(Vec::new(), Clears);
    out.feed(()).await.unwrap();
    out.feed(()).await.unwrap();
}

/// Seals a large piece and fails behind it.
struct LargeThenFail;

impl FrameEncoder<bool> for LargeThenFail {
    type Error = io::Error;

    fn encode(&mut self, fail: bool, dst: &mut WriteBuf) -> io::Result<()> {
        dst.tail().put_slice(b"head");
        if fail {
            dst.put(Bytes::from(vec![b'x'; COPY_BELOW]));
            dst.tail().put_slice(b"tail");
            return Err(io::ErrorKind::InvalidInput.into());
        }
        Ok(())
    }
}

#[tokio::test]
async fn what_was_encoded_before_a_failure_stays_and_in_order() {
    // `FramedWrite` takes tokio-util encoders by `with_codec`; a `FrameEncoder` goes in as itself.
    for gather in [false, true] {
        let mut out = FramedWrite::with_frame_encoder(Trickle::new(3, gather), LargeThenFail);
        out.feed(false).await.unwrap();
        out.feed(true).await.unwrap_err();
        out.feed(false).await.unwrap();
        assert_eq!(out.unsent(), 8);
        deadline(SinkExt::<bool>::flush(&mut out)).await.unwrap();
        assert_eq!(*out.get_ref().written.lock().unwrap(), b"headhead");
    }
}

#[tokio::test]
async fn a_decoder_that_takes_nothing_is_caught_in_debug_builds() {
    struct Endless;
    impl Decoder for Endless {
        type Item = ();
        type Error = io::Error;
        fn decode(&mut self, _: &mut BytesMut) -> io::Result<Option<()>> {
            Ok(Some(()))
        }
    }
    if !cfg!(debug_assertions) {
        return;
    }
    let outcome = tokio::spawn(async {
        let mut frames = FramedRead::with_codec(&b"x"[..], Endless);
        while frames.next().await.is_some() {}
    });
    assert!(deadline(outcome).await.unwrap_err().is_panic());
}

#[tokio::test]
async fn fed_frames_go_out_together_and_large_ones_are_not_copied() {
    let big = Bytes::from(vec![7; COPY_BELOW]);
    let mut out = FramedWrite::new(Trickle::new(usize::MAX, true), Framing::length());
    for _ in 0..100 {
        out.feed(Bytes::from("small")).await.unwrap();
    }
    out.feed(big.clone()).await.unwrap();
    deadline(out.flush()).await.unwrap();
    assert_eq!(
        *out.get_ref().calls.lock().unwrap(),
        [100 * 9 + 4 + COPY_BELOW]
    );
}

#[tokio::test]
async fn no_write_is_larger_than_the_chunk() {
    let mut out = FramedWrite::new(Trickle::new(usize::MAX, true), Framing::length());
    out = out.with_chunk(8192);
    let bodies: Vec<_> = [10, COPY_BELOW, 3 * COPY_BELOW + 1, 5]
        .into_iter()
        .map(|len| Bytes::from(vec![b'x'; len]))
        .collect();
    for body in &bodies {
        deadline(out.feed(body.clone())).await.unwrap();
    }
    deadline(out.close()).await.unwrap();
    let calls = out.get_ref().calls.lock().unwrap().clone();
    assert!(calls.iter().all(|n| *n <= 8192), "{calls:?}");
    let wire = out.get_ref().written.lock().unwrap().clone();
    assert_eq!(wire, encoded(&Framing::length(), &bodies));
}

/// The buffer of a small frame that is kept must not be kept with it: 8 KiB for 10 bytes.
#[tokio::test]
async fn a_kept_small_frame_does_not_keep_the_buffer() {
    let wire = encoded(&Framing::length(), &[Bytes::from("ten bytes!")]);
    let mut decoder = Framing::length();
    let mut buf = BytesMut::with_capacity(1 << 20);
    let start = buf.as_ptr();
    buf.extend_from_slice(&wire);
    let kept = decoder.decode(&mut buf).unwrap().unwrap();
    // Nothing else holds the memory: it can be had again from its start.
    assert!(buf.try_reclaim(1 << 20));
    assert_eq!(buf.as_ptr(), start);
    assert_eq!(kept, "ten bytes!");
}

#[tokio::test]
async fn a_large_frame_is_handed_over_without_a_copy() {
    let mut buf = encoded(&Framing::length(), &[Bytes::from(vec![1; COPY_BELOW])]);
    let body = buf[4..].as_ptr();
    let frame = Framing::length().decode(&mut buf).unwrap().unwrap();
    assert_eq!(frame.as_ptr(), body);
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
async fn a_sink_dropped_inside_a_frame_is_a_truncated_frame_for_its_peer() {
    let (tx, rx) = aqueduct::pipe::pipe().unwrap();
    let mut tx = tx.framed(Framing::length());
    let mut rx = rx.framed(Framing::length());
    deadline(tx.send(Bytes::from("whole"))).await.unwrap();
    {
        let mut send = task::spawn(tx.send(Bytes::from(vec![7; DEFAULT_MAX_FRAME])));
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

fn framings() -> impl Strategy<Value = Framing> {
    prop_oneof![
        Just(Framing::length().max_frame(300)),
        Just(Framing::lines().max_frame(300)),
        Just(Framing::nul().max_frame(300)),
    ]
}

/// Decodes `wire` handed over in pieces cut at `cuts`.
fn decode_in_pieces(
    framing: &Framing,
    wire: &[u8],
    cuts: &[usize],
) -> Vec<Result<Bytes, FrameError>> {
    let mut ends: Vec<_> = cuts.iter().map(|cut| cut % (wire.len() + 1)).collect();
    ends.push(wire.len());
    ends.sort_unstable();
    let mut start = 0;
    let pieces = ends.iter().map(|end| {
        let piece = wire[start..*end].to_vec();
        start = *end;
        piece
    });
    let mut frames = FramedRead::new(Pieces::new(pieces), framing.clone());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    runtime.block_on(async {
        let mut items = Vec::new();
        while let Some(item) = frames.next().await {
            items.push(item.map_err(|e| FrameError::of(&e).expect("a frame error").clone()));
        }
        items
    })
}

/// The same error, however much had come when it was seen.
fn kind(item: &Result<Bytes, FrameError>) -> Result<&Bytes, u8> {
    item.as_ref().map_err(|e| match e {
        FrameError::TooLarge { .. } => 1,
        FrameError::Truncated { .. } => 2,
        _ => 3,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn any_bytes_cut_anywhere_give_the_same_frames_and_the_same_error(
        framing in framings(),
        wire in prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..600),
            proptest::collection::vec(prop_oneof![Just(0u8), Just(b'\n'), Just(1), Just(9)], 0..600),
        ],
        cuts in proptest::collection::vec(any::<usize>(), 0..20),
    ) {
        let whole = decode_in_pieces(&framing, &wire, &[]);
        let cut = decode_in_pieces(&framing, &wire, &cuts);
        prop_assert_eq!(
            whole.iter().map(kind).collect::<Vec<_>>(),
            cut.iter().map(kind).collect::<Vec<_>>()
        );
    }

    #[test]
    fn what_is_sent_arrives(
        framing in framings(),
        bodies in proptest::collection::vec(proptest::collection::vec(1u8..=9, 0..300), 0..20),
        cuts in proptest::collection::vec(any::<usize>(), 0..20),
    ) {
        let bodies: Vec<_> = bodies.into_iter().map(Bytes::from).collect();
        let wire = encoded(&framing, &bodies);
        let got: Vec<_> = decode_in_pieces(&framing, &wire, &cuts)
            .into_iter()
            .map(Result::unwrap)
            .collect();
        prop_assert_eq!(got, bodies);
    }

    #[test]
    fn both_ways_to_encode_write_the_same_bytes(
        framing in framings(),
        lens in proptest::collection::vec(prop_oneof![0usize..100, COPY_BELOW - 2..COPY_BELOW + 2], 1..8),
        step in 1usize..5000,
        chunk in 1usize..20_000,
        gather in any::<bool>(),
    ) {
        let framing = framing.max_frame(1 << 20);
        let bodies: Vec<_> = lens.iter().map(|len| Bytes::from(vec![b'x'; *len])).collect();
        let mut out = FramedWrite::new(Trickle::new(step, gather), framing.clone()).with_chunk(chunk);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            for body in &bodies {
                out.feed(body.clone()).await.unwrap();
            }
            out.close().await.unwrap();
        });
        let wire = out.get_ref().written.lock().unwrap().clone();
        prop_assert_eq!(wire, encoded(&framing, &bodies));
    }
}

/// Every way of delivery that matters to the buffers: whole, and in reads that end anywhere near a
/// header or a page.
fn deliveries(wire: &[u8]) -> Vec<Pieces> {
    let mut all = vec![Pieces::new([wire])];
    // In small steps only what does not take for ever.
    let steps: &[_] = if wire.len() < 100_000 {
        &[1, 4095, 4096, 4097, 8192, 65_536]
    } else {
        &[8192, 100_003]
    };
    for &step in steps {
        all.push(Pieces::new(wire.chunks(step)));
    }
    all
}

/// Small and large frames take turns, of the sizes at which a buffer is changed for another.
fn mixed() -> Vec<Bytes> {
    let sizes = [
        0,
        1,
        100,
        128,
        129,
        4095,
        4096,
        COPY_BELOW - 1,
        COPY_BELOW,
        10,
        COPY_BELOW + 1,
        65_531,
        65_532,
        65_536,
        0,
        200_000,
        7,
        DEFAULT_MAX_FRAME,
        DEFAULT_MAX_FRAME,
        1,
    ];
    // Neither a newline nor a NUL.
    let body = |(i, len): (usize, &usize)| Bytes::from(vec![i as u8 | 0x40; *len]);
    sizes.iter().enumerate().map(body).collect()
}

#[tokio::test]
async fn small_and_large_frames_cross_cut_anywhere_and_kept_or_not() {
    let all_sizes = mixed();
    let framings = [Framing::length(), Framing::lines(), Framing::nul()];
    let cases = framings
        .into_iter()
        .flat_map(|it| [(it.clone(), 11), (it, 20)]);
    for (framing, up_to) in cases {
        let bodies = &all_sizes[..up_to];
        let wire = encoded(&framing, bodies);
        for chunk in [8192, 65_536] {
            for io in deliveries(&wire) {
                let frames = FramedRead::new(io, framing.clone()).with_chunk(chunk);
                let kept: Vec<_> = all(frames).await.into_iter().map(Result::unwrap).collect();
                assert_eq!(kept, bodies);
            }
            for io in deliveries(&wire) {
                let mut frames = FramedRead::new(io, framing.clone()).with_chunk(chunk);
                for (i, body) in bodies.iter().enumerate() {
                    // Lent and owned take turns.
                    if i % 2 == 0 {
                        let frame = deadline(frames.next_borrowed()).await.unwrap().unwrap();
                        assert!(frame == &body[..], "frame {i}");
                    } else {
                        assert!(
                            deadline(frames.next()).await.unwrap().unwrap() == body,
                            "frame {i}"
                        );
                    }
                }
                assert!(deadline(frames.next_borrowed()).await.is_none());
                assert!(frames.is_terminated());
            }
        }
    }
}

/// Very small frames are copied several at once: what a read then brings to their place must not
/// come to be theirs.
#[tokio::test]
async fn very_small_frames_are_kept_as_they_were_however_reads_cut_them() {
    let body = |i: usize| Bytes::from(vec![(i % 251) as u8; i * 7 % 150]);
    let bodies: Vec<_> = (0..2000).map(body).collect();
    let wire = encoded(&Framing::length(), &bodies);
    for step in [1, 10, 67, 100, 1000, 4096, 8192] {
        let io = Pieces::new(wire.chunks(step));
        let frames = FramedRead::new(io, Framing::length()).with_chunk(step);
        let kept: Vec<_> = all(frames).await.into_iter().map(Result::unwrap).collect();
        assert_eq!(kept, bodies, "{step}");
    }
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
async fn a_large_frame_cut_off_is_truncated_whether_lent_or_kept() {
    let wire = encoded(&Framing::length(), &[Bytes::from(vec![7; 100_000])]);
    for cut in [3, 4, 5, 50_000, 100_003] {
        let mut frames = FramedRead::new(Pieces::new([&wire[..cut]]), Framing::length());
        let error = deadline(frames.next_borrowed()).await.unwrap().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        assert!(
            matches!(FrameError::of(&error), Some(FrameError::Truncated { got, .. }) if *got == cut)
        );
        assert!(deadline(frames.next_borrowed()).await.is_none());
    }
}

#[tokio::test]
async fn memory_grows_with_what_came_of_a_large_frame_and_not_with_its_header() {
    let (mut far, near) = tokio::io::duplex(1 << 20);
    far.write_all(&(64u32 << 20).to_be_bytes()).await.unwrap();
    let mut frames = task::spawn(FramedRead::new(near, Framing::length().max_frame(64 << 20)));
    let mut came = 0;
    for _ in 0..8 {
        far.write_all(&vec![0; 500_000]).await.unwrap();
        came += 500_000;
        while frames.read_buffer().len() < 4 + came {
            assert_pending!(frames.poll_next());
        }
        assert!(
            frames.memory() <= 2 * came + 512 * 1024,
            "{}",
            frames.memory()
        );
    }
}

#[tokio::test]
async fn a_large_frame_is_read_to_the_beginning_of_a_page() {
    let bodies = [Bytes::from(vec![1; 70_000]), Bytes::from(vec![2; 70_000])];
    let wire = encoded(&Framing::length(), &bodies);
    for frame in all(FramedRead::new(
        Pieces::new(wire.chunks(8192)),
        Framing::length(),
    ))
    .await
    {
        assert_eq!(frame.unwrap().as_ptr() as usize % 4096, 0);
    }
}

/// A pipe is written and read a page at a time, and every frame arrives.
#[tokio::test]
async fn all_sizes_cross_a_pipe_of_one_page() {
    let (tx, rx) = aqueduct::pipe::pipe().unwrap();
    tx.set_capacity(4096).unwrap();
    let mut tx = tx.framed(Framing::length());
    let mut rx = rx.framed(Framing::length());
    let bodies = mixed();
    let send = async {
        for body in &bodies {
            tx.feed_borrowed(body).await.unwrap();
        }
        tx.flush().await.unwrap();
        for body in &bodies {
            tx.send(body.clone()).await.unwrap();
        }
        drop(tx);
    };
    let receive = async {
        for body in bodies.iter().chain(&bodies) {
            assert!(rx.next().await.unwrap().unwrap() == body);
        }
        assert!(rx.next().await.is_none());
    };
    deadline(async { tokio::join!(send, receive) }).await;
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
