//! Every framing, cut anywhere, against a parser that is too simple to be wrong, or against itself on
//! the whole stream; and no more memory than the frame limit allows.
#![no_main]

use aqueduct::frame::{FrameError, FramedRead, Framing, Partial, TooLong};
use aqueduct_fuzz::{Meter, Pieces, drive, most};
use arbitrary::Arbitrary;
use futures_util::StreamExt;
use libfuzzer_sys::fuzz_target;

#[global_allocator]
static METER: Meter = Meter;

#[derive(Arbitrary, Clone, Copy, Debug, PartialEq)]
enum Cut {
    Length,
    Lines,
    Nul,
    Raw,
    /// A number of a framing in the list of names.
    Named(u8),
}

/// What becomes of the rest behind the last delimiter.
#[derive(Arbitrary, Clone, Copy, Debug, PartialEq)]
enum Rest {
    Keep,
    Drop,
    Fail,
}

/// What becomes of a delimited message over the limit.
#[derive(Arbitrary, Clone, Copy, Debug, PartialEq)]
enum Over {
    Fail,
    Skip,
    Truncate,
}

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    cut: Cut,
    rest: Rest,
    over: Over,
    max_frame: u16,
    chunk: u16,
    steps: [u8; 8],
    stream: &'a [u8],
}

/// How a stream ended.
#[derive(Debug, PartialEq)]
enum End {
    Whole,
    TooLarge,
    Truncated,
    Malformed,
}

/// Frames by the definition of the framing alone.
fn model<'a>(input: &Input<'a>) -> (Vec<&'a [u8]>, End) {
    let (max, mut rest) = (usize::from(input.max_frame), input.stream);
    let mut frames = Vec::new();
    loop {
        match input.cut {
            Cut::Length => {
                if rest.is_empty() {
                    return (frames, End::Whole);
                }
                let Some((head, body)) = rest.split_first_chunk::<4>() else {
                    return (frames, End::Truncated);
                };
                let len = u32::from_be_bytes(*head) as usize;
                if len > max {
                    return (frames, End::TooLarge);
                }
                if body.len() < len {
                    return (frames, End::Truncated);
                }
                frames.push(&body[..len]);
                rest = &body[len..];
            }
            Cut::Lines | Cut::Nul => {
                if rest.is_empty() {
                    return (frames, End::Whole);
                }
                let byte = if input.cut == Cut::Lines { b'\n' } else { 0 };
                let end = rest.iter().position(|it| *it == byte);
                let body = &rest[..end.unwrap_or(rest.len())];
                match (body.len() > max, end, input.over, input.rest) {
                    (true, _, Over::Fail, _) => return (frames, End::TooLarge),
                    (true, _, Over::Truncate, _) if max > 0 => frames.push(&body[..max]),
                    (true, ..) | (_, None, _, Rest::Drop) => {}
                    (_, None, _, Rest::Fail) => return (frames, End::Truncated),
                    (_, Some(_), ..) | (_, None, _, Rest::Keep) => frames.push(body),
                }
                rest = end.map_or(&[], |end| &rest[end + 1..]);
            }
            Cut::Raw => return (vec![rest], End::Whole),
            Cut::Named(_) => unreachable!("it is compared with itself"),
        }
    }
}

/// All frames of a stream that comes in pieces, and how it ended.
async fn frames(
    mut frames: FramedRead<impl tokio::io::AsyncRead + Unpin>,
    mut each: impl FnMut(&[u8]),
) -> End {
    while let Some(frame) = frames.next().await {
        match frame {
            Ok(frame) => each(&frame),
            Err(error) => {
                let end = match FrameError::of(&error) {
                    Some(FrameError::TooLarge { .. } | FrameError::Unterminated { .. }) => {
                        End::TooLarge
                    }
                    Some(FrameError::Truncated { .. }) => End::Truncated,
                    Some(FrameError::Malformed { .. }) => End::Malformed,
                    _ => panic!("{error:?}"),
                };
                assert!(frames.next().await.is_none(), "it ends with the error");
                return end;
            }
        }
    }
    End::Whole
}

/// A framing by its number, but for the one without boundaries.
fn named(number: u8) -> Framing {
    let names: Vec<_> = Framing::names().iter().filter(|it| **it != "raw").collect();
    names[usize::from(number) % names.len()].parse().unwrap()
}

fuzz_target!(|input: Input<'_>| {
    let max = usize::from(input.max_frame);
    let framing = match input.cut {
        Cut::Length => Framing::length(),
        Cut::Lines => Framing::lines(),
        Cut::Nul => Framing::nul(),
        Cut::Raw => Framing::raw(),
        Cut::Named(number) => named(number),
    };
    let framing = framing
        .partial(match input.rest {
            Rest::Keep => Partial::Keep,
            Rest::Drop => Partial::Drop,
            Rest::Fail => Partial::Fail,
        })
        .too_long(match input.over {
            Over::Fail => TooLong::Fail,
            Over::Skip => TooLong::Skip,
            Over::Truncate => TooLong::Truncate,
        });
    let chunk = usize::from(input.chunk).max(1);
    let polls = 4 * input.stream.len() + 64;
    // What the whole stream gives at once, where there is no simple parser.
    let mut whole = Vec::new();
    let (expected, end): (Vec<&[u8]>, _) = match input.cut {
        Cut::Named(_) => {
            let io = FramedRead::new(input.stream, framing.clone().max_frame(max));
            let end = drive(frames(io, |frame| whole.push(frame.to_vec())), polls);
            (whole.iter().map(|it| &it[..]).collect(), end)
        }
        _ => model(&input),
    };
    // All frames end to end and their lengths: kept outside of what is metered.
    let mut bodies = Vec::with_capacity(input.stream.len());
    let mut lengths = Vec::with_capacity(input.stream.len() + 1);
    let (got, used) = most(|| {
        let io = Pieces::new(input.stream, &input.steps);
        let io = FramedRead::new(io, framing.max_frame(max)).with_chunk(chunk);
        let each = |frame: &[u8]| {
            bodies.extend_from_slice(frame);
            lengths.push(frame.len());
        };
        drive(frames(io, each), polls)
    });
    assert_eq!(got, end);
    assert_eq!(bodies, expected.concat());
    if input.cut == Cut::Raw {
        assert!(!lengths.contains(&0));
    } else {
        assert!(
            lengths
                .iter()
                .copied()
                .eq(expected.iter().map(|it| it.len()))
        );
    }
    // The buffer doubles as a frame comes, and old and new are there while it moves; two buffers of
    // large frames are kept for the next ones. Beside that a few pages, so that what is read begins
    // with one, and the slabs of small frames, 53 KiB.
    let bound = 6 * (max + chunk) + 128 * 1024;
    assert!(used <= bound, "{used} bytes in use, {bound} allowed");
});
