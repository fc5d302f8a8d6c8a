//! Tables: for eyes on a terminal, for programs elsewhere.

use std::io::{self, IsTerminal};

use comfy_table::{CellAlignment, ContentArrangement, LineStyle, TableStyle};
use terminal_size::{Width, terminal_size_of};

use crate::exit::Exit;
use crate::printable::Printable;
use crate::stdout;

/// What stands for a value that is not known or not there.
const NONE: &str = "-";
/// The width of a terminal that does not say how wide it is.
const DEFAULT_WIDTH: u16 = 80;

/// A line under the header and nothing else: as many rows as fit.
const STYLE: TableStyle =
    TableStyle::new().header_separator(LineStyle::none().fill('─').junction('─'));

/// Rows under a header.
pub(crate) struct Table {
    header: Vec<&'static str>,
    rows: Vec<Vec<String>>,
    right: Vec<usize>,
}

impl Table {
    pub(crate) fn new(header: &[&'static str]) -> Self {
        Self {
            header: header.to_vec(),
            rows: Vec::new(),
            right: Vec::new(),
        }
    }

    /// The columns of numbers.
    pub(crate) fn right(mut self, columns: &[usize]) -> Self {
        self.right = columns.to_vec();
        self
    }

    pub(crate) fn row(&mut self, cells: Vec<String>) {
        let cells = cells.iter().map(|it| Printable(it).to_string()).collect();
        self.rows.push(cells);
    }

    /// Prints it on standard output in the form that fits.
    pub(crate) fn print(self) -> anyhow::Result<Exit> {
        let stdout = io::stdout();
        if stdout.is_terminal() {
            let width = terminal_size_of(&stdout).map_or(DEFAULT_WIDTH, |(Width(it), _)| it);
            return stdout::write(self.drawn(width));
        }
        stdout::write(self.plain())
    }

    /// Fields between tabs.
    fn plain(&self) -> String {
        let mut text = self.header.join("\t") + "\n";
        for row in &self.rows {
            text.push_str(&row.join("\t"));
            text.push('\n');
        }
        text
    }

    fn drawn(self, width: u16) -> String {
        let mut table = comfy_table::Table::new();
        table
            .load_style(STYLE)
            .set_content_arrangement(ContentArrangement::Dynamic)
            .set_width(width)
            .set_header(self.header)
            .add_rows(self.rows);
        for column in self.right {
            if let Some(column) = table.column_mut(column) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        format!("{table}\n")
    }
}

/// A cell of what may not be known.
pub(crate) fn cell(value: Option<impl ToString>) -> String {
    value.map_or_else(|| NONE.to_owned(), |it| it.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut table = Table::new(&["name", "messages"]).right(&[1]);
        table.row(vec!["/a\tb\x1b[31m".to_owned(), cell(Some(3))]);
        table.row(vec!["/c".to_owned(), cell(None::<u32>)]);
        table
    }

    #[test]
    fn fields_for_a_program_have_tabs_and_no_control_characters() {
        let expected = "name\tmessages\n/a\\tb\\u{1b}[31m\t3\n/c\t-\n";
        assert_eq!(table().plain(), expected);
    }

    #[test]
    fn a_terminal_gets_no_line_wider_than_it_is() {
        let mut table = table();
        table.row(vec![format!("/{}", "long".repeat(50)), cell(Some(1))]);
        let drawn = table.drawn(80);
        assert!(drawn.lines().all(|it| it.chars().count() <= 80), "{drawn}");
        assert!(!drawn.contains('\x1b'), "{drawn}");
        assert_eq!(drawn.matches('g').count(), 50 + 1, "{drawn}");
    }
}
