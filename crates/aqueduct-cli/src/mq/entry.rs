//! A queue, as it is shown.

use aqueduct::mq;
use nix::unistd::{Uid, User};
use serde::Serialize;

use crate::table::cell;

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
pub(super) const COLUMNS: [&str; 7] = [
    "name",
    "messages",
    "capacity",
    "bytes",
    "max_message",
    "mode",
    "owner",
];
/// Those of them that are numbers.
pub(super) const NUMBERS: [usize; 4] = [1, 2, 3, 4];

impl Entry {
    pub(super) fn cells(&self) -> Vec<String> {
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
    pub(super) fn cost(&self) -> Option<u64> {
        self.cost
    }

    /// The process that `mq_notify(3)` will tell of the next message.
    pub(super) fn notified(&self) -> Option<u32> {
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
            cost: from.cost(),
            notified: from.notified,
            name: from.name,
        }
    }
}
