use futures_util::FutureExt;
use futures_util::StreamExt;
use tokio::io::AsyncWriteExt;

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
