//! `aqueduct mq`: looking after message queues.

mod create;
mod entry;
mod info;
mod limits;
mod list;
mod unlink;

use aqueduct::Endpoint;
use aqueduct::endpoint;
use aqueduct::mq;

use crate::cli::{MqArgs, MqCommand};
use crate::exit::{Exit, Failure};
use crate::report::Report;

pub(crate) fn run(args: MqArgs, report: &Report) -> anyhow::Result<Exit> {
    match args.command {
        MqCommand::List(args) => list::run(args),
        MqCommand::Info(args) => info::run(args),
        MqCommand::Create(args) => create::run(args, report),
        MqCommand::Unlink(args) => unlink::run(args, report),
        MqCommand::Limits(args) => limits::run(args, report),
    }
}

/// The queue that is meant by `/name`, or by an address, whose options are kept.
fn queue(text: &str) -> anyhow::Result<endpoint::Mq> {
    if text.contains(':') {
        return match text.parse()? {
            Endpoint::Mq(queue) => Ok(queue),
            other => Err(Failure::wrong_use(format!(
                "{other} is not a queue: write /name or mq:/name"
            ))),
        };
    }
    mq::check_name(text).map_err(|error| Failure::wrong_use(error.to_string()))?;
    Ok(endpoint::Mq::new(text)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_is_named_by_name_or_address() {
        for text in ["/jobs", "mq:/jobs", "mq:///jobs", "mq:/jobs?capacity=4"] {
            assert_eq!(queue(text).unwrap().name(), "/jobs", "{text}");
        }
        for text in ["jobs", "/a/b", "/", "", "fifo:/jobs", "mq:jobs", "mq:/a b"] {
            let error = queue(text).unwrap_err();
            assert_eq!(Exit::of(&error), Exit::WrongUse, "{text}");
        }
    }
}
