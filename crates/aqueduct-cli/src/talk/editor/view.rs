//! [`View`]: the line that is being typed, on the terminal.

use std::fmt::Write;

use unicode_width::UnicodeWidthChar;

use crate::printable::Printable;

/// A row and a column, from where the line begins.
type Place = (usize, usize);

/// Draws a line at the bottom of what was shown, over as many rows as it needs.
#[derive(Debug)]
pub(super) struct View {
    width: usize,
    /// How many rows the cursor is below the beginning of what is drawn.
    row: usize,
}

impl View {
    pub(super) fn new(width: usize) -> Self {
        Self { width, row: 0 }
    }

    /// The terminal has another width now, and has wrapped what is drawn anew, as most do.
    pub(super) fn resize(&mut self, width: usize, prompt: &str, before: &str) {
        self.width = width;
        let to_cursor = format!("{prompt}{}", Printable(before));
        self.row = self.wrapped(walk((0, 0), &to_cursor, width)).0;
    }

    /// Takes away what is drawn.
    pub(super) fn erase(&mut self, out: &mut String) {
        up(self.row, out);
        out.push_str("\r\x1b[J");
        self.row = 0;
    }

    /// Draws a line behind what goes before it, with the cursor between its parts.
    pub(super) fn draw(&mut self, prompt: &str, (before, behind): (&str, &str), out: &mut String) {
        let (before, behind) = (Printable(before), Printable(behind));
        let to_cursor = format!("{prompt}{before}");
        let behind = behind.to_string();
        let cursor = walk((0, 0), &to_cursor, self.width);
        let end = walk(cursor, &behind, self.width);
        out.push_str(&to_cursor);
        out.push_str(&behind);
        // Behind the last column a terminal stays in it until something more is written.
        if end.1 == self.width {
            out.push_str("\r\n");
        }
        let (cursor, end) = (self.wrapped(cursor), self.wrapped(end));
        up(end.0 - cursor.0, out);
        out.push('\r');
        if cursor.1 > 0 {
            // Writing to a `String` cannot fail.
            let _ = write!(out, "\x1b[{}C", cursor.1);
        }
        self.row = cursor.0;
    }

    fn wrapped(&self, (row, column): Place) -> Place {
        match column == self.width {
            true => (row + 1, 0),
            false => (row, column),
        }
    }
}

fn up(rows: usize, out: &mut String) {
    if rows > 0 {
        let _ = write!(out, "\x1b[{rows}A");
    }
}

/// Where one is behind a text.
fn walk((mut row, mut column): Place, text: &str, width: usize) -> Place {
    for c in text.chars() {
        let wide = c.width().unwrap_or(0);
        if column + wide > width {
            (row, column) = (row + 1, 0);
        }
        column += wide;
    }
    (row, column)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(width: usize, prompt: &str, parts: (&str, &str)) -> (String, usize) {
        let mut view = View::new(width);
        let mut out = String::new();
        view.draw(prompt, parts, &mut out);
        (out, view.row)
    }

    #[test]
    fn a_short_line_takes_one_row() {
        assert_eq!(
            drawn(80, "> ", ("hé", "llo")),
            ("> héllo\r\x1b[4C".to_owned(), 0)
        );
        assert_eq!(drawn(80, "", ("", "")), ("\r".to_owned(), 0));
    }

    #[test]
    fn a_long_line_wraps_and_is_erased_from_its_first_row() {
        let (out, row) = drawn(10, "> ", ("0123456789012345678", "9"));
        assert_eq!((out.as_str(), row), ("> 01234567890123456789\r\x1b[1C", 2));
        let (out, row) = drawn(10, "> ", ("0", "1234567890"));
        assert_eq!((out.as_str(), row), ("> 01234567890\x1b[1A\r\x1b[3C", 0));
        let mut view = View::new(10);
        view.row = 2;
        let mut out = String::new();
        view.erase(&mut out);
        assert_eq!((out.as_str(), view.row), ("\x1b[2A\r\x1b[J", 0));
    }

    #[test]
    fn a_full_row_puts_the_cursor_into_the_next() {
        assert_eq!(drawn(5, "> ", ("abc", "")), ("> abc\r\n\r".to_owned(), 1));
        assert_eq!(
            drawn(5, "> ", ("ab", "c")),
            ("> abc\r\n\x1b[1A\r\x1b[4C".to_owned(), 0)
        );
    }

    #[test]
    fn wide_characters_and_escapes_are_counted_as_shown() {
        // The last one does not fit into the first row.
        let (out, row) = drawn(5, "", ("日本語", ""));
        assert_eq!((out.as_str(), row), ("日本語\r\x1b[2C", 1));
        let (out, _) = drawn(80, "> ", ("a\tb", ""));
        assert_eq!(out, "> a\\tb\r\x1b[6C");
    }
}
