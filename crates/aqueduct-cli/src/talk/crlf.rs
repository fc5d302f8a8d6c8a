//! Line ends of the Internet: added to what is sent, taken away from what is shown.

use aqueduct::bytes::{BufMut, Bytes, BytesMut};

/// Makes each newline CRLF, where it is not yet.
#[derive(Debug, Default)]
pub(super) struct Adding {
    /// The last byte was a carriage return.
    returned: bool,
}

impl Adding {
    pub(super) fn add(&mut self, piece: &[u8]) -> Bytes {
        let mut out = BytesMut::with_capacity(piece.len() + piece.len() / 8);
        for byte in piece {
            if *byte == b'\n' && !self.returned {
                out.put_u8(b'\r');
            }
            self.returned = *byte == b'\r';
            out.put_u8(*byte);
        }
        out.freeze()
    }
}

/// Takes the carriage return before each newline away.
#[derive(Debug, Default)]
pub(super) struct Removing {
    /// A carriage return at the end of a piece, which is not shown yet.
    held: bool,
}

impl Removing {
    pub(super) fn remove(&mut self, piece: &[u8]) -> Bytes {
        let mut out = BytesMut::with_capacity(piece.len() + 1);
        for byte in piece {
            if std::mem::take(&mut self.held) && *byte != b'\n' {
                out.put_u8(b'\r');
            }
            match byte {
                b'\r' => self.held = true,
                byte => out.put_u8(*byte),
            }
        }
        out.freeze()
    }

    /// What is still held at the end.
    pub(super) fn end(&mut self) -> &'static [u8] {
        match std::mem::take(&mut self.held) {
            true => b"\r",
            false => b"",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_newline_gets_one_carriage_return_wherever_it_is_cut() {
        let text = b"a\nb\r\nc\r\r\n\n\r";
        for at in 0..=text.len() {
            let mut adding = Adding::default();
            let parts = [adding.add(&text[..at]), adding.add(&text[at..])];
            assert_eq!(parts.concat(), b"a\r\nb\r\nc\r\r\n\r\n\r", "{at}");
        }
    }

    #[test]
    fn carriage_returns_before_newlines_go_wherever_they_are_cut() {
        let text = b"a\r\nb\rc\r\r\n\n\r";
        for at in 0..=text.len() {
            let mut removing = Removing::default();
            let parts = [removing.remove(&text[..at]), removing.remove(&text[at..])];
            let whole = [&parts.concat(), removing.end()].concat();
            assert_eq!(whole, b"a\nb\rc\r\n\n\r", "{at}");
        }
    }
}
