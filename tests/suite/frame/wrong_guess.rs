//! A peer with another framing is named in the error.

use std::io;

use aqueduct::frame::{FrameError, Framing};

use super::last_error;

#[tokio::test]
async fn text_where_a_length_belongs_is_named() {
    let wire = b"GET / HTTP/1.1\r\n";
    let (whole, error) = last_error(wire, Framing::length()).await;
    assert!(whole.is_empty());
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    let len = u32::from_be_bytes(*b"GET ") as usize;
    assert_eq!(
        FrameError::of(&error),
        Some(&FrameError::TooLarge { len, max: 1 << 20 })
    );
    assert_eq!(
        error.to_string(),
        "frame of 1195725856 bytes is over the limit of 1048576: \
         the first bytes are text (\"GET \"): does the peer send lines?"
    );
}

#[tokio::test]
async fn a_length_in_the_other_byte_order_is_named() {
    let mut wire = 18_u32.to_le_bytes().to_vec();
    wire.extend_from_slice(&[7; 18]);
    let (_, error) = last_error(&wire, Framing::length()).await;
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    assert!(matches!(
        FrameError::of(&error),
        Some(FrameError::TooLarge {
            len: 0x1200_0000,
            ..
        })
    ));
    let said = error.to_string();
    assert!(
        said.ends_with("in the other byte order this would be 18 bytes"),
        "{said}"
    );
}

#[tokio::test]
async fn a_length_that_is_neither_is_only_too_large() {
    for wire in [
        &b"\x7f\xff\xff\xff"[..],
        b"\0\x20\0\x01",
        b"\x01\x02\x03\x04",
    ] {
        let (_, error) = last_error(wire, Framing::length()).await;
        let said = error.to_string();
        assert!(said.ends_with("raise the limit at both ends"), "{said}");
    }
}
