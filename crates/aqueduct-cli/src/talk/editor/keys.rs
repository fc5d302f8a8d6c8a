//! [`Keys`]: what is typed, key by key.

/// The longest escape sequence that is read; what is longer is no key.
const LONGEST: usize = 16;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    Char(char),
    Enter,
    /// Ctrl-D: the character under the cursor, or the end.
    DeleteOrEnd,
    Backspace,
    Delete,
    Left,
    Right,
    WordLeft,
    WordRight,
    Home,
    End,
    Up,
    Down,
    KillToStart,
    KillToEnd,
    KillWordLeft,
    KillWordRight,
    Yank,
    Clear,
}

/// Reads keys from the bytes that a terminal sends, as ECMA-48 and xterm have them.
#[derive(Debug, Default)]
pub(super) struct Keys {
    begun: Vec<u8>,
}

impl Keys {
    /// Takes the next byte; the key that it completes.
    pub(super) fn advance(&mut self, byte: u8) -> Option<Key> {
        if self.begun.is_empty() && byte != ESCAPE && byte < 0x80 {
            return control(byte).or_else(|| {
                let c = char::from(byte);
                (!c.is_control() || c == '\t').then_some(Key::Char(c))
            });
        }
        self.begun.push(byte);
        match self.begun[0] {
            ESCAPE => self.escape(),
            _ => self.utf8(),
        }
    }

    fn utf8(&mut self) -> Option<Key> {
        match std::str::from_utf8(&self.begun) {
            Ok(text) => {
                let c = text.chars().next();
                self.begun.clear();
                c.filter(|it| !it.is_control()).map(Key::Char)
            }
            // More of it may come.
            Err(error) if error.error_len().is_none() => None,
            Err(_) => {
                self.begun.clear();
                None
            }
        }
    }

    fn escape(&mut self) -> Option<Key> {
        let key = match self.begun[1..] {
            [] | [b'[' | b'O'] => return None,
            [b'O', last] => of_letter(last, false),
            [b'[', ref parameters @ .., last @ 0x40..=0x7e] => {
                // A modifier other than Shift, such as 5 for Ctrl, goes behind a semicolon.
                let modified = matches!(parameters, [_, b';', b'3' | b'5' | b'7']);
                match last {
                    b'~' => of_number(parameters),
                    last => of_letter(last, modified),
                }
            }
            [b'[', ..] if self.begun.len() < LONGEST => return None,
            [b'[', ..] => None,
            [b'b'] => Some(Key::WordLeft),
            [b'f'] => Some(Key::WordRight),
            [b'd'] => Some(Key::KillWordRight),
            [0x7f | 0x08] => Some(Key::KillWordLeft),
            _ => None,
        };
        self.begun.clear();
        key
    }
}

const ESCAPE: u8 = 0x1b;

fn control(byte: u8) -> Option<Key> {
    const fn ctrl(letter: u8) -> u8 {
        letter & 0x1f
    }
    const BEGIN: u8 = ctrl(b'A');
    const BACK: u8 = ctrl(b'B');
    const EOT: u8 = ctrl(b'D');
    const END: u8 = ctrl(b'E');
    const FORWARD: u8 = ctrl(b'F');
    const BACKSPACE: u8 = ctrl(b'H');
    const NEWLINE: u8 = ctrl(b'J');
    const KILL: u8 = ctrl(b'K');
    const CLEAR: u8 = ctrl(b'L');
    const RETURN: u8 = ctrl(b'M');
    const NEXT: u8 = ctrl(b'N');
    const PREVIOUS: u8 = ctrl(b'P');
    const DISCARD: u8 = ctrl(b'U');
    const WORD: u8 = ctrl(b'W');
    const YANK: u8 = ctrl(b'Y');
    Some(match byte {
        BEGIN => Key::Home,
        BACK => Key::Left,
        EOT => Key::DeleteOrEnd,
        END => Key::End,
        FORWARD => Key::Right,
        BACKSPACE | 0x7f => Key::Backspace,
        NEWLINE | RETURN => Key::Enter,
        KILL => Key::KillToEnd,
        CLEAR => Key::Clear,
        NEXT => Key::Down,
        PREVIOUS => Key::Up,
        DISCARD => Key::KillToStart,
        WORD => Key::KillWordLeft,
        YANK => Key::Yank,
        _ => return None,
    })
}

fn of_letter(letter: u8, modified: bool) -> Option<Key> {
    Some(match (letter, modified) {
        (b'A', _) => Key::Up,
        (b'B', _) => Key::Down,
        (b'C', false) => Key::Right,
        (b'C', true) => Key::WordRight,
        (b'D', false) => Key::Left,
        (b'D', true) => Key::WordLeft,
        (b'H', _) => Key::Home,
        (b'F', _) => Key::End,
        _ => return None,
    })
}

fn of_number(parameters: &[u8]) -> Option<Key> {
    let number = parameters.split(|it| *it == b';').next()?;
    Some(match number {
        b"1" | b"7" => Key::Home,
        b"3" => Key::Delete,
        b"4" | b"8" => Key::End,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(bytes: &[u8]) -> Vec<Key> {
        let mut keys = Keys::default();
        bytes.iter().filter_map(|it| keys.advance(*it)).collect()
    }

    #[test]
    fn characters_of_any_length_are_read() {
        let typed: Vec<_> = "aé€😀\t".chars().map(Key::Char).collect();
        assert_eq!(keys("aé€😀\t".as_bytes()), typed);
        assert_eq!(keys(b"\xffa\xc3\x28b"), [Key::Char('a'), Key::Char('b')]);
    }

    #[test]
    fn sequences_of_the_usual_terminals_are_read() {
        for (bytes, key) in [
            (&b"\x1b[A"[..], Key::Up),
            (b"\x1bOB", Key::Down),
            (b"\x1b[D", Key::Left),
            (b"\x1b[1;5D", Key::WordLeft),
            (b"\x1b[1;5C", Key::WordRight),
            (b"\x1bb", Key::WordLeft),
            (b"\x1b[3~", Key::Delete),
            (b"\x1b[1~", Key::Home),
            (b"\x1b[H", Key::Home),
            (b"\x1bOF", Key::End),
            (b"\x04", Key::DeleteOrEnd),
            (b"\r", Key::Enter),
            (b"\n", Key::Enter),
            (b"\x7f", Key::Backspace),
        ] {
            assert_eq!(keys(bytes), [key], "{bytes:?}");
        }
    }

    #[test]
    fn unknown_and_endless_sequences_type_nothing() {
        assert_eq!(keys(b"\x1b[15~\x1b[200~\x1bz\x00\x1b[?62c"), []);
        let endless = [&b"\x1b["[..], &[b'0'; 14], b"a"].concat();
        assert_eq!(keys(&endless), [Key::Char('a')]);
    }
}
