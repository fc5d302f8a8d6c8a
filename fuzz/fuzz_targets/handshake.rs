//! A peer that says anything at all, in any pieces, instead of a handshake: an error or an
//! agreement, without waiting and within the memory of a hello.
#![no_main]

use aqueduct::Channel;
use aqueduct::codec::Text;
use aqueduct::connect::Connection;
use aqueduct::frame::{FramedWrite, Framing};
use aqueduct::handshake::Handshake;
use aqueduct_fuzz::{Meter, Pieces, drive, most};
use arbitrary::Arbitrary;
use bytes::Bytes;
use futures_util::SinkExt;
use libfuzzer_sys::fuzz_target;
use tokio::runtime::{Builder, Runtime};

#[global_allocator]
static METER: Meter = Meter;

#[derive(Arbitrary, Debug)]
enum Said<'a> {
    /// These bytes.
    Bytes(&'a [u8]),
    /// This as the first frame, and a good verdict.
    Frame(&'a [u8]),
    /// A hello with these fields, and this as the verdict.
    Hello(u16, &'a str, u32, &'a str, &'a [u8]),
}

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    lines: bool,
    steps: [u8; 4],
    said: Said<'a>,
}

fuzz_target!(|input: Input<'_>| {
    let framing = if input.lines {
        Framing::lines()
    } else {
        Framing::length()
    };
    let said = match input.said {
        Said::Bytes(bytes) => bytes.to_vec(),
        Said::Frame(frame) => framed(&framing, &[frame, b"aqueduct/1 ok"]),
        Said::Hello(version, codec, max_frame, messages, verdict) => {
            let hello = format!("aqueduct/{version} {codec} {max_frame} {messages}");
            framed(&framing, &[hello.as_bytes(), verdict])
        }
    };
    let polls = 8 * said.len() + 4096;
    let offered = 1000;
    RUNTIME.with(|runtime| {
        // Its timer is never waited for: the other side has always said something, or ended.
        let _inside = runtime.enter();
        let (result, used) = most(|| {
            let io = Pieces::new(said, input.steps);
            let framing = framing.max_frame(offered);
            let handshake = Handshake::new("fuzz/1");
            drive(
                async {
                    let talk = handshake
                        .channel(Connection::from_io(io, framing), Text)
                        .await;
                    talk.map(|it: Channel<String, String>| drop(it))
                },
                polls,
            )
        });
        if let Err(error) = result {
            assert!(!error.to_string().is_empty());
        }
        // The read and the write buffer start at one chunk of 64 KiB each.
        let bound = 4 * 65_536 + 16 * 256;
        assert!(used <= bound, "{used} bytes in use, {bound} allowed");
    });
});

thread_local! {
    static RUNTIME: Runtime = Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime can be had");
}

/// Those that the framing takes.
fn framed(framing: &Framing, frames: &[&[u8]]) -> Vec<u8> {
    let mut wire = Vec::new();
    let mut sink = FramedWrite::new(&mut wire, framing.clone());
    for frame in frames {
        let _ = drive(sink.feed(Bytes::copy_from_slice(frame)), 2);
    }
    drive(sink.close(), 2).expect("a vector takes all");
    drop(sink);
    wire
}
