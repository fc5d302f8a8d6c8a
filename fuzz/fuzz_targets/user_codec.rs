//! tokio-util's own decoders under `FramedRead`, cut anywhere: the items and the error of the whole
//! stream at once.
#![no_main]

use std::fmt::Debug;

use aqueduct::frame::FramedRead;
use aqueduct_fuzz::{Meter, Pieces, drive, most};
use arbitrary::Arbitrary;
use bytes::BytesMut;
use futures_util::StreamExt;
use libfuzzer_sys::fuzz_target;
use tokio_util::codec::{AnyDelimiterCodec, Decoder, LengthDelimitedCodec, LinesCodec};

#[global_allocator]
static METER: Meter = Meter;

#[derive(Arbitrary, Debug)]
enum Codec {
    Lines,
    AnyDelimiter,
    Length { field: u8, little: bool, adjust: i8 },
}

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    codec: Codec,
    max_frame: u16,
    chunk: u16,
    steps: [u8; 8],
    stream: &'a [u8],
}

fuzz_target!(|input: Input<'_>| {
    let max = usize::from(input.max_frame);
    match input.codec {
        Codec::Lines => compare(&input, || LinesCodec::new_with_max_length(max)),
        Codec::AnyDelimiter => compare(&input, || {
            AnyDelimiterCodec::new_with_max_length(b",;".to_vec(), b",".to_vec(), max)
        }),
        Codec::Length {
            field,
            little,
            adjust,
        } => compare(&input, || {
            let mut builder = LengthDelimitedCodec::builder();
            builder
                .length_field_length(usize::from(field % 8) + 1)
                .length_adjustment(adjust.into())
                .max_frame_length(max);
            if little {
                builder.little_endian();
            }
            builder.new_codec()
        }),
    }
});

fn compare<D>(input: &Input<'_>, codec: impl Fn() -> D)
where
    D: Decoder + Unpin,
    D::Item: Debug,
    D::Error: Debug,
{
    let expected = at_once(codec(), input.stream);
    let chunk = usize::from(input.chunk).max(1);
    let mut came = Vec::with_capacity(input.stream.len() + 2);
    let mut text = 0;
    let (_, used) = most(|| {
        let io = Pieces::new(input.stream, &input.steps);
        let mut items = FramedRead::with_codec(io, codec()).with_chunk(chunk);
        drive(
            async {
                while let Some(item) = items.next().await {
                    came.push(format!("{item:?}"));
                    text += came.last().map_or(0, |it| it.capacity());
                }
            },
            4 * input.stream.len() + 64,
        )
    });
    assert_eq!(came, expected);
    // The texts are kept for the comparison, and one as it grows, twice.
    let kept = 3 * text;
    let bound = 4 * (usize::from(input.max_frame) + chunk) + 16_384 + kept;
    assert!(used <= bound, "{used} bytes in use, {bound} allowed");
}

/// What the decoder makes of the whole, up to its first error.
fn at_once<D>(mut decoder: D, stream: &[u8]) -> Vec<String>
where
    D: Decoder,
    D::Item: Debug,
    D::Error: Debug,
{
    let mut src = BytesMut::from(stream);
    let mut items = Vec::new();
    let mut ended = false;
    loop {
        let item: Result<Option<D::Item>, D::Error> = if ended {
            decoder.decode_eof(&mut src)
        } else {
            decoder.decode(&mut src)
        };
        match item {
            Ok(Some(item)) => items.push(format!("{:?}", Ok::<_, D::Error>(item))),
            Ok(None) if ended => return items,
            Ok(None) => ended = true,
            Err(error) => {
                items.push(format!("{:?}", Err::<D::Item, _>(error)));
                return items;
            }
        }
    }
}
