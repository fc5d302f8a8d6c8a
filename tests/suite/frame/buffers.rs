//! What is copied, what is handed over, and how much memory it takes.

use std::io;
use std::pin::Pin;
use std::sync::Mutex;
use std::task::{Context, Poll};

use aqueduct::frame::{FrameError, FramedRead, FramedWrite, Framing};
use bytes::{Bytes, BytesMut};
use futures_util::stream::FusedStream;
use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncRead, ReadBuf};
use tokio_util::codec::Decoder;

use super::transport::{Pieces, Trickle};
use super::{LARGE, MAX_FRAME, all, encoded};
use crate::support::deadline;

#[tokio::test]
async fn fed_frames_go_out_together_and_large_ones_are_not_copied() {
    let big = Bytes::from(vec![7; LARGE]);
    let mut out = FramedWrite::new(Trickle::new(usize::MAX, true), Framing::length());
    for _ in 0..100 {
        out.feed(Bytes::from("small")).await.unwrap();
    }
    out.feed(big.clone()).await.unwrap();
    deadline(out.flush()).await.unwrap();
    assert_eq!(*out.get_ref().calls.lock().unwrap(), [100 * 9 + 4 + LARGE]);
}

#[tokio::test]
async fn no_write_is_larger_than_the_chunk() {
    let mut out = FramedWrite::new(Trickle::new(usize::MAX, true), Framing::length());
    out = out.with_chunk(8192);
    let bodies: Vec<_> = [10, LARGE, 3 * LARGE + 1, 5]
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
    let mut buf = encoded(&Framing::length(), &[Bytes::from(vec![1; LARGE])]);
    let body = buf[4..].as_ptr();
    let frame = Framing::length().decode(&mut buf).unwrap().unwrap();
    assert_eq!(frame.as_ptr(), body);
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
        LARGE - 1,
        LARGE,
        10,
        LARGE + 1,
        65_531,
        65_532,
        65_536,
        0,
        200_000,
        7,
        MAX_FRAME,
        MAX_FRAME,
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
async fn very_small_frames_survive_any_cut_of_the_reads() {
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

/// The place is the beginning of a page, or of the second cache line in it.
#[tokio::test]
async fn a_large_frame_is_read_to_an_aligned_place() {
    for (len, begins) in [
        (70_000, 0),
        (65_536, 0),
        (65_537, 64),
        (65_551, 64),
        (65_552, 0),
    ] {
        let bodies = [Bytes::from(vec![1; len]), Bytes::from(vec![2; len])];
        let wire = encoded(&Framing::length(), &bodies);
        let pieces = Pieces::new(wire.chunks(8192));
        for frame in all(FramedRead::new(pieces, Framing::length())).await {
            let frame = frame.unwrap();
            assert_eq!(frame.as_ptr() as usize % 4096, begins, "{len}");
            assert_eq!(frame.len(), len);
        }
    }
}

/// A reader that has to wait for a header, and notes for how much each call has room.
struct WaitsForHeader<'a> {
    wire: &'a [u8],
    waited: bool,
    rooms: &'a Mutex<Vec<usize>>,
}

impl AsyncRead for WaitsForHeader<'_> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.rooms.lock().unwrap().push(buf.remaining());
        if buf.remaining() == 4 && !this.waited {
            this.waited = true;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let (now, later) = this.wire.split_at(this.wire.len().min(buf.remaining()));
        buf.put_slice(now);
        this.wire = later;
        Poll::Ready(Ok(()))
    }
}

/// Else the body that came with it would be copied.
#[tokio::test]
async fn after_a_large_frame_a_header_is_read_alone() {
    let bodies = [Bytes::from(vec![1; 70_000]), Bytes::from(vec![2; 70_000])];
    let wire = encoded(&Framing::length(), &bodies);
    let rooms = Mutex::new(Vec::new());
    let reader = WaitsForHeader {
        wire: &wire,
        waited: false,
        rooms: &rooms,
    };
    let mut frames = FramedRead::new(reader, Framing::length());
    for body in &bodies {
        assert!(deadline(frames.next()).await.unwrap().unwrap() == body);
    }
    let rooms = rooms.lock().unwrap();
    assert_eq!(*rooms, [65_536, 70_004 - 65_536, 4, 4, 70_000]);
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
