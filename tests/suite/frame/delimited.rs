//! Lines and NUL-terminated messages: an unterminated rest, and messages over the limit.

use aqueduct::frame::{FrameError, FramedRead, Framing, Partial, TooLong};
use bytes::Bytes;
use futures_util::{FutureExt, StreamExt};
use tokio_util::codec::Decoder;

use super::all;
use super::transport::Pieces;
use crate::support::{Log, deadline};

const DELIMITED: [(Framing, &str); 2] = [(Framing::lines(), "\n"), (Framing::nul(), "\0")];

/// All frames of a wire that is not broken, and what was warned of meanwhile.
fn frames(framing: &Framing, wire: &[u8]) -> (Vec<Bytes>, Vec<String>) {
    let pieces = Pieces::byte_by_byte(wire);
    let all = async {
        let frames = all(FramedRead::new(pieces, framing.clone())).await;
        frames.into_iter().map(Result::unwrap).collect()
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    let (frames, mut log) = Log::record(|| runtime.block_on(all));
    log.retain(|line| line.contains("WARN"));
    (frames, log)
}

#[test]
fn one_input_keeps_its_unterminated_rest() {
    for (framing, end) in DELIMITED {
        let wire = format!("a\r{end}no end");
        let (got, log) = frames(&framing, wire.as_bytes());
        assert_eq!(got, ["a\r", "no end"]);
        assert!(log.is_empty(), "{log:?}");
        let (got, _) = frames(&framing.partial(Partial::Keep), wire.as_bytes());
        assert_eq!(got, ["a\r", "no end"]);
    }
}

#[test]
fn a_dropped_rest_is_warned_of_with_its_size() {
    for (framing, end) in DELIMITED {
        let wire = format!("whole{end}torn");
        let (got, log) = frames(&framing.partial(Partial::Drop), wire.as_bytes());
        assert_eq!(got, ["whole"]);
        assert_eq!(log.len(), 1, "{log:?}");
        assert!(log[0].contains("dropped the last 4 bytes"), "{log:?}");
    }
}

#[tokio::test]
async fn a_refused_rest_is_truncated() {
    for (framing, end) in DELIMITED {
        let wire = format!("whole{end}torn");
        let mut frames = FramedRead::new(wire.as_bytes(), framing.partial(Partial::Fail));
        assert_eq!(deadline(frames.next()).await.unwrap().unwrap(), "whole");
        let error = deadline(frames.next()).await.unwrap().unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::UnexpectedEof);
        let expected = FrameError::Truncated {
            got: 4,
            missing: None,
        };
        assert_eq!(FrameError::of(&error), Some(&expected));
        assert!(frames.next().await.is_none());
    }
}

#[test]
fn a_skipped_message_costs_no_other() {
    for (framing, end) in DELIMITED {
        let framing = framing.max_frame(5).too_long(TooLong::Skip);
        let wire = format!(
            "one{end}{}{end}two{end}123456{end}five5{end}",
            "x".repeat(1000)
        );
        let (got, log) = frames(&framing, wire.as_bytes());
        assert_eq!(got, ["one", "two", "five5"]);
        assert!(
            log[0].contains("skipped a message of 1000 bytes, over the limit of 5 (1 so far"),
            "{log:?}"
        );
        assert!(log[1].contains("of 6 bytes"), "{log:?}");
    }
}

#[test]
fn a_truncated_message_is_its_beginning() {
    for (framing, end) in DELIMITED {
        let framing = framing.max_frame(5).too_long(TooLong::Truncate);
        let wire = format!("one{end}123456{end}two{end}{}", "x".repeat(1000));
        let (got, log) = frames(&framing, wire.as_bytes());
        assert_eq!(got, ["one", "12345", "two", "xxxxx"]);
        assert!(log[0].contains("truncated a message of 6 bytes"), "{log:?}");
        assert!(
            log[1].contains("truncated a message of 1000 bytes"),
            "{log:?}"
        );
    }
}

#[test]
fn endless_skipping_does_not_fill_the_log() {
    let framing = Framing::lines().max_frame(1).too_long(TooLong::Skip);
    let (got, log) = frames(&framing, "too long\n".repeat(1000).as_bytes());
    assert!(got.is_empty());
    assert_eq!(log.len(), 10, "{log:?}");
}

/// Many messages over the limit in one read must not be a call inside a call each.
#[tokio::test]
async fn a_read_full_of_skipped_messages_is_no_recursion() {
    let wire = "xx\n".repeat(1 << 17) + "y\n";
    let framing = Framing::lines().max_frame(1).too_long(TooLong::Skip);
    let mut frames = FramedRead::new(wire.as_bytes(), framing).with_chunk(wire.len());
    assert_eq!(deadline(frames.next()).await.unwrap().unwrap(), "y");
}

/// A message without end must not gather in memory.
#[tokio::test]
async fn what_is_skipped_is_not_kept() {
    let (mut far, near) = tokio::io::duplex(1 << 16);
    let framing = Framing::lines().max_frame(100).too_long(TooLong::Skip);
    let mut frames = FramedRead::new(near, framing);
    for _ in 0..100 {
        tokio::io::AsyncWriteExt::write_all(&mut far, &[b'x'; 10_000])
            .await
            .unwrap();
        assert!(frames.next().now_or_never().is_none());
        assert!(frames.read_buffer().is_empty());
    }
}

#[tokio::test]
async fn the_error_tells_the_size_of_a_line_where_it_is_known() {
    for (framing, end) in DELIMITED {
        let framing = framing.max_frame(5);
        let wire = format!("{}{end}", "x".repeat(1000));
        let mut whole = FramedRead::new(wire.as_bytes(), framing.clone());
        let error = deadline(whole.next()).await.unwrap().unwrap_err();
        let known = FrameError::TooLarge { len: 1000, max: 5 };
        assert_eq!(FrameError::of(&error), Some(&known));
        assert!(error.to_string().contains("1000 bytes"), "{error}");

        let mut begun = FramedRead::new(&wire.as_bytes()[..900], framing);
        let error = deadline(begun.next()).await.unwrap().unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::InvalidData);
        let unknown = FrameError::Unterminated {
            max: 5,
            delimiter: end.as_bytes()[0],
        };
        assert_eq!(FrameError::of(&error), Some(&unknown));
        assert!(!error.to_string().contains("900"), "{error}");
    }
}

#[test]
fn the_decoder_alone_does_the_same() {
    let framing = Framing::lines().max_frame(3);
    let mut skips = framing
        .clone()
        .too_long(TooLong::Skip)
        .partial(Partial::Drop);
    let mut wire = bytes::BytesMut::from("one\nlonger\ntwo\ntor");
    for expected in ["one", "two"] {
        assert_eq!(skips.decode(&mut wire).unwrap().unwrap(), expected);
    }
    assert!(skips.decode(&mut wire).unwrap().is_none());
    assert!(skips.decode_eof(&mut wire).unwrap().is_none());
    assert!(wire.is_empty(), "what is dropped is not decoded again");
}
