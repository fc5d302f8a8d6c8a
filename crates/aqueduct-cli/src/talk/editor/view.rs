//! [`View`]: the line that is being typed, on the terminal.

use std::fmt::Write;

use unicode_width::UnicodeWidthChar;

use crate::printable::Printable;

/// A row and a column, from where the line begins.
type Place = (usize, usize);

/// The size of a terminal in columns and rows.
pub(in crate::talk) type Size = (usize, usize);

/// Draws a line at the bottom of what was shown, over as many rows as it needs and the terminal has.
#[derive(Debug)]
pub(super) struct View {
    size: Size,
    /// How many rows the cursor is below the beginning of what is drawn.
    row: usize,
}

impl View {
    pub(super) fn new(size: Size) -> Self {
        Self { size, row: 0 }
    }

    /// The terminal has another size now, and has wrapped what is drawn anew, as most do.
    pub(super) fn resize(&mut self, size: Size, prompt: &str, before: &str) {
        self.size = size;
        let to_cursor = format!("{prompt}{}", Printable(before));
        self.row = self.wrapped(&to_cursor).0.min(size.1.saturating_sub(1));
    }

    /// Takes away what is drawn.
    pub(super) fn erase(&mut self, out: &mut String) {
        up(self.row, out);
        out.push_str("\r\x1b[J");
        self.row = 0;
    }

    /// Draws a line behind what goes before it, with the cursor between its parts. Of a line with more
    /// rows than the terminal those around the cursor are drawn.
    pub(super) fn draw(&mut self, prompt: &str, (before, behind): (&str, &str), out: &mut String) {
        let before = format!("{prompt}{}", Printable(before));
        let text = format!("{before}{}", Printable(behind));
        let (cursor, end) = (self.wrapped(&before), self.wrapped(&text));
        let others = self.size.1.saturating_sub(1).max(1);
        let first = end.0.saturating_sub(others).min(cursor.0);
        let last = end.0.min(first + others);
        out.push_str(&text[self.start(&text, first)..self.start(&text, last + 1)]);
        // Behind the last column a terminal stays in it until something more is written.
        if last == end.0 && last > first && end.1 == 0 {
            out.push_str("\r\n");
        }
        up(last - cursor.0, out);
        out.push('\r');
        if cursor.1 > 0 {
            // Writing to a `String` cannot fail.
            let _ = write!(out, "\x1b[{}C", cursor.1);
        }
        self.row = cursor.0 - first;
    }

    /// Where one is behind a text.
    fn wrapped(&self, text: &str) -> Place {
        let step = |place, c| step(place, c, self.size.0);
        match text.chars().fold((0, 0), step) {
            (row, column) if column == self.size.0 => (row + 1, 0),
            place => place,
        }
    }

    /// Where a row of a text begins, in bytes.
    fn start(&self, text: &str, row: usize) -> usize {
        let mut place = (0, 0);
        let mut starts = text.char_indices().filter(|(_, c)| {
            place = step(place, *c, self.size.0);
            place.0 >= row
        });
        starts.next().map_or(text.len(), |(at, _)| at)
    }
}

fn up(rows: usize, out: &mut String) {
    if rows > 0 {
        let _ = write!(out, "\x1b[{rows}A");
    }
}

/// Where one is behind a character.
fn step((row, column): Place, c: char, width: usize) -> Place {
    if c == '\t' {
        // It never leads into the next row.
        return (row, (column / 8 * 8 + 8).min(width - 1).max(column));
    }
    let wide = c.width().unwrap_or(0);
    match column + wide > width {
        true => (row + 1, wide),
        false => (row, column + wide),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(width: usize, prompt: &str, parts: (&str, &str)) -> (String, usize) {
        let mut view = View::new((width, 24));
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
        let mut view = View::new((10, 24));
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

    #[test]
    fn rows_at_the_cursor_are_drawn_of_a_line_that_is_too_large() {
        let rows = |before, behind| {
            let mut view = View::new((4, 3));
            let mut out = String::new();
            view.draw("> ", (before, behind), &mut out);
            (out, view.row)
        };
        // "> ab", "cdef", "ghij", "klmn" and an empty row.
        let (out, row) = rows("abcdefghijklmn", "");
        assert_eq!((out.as_str(), row), ("ghijklmn\r\n\r", 2));
        let (out, row) = rows("abcdefghijklm", "n");
        assert_eq!((out.as_str(), row), ("ghijklmn\r\n\x1b[1A\r\x1b[3C", 1));
        let (out, row) = rows("", "abcdefghijklmn");
        assert_eq!((out.as_str(), row), ("> abcdefghij\x1b[2A\r\x1b[2C", 0));
    }

    #[test]
    fn a_tab_of_the_peer_leads_to_the_next_stop() {
        let (out, row) = drawn(80, "name:\t", ("me", ""));
        assert_eq!((out.as_str(), row), ("name:\tme\r\x1b[10C", 0));
        let (out, row) = drawn(10, "name:\t\t", ("me", ""));
        assert_eq!((out.as_str(), row), ("name:\t\tme\r\x1b[1C", 1));
    }
}
