//! What holds for any bytes and frames, cut anywhere.

use aqueduct::frame::{COPY_BELOW, FrameError, FramedRead, FramedWrite, Framing};
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use proptest::prelude::*;

use super::encoded;
use super::transport::{Pieces, Trickle};

fn framings() -> impl Strategy<Value = Framing> {
    prop_oneof![
        Just(Framing::length().max_frame(300)),
        Just(Framing::lines().max_frame(300)),
        Just(Framing::nul().max_frame(300)),
    ]
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
        FrameError::TooLarge { .. } => 1,
        FrameError::Truncated { .. } => 2,
        _ => 3,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn any_bytes_cut_anywhere_give_the_same_frames_and_the_same_error(
        framing in framings(),
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
        lens in proptest::collection::vec(prop_oneof![0usize..100, COPY_BELOW - 2..COPY_BELOW + 2], 1..8),
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
