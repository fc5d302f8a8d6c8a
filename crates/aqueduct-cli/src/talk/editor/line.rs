//! [`Line`]: the line that is being typed, and those before it.

use std::collections::VecDeque;

use unicode_width::UnicodeWidthChar;

use super::keys::Key;

/// How many lines are remembered.
const HISTORY: usize = 1000;
/// The longest line in bytes; what is typed beyond that is left out.
const LONGEST: usize = 64 * 1024;

/// A line and the place in it.
#[derive(Debug, Default)]
pub(super) struct Line {
    text: String,
    /// Where the cursor is, in bytes; at the beginning of a character that takes room.
    at: usize,
    /// What was killed last.
    killed: String,
    history: VecDeque<String>,
    /// The line of the history that is shown.
    shown: Option<usize>,
    /// What was typed before the history was looked at.
    draft: String,
}

/// What a key has done.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Done {
    /// Nothing but a change to the line.
    Edited,
    /// The line is to be sent.
    Entered(String),
    /// There are no more lines.
    End,
}

impl Line {
    /// What is before the cursor, and what is behind it.
    pub(super) fn parts(&self) -> (&str, &str) {
        self.text.split_at(self.at)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    pub(super) fn press(&mut self, key: Key) -> Done {
        match key {
            Key::Enter => return self.enter(),
            Key::DeleteOrEnd if self.text.is_empty() => return Done::End,
            Key::Char(c) => self.insert(c.encode_utf8(&mut [0; 4])),
            Key::Yank => {
                let killed = std::mem::take(&mut self.killed);
                self.insert(&killed);
                self.killed = killed;
            }
            Key::Backspace => drop(self.remove(self.left(), self.at)),
            Key::Delete | Key::DeleteOrEnd => drop(self.remove(self.at, self.right())),
            Key::KillToStart => self.kill(0, self.at),
            Key::KillToEnd => self.kill(self.at, self.text.len()),
            Key::KillWordLeft => self.kill(self.word_left(), self.at),
            Key::KillWordRight => self.kill(self.at, self.word_right()),
            Key::Left => self.at = self.left(),
            Key::Right => self.at = self.right(),
            Key::WordLeft => self.at = self.word_left(),
            Key::WordRight => self.at = self.word_right(),
            Key::Home => self.at = 0,
            Key::End => self.at = self.text.len(),
            Key::Up => self.show(self.shown.unwrap_or(self.history.len()).checked_sub(1)),
            Key::Down => self.show(self.shown.map(|it| it + 1)),
            Key::Clear => {}
        }
        Done::Edited
    }

    fn enter(&mut self) -> Done {
        let line = std::mem::take(&mut self.text);
        (self.at, self.shown) = (0, None);
        if !line.is_empty() && self.history.back() != Some(&line) {
            if self.history.len() == HISTORY {
                self.history.pop_front();
            }
            self.history.push_back(line.clone());
        }
        Done::Entered(line)
    }

    /// Shows a line of the history; behind the last one what was typed before.
    fn show(&mut self, which: Option<usize>) {
        let Some(which) = which else {
            return;
        };
        if self.shown.is_none() {
            self.draft.clone_from(&self.text);
        }
        self.shown = Some(which).filter(|it| *it < self.history.len());
        let text = self.shown.and_then(|it| self.history.get(it));
        self.text = text.unwrap_or(&self.draft).clone();
        self.at = self.text.len();
    }

    fn insert(&mut self, text: &str) {
        if self.text.len() + text.len() <= LONGEST {
            self.text.insert_str(self.at, text);
            self.at += text.len();
        }
    }

    fn remove(&mut self, from: usize, to: usize) -> String {
        self.at = from;
        self.text.drain(from..to).collect()
    }

    fn kill(&mut self, from: usize, to: usize) {
        let killed = self.remove(from, to);
        if !killed.is_empty() {
            self.killed = killed;
        }
    }

    /// Where the character before the cursor begins, with what is written over it.
    fn left(&self) -> usize {
        let before = self.text[..self.at].char_indices().rev();
        let mut begins = before.filter(|(_, c)| takes_room(*c)).map(|it| it.0);
        begins.next().unwrap_or(0)
    }

    fn right(&self) -> usize {
        let behind = self.text[self.at..].char_indices().skip(1);
        let mut begins = behind.filter(|(_, c)| takes_room(*c)).map(|it| it.0);
        begins.next().map_or(self.text.len(), |it| self.at + it)
    }

    fn word_left(&self) -> usize {
        let before = self.text[..self.at].trim_end();
        let space = before.char_indices().rev().find(|it| it.1.is_whitespace());
        space.map_or(0, |(at, c)| at + c.len_utf8())
    }

    fn word_right(&self) -> usize {
        let behind = &self.text[self.at..];
        let word = behind.len() - behind.trim_start().len();
        let end = behind[word..].find(char::is_whitespace);
        end.map_or(self.text.len(), |it| self.at + word + it)
    }
}

/// Whether a character has a place of its own, unlike a combining mark.
fn takes_room(c: char) -> bool {
    c.width() != Some(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn type_in(line: &mut Line, text: &str) {
        for c in text.chars() {
            assert_eq!(line.press(Key::Char(c)), Done::Edited);
        }
    }

    fn text(line: &Line) -> String {
        let (before, behind) = line.parts();
        format!("{before}|{behind}")
    }

    #[test]
    fn a_line_is_edited_anywhere() {
        let mut line = Line::default();
        type_in(&mut line, "héllo wörld");
        for (key, expected) in [
            (Key::WordLeft, "héllo |wörld"),
            (Key::Left, "héllo| wörld"),
            (Key::Backspace, "héll| wörld"),
            (Key::Delete, "héll|wörld"),
            (Key::Home, "|héllwörld"),
            (Key::Right, "h|éllwörld"),
            (Key::Delete, "h|llwörld"),
            (Key::KillToStart, "|llwörld"),
            (Key::End, "llwörld|"),
            (Key::Yank, "llwörldh|"),
            (Key::KillWordLeft, "|"),
            (Key::Yank, "llwörldh|"),
            (Key::Home, "|llwörldh"),
            (Key::WordRight, "llwörldh|"),
            (Key::Right, "llwörldh|"),
            (Key::DeleteOrEnd, "llwörldh|"),
            (Key::KillToEnd, "llwörldh|"),
        ] {
            assert_eq!(line.press(key), Done::Edited);
            assert_eq!(text(&line), expected, "{key:?}");
        }
        assert_eq!(line.press(Key::Enter), Done::Entered("llwörldh".to_owned()));
        assert_eq!(line.press(Key::DeleteOrEnd), Done::End);
    }

    #[test]
    fn a_combining_mark_goes_with_its_letter() {
        let mut line = Line::default();
        type_in(&mut line, "ae\u{301}b");
        line.press(Key::Left);
        line.press(Key::Left);
        assert_eq!(text(&line), "a|e\u{301}b");
        line.press(Key::Delete);
        assert_eq!(text(&line), "a|b");
    }

    #[test]
    fn lines_come_back_and_the_one_that_was_begun_too() {
        let mut line = Line::default();
        for entered in ["one", "two", "two", ""] {
            type_in(&mut line, entered);
            line.press(Key::Enter);
        }
        type_in(&mut line, "dra");
        for (key, expected) in [
            (Key::Up, "two|"),
            (Key::Up, "one|"),
            (Key::Up, "one|"),
            (Key::Down, "two|"),
            (Key::Down, "dra|"),
            (Key::Down, "dra|"),
        ] {
            line.press(key);
            assert_eq!(text(&line), expected, "{key:?}");
        }
    }

    #[test]
    fn a_line_and_the_history_have_limits() {
        let mut line = Line::default();
        type_in(&mut line, &"x".repeat(LONGEST + 10));
        assert_eq!(line.text.len(), LONGEST);
        line.press(Key::Enter);
        for i in 0..HISTORY + 10 {
            type_in(&mut line, &i.to_string());
            line.press(Key::Enter);
        }
        assert_eq!(line.history.len(), HISTORY);
        assert_eq!(line.history[0], "10");
    }
}
