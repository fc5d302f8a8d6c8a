//! Framings that other programs use, by their names: the bytes on the wire, and what is no frame.

use std::io;
use std::sync::Arc;

use aqueduct::frame::{FrameError, FramedRead, FramedWrite, Framing, Partial, TooLong};
use bytes::{Bytes, BytesMut};
use futures_util::{SinkExt, StreamExt};
use tokio_util::codec::Encoder;

use super::transport::{Pieces, Trickle};
use super::{all, encoded, last_error};
use crate::support::deadline;

pub(super) fn named(name: &str) -> Framing {
    name.parse().expect(name)
}

/// Those that keep boundaries.
pub(super) fn all_framed() -> Vec<Framing> {
    let names = Framing::names().iter().filter(|it| **it != "raw");
    names.map(|it| named(it)).collect()
}

#[test]
fn each_framing_is_on_the_wire_as_its_definition_says() {
    for (name, wire) in [
        ("lines", &b"hi\n\n"[..]),
        ("crlf", b"hi\r\n\r\n"),
        ("nul", b"hi\0\0"),
        ("raw", b"hi"),
        ("length", b"\0\0\0\x02hi\0\0\0\0"),
        ("u32be", b"\0\0\0\x02hi\0\0\0\0"),
        ("u8", b"\x02hi\0"),
        ("u16be", b"\0\x02hi\0\0"),
        ("u16le", b"\x02\0hi\0\0"),
        ("u32le", b"\x02\0\0\0hi\0\0\0\0"),
        ("u64be", b"\0\0\0\0\0\0\0\x02hi\0\0\0\0\0\0\0\0"),
        ("u64le", b"\x02\0\0\0\0\0\0\0hi\0\0\0\0\0\0\0\0"),
        ("u8+header", b"\x03hi\x01"),
        ("u16be+header", b"\0\x04hi\0\x02"),
        ("u16le+header", b"\x04\0hi\x02\0"),
        ("u32be+header", b"\0\0\0\x06hi\0\0\0\x04"),
        ("length+header", b"\0\0\0\x06hi\0\0\0\x04"),
        ("u32le+header", b"\x06\0\0\0hi\x04\0\0\0"),
        ("u64be+header", b"\0\0\0\0\0\0\0\x0ahi\0\0\0\0\0\0\0\x08"),
        ("u64le+header", b"\x0a\0\0\0\0\0\0\0hi\x08\0\0\0\0\0\0\0"),
        ("netstring", b"2:hi,0:,"),
        (
            "headers",
            b"Content-Length: 2\r\n\r\nhiContent-Length: 0\r\n\r\n",
        ),
        ("cobs", b"\x03hi\0\x01\0"),
    ] {
        let bodies = [Bytes::from("hi"), Bytes::new()];
        assert_eq!(encoded(&named(name), &bodies), wire, "{name}");
    }
}

#[test]
fn every_name_is_parsed_and_printed() {
    for name in Framing::names() {
        assert_eq!(named(name).to_string(), *name);
    }
    assert_eq!(named("u32be"), Framing::length());
    for (framing, name) in [
        (Framing::lines(), "lines"),
        (Framing::crlf(), "crlf"),
        (Framing::nul(), "nul"),
        (Framing::raw(), "raw"),
        (Framing::netstring(), "netstring"),
        (Framing::headers(), "headers"),
        (Framing::cobs(), "cobs"),
    ] {
        assert_eq!(named(name), framing);
    }
}

#[test]
fn an_unknown_name_is_told_the_nearest() {
    for (name, said) in [
        ("u16", "did you mean \"u16be\"?"),
        ("netstrings", "did you mean \"netstring\"?"),
        ("Lines", "did you mean \"lines\"?"),
        ("lines+header", "it takes lines, crlf, nul"),
        ("", "it takes lines, crlf, nul"),
    ] {
        let error = name.parse::<Framing>().unwrap_err().to_string();
        assert!(error.contains(said), "{error}");
    }
}

#[tokio::test]
async fn what_is_cut_at_any_byte_arrives() {
    let bodies = ["one", "", "three", "x"].map(Bytes::from);
    for framing in all_framed() {
        let wire = encoded(&framing, &bodies);
        for at in 0..=wire.len() {
            let pieces = Pieces::new([&wire[..at], &wire[at..]]);
            let frames = FramedRead::new(pieces, framing.clone());
            let got: Vec<_> = all(frames).await.into_iter().map(Result::unwrap).collect();
            assert_eq!(got, bodies, "{framing} at {at}");
        }
        let frames = FramedRead::new(Pieces::byte_by_byte(&wire), framing.clone());
        let got: Vec<_> = all(frames).await.into_iter().map(Result::unwrap).collect();
        assert_eq!(got, bodies, "{framing}");
    }
}

#[tokio::test]
async fn a_stream_cut_off_inside_a_frame_is_an_error() {
    for framing in all_framed() {
        let framing = framing.partial(Partial::Fail);
        let wire = encoded(&framing, &[Bytes::from("ok"), Bytes::from("lost")]);
        let whole = encoded(&framing, &[Bytes::from("ok")]).len();
        // What has a lone newline for an end needs no carriage return.
        let last = wire.len() - usize::from(framing == Framing::crlf().partial(Partial::Fail));
        for at in whole + 1..last {
            let (got, error) = last_error(&wire[..at], framing.clone()).await;
            assert_eq!(got, ["ok"], "{framing} at {at}");
            assert_eq!(
                error.kind(),
                io::ErrorKind::UnexpectedEof,
                "{framing} at {at}"
            );
            let Some(FrameError::Truncated { got, missing }) = FrameError::of(&error) else {
                panic!("{framing} at {at}: {error}");
            };
            assert_eq!(*got, at - whole, "{framing}");
            if let Some(missing) = missing {
                assert!(*missing <= wire.len() - at, "{framing} at {at}: {error}");
            }
        }
    }
}

#[tokio::test]
async fn a_body_beyond_what_a_length_can_say_is_refused() {
    for (name, most) in [
        ("u8", 255),
        ("u8+header", 254),
        ("u16be", 65_535),
        ("u16le+header", 65_533),
    ] {
        let framing = named(name);
        assert_eq!(framing.get_max_frame(), most);
        let mut out = FramedWrite::new(Vec::new(), framing.clone());
        out.feed(Bytes::from(vec![b'x'; most])).await.unwrap();
        let over = Bytes::from(vec![b'x'; most + 1]);
        let error = out.feed(over.clone()).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        let expected = FrameError::NoRoom {
            len: most + 1,
            max: most,
            framing: name,
        };
        assert_eq!(FrameError::of(&error), Some(&expected));
        let said = error.to_string();
        assert!(
            said.contains(&format!("the most that a {name} length can express")),
            "{said}"
        );
        assert!(out.feed_borrowed(&over).await.is_err());
        out.send(Bytes::from("next")).await.unwrap();
        let wire = out.into_parts().0;
        let frames = FramedRead::new(&wire[..], framing);
        let sizes: Vec<_> = all(frames)
            .await
            .into_iter()
            .map(|it| it.unwrap().len())
            .collect();
        assert_eq!(sizes, [most, 4]);
    }
}

#[tokio::test]
async fn the_limit_holds_for_every_framing_to_the_byte() {
    for framing in all_framed() {
        let small = framing.clone().max_frame(100);
        for byte in [b'x', b'\r', 3] {
            let (fits, over) = (vec![byte; 100], vec![byte; 101]);
            let mut out = FramedWrite::new(Vec::new(), small.clone());
            out.feed(fits.clone().into()).await.unwrap();
            out.feed(over.clone().into()).await.unwrap_err();
            out.close().await.unwrap();
            let wire = out.into_parts().0;
            let frames = all(FramedRead::new(Pieces::byte_by_byte(&wire), small.clone())).await;
            assert_eq!(frames, [Ok(fits.clone().into())], "{framing}");

            let wire = encoded(&framing, &[fits.into(), over.into()]);
            let (whole, error) = last_error(&wire, small.clone()).await;
            assert_eq!(whole.len(), 1, "{framing}");
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{framing}");
            assert!(
                matches!(
                    FrameError::of(&error),
                    Some(
                        FrameError::TooLarge { max: 100, .. }
                            | FrameError::Unterminated { max: 100, .. }
                    )
                ),
                "{framing}: {error}"
            );
        }
    }
}

#[tokio::test]
async fn what_is_no_frame_is_named() {
    for (name, wire, said) in [
        (
            "netstring",
            &b"GET / HTTP/1.1"[..],
            "does the peer send lines?",
        ),
        ("netstring", b"05:hello,", "leading zeros"),
        (
            "netstring",
            b"5:hello;",
            "\";\" stands where a comma ends a message of 5 bytes",
        ),
        ("netstring", b"123456789012345678901:", "digits and a colon"),
        ("netstring", b"\0\0\0\x02hi", "another framing"),
        (
            "headers",
            b"{\"jsonrpc\":\"2.0\"}\n",
            "does the peer send lines?",
        ),
        (
            "headers",
            b"Content-Type: text\r\n\r\n",
            "no Content-Length",
        ),
        (
            "headers",
            b"Content-Length: two\r\n\r\n",
            "\"two\", which is not a number",
        ),
        ("headers", b"Content-Length: -1\r\n\r\n", "not a number"),
        (
            "headers",
            b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nab",
            "two Content-Lengths that differ",
        ),
        ("cobs", b"hello\0", "beyond the 5 bytes before a zero"),
        ("u16be+header", b"\0\x01", "does not count its own 2 bytes"),
        (
            "u64le+header",
            b"\x07\0\0\0\0\0\0\0",
            "does not count its own 8 bytes",
        ),
    ] {
        let (whole, error) = last_error(wire, named(name)).await;
        assert!(whole.is_empty(), "{name}");
        assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{name}");
        let Some(FrameError::Malformed { framing, .. }) = FrameError::of(&error) else {
            panic!("{name}: {error}");
        };
        assert_eq!(*framing, name);
        assert!(error.to_string().contains(said), "{error}");
    }
    let endless = "X: y\r\n".repeat(10_000);
    let (_, error) = last_error(endless.as_bytes(), Framing::headers()).await;
    assert!(error.to_string().contains("over 16 fields"), "{error}");
    let endless = format!("X: {}", "y".repeat(10_000));
    let (_, error) = last_error(endless.as_bytes(), Framing::headers()).await;
    assert!(error.to_string().contains("over 4096 bytes"), "{error}");
}

#[tokio::test]
async fn a_length_of_any_width_that_is_text_or_swapped_is_named() {
    for (name, wire, said) in [
        ("u32le", &b"GET / HTTP"[..], "text (\"GET \")"),
        ("u64be", b"GET / HTTP", "text (\"GET / HT\")"),
        (
            "u32le",
            b"\0\0\0\x12",
            "in the other byte order this would be 18 bytes",
        ),
        ("u64le", b"\0\0\0\0\0\0\0\x12", "this would be 18 bytes"),
        (
            "u64be+header",
            b"\x12\0\0\0\0\0\0\0",
            "this would be 10 bytes",
        ),
        (
            "u64be",
            b"\xff\xff\xff\xff\xff\xff\xff\xff",
            "over the limit of 1048576",
        ),
    ] {
        let (_, error) = last_error(wire, named(name)).await;
        assert!(error.to_string().contains(said), "{name}: {error}");
        assert!(matches!(
            FrameError::of(&error),
            Some(FrameError::TooLarge { .. })
        ));
    }
}

#[tokio::test]
async fn crlf_takes_a_lone_newline_and_never_sends_one() {
    let wire = &b"a\r\nb\nc\r\r\n\n"[..];
    let got = all(FramedRead::new(wire, Framing::crlf())).await;
    assert_eq!(got, ["a", "b", "c\r", ""].map(|it| Ok(it.into())));
    let mut out = FramedWrite::new(Vec::new(), Framing::crlf());
    let error = out.send(Bytes::from("RCPT\nDATA")).await.unwrap_err();
    let expected = FrameError::ContainsDelimiter {
        delimiter: b'\n',
        at: 4,
    };
    assert_eq!(FrameError::of(&error), Some(&expected));
}

#[tokio::test]
async fn headers_are_read_as_http_writes_them() {
    let wire = &b"content-length:2\r\nContent-Type: application/x; charset=utf-8\r\n\r\nhi\
        Content-Length: 3\n\nyou"[..];
    let got = all(FramedRead::new(
        Pieces::byte_by_byte(wire),
        Framing::headers(),
    ))
    .await;
    assert_eq!(got, ["hi", "you"].map(|it| Ok(it.into())));
}

#[tokio::test]
async fn zero_bytes_between_stuffed_frames_are_no_frames() {
    let wire = &b"\0\0\x03hi\0\0\0\x01\0\0"[..];
    let got = all(FramedRead::new(Pieces::byte_by_byte(wire), Framing::cobs())).await;
    assert_eq!(got, ["hi", ""].map(|it| Ok(it.into())));
}

#[tokio::test]
async fn a_stuffed_frame_over_the_limit_is_skipped_never_truncated() {
    for too_long in [TooLong::Skip, TooLong::Truncate] {
        let framing = Framing::cobs().max_frame(5).too_long(too_long);
        let bodies = ["one", "far too long", "\0\0\0\0\0\0", "two"].map(Bytes::from);
        let wire = encoded(&Framing::cobs(), &bodies);
        let got = all(FramedRead::new(
            Pieces::byte_by_byte(&wire),
            framing.clone(),
        ))
        .await;
        assert_eq!(got, ["one", "two"].map(|it| Ok(it.into())));
        let torn = all(FramedRead::new(
            &b"\x03hi"[..],
            framing.partial(Partial::Drop),
        ))
        .await;
        assert!(torn.is_empty());
    }
}

/// Bodies larger than what is copied, and a codec's that are written in place.
#[tokio::test]
async fn large_bodies_cross_in_every_framing() {
    use aqueduct::codec::Raw;
    for framing in all_framed() {
        let size = framing.get_max_frame().min(300_000);
        let bodies = [size, 20_000.min(size), 3].map(|it| Bytes::from(vec![b'x'; it]));
        let (near, far) = tokio::io::duplex(5000);
        let mut out = FramedWrite::new(near, framing.clone()).typed(Raw);
        let sending = async {
            for body in &bodies {
                out.send(body.clone()).await.unwrap();
            }
            out.close().await.unwrap();
        };
        let mut frames = FramedRead::new(far, framing.clone());
        let receiving = async {
            let mut got = Vec::new();
            while let Some(frame) = frames.next_borrowed().await {
                got.push(frame.unwrap().to_vec());
            }
            got
        };
        let ((), got) = deadline(async { tokio::join!(sending, receiving) }).await;
        assert!(got == bodies, "{framing}");
    }
}

#[tokio::test]
async fn a_codec_that_writes_in_place_makes_the_same_frames() {
    use aqueduct::codec::Raw;
    for framing in all_framed() {
        let bodies = ["", "a", "hello, world", "x"].map(Bytes::from);
        let transport = Trickle::new(1000, true);
        let wire = Arc::clone(&transport.written);
        let mut out = FramedWrite::new(transport, framing.clone()).typed(Raw);
        for body in &bodies {
            out.feed(body.clone()).await.unwrap();
        }
        out.close().await.unwrap();
        assert_eq!(
            *wire.lock().unwrap(),
            encoded(&framing, &bodies),
            "{framing}"
        );
    }
}

#[test]
fn an_encoder_that_refuses_appends_nothing() {
    for framing in all_framed() {
        let mut framing = framing.max_frame(3);
        let mut wire = BytesMut::from("before");
        Encoder::encode(&mut framing, Bytes::from("long"), &mut wire).unwrap_err();
        assert_eq!(wire, "before", "{framing}");
    }
}

#[tokio::test]
async fn frames_are_found_one_by_one_by_the_decoder_alone() {
    use tokio_util::codec::FramedRead as TheirFramedRead;
    for framing in all_framed() {
        let bodies = ["one", "", "three"].map(Bytes::from);
        let wire = encoded(&framing, &bodies);
        let mut frames = TheirFramedRead::new(&wire[..], framing.clone());
        for body in &bodies {
            let frame = deadline(frames.next()).await.expect("no end").unwrap();
            assert_eq!(frame, body, "{framing}");
        }
        assert!(frames.next().await.is_none());
    }
}
