//! Text that cannot steer the terminal that shows it.

use std::fmt::{self, Display, Formatter, Write as _};
use std::io::{self, Write};

use serde::Serialize;
use serde_json::Serializer;

/// Whether a character moves the cursor, begins a control sequence or turns the direction of text.
fn steers(c: char) -> bool {
    let is_bidi = matches!(
        c,
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
    );
    is_bidi || c.is_control()
}

/// Shows a text with everything in it that steers a terminal escaped, line breaks too.
pub(crate) struct Printable<T>(pub(crate) T);

impl<T: Display> Display for Printable<T> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(Escaping { f, kept: &[] }, "{}", self.0)
    }
}

/// As [`Printable`], with its lines and tabs as they are.
pub(crate) struct Lines<T>(pub(crate) T);

impl<T: Display> Display for Lines<T> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let kept = &['\n', '\t'];
        write!(Escaping { f, kept }, "{}", self.0)
    }
}

struct Escaping<'a, 'b> {
    f: &'a mut Formatter<'b>,
    kept: &'static [char],
}

impl fmt::Write for Escaping<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for c in text.chars() {
            if steers(c) && !self.kept.contains(&c) {
                write!(self.f, "{}", c.escape_default())?;
            } else {
                self.f.write_char(c)?;
            }
        }
        Ok(())
    }
}

/// Appends bytes as [`Lines`], those that are not UTF-8 as `\xff`. Returns how many bytes at the end
/// are the beginning of a character, and are left out.
pub(crate) fn push_lines(bytes: &[u8], out: &mut Vec<u8>) -> usize {
    let mut rest = bytes.len();
    for chunk in bytes.utf8_chunks() {
        // Writing to a `Vec` cannot fail.
        let _ = write!(out, "{}", Lines(chunk.valid()));
        let invalid = chunk.invalid();
        rest -= chunk.valid().len() + invalid.len();
        if rest == 0 && is_cut_off(invalid) {
            return invalid.len();
        }
        push_hex(invalid, out);
    }
    0
}

/// Appends bytes that are no character.
pub(crate) fn push_hex(bytes: &[u8], out: &mut Vec<u8>) {
    for byte in bytes {
        let _ = write!(out, "\\x{byte:02x}");
    }
}

/// Whether more bytes may make it a character.
fn is_cut_off(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_err_and(|it| it.error_len().is_none())
}

/// Writes JSON in which every control character and direction mark is escaped.
pub(crate) fn to_json(value: &impl Serialize, out: impl Write) -> serde_json::Result<()> {
    value.serialize(&mut Serializer::with_formatter(out, Json))
}

/// Escapes beyond those that JSON asks for.
struct Json;

impl serde_json::ser::Formatter for Json {
    fn write_string_fragment<W: Write + ?Sized>(
        &mut self,
        out: &mut W,
        text: &str,
    ) -> io::Result<()> {
        let mut rest = text;
        while let Some(at) = rest.find(steers) {
            let (plain, tail) = rest.split_at(at);
            out.write_all(plain.as_bytes())?;
            let mut tail = tail.chars();
            // All of them are in the first plane.
            if let Some(c) = tail.next() {
                write!(out, "\\u{:04x}", u32::from(c))?;
            }
            rest = tail.as_str();
        }
        out.write_all(rest.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_that_steers_is_escaped() {
        let text =
            "é\u{1b}[1m\u{7f}\u{9b}\u{61c}\u{200e}\u{200f}\u{202a}\u{202e}\u{2066}\u{2069}\r\n\t";
        let shown = Printable(text).to_string();
        assert_eq!(
            shown,
            "é\\u{1b}[1m\\u{7f}\\u{9b}\\u{61c}\\u{200e}\\u{200f}\\u{202a}\\u{202e}\\u{2066}\\u{2069}\\r\\n\\t"
        );
        assert_eq!(Lines("a\r\n\tb").to_string(), "a\\r\n\tb");
    }

    #[test]
    fn a_character_cut_in_two_is_kept_back() {
        let mut out = Vec::new();
        assert_eq!(push_lines(b"a\xffb\xe2\x82", &mut out), 2);
        assert_eq!(out, b"a\\xffb");
        assert_eq!(push_lines(b"\xe2\x82x", &mut out), 0);
        assert_eq!(out, b"a\\xffb\\xe2\\x82x");
    }

    #[test]
    fn json_is_read_back_as_it_was() {
        let text = "a\"\\\n\u{0}\u{1f}\u{7f}\u{85}\u{9f}\u{202e}\u{2069}é😀";
        let mut json = Vec::new();
        to_json(&text, &mut json).unwrap();
        assert!(!String::from_utf8_lossy(&json).contains(steers));
        assert_eq!(serde_json::from_slice::<String>(&json).unwrap(), text);
    }
}
