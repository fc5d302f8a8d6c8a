//! Codecs that break their contract: no frame of another message is lost or harmed in silence.

use std::io;

use aqueduct::codec::{BoxError, Encode, Format};
use aqueduct::frame::{FramedRead, FramedWrite, Framing};
use bytes::{Buf, BufMut, BytesMut};
use futures_util::{SinkExt, StreamExt};
use tokio_util::codec::{Decoder, Encoder};

use crate::support::deadline;

/// How an encoder mistreats its buffer before it writes an item.
#[derive(Clone, Copy)]
enum Harm {
    Clears,
    Replaces,
    Advances,
    Overwrites,
}

const HARMS: [Harm; 4] = [
    Harm::Clears,
    Harm::Replaces,
    Harm::Advances,
    Harm::Overwrites,
];

impl Harm {
    fn put(self, item: &str, dst: &mut BytesMut) {
        match self {
            Self::Clears => dst.clear(),
            Self::Replaces => *dst = BytesMut::with_capacity(item.len()),
            Self::Advances => dst.advance(dst.len() / 2),
            Self::Overwrites => dst.fill(b'#'),
        }
        dst.put_slice(item.as_bytes());
    }
}

impl Encoder<&'static str> for Harm {
    type Error = io::Error;

    fn encode(&mut self, item: &'static str, dst: &mut BytesMut) -> io::Result<()> {
        self.put(item, dst);
        Ok(())
    }
}

#[tokio::test]
async fn an_encoder_that_mistreats_its_buffer_harms_no_frame() {
    for harm in HARMS {
        let mut out = FramedWrite::with_codec(Vec::new(), harm);
        for item in ["one\n", "one\n", "a longer one\n", "3\n"] {
            out.feed(item).await.unwrap();
        }
        out.flush().await.unwrap();
        assert_eq!(out.get_ref(), b"one\none\na longer one\n3\n");
    }
}

impl Format for Harm {
    fn name(&self) -> &'static str {
        "harm"
    }
}

impl Encode<&'static str> for Harm {
    fn encode(&self, item: &&'static str, dst: &mut BytesMut) -> Result<(), BoxError> {
        if item.is_empty() {
            dst.clear();
            return Err("it is empty".into());
        }
        match *item {
            "one" | "fine" => dst.put_slice(item.as_bytes()),
            _ => self.put(item, dst),
        }
        Ok(())
    }
}

/// The longest of all is longer than all that it replaces.
const LAST: [&str; 4] = [
    "",
    "x",
    "one",
    "a message that is longer than those before it",
];

#[tokio::test]
async fn a_codec_that_mistreats_its_buffer_ends_the_sink() {
    for framing in [Framing::length(), Framing::lines(), Framing::nul()] {
        for harm in HARMS {
            for (at, last) in LAST.into_iter().enumerate() {
                let (near, mut far) = tokio::io::duplex(1000);
                let mut sender = FramedWrite::new(near, framing.clone()).typed(harm);
                deadline(sender.send("fine")).await.unwrap();
                for _ in 0..3 {
                    deadline(sender.feed("one")).await.unwrap();
                }
                if at == 2 {
                    // Nothing is mistreated here.
                    deadline(sender.send(last)).await.unwrap();
                    continue;
                }
                deadline(sender.feed(last)).await.unwrap_err();
                let error = deadline(sender.feed("fine")).await.unwrap_err();
                let cause = std::error::Error::source(&error).expect("it has a cause");
                assert!(cause.to_string().contains("may only append"), "{cause}");
                deadline(sender.flush()).await.unwrap_err();
                drop(sender);
                // Nothing of the harmed buffer was written.
                let mut wire = Vec::new();
                let read = tokio::io::AsyncReadExt::read_to_end(&mut far, &mut wire);
                deadline(read).await.unwrap();
                assert_eq!(
                    wire.len(),
                    4 + if framing == Framing::length() { 4 } else { 1 }
                );
            }
        }
    }
}

/// Has items without any bytes: as many as it says.
struct Holds(u32);

impl Decoder for Holds {
    type Item = u32;
    type Error = io::Error;

    fn decode(&mut self, src: &mut BytesMut) -> io::Result<Option<u32>> {
        assert!(!src.is_empty(), "nothing was read yet");
        if self.0 == 0 {
            src.clear();
            return Ok(None);
        }
        self.0 -= 1;
        Ok(Some(self.0))
    }
}

#[tokio::test]
async fn a_decoder_may_give_any_number_of_items_for_no_bytes() {
    let mut items = FramedRead::with_codec(&b"x"[..], Holds(100_000));
    for left in (0..100_000).rev() {
        assert_eq!(items.next().await.unwrap().unwrap(), left);
    }
}

#[tokio::test]
async fn nothing_is_decoded_before_something_was_read() {
    let (far, near) = tokio::io::duplex(8);
    let mut items = FramedRead::with_codec(near, Holds(1));
    assert!(tokio_test::task::spawn(items.next()).poll().is_pending());
    let mut items = items_again(items);
    assert!(tokio_test::task::spawn(items.next()).poll().is_pending());
    drop(far);
}

/// The stream, made anew of its parts, of which the buffer is empty.
fn items_again<R: tokio::io::AsyncRead + Unpin>(
    items: FramedRead<R, aqueduct::frame::UserCodec<Holds>>,
) -> FramedRead<R, aqueduct::frame::UserCodec<Holds>> {
    let (io, read) = items.into_parts();
    FramedRead::with_codec(io, Holds(1)).with_read_buffer(read)
}
