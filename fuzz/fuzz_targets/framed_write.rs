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

/// A frame as the definition of its framing says.
fn on_wire(name: &str, body: &[u8]) -> Vec<u8> {
    let (field, whole) = match name.strip_suffix("+header") {
        Some(field) => (field, true),
        None => (name, false),
    };
    let length = |size: usize| (body.len() + if whole { size } else { 0 }) as u64;
    let be = |size: usize| length(size).to_be_bytes()[8 - size..].to_vec();
    let le = |size: usize| length(size).to_le_bytes()[..size].to_vec();
    let (before, after): (Vec<u8>, &[u8]) = match field {
        "lines" => (vec![], b"\n"),
        "crlf" => (vec![], b"\r\n"),
        "nul" => (vec![], b"\0"),
        "u8" => (be(1), b""),
        "u16be" => (be(2), b""),
        "u16le" => (le(2), b""),
        "length" | "u32be" => (be(4), b""),
        "u32le" => (le(4), b""),
        "u64be" => (be(8), b""),
        "u64le" => (le(8), b""),
        "netstring" => (format!("{}:", body.len()).into(), b","),
        "headers" => (
            format!("Content-Length: {}\r\n\r\n", body.len()).into(),
            b"",
        ),
        _ => {
            // A block for each zero byte and the end, and full ones on the way.
            let mut stuffed = Vec::new();
            for part in body.split(|it| *it == 0) {
                let mut blocks = part.chunks(254).peekable();
                while let Some(block) = blocks.next_if(|it| it.len() == 254) {
                    stuffed.push(255);
                    stuffed.extend_from_slice(block);
                }
                let rest = blocks.next().unwrap_or_default();
                stuffed.push(rest.len() as u8 + 1);
                stuffed.extend_from_slice(rest);
            }
            // A full block that ends the body needs none behind it.
            if !body.is_empty()
                && body
                    .split(|it| *it == 0)
                    .last()
                    .is_some_and(|it| !it.is_empty() && it.len() % 254 == 0)
            {
                stuffed.pop();
            }
            (stuffed, b"\0")
        }
    };
    let body = if field == "cobs" { &[] } else { body };
    [&before, body, after].concat()
}

fuzz_target!(|input: Input| {
    let names: Vec<_> = Framing::names().iter().filter(|it| **it != "raw").collect();
    let name = *names[usize::from(input.cut) % names.len()];
    let framing: Framing = name.parse().unwrap();
    let delimiter = match name {
        "lines" | "crlf" => Some(b'\n'),
        "nul" => Some(0),
        _ => None,
    };
    let framing = framing.max_frame(usize::from(input.max_frame));
    let max = framing.get_max_frame();
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
                            wire.extend(on_wire(name, &body));
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
