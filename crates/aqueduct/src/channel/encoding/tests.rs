use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::AsyncWrite;

use super::*;
use crate::codec::{Format, Text};
use crate::frame::{FramedRead, FramedWrite, Framing};

/// Writes `x` this many times, or fails or panics in the middle of it.
#[derive(Clone, Copy)]
enum Item {
    Good(usize),
    Fails(usize),
    Panics(usize),
}

struct Xs;

impl Format for Xs {
    fn name(&self) -> &'static str {
        "xs"
    }
}

impl Encode<Item> for Xs {
    fn encode(&self, item: &Item, dst: &mut BytesMut) -> Result<(), BoxError> {
        let (Item::Good(n) | Item::Fails(n) | Item::Panics(n)) = *item;
        dst.resize(dst.len() + n, b'x');
        match item {
            Item::Good(_) => Ok(()),
            Item::Fails(_) => Err("in the middle".into()),
            Item::Panics(_) => panic!("in the middle"),
        }
    }
}

/// A writer that takes nothing until it is allowed to.
#[derive(Default)]
struct Shut {
    open: bool,
    wire: Vec<u8>,
}

impl AsyncWrite for Shut {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        if !self.open {
            return Poll::Pending;
        }
        self.wire.extend_from_slice(buf);
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// The item fails to encode, panics, or is refused.
#[tokio::test]
async fn a_failed_item_leaves_nothing_in_the_buffer() {
    for framing in [Framing::length(), Framing::lines(), Framing::nul()] {
        let sink = FramedWrite::new(Shut::default(), framing.clone().max_frame(100));
        let mut end = Straight { sink, codec: Xs };
        for n in [0, 1, 100] {
            end.start(Item::Good(n)).unwrap();
            let before = end.sink.unsent();
            let failed = end.start(Item::Fails(n)).unwrap_err();
            assert!(matches!(failed, Error::Encode { codec: "xs", .. }));
            let refused = end.start(Item::Good(101)).unwrap_err();
            assert_eq!(refused.kind(), io::ErrorKind::InvalidInput);
            assert!(matches!(refused, Error::Io(_)));
            let panicked = || end.start(Item::Panics(n));
            assert!(catch_unwind(AssertUnwindSafe(panicked)).is_err());
            assert_eq!(end.sink.unsent(), before);
        }
        end.sink.get_mut().open = true;
        std::future::poll_fn(|cx| Encoding::<Item>::poll_flush(&mut end, cx))
            .await
            .unwrap();
        let wire = std::mem::take(&mut end.sink.get_mut().wire);
        let mut frames = FramedRead::new(&wire[..], framing);
        for n in [0, 1, 100] {
            let body = frames.next_borrowed().await.unwrap().unwrap();
            assert_eq!(body, "x".repeat(n).as_bytes());
        }
        assert!(frames.next_borrowed().await.is_none());
    }
}

#[test]
fn an_item_with_a_delimiter_is_refused_and_leaves_nothing() {
    let sink = FramedWrite::new(Shut::default(), Framing::lines());
    let mut end = Straight { sink, codec: Text };
    end.start("one").unwrap();
    let refused = end.start("two\nthree").unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::InvalidInput);
    end.start("four").unwrap();
    assert_eq!(end.sink.into_parts().1, "one\nfour\n");
}

#[tokio::test]
async fn the_memory_of_a_huge_item_is_not_kept() {
    let framing = Framing::length().max_frame(8 * SCRATCH_KEPT);
    let mut sink = FramedWrite::new(Shut::default(), framing);
    sink.get_mut().open = true;
    let mut end = Straight { sink, codec: Xs };
    for (item, kept) in [
        (Item::Good(SCRATCH_KEPT / 2), true),
        (Item::Good(4 * SCRATCH_KEPT), false),
        (Item::Fails(SCRATCH_KEPT / 2), true),
        (Item::Fails(4 * SCRATCH_KEPT), false),
    ] {
        let _ = end.start(item);
        std::future::poll_fn(|cx| Encoding::<Item>::poll_flush(&mut end, cx))
            .await
            .unwrap();
        assert_eq!(end.sink.memory() >= SCRATCH_KEPT / 2, kept);
    }

    let sink = || Box::pin(FramedWrite::new(Shut::default(), Framing::length()));
    let mut end = Framed::new(sink(), Xs);
    for (item, kept) in [
        (Item::Good(SCRATCH_KEPT + 1), false),
        (Item::Fails(SCRATCH_KEPT + 1), false),
        (Item::Fails(SCRATCH_KEPT / 2), true),
    ] {
        let _ = end.encode(item);
        assert_eq!(end.scratch.capacity() >= SCRATCH_KEPT / 2, kept);
    }
}
