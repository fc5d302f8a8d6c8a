//! Codecs other than `Framing`, and those that break their contract.

use std::io;

use aqueduct::frame::{FramedRead, FramedWrite, Framing};
use bytes::{BufMut, BytesMut};
use futures_util::{SinkExt, StreamExt};
use tokio_util::codec::{BytesCodec, Encoder, LinesCodec};

use super::all;

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

/// In tokio-util's own `Framed`, as any `Decoder`.
#[tokio::test]
async fn a_framing_decodes_for_others_too_up_to_the_end() {
    let mut lines = tokio_util::codec::FramedRead::new(&b"one\ntwo"[..], Framing::lines());
    for expected in ["one", "two"] {
        let line = lines.next().await.expect("no end");
        assert_eq!(line.expect("it is whole"), expected);
    }
    assert!(lines.next().await.is_none());
    let cut = &b"\0\0\0\x01x\0\0\0\x02y"[..];
    let mut frames = tokio_util::codec::FramedRead::new(cut, Framing::length());
    let frame = frames.next().await.expect("no end");
    assert_eq!(frame.expect("it is whole"), "x");
    let error = frames.next().await.expect("no end").expect_err("it is cut");
    assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
}
