//! What holds for any bytes and frames, cut anywhere.

use aqueduct::frame::{FrameError, FramedRead, FramedWrite, Framing, Partial, TooLong};
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use proptest::prelude::*;

use super::transport::{Pieces, Trickle};
use super::{LARGE, encoded};

fn framings() -> impl Strategy<Value = Framing> {
    prop_oneof![
        Just(Framing::length().max_frame(300)),
        Just(Framing::lines().max_frame(300)),
        Just(Framing::nul().max_frame(300)),
    ]
}

/// Framings with every way to treat what is no whole message.
fn all_framings() -> impl Strategy<Value = Framing> {
    let partial = prop_oneof![
        Just(Partial::Keep),
        Just(Partial::Drop),
        Just(Partial::Fail)
    ];
    let too_long = prop_oneof![
        Just(TooLong::Fail),
        Just(TooLong::Skip),
        Just(TooLong::Truncate)
    ];
    let max = prop_oneof![Just(300), 0..20_usize];
    (framings(), partial, too_long, max).prop_map(|(framing, partial, too_long, max)| {
        framing.partial(partial).too_long(too_long).max_frame(max)
    })
}

/// What a delimited stream has to give, told from all of its bytes at once.
fn expected(
    byte: u8,
    partial: Partial,
    too_long: TooLong,
    max: usize,
    wire: &[u8],
) -> Vec<Result<Bytes, u8>> {
    let mut items = Vec::new();
    let mut rest = wire;
    while !rest.is_empty() {
        let end = rest.iter().position(|it| *it == byte);
        let body = &rest[..end.unwrap_or(rest.len())];
        let over = body.len() > max;
        match (too_long, partial) {
            (TooLong::Fail, _) if over => {
                items.push(Err(1));
                return items;
            }
            (TooLong::Truncate, _) if over => items.push(Ok(Bytes::copy_from_slice(&body[..max]))),
            (_, _) if over => {}
            (_, Partial::Drop) if end.is_none() => {}
            (_, Partial::Fail) if end.is_none() => items.push(Err(2)),
            _ => items.push(Ok(Bytes::copy_from_slice(body))),
        }
        rest = &rest[end.map_or(rest.len(), |end| end + 1)..];
    }
    items
}

/// Decodes `wire` handed over in pieces cut at `cuts`.
fn decode_in_pieces(
    framing: &Framing,
    wire: &[u8],
    cuts: &[usize],
) -> Vec<Result<Bytes, FrameError>> {
    let mut ends: Vec<_> = cuts.iter().map(|cut| cut % (wire.len() + 1)).collect();
    ends.push(wire.len());
    ends.sort_unstable();
    let mut start = 0;
    let pieces = ends.iter().map(|end| {
        let piece = wire[start..*end].to_vec();
        start = *end;
        piece
    });
    let mut frames = FramedRead::new(Pieces::new(pieces), framing.clone());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    runtime.block_on(async {
        let mut items = Vec::new();
        while let Some(item) = frames.next().await {
            items.push(item.map_err(|e| FrameError::of(&e).expect("a frame error").clone()));
        }
        items
    })
}

/// The same error, however much had come when it was seen.
fn kind(item: &Result<Bytes, FrameError>) -> Result<&Bytes, u8> {
    item.as_ref().map_err(|e| match e {
        FrameError::TooLarge { .. } | FrameError::Unterminated { .. } => 1,
        FrameError::Truncated { .. } => 2,
        _ => 3,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn bytes_cut_anywhere_give_the_same_frames_and_error(
        framing in all_framings(),
        wire in prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..600),
            proptest::collection::vec(prop_oneof![Just(0u8), Just(b'\n'), Just(1), Just(9)], 0..600),
        ],
        cuts in proptest::collection::vec(any::<usize>(), 0..20),
    ) {
        let whole = decode_in_pieces(&framing, &wire, &[]);
        let cut = decode_in_pieces(&framing, &wire, &cuts);
        prop_assert_eq!(
            whole.iter().map(kind).collect::<Vec<_>>(),
            cut.iter().map(kind).collect::<Vec<_>>()
        );
    }

    #[test]
    fn delimited_streams_give_what_their_options_say(
        byte in prop_oneof![Just(0), Just(b'\n')],
        partial in prop_oneof![Just(Partial::Keep), Just(Partial::Drop), Just(Partial::Fail)],
        too_long in prop_oneof![Just(TooLong::Fail), Just(TooLong::Skip), Just(TooLong::Truncate)],
        max in 1usize..12,
        wire in proptest::collection::vec(prop_oneof![Just(0u8), Just(b'\n'), Just(1), Just(9), Just(2)], 0..200),
        cuts in proptest::collection::vec(any::<usize>(), 0..20),
    ) {
        let framing = if byte == 0 { Framing::nul() } else { Framing::lines() };
        let framing = framing.partial(partial).too_long(too_long).max_frame(max);
        let got = decode_in_pieces(&framing, &wire, &cuts);
        let got: Vec<_> = got.iter().map(|it| kind(it).cloned()).collect();
        prop_assert_eq!(got, expected(byte, partial, too_long, max, &wire));
    }

    #[test]
    fn what_is_sent_arrives(
        framing in framings(),
        bodies in proptest::collection::vec(proptest::collection::vec(1u8..=9, 0..300), 0..20),
        cuts in proptest::collection::vec(any::<usize>(), 0..20),
    ) {
        let bodies: Vec<_> = bodies.into_iter().map(Bytes::from).collect();
        let wire = encoded(&framing, &bodies);
        let got: Vec<_> = decode_in_pieces(&framing, &wire, &cuts)
            .into_iter()
            .map(Result::unwrap)
            .collect();
        prop_assert_eq!(got, bodies);
    }

    #[test]
    fn both_ways_to_encode_write_the_same_bytes(
        framing in framings(),
        lens in proptest::collection::vec(prop_oneof![0usize..100, LARGE - 2..LARGE + 2], 1..8),
        step in 1usize..5000,
        chunk in 1usize..20_000,
        gather in any::<bool>(),
    ) {
        let framing = framing.max_frame(1 << 20);
        let bodies: Vec<_> = lens.iter().map(|len| Bytes::from(vec![b'x'; *len])).collect();
        let mut out = FramedWrite::new(Trickle::new(step, gather), framing.clone()).with_chunk(chunk);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            for body in &bodies {
                out.feed(body.clone()).await.unwrap();
            }
            out.close().await.unwrap();
        });
        let wire = out.get_ref().written.lock().unwrap().clone();
        prop_assert_eq!(wire, encoded(&framing, &bodies));
    }
}
