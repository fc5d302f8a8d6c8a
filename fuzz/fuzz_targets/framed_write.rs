//! Frames of any sizes through `FramedWrite`, taken a few bytes at a time, are on the wire exactly
//! as the framing says; one that is refused leaves no byte; and they come out of `FramedRead`.
#![no_main]

use aqueduct::frame::{FramedRead, FramedWrite, Framing};
use aqueduct_fuzz::{Pieces, drive};
use arbitrary::Arbitrary;
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use libfuzzer_sys::fuzz_target;

#[derive(Arbitrary, Debug)]
enum Step {
    /// A body of this many bytes of this value.
    Feed(u16, u8),
    Flush,
}

#[derive(Arbitrary, Debug)]
struct Input {
    cut: u8,
    max_frame: u16,
    chunk: u16,
    steps: [u8; 4],
    calls: Vec<Step>,
}

fuzz_target!(|input: Input| {
    let (framing, delimiter) = match input.cut % 3 {
        0 => (Framing::length(), None),
        1 => (Framing::lines(), Some(b'\n')),
        _ => (Framing::nul(), Some(0)),
    };
    let max = usize::from(input.max_frame);
    let framing = framing.max_frame(max);
    let mut io = Pieces::new(b"", &input.steps);
    let mut sent = Vec::new();
    let mut wire = Vec::new();
    let calls = input.calls.iter().take(64);
    drive(
        async {
            let mut sink =
                FramedWrite::new(&mut io, framing.clone()).with_chunk(usize::from(input.chunk));
            for call in calls {
                match *call {
                    Step::Feed(len, byte) => {
                        let body = Bytes::from(vec![byte; usize::from(len)]);
                        let refused =
                            body.len() > max || (Some(byte) == delimiter && !body.is_empty());
                        assert_eq!(sink.feed(body.clone()).await.is_err(), refused);
                        if !refused {
                            if delimiter.is_none() {
                                wire.extend(u32::from(len).to_be_bytes());
                            }
                            wire.extend_from_slice(&body);
                            wire.extend(delimiter);
                            sent.push(body);
                        }
                    }
                    Step::Flush => sink.flush().await.unwrap(),
                }
            }
            sink.close().await.unwrap();
        },
        1 << 24,
    );
    assert!(io.output == wire, "on the wire as the framing says");
    let frames = FramedRead::new(&wire[..], framing);
    let back: Vec<Bytes> = drive(frames.map(|it| it.unwrap()).collect(), 1);
    assert!(back == sent, "what went in comes out");
});
