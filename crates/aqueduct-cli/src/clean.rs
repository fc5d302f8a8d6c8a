//! `aqueduct clean`: remove what Aqueduct created and no process uses.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};

use anyhow::Context;
use aqueduct::is_marked;
use aqueduct::{mq, unix};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::signal::kill;
use nix::unistd::Pid;
use serde::Serialize;

use crate::cli::CleanArgs;
use crate::exit::Exit;
use crate::look::{self, Found, Kind, Processes, Scope, State, Thing};
use crate::report::Report;
use crate::stdout;
use crate::table::Table;

/// How the names of a tour's directory and of its queue begin, which it leaves behind if it is killed.
const TOUR: &str = "aqueduct-tour-";

/// One object as JSON; scripts rely on the names.
#[derive(Serialize)]
struct Json<'a> {
    address: &'a str,
    kind: &'static str,
    removed: bool,
}

pub(crate) fn run(args: CleanArgs, report: &Report) -> anyhow::Result<Exit> {
    let scope = Scope {
        dirs: args.dirs,
        ..Scope::default()
    };
    let (mut things, unseen) = look::look(&scope)?;
    // These disappear with their processes.
    things.retain(|it| !matches!(it.kind, Kind::Connection));
    let (ours, rest): (Vec<_>, Vec<_>) = things
        .into_iter()
        .partition(|it| it.marked && (it.state == State::Orphaned || left_by_tour(it)));
    let mut failed = 0;
    let mut lines = Vec::new();
    for thing in &ours {
        let mut removed = false;
        if args.yes {
            match remove(thing) {
                Ok(()) => removed = true,
                Err(error) => {
                    failed += 1;
                    report.failure(format_args!("{} is left alone: {error:#}", thing.address));
                }
            }
        }
        lines.push(Json {
            address: &thing.address,
            kind: thing.kind(),
            removed,
        });
    }
    print(&lines, args.yes, args.format.json)?;
    for reason in unseen {
        report.note(reason);
    }
    notes(&rest, report);
    match (args.yes, ours.len()) {
        (_, 0) => report.note("there is nothing to remove"),
        (false, n) => report.note(format_args!("nothing was removed: with --yes {n} would be")),
        (true, _) => {}
    }
    anyhow::ensure!(failed == 0, "{failed} of {} were not removed", ours.len());
    Ok(Exit::Done)
}

fn print(lines: &[Json<'_>], yes: bool, json: bool) -> anyhow::Result<Exit> {
    if json {
        return stdout::write_json(lines);
    }
    let mut table = Table::new(&["address", "removed"]);
    for line in lines {
        let removed = match (line.removed, yes) {
            (true, _) => "yes",
            (false, true) => "no",
            (false, false) => "with --yes",
        };
        table.row(vec![line.address.to_owned(), removed.to_owned()]);
    }
    table.print()
}

/// Reports what is left alone although no process seems to use it.
fn notes(rest: &[Thing], report: &Report) {
    let count = |op: fn(&Thing) -> bool| rest.iter().filter(|it| op(it)).count();
    let foreign = count(|it| it.state == State::Orphaned && !it.marked);
    if foreign > 0 {
        report.note(format_args!(
            "left alone: {foreign} orphaned that Aqueduct did not create"
        ));
    }
    let waiting = count(|it| it.state == State::Waiting);
    if waiting > 0 {
        report.note(format_args!(
            "left alone: {waiting} with messages in them; aqueduct mq unlink removes a queue"
        ));
    }
    let unclear = count(|it| it.state == State::Unclear);
    if unclear > 0 {
        report.note(format_args!(
            "left alone: {unclear} of which it is unclear whether they are in use"
        ));
    }
}

/// Looks once more, and removes it.
fn remove(thing: &Thing) -> anyhow::Result<()> {
    match &thing.kind {
        Kind::Fifo(found) => {
            still_there(found)?;
            let processes = unused(found.id)?;
            let unclear = processes.unclear();
            anyhow::ensure!(unclear.is_empty(), "a process now waits for some FIFO");
            nobody_reads(found)?;
            fs::remove_file(&found.path)?;
            leave_tour(found);
            Ok(())
        }
        Kind::Queue(name, found) => {
            unused(found.id)?;
            let messages = mq::info(name)?.attributes.map(|it| it.messages);
            anyhow::ensure!(
                messages == Some(0) || is_tour_queue(name),
                "it now has a message"
            );
            still_there(found)?;
            Ok(mq::unlink(name)?)
        }
        Kind::Socket(found) => {
            still_there(found)?;
            unix::remove_stale(&found.path)?;
            leave_tour(found);
            Ok(())
        }
        Kind::AbstractSocket | Kind::Connection => anyhow::bail!("it disappears with its process"),
    }
}

fn still_there(found: &Found) -> anyhow::Result<()> {
    let now = fs::symlink_metadata(&found.path)?;
    let same = (now.dev(), now.ino()) == found.id && is_marked(&now);
    anyhow::ensure!(same, "something else now has its name");
    Ok(())
}

/// Fails if some process has it open.
fn unused(id: look::Id) -> anyhow::Result<Processes> {
    let processes = Processes::look();
    if let Some(holder) = processes.of(id).first() {
        anyhow::bail!("{}[{}] now has it open", holder.command, holder.pid);
    }
    Ok(processes)
}

/// Another user's reader cannot be seen, but opening for writing detects it. That disturbs no
/// process if there is none.
fn nobody_reads(found: &Found) -> anyhow::Result<()> {
    let mut options = File::options();
    let flags = OFlag::O_NONBLOCK | OFlag::O_NOFOLLOW;
    match options
        .write(true)
        .custom_flags(flags.bits())
        .open(&found.path)
    {
        Err(e) if e.raw_os_error() == Some(Errno::ENXIO as i32) => Ok(()),
        Err(e) => Err(e).context("cannot check whether it has readers"),
        Ok(_) => anyhow::bail!("a process that cannot be seen reads it"),
    }
}

/// A queue without waiting receivers.
fn left_by_tour(thing: &Thing) -> bool {
    match &thing.kind {
        Kind::Queue(name, _) => thing.state == State::Waiting && is_tour_queue(name),
        _ => false,
    }
}

/// One that a tour has made whose process is gone.
fn is_tour_queue(name: &str) -> bool {
    let pid = name.strip_prefix('/').and_then(|it| it.strip_prefix(TOUR));
    let pid = pid.and_then(|it| it.parse().ok()).filter(|it| *it > 0);
    pid.is_some_and(|it| kill(Pid::from_raw(it), None) == Err(Errno::ESRCH))
}

/// Removes the directory of a tour behind the last thing in it.
fn leave_tour(found: &Found) {
    let Some(dir) = found.path.parent() else {
        return;
    };
    let name = dir.file_name().unwrap_or_default().as_encoded_bytes();
    if name.starts_with(TOUR.as_bytes()) {
        // Not empty yet, or not ours.
        let _: io::Result<()> = fs::remove_dir(dir);
    }
}
