//! `aqueduct mq info`: one queue.

use std::iter::zip;

use aqueduct::mq;

use super::entry::{COLUMNS, Entry};
use crate::cli::NameArgs;
use crate::exit::Exit;
use crate::stdout;
use crate::table::{Table, cell};

pub(super) fn run(args: NameArgs) -> anyhow::Result<Exit> {
    let queue = super::queue(&args.name)?;
    let entry = Entry::from(mq::info(&queue.name)?);
    if args.format.json {
        return stdout::write_json(&[entry]);
    }
    let mut table = Table::new(&["fact", "value"]);
    for (name, value) in zip(COLUMNS, entry.cells()) {
        table.row(vec![name.to_owned(), value]);
    }
    table.row(vec!["cost".to_owned(), cell(entry.cost())]);
    table.row(vec!["notified".to_owned(), cell(entry.notified())]);
    table.print()
}
