//! `aqueduct mq list` and `info`: queues, as they are shown.

use std::iter::zip;

use aqueduct::mq;
use nix::unistd::{Uid, User};
use serde::Serialize;

use crate::cli::{ListArgs, NameArgs};
use crate::exit::Exit;
use crate::stdout;
use crate::table::{Table, cell};

pub(super) fn list(args: ListArgs) -> anyhow::Result<Exit> {
    // Where it cannot be listed nothing was used wrongly.
    let queues = mq::list().map_err(|error| anyhow::anyhow!("{error}"))?;
    let entries: Vec<Entry> = queues.into_iter().map(Entry::from).collect();
    if args.format.json {
        return stdout::write_json(&entries);
    }
    let mut table = Table::new(&COLUMNS).right(&NUMBERS);
    for entry in &entries {
        table.row(entry.cells());
    }
    table.print()
}

pub(super) fn info(args: NameArgs) -> anyhow::Result<Exit> {
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

/// One queue as JSON; people's scripts rely on the names.
#[derive(Debug, Serialize)]
pub(super) struct Entry {
    pub(super) name: String,
    messages: Option<usize>,
    capacity: Option<usize>,
    bytes: Option<u64>,
    max_message: Option<usize>,
    mode: String,
    owner: u32,
    owner_name: Option<String>,
    group: u32,
    cost: Option<u64>,
    notified: Option<u32>,
}

/// The columns of a list, in the order of [`Entry::cells`].
const COLUMNS: [&str; 7] = [
    "name",
    "messages",
    "capacity",
    "bytes",
    "max_message",
    "mode",
    "owner",
];
/// Those of them that are numbers.
const NUMBERS: [usize; 4] = [1, 2, 3, 4];

impl Entry {
    fn cells(&self) -> Vec<String> {
        let owner = || self.owner.to_string();
        vec![
            self.name.clone(),
            cell(self.messages),
            cell(self.capacity),
            cell(self.bytes),
            cell(self.max_message),
            self.mode.clone(),
            self.owner_name.clone().unwrap_or_else(owner),
        ]
    }

    /// What it costs its owner against `RLIMIT_MSGQUEUE`.
    fn cost(&self) -> Option<u64> {
        self.cost
    }

    /// The process that `mq_notify(3)` will tell of the next message.
    fn notified(&self) -> Option<u32> {
        self.notified
    }
}

impl From<mq::Entry> for Entry {
    fn from(from: mq::Entry) -> Self {
        // A user that nobody knows by name is no failure.
        let user = User::from_uid(Uid::from_raw(from.owner)).ok().flatten();
        Self {
            messages: from.attributes.map(|it| it.messages),
            capacity: from.attributes.map(|it| it.capacity),
            bytes: from.bytes,
            max_message: from.attributes.map(|it| it.max_message),
            mode: format!("{:04o}", from.mode),
            owner: from.owner,
            owner_name: user.map(|it| it.name),
            group: from.group,
            cost: from.cost,
            notified: from.notified,
            name: from.name,
        }
    }
}
