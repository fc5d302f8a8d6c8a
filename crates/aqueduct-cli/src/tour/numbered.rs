//! Messages that can be verified: who sent them, which one it is, and a filling that follows.

use aqueduct::bytes::{Bytes, BytesMut};

/// Message number `number` of `sender`, `size` bytes long or as long as its head.
pub(super) fn message(sender: u32, number: u64, size: usize) -> Bytes {
    let mut body = BytesMut::from(format!("{sender}:{number}:").as_bytes());
    body.resize(size.max(body.len()), filling(number));
    body.freeze()
}

/// Whose message this is and which one, if it is whole.
pub(super) fn read(body: &[u8]) -> Option<(u32, u64)> {
    let mut parts = body.splitn(3, |b| *b == b':');
    let sender = std::str::from_utf8(parts.next()?).ok()?.parse().ok()?;
    let number = std::str::from_utf8(parts.next()?).ok()?.parse().ok()?;
    let filled = parts.next()?.iter().all(|b| *b == filling(number));
    filled.then_some((sender, number))
}

fn filling(number: u64) -> u8 {
    b'a' + (number % 26) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_torn_message_is_told_from_a_whole_one() {
        assert_eq!(&message(3, 27, 12)[..], b"3:27:bbbbbbb");
        assert_eq!(read(b"3:27:bbbbbbb"), Some((3, 27)));
        assert_eq!(read(b"3:27:"), Some((3, 27)));
        for torn in [&b"3:27:bbb3:28:ccc"[..], b"bbbb", b"", b":27:", b"3:27"] {
            assert_eq!(read(torn), None);
        }
    }
}
