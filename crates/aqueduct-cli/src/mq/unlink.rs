//! `aqueduct mq unlink`: a queue removed.

use aqueduct::mq;
use serde::Serialize;

use crate::cli::NameArgs;
use crate::exit::Exit;
use crate::report::Report;
use crate::stdout;

#[derive(Serialize)]
struct Removed<'a> {
    name: &'a str,
    /// How many messages were in it; `null` if its mode hid that.
    messages: Option<usize>,
}

pub(super) fn run(args: NameArgs, report: &Report) -> anyhow::Result<Exit> {
    let queue = super::queue(&args.name)?;
    let name = &*queue.name;
    // To be told afterwards; a queue may be removed that may not be looked into.
    let info = mq::info(name).ok();
    let messages = info.and_then(|it| it.attributes).map(|it| it.messages);
    mq::unlink(name)?;
    if args.format.json {
        return stdout::write_json(&[Removed { name, messages }]);
    }
    let with = match messages {
        None | Some(0) => String::new(),
        Some(1) => " and the message in it".to_owned(),
        Some(n) => format!(" and the {n} messages in it"),
    };
    report.note(format_args!("removed queue {name}{with}"));
    Ok(Exit::Done)
}
