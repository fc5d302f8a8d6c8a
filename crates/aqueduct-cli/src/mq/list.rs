//! `aqueduct mq list`: the queues there are.

use aqueduct::mq;

use super::entry::{COLUMNS, Entry, NUMBERS};
use crate::cli::ListArgs;
use crate::exit::Exit;
use crate::stdout;
use crate::table::Table;

pub(super) fn run(args: ListArgs) -> anyhow::Result<Exit> {
    let entries: Vec<Entry> = mq::list()?.into_iter().map(Entry::from).collect();
    if args.format.json {
        return stdout::write_json(&entries);
    }
    let mut table = Table::new(&COLUMNS).right(&NUMBERS);
    for entry in &entries {
        table.row(entry.cells());
    }
    table.print()
}
