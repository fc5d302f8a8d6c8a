//! Percent escapes: any byte of a path, name or argument can be written as `%` and two
//! hexadecimal digits (RFC 3986, section 2.1).

use std::fmt::Write;

use super::AddressProblem;

/// Replaces each escape by its byte. What is not escaped stays as it is.
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

/// Appends `bytes` to `out` so that [`decode`] gives them back.
///
/// Escaped are `%`, `?` and whatever is in `also`; control characters, white space and bytes that
/// are not UTF-8 too, so that an address is always one printable word. Other text stays readable.
pub(crate) fn encode(bytes: &[u8], also: &[u8], out: &mut String) {
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            let special = u8::try_from(c).is_ok_and(|b| b"%?".contains(&b) || also.contains(&b));
            if special || c.is_control() || c.is_whitespace() {
                escape(c.encode_utf8(&mut [0; 4]).as_bytes(), out);
            } else {
                out.push(c);
            }
        }
        escape(chunk.invalid(), out);
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
        assert_eq!(out, "/tmp/größe%201%3F%0A%E2%80%A8%FF%25%40");
    }
}
