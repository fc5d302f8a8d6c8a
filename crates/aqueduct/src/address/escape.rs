//! Percent escapes: any byte of a path, name or argument can be written as `%` and two hexadecimal
//! digits (RFC 3986, section 2.1).

use std::fmt::{self, Formatter, Write};

use super::AddressProblem;

/// Replaces each escape by its byte. Other text stays unchanged.
pub(crate) fn decode(text: &[u8]) -> Result<Vec<u8>, AddressProblem> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let value = tail
            .first_chunk::<2>()
            .and_then(|&[high, low]| Some((hex(high)? << 4) | hex(low)?));
        let Some(value) = value else {
            let shown = &tail[..tail.len().min(2)];
            return Err(AddressProblem::InvalidEscape {
                escape: format!("%{}", String::from_utf8_lossy(shown)),
            });
        };
        bytes.push(value);
        rest = &tail[2..];
    }
    Ok(bytes)
}

/// Appends `bytes` to `out` so that [`decode`] returns them.
///
/// Escapes `%`, `?`, the bytes in `also`, control characters, direction marks, white space and
/// bytes that are not UTF-8, so that an address is always one printable word. Other text stays
/// readable.
pub(crate) fn encode(bytes: &[u8], also: &[u8], out: &mut String) {
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            let special = u8::try_from(c).is_ok_and(|b| b"%?".contains(&b) || also.contains(&b));
            if special || steers(c) || c.is_whitespace() {
                escape(c.encode_utf8(&mut [0; 4]).as_bytes(), out);
            } else {
                out.push(c);
            }
        }
        escape(chunk.invalid(), out);
    }
}

/// Whether a character controls a terminal: a control character, or a mark that changes the
/// direction of text.
fn steers(c: char) -> bool {
    let is_bidi = matches!(
        c,
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
    );
    is_bidi || c.is_control()
}

/// Writes text and escapes every character that controls a terminal.
pub(crate) struct Escaping<'a, 'b>(pub(crate) &'a mut Formatter<'b>);

impl Write for Escaping<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for c in text.chars() {
            if steers(c) {
                write!(self.0, "{}", c.escape_default())?;
            } else {
                self.0.write_char(c)?;
            }
        }
        Ok(())
    }
}

fn escape(bytes: &[u8], out: &mut String) {
    for byte in bytes {
        // Writing to a `String` cannot fail.
        let _ = write!(out, "%{byte:02X}");
    }
}

fn hex(digit: u8) -> Option<u8> {
    // A hexadecimal digit is below 16.
    char::from(digit).to_digit(16).map(|value| value as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_hexadecimal_in_either_case() {
        assert_eq!(decode(b"a%2fb%2Fc").unwrap(), b"a/b/c");
    }

    #[test]
    fn a_percent_sign_without_two_digits_is_an_error_that_shows_it() {
        for (text, shown) in [("50%", "%"), ("%4", "%4"), ("%zz!", "%zz"), ("%é", "%é")] {
            let problem = decode(text.as_bytes()).unwrap_err();
            let escape = shown.to_owned();
            assert_eq!(problem, AddressProblem::InvalidEscape { escape });
        }
    }

    #[test]
    fn readable_text_stays_readable_and_the_rest_is_escaped() {
        let mut out = String::new();
        encode("/tmp/größe 1?\n\u{2028}".as_bytes(), b"", &mut out);
        encode(b"\xff%@", b"@", &mut out);
        encode("\u{202e}\u{9b}".as_bytes(), b"", &mut out);
        let expected = "/tmp/größe%201%3F%0A%E2%80%A8%FF%25%40%E2%80%AE%C2%9B";
        assert_eq!(out, expected);
    }
}
