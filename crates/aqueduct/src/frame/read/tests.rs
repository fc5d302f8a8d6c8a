use futures_util::FutureExt;
use futures_util::StreamExt;
use tokio::io::{AsyncWriteExt, DuplexStream};

use super::*;

#[tokio::test]
async fn a_length_without_its_body_reserves_no_memory() {
    // A header that announces 64 MiB, and the body never comes.
    let (mut far, near) = tokio::io::duplex(64);
    far.write_all(&(64u32 << 20).to_be_bytes()).await.unwrap();
    far.write_all(b"four").await.unwrap();
    let mut frames = FramedRead::new(near, Framing::length().max_frame(64 << 20));
    assert!(frames.next().now_or_never().is_none());
    assert_eq!(frames.read_buffer().len(), 8);
    assert!(frames.memory() <= 256 * 1024);
}

#[tokio::test]
async fn memory_grows_with_what_came_and_not_with_its_header() {
    let (mut far, near) = tokio::io::duplex(1 << 20);
    far.write_all(&(64u32 << 20).to_be_bytes()).await.unwrap();
    let mut frames = FramedRead::new(near, Framing::length().max_frame(64 << 20));
    let mut came = 0;
    for _ in 0..8 {
        far.write_all(&vec![0; 500_000]).await.unwrap();
        came += 500_000;
        while frames.read_buffer().len() < 4 + came {
            assert!(frames.next().now_or_never().is_none());
        }
        let memory = frames.memory();
        assert!(memory <= 2 * came + 512 * 1024, "{memory}");
    }
}

/// Checks that an end that waits after frames of several sizes holds no buffer.
async fn holds_none<D>(mut frames: FramedRead<DuplexStream, D>, mut far: DuplexStream)
where
    D: FrameDecoder + Unpin,
    D::Item: AsRef<[u8]>,
    D::Error: fmt::Debug,
{
    for len in [64, 3000, 20_000, 200_000] {
        let mut wire = (len as u32).to_be_bytes().to_vec();
        wire.resize(4 + len, 7);
        let write = async { far.write_all(&wire).await.unwrap() };
        let (_, frame) = tokio::join!(write, frames.next());
        assert_eq!(frame.unwrap().unwrap().as_ref(), &wire[4..]);
        assert!(frames.next().now_or_never().is_none());
        assert_eq!(frames.memory(), 0, "{len}");
    }
}

#[tokio::test]
async fn an_end_that_waits_holds_no_buffer() {
    let (near, far) = tokio::io::duplex(64 * 1024);
    holds_none(FramedRead::new(near, Framing::length()), far).await;
    let (near, far) = tokio::io::duplex(64 * 1024);
    let codec = tokio_util::codec::LengthDelimitedCodec::new();
    holds_none(FramedRead::with_codec(near, codec), far).await;
}

#[tokio::test]
async fn an_end_that_has_given_its_last_frame_holds_no_buffer() {
    let mut frames = FramedRead::new(&b"one\ntwo\nthr"[..], Framing::lines());
    frames.next().await.unwrap().unwrap();
    assert!(frames.memory() > 0);
    let mut frames = FramedRead::new(&b"one\ntwo\n"[..], Framing::lines());
    for _ in 0..2 {
        frames.next().await.unwrap().unwrap();
    }
    assert_eq!(frames.memory(), 0);
    assert_eq!(frames.read_buffer(), b"");
}

#[tokio::test]
async fn ends_of_one_thread_use_the_same_memory_in_turn() {
    let mut places = std::collections::HashSet::new();
    let mut ends: Vec<_> = (0..50).map(|_| tokio::io::duplex(1024)).collect();
    let mut readers: Vec<_> = Vec::new();
    for (near, far) in ends.drain(..) {
        readers.push((FramedRead::new(near, Framing::lines()), far));
    }
    for _ in 0..3 {
        for (frames, far) in &mut readers {
            far.write_all(b"a line\nanother\n").await.unwrap();
            assert_eq!(frames.next().await.unwrap().unwrap(), "a line");
            places.insert(frames.read_buffer().as_ptr() as usize);
            assert_eq!(frames.next().await.unwrap().unwrap(), "another");
        }
    }
    assert_eq!(places.len(), 1);
}
