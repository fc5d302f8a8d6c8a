//! `aqueduct list`: show objects and the processes that have them open.

use std::cmp::Reverse;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use aqueduct::Endpoint;
use serde::Serialize;

use crate::cli::{LookArgs, Sort};
use crate::exit::Exit;
use crate::look::{self, Holder, Prefix, Scope, Side, State, Thing};
use crate::report::Report;
use crate::stdout;
use crate::table::{Table, cell};

pub(crate) fn run(args: LookArgs, report: &Report) -> anyhow::Result<Exit> {
    let mut scope = Scope {
        all: args.all,
        ..Scope::default()
    };
    for place in args.places {
        match Prefix::parse(&place) {
            Some(prefix) => scope.prefixes.push(prefix),
            None => {
                if !Path::new(&place).exists() && begins_like_an_address(&place) {
                    // Says which schemes there are.
                    Endpoint::try_from(place.clone())?;
                }
                scope.dirs.push(place.into());
            }
        }
    }
    let (mut things, mut unseen) = look::look(&scope)?;
    if let (true, Some(prefix)) = (things.is_empty(), scope.prefixes.first()) {
        let more = if scope.prefixes.len() > 1 {
            " or another one"
        } else {
            ""
        };
        report.note(format_args!("no address begins with {prefix}{more}"));
    }
    things.retain(|it| !args.mine || it.marked);
    things.retain(|it| !args.orphaned || it.state == State::Orphaned);
    // What is alike stays in order of its address.
    match args.sort {
        Sort::Address => {}
        Sort::State => things.sort_by_key(|it| it.state as u8),
        Sort::Depth => things.sort_by_key(|it| Reverse(depth(it))),
    }
    let exit = print(&things, args.format.json)?;
    match things.iter().filter(|it| it.sides.len() == 1).count() {
        0 => {}
        n => unseen.push(format!(
            "{n} by shared memory with one end alone: the other has not accepted it yet, has ended, \
             or is a process that only root may look into"
        )),
    }
    for reason in unseen {
        report.note(reason);
    }
    Ok(exit)
}

/// Whether it has a colon, and no slash before it.
fn begins_like_an_address(place: &OsStr) -> bool {
    let first = place.as_bytes().iter().find(|it| b":/".contains(it));
    first == Some(&b':')
}

/// The messages in a queue or the clients of a socket.
fn depth(thing: &Thing) -> Option<usize> {
    thing.messages.map(|it| it.0).or(thing.connections)
}

/// Prints a table or lines of JSON.
pub(crate) fn print(things: &[Thing], json: bool) -> anyhow::Result<Exit> {
    if json {
        return stdout::write_json(&things.iter().map(Json::from).collect::<Vec<_>>());
    }
    let mut table = Table::new(&["address", "state", "depth", "made", "open_by"]);
    for thing in things {
        let depth = match (thing.messages, thing.connections) {
            (Some((messages, capacity)), _) => Some(format!("{messages}/{capacity}")),
            (None, Some(n)) => Some(n.to_string()),
            (None, None) if thing.sides.is_empty() => None,
            (None, None) => Some(joined(thing.sides.iter().map(filled))),
        };
        let socket = thing.kind() == "socket";
        let holders = thing.holders.iter().map(|it| told(it, socket));
        let sides = thing.sides.iter().map(told_side);
        let holders: Vec<_> = match thing.sides.is_empty() {
            true => holders.collect(),
            false => sides.collect(),
        };
        table.row(vec![
            thing.address.clone(),
            thing.state.name().to_owned(),
            cell(depth),
            cell(thing.marked.then_some("aqueduct")),
            cell((!holders.is_empty()).then(|| holders.join(" "))),
        ]);
    }
    table.print()
}

/// A process in few letters. A socket is always open both ways.
fn told(holder: &Holder, socket: bool) -> String {
    let Holder { pid, command, .. } = holder;
    let access = match (holder.reads, holder.writes) {
        _ if socket => "",
        (true, true) => ":rw",
        (true, false) => ":r",
        (false, true) => ":w",
        (false, false) => "",
    };
    let opening = if holder.opening { ":opening" } else { "" };
    format!("{command}[{pid}]{access}{opening}")
}

fn joined(words: impl Iterator<Item = String>) -> String {
    words.collect::<Vec<_>>().join(" ")
}

/// What a side has written and the other one has not read, of what there is room for.
fn filled(side: &Side) -> String {
    format!("{}/{}", cell(side.unread), side.capacity)
}

/// A process at one side of a connection in few letters.
fn told_side(side: &Side) -> String {
    let Side { pid, command, .. } = side;
    let does = match (side.waits_for_data, side.waits_for_room) {
        (false, false) => "awake",
        _ => "asleep",
    };
    format!("{command}[{pid}]:{does}")
}

/// One object as JSON; scripts rely on the names.
#[derive(Serialize)]
struct Json<'a> {
    address: &'a str,
    kind: &'static str,
    state: &'static str,
    made_by_aqueduct: bool,
    owner: Option<u32>,
    messages: Option<usize>,
    capacity: Option<usize>,
    connections: Option<usize>,
    open_by: Vec<JsonHolder<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    sides: Vec<JsonSide<'a>>,
}

/// A side of a connection by shared memory.
#[derive(Serialize)]
struct JsonSide<'a> {
    pid: u32,
    command: &'a str,
    /// In bytes, both.
    capacity: u64,
    unread: Option<u64>,
    waits_for_data: bool,
    waits_for_room: bool,
    finished: bool,
}

#[derive(Serialize)]
struct JsonHolder<'a> {
    pid: u32,
    command: &'a str,
    reads: bool,
    writes: bool,
    /// It waits in open(2) for the other side of a FIFO.
    opening: bool,
}

impl<'a> From<&'a Thing> for Json<'a> {
    fn from(from: &'a Thing) -> Self {
        let holders = from.holders.iter().map(|it| JsonHolder {
            pid: it.pid,
            command: &it.command,
            reads: it.reads,
            writes: it.writes,
            opening: it.opening,
        });
        let sides = from.sides.iter().map(|it| JsonSide {
            pid: it.pid,
            command: &it.command,
            capacity: it.capacity,
            unread: it.unread,
            waits_for_data: it.waits_for_data,
            waits_for_room: it.waits_for_room,
            finished: it.finished,
        });
        Self {
            address: &from.address,
            kind: from.kind(),
            state: from.state.name(),
            made_by_aqueduct: from.marked,
            owner: from.owner,
            messages: from.messages.map(|it| it.0),
            capacity: from.messages.map(|it| it.1),
            connections: from.connections,
            open_by: holders.collect(),
            sides: sides.collect(),
        }
    }
}
