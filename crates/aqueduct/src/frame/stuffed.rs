//! Consistent overhead byte stuffing: a body without zero bytes, then a zero byte (Cheshire and
//! Baker, "Consistent Overhead Byte Stuffing", IEEE/ACM Transactions on Networking, 1999).

use std::io;

use bytes::{BufMut, BytesMut};

use super::error::FrameError;

/// The largest size of a body of `len` bytes once it is stuffed.
pub(super) const fn most(len: usize) -> usize {
    len.saturating_add(len / 254 + 1)
}

/// The size of the body that was stuffed; `None` if the stuffing is not valid.
pub(super) fn size(stuffed: &[u8]) -> Option<usize> {
    let (mut at, mut size) = (0, 0);
    while let Some(code) = stuffed.get(at) {
        at += usize::from(*code);
        size += usize::from(*code) - 1;
        // Every block but a full one and the last stands for a zero byte too.
        size += usize::from(*code != u8::MAX && at < stuffed.len());
    }
    (at == stuffed.len()).then_some(size)
}

pub(super) fn malformed(stuffed: &[u8]) -> FrameError {
    let len = stuffed.len();
    FrameError::Malformed {
        framing: "cobs",
        cause: format!(
            "a code leads beyond the {len} bytes before a zero: does the peer use another framing?"
        ),
    }
}

/// Removes the stuffing, in place; returns how many bytes are left.
pub(super) fn take_out(stuffed: &mut [u8]) -> io::Result<usize> {
    cobs::decode_in_place(stuffed).map_err(|_| malformed(stuffed).into())
}

/// Appends `body` stuffed, and its end.
pub(super) fn put(body: &[u8], dst: &mut BytesMut) {
    let begin = dst.len();
    let most = most(body.len());
    dst.reserve(most + 1);
    dst.put_bytes(0, most);
    // The crate's encoding of an empty body would not be a frame.
    dst[begin] = 1;
    let len = cobs::encode(body, &mut dst[begin..]).max(1);
    dst.truncate(begin + len);
    dst.put_u8(0);
}
