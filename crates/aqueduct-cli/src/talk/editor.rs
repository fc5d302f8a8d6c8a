//! [`Editor`]: a line that is typed below what the peer says.
//!
//! It is this program's own. Of the crates that would serve, rustyline loses what is shown in the
//! moment in which its last line ends, and those on crossterm spin when their terminal has gone.

mod keys;
mod line;
mod mode;
mod view;

use self::keys::{Key, Keys};
use self::line::{Done, Line};
pub(super) use self::mode::Mode;
pub(super) use self::view::Size;
use self::view::View;

/// What stands before the line that is typed, unless the peer has begun a line.
const PROMPT: &str = "> ";
/// The most bytes of a begun line that are drawn anew with each key.
const BEGUN: usize = 4096;

/// A line that is typed, below lines that are shown. It writes nothing: each call appends what is
/// to be written to `out`.
pub(super) struct Editor {
    keys: Keys,
    line: Line,
    view: View,
    /// A line of the peer's without its end, such as a prompt: what is typed stands behind it.
    begun: String,
}

/// What was typed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Typed {
    Line(String),
    End,
}

impl Editor {
    pub(super) fn new(size: Size, out: &mut String) -> Self {
        let mut editor = Self {
            keys: Keys::default(),
            line: Line::default(),
            view: View::new(size),
            begun: String::new(),
        };
        editor.draw(out);
        editor
    }

    /// Takes bytes that the terminal sends.
    pub(super) fn press(&mut self, bytes: &[u8], out: &mut String) -> Vec<Typed> {
        let mut typed = Vec::new();
        self.view.erase(out);
        for byte in bytes {
            let Some(key) = self.keys.advance(*byte) else {
                continue;
            };
            if key == Key::Clear {
                out.push_str("\x1b[H\x1b[2J");
            }
            let before = (key == Key::Enter).then(|| self.whole());
            match self.line.press(key) {
                Done::Edited => {}
                Done::Entered(line) => {
                    // It stays where it was typed.
                    out.push_str(&before.unwrap_or_default());
                    out.push('\n');
                    self.begun.clear();
                    typed.push(Typed::Line(line));
                }
                Done::End => {
                    typed.push(Typed::End);
                    break;
                }
            }
        }
        self.draw(out);
        typed
    }

    /// Shows text above the line, with its control characters escaped already. A last line without
    /// its end is shown before what is typed.
    pub(super) fn show(&mut self, text: &str, out: &mut String) {
        self.view.erase(out);
        self.begun.push_str(text);
        if let Some(end) = self.begun.rfind('\n') {
            out.push_str(&self.begun[..=end]);
            self.begun.drain(..=end);
        }
        if self.begun.len() > BEGUN {
            out.push_str(&self.begun);
            out.push('\n');
            self.begun.clear();
        }
        self.draw(out);
    }

    /// Shows a whole line above the one that is typed, and above one that the peer has begun.
    pub(super) fn note(&mut self, line: &str, out: &mut String) {
        self.view.erase(out);
        out.push_str(line);
        self.draw(out);
    }

    /// Draws it once more, on a terminal that may have another size now.
    pub(super) fn redraw(&mut self, size: Size, out: &mut String) {
        let (prompt, before) = (prompt(&self.begun), self.line.parts().0);
        self.view.resize(size, prompt, before);
        self.view.erase(out);
        self.draw(out);
    }

    /// Ends it. A line that was begun stays.
    pub(super) fn finish(&mut self, out: &mut String) {
        self.view.erase(out);
        if !self.begun.is_empty() || !self.line.is_empty() {
            out.push_str(&self.whole());
            out.push('\n');
        }
    }

    fn draw(&mut self, out: &mut String) {
        self.view.draw(prompt(&self.begun), self.line.parts(), out);
    }

    /// All of the line as it is drawn.
    fn whole(&self) -> String {
        let (before, behind) = self.line.parts();
        let typed = crate::printable::Printable(format_args!("{before}{behind}")).to_string();
        format!("{}{typed}", prompt(&self.begun))
    }
}

fn prompt(begun: &str) -> &str {
    match begun {
        "" => PROMPT,
        begun => begun,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ERASED: &str = "\r\x1b[J";

    fn editor() -> Editor {
        let mut out = String::new();
        let editor = Editor::new((80, 24), &mut out);
        assert_eq!(out, "> \r\x1b[2C");
        editor
    }

    #[test]
    fn what_the_peer_says_is_shown_above_the_line() {
        let (mut editor, mut out) = (editor(), String::new());
        assert_eq!(editor.press(b"hel", &mut out), []);
        out.clear();
        editor.show("one\ntwo\n", &mut out);
        assert_eq!(out, format!("{ERASED}one\ntwo\n> hel\r\x1b[5C"));
        out.clear();
        let typed = editor.press(b"lo\r", &mut out);
        assert_eq!(typed, [Typed::Line("hello".to_owned())]);
        assert_eq!(out, format!("{ERASED}> hello\n> \r\x1b[2C"));
    }

    #[test]
    fn a_line_that_the_peer_begins_is_the_prompt() {
        let (mut editor, mut out) = (editor(), String::new());
        editor.show("welcome\nlog", &mut out);
        editor.show("in: ", &mut out);
        assert!(out.ends_with("login: \r\x1b[7C"), "{out:?}");
        out.clear();
        editor.press(b"me\r", &mut out);
        assert_eq!(out, format!("{ERASED}login: me\n> \r\x1b[2C"));
        out.clear();
        editor.show("begun", &mut out);
        editor.note("a note\n", &mut out);
        assert!(out.ends_with("a note\nbegun\r\x1b[5C"), "{out:?}");
        editor.show(&"x".repeat(BEGUN + 1), &mut out);
        assert!(out.ends_with("x\n> \r\x1b[2C"), "{out:?}");
    }

    #[test]
    fn the_end_takes_the_prompt_away_and_leaves_what_was_begun() {
        let (mut editor, mut out) = (editor(), String::new());
        let typed = editor.press(b"a\nb\n\x04c\n", &mut out);
        let line = |it: &str| Typed::Line(it.to_owned());
        assert_eq!(typed, [line("a"), line("b"), Typed::End]);
        out.clear();
        editor.finish(&mut out);
        assert_eq!(out, ERASED);
        let (mut editor, mut out) = (self::editor(), String::new());
        editor.press(b"beg\x04\x1b[D", &mut out);
        out.clear();
        editor.finish(&mut out);
        assert_eq!(out, format!("{ERASED}> beg\n"));
    }

    #[test]
    fn what_is_typed_cannot_steer_the_terminal() {
        let (mut editor, mut out) = (editor(), String::new());
        editor.press("a\u{9b}31m\u{202e}".as_bytes(), &mut out);
        assert!(out.contains("> a31m\\u{202e}"), "{out:?}");
    }
}
