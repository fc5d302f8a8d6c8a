//! `aqueduct mq create`: a new queue.

use aqueduct::mq::{self, OpenOptions};

use aqueduct::OpenErrorKind;

use super::entry::Entry;
use crate::cli::CreateArgs;
use crate::exit::{Exit, Failure};
use crate::report::Report;
use crate::stdout;

/// The mode of a queue for which none is asked.
const DEFAULT_MODE: u32 = 0o600;

pub(super) fn run(args: CreateArgs, report: &Report) -> anyhow::Result<Exit> {
    let address = super::queue(&args.name)?;
    let name = &*address.name;
    let mut options = OpenOptions::new();
    options.create_new(true);
    if let Some(capacity) = args.capacity.or(address.capacity) {
        options.capacity(capacity);
    }
    if let Some(max_message) = args.max_message.or(address.max_message) {
        options.max_message(max_message);
    }
    if let Some(mode) = args.mode.or(address.mode) {
        options.mode(mode);
    }
    let queue = options.open(name).map_err(|error| match error.kind() {
        OpenErrorKind::AlreadyExists => anyhow::anyhow!(
            "queue {name} already exists: use another name, or remove it first \
             (aqueduct mq unlink {name})"
        ),
        OpenErrorKind::InvalidName => Failure::wrong_use(error.to_string()),
        _ => error.into(),
    })?;
    if args.format.json {
        return stdout::write_json(&[Entry::from(mq::info(name)?)]);
    }
    let made = queue.attributes()?;
    let (capacity, max_message) = (made.capacity, made.max_message);
    let mode = args.mode.or(address.mode).unwrap_or(DEFAULT_MODE);
    report.note(format_args!(
        "made queue {name}: it holds {capacity} messages of up to {max_message} bytes, mode \
         {mode:04o}"
    ));
    let cost = mq::cost(capacity, max_message);
    let limits = mq::limits();
    let Some(limit) = limits.bytes_soft else {
        report.note(format_args!(
            "it costs {cost} bytes; this user's queues have no limit (RLIMIT_MSGQUEUE)"
        ));
        return Ok(Exit::Done);
    };
    // What cannot be seen can only make it less.
    let sure = if limits.usage.listed { "" } else { "at most " };
    let more = limits.room_for(cost).queues;
    report.note(format_args!(
        "it costs {cost} of the {limit} bytes that this user's queues may have \
         (RLIMIT_MSGQUEUE); {sure}{more} more like it can be made"
    ));
    Ok(Exit::Done)
}
