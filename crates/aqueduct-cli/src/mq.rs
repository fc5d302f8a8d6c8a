//! `aqueduct mq`: looking after message queues.

mod create;
mod entry;
mod limits;
mod unlink;

use aqueduct::{Endpoint, OpenError, OpenErrorKind};

use crate::cli::{MqArgs, MqCommand};
use crate::exit::{Exit, Failure};
use crate::report::Report;

pub(crate) fn run(args: MqArgs, report: &Report) -> anyhow::Result<Exit> {
    let done = match args.command {
        MqCommand::List(args) => entry::list(args),
        MqCommand::Info(args) => entry::info(args),
        MqCommand::Create(args) => create::run(args, report),
        MqCommand::Unlink(args) => unlink::run(args, report),
        MqCommand::Limits(args) => limits::run(args, report),
    };
    done.map_err(|error| match error.downcast_ref().map(OpenError::kind) {
        Some(OpenErrorKind::InvalidName) => Failure::wrong_use(error.to_string()),
        _ => error,
    })
}

/// A queue as it was named, with the options of its address.
#[derive(Debug, Default)]
struct Named {
    name: String,
    capacity: Option<usize>,
    max_message: Option<usize>,
    mode: Option<u32>,
}

/// The queue that is meant by `/name`, or by an address.
fn queue(text: &str) -> anyhow::Result<Named> {
    // A name as it is listed, with any character in it.
    if text.starts_with('/') {
        return Ok(Named {
            name: text.to_owned(),
            ..Named::default()
        });
    }
    if !text.contains(':') {
        return Err(Failure::wrong_use(format!(
            "{text:?} is no queue: its name begins with a slash, as in \"/{text}\""
        )));
    }
    let endpoint: Endpoint = text.parse()?;
    match endpoint.to_string().strip_prefix("mq:") {
        Some(queue) => Ok(Named::parse(queue)),
        None => Err(Failure::wrong_use(format!(
            "{endpoint} is not a queue: write /name or mq:/name"
        ))),
    }
}

impl Named {
    fn parse(text: &str) -> Self {
        let (name, options) = text.split_once('?').unwrap_or((text, ""));
        let options = options.split('&').filter_map(|it| it.split_once('='));
        let option = |wanted| options.clone().find(|it| it.0 == wanted).map(|it| it.1);
        Self {
            name: plain(name),
            capacity: option("capacity").and_then(|it| it.parse().ok()),
            max_message: option("max-message").and_then(|it| it.parse().ok()),
            mode: option("mode").and_then(|it| u32::from_str_radix(it, 8).ok()),
        }
    }
}

/// A name without the escapes that an address has.
fn plain(escaped: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = escaped.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        let digits = tail.get(..2).filter(|_| byte == b'%');
        let digits = digits.and_then(|it| std::str::from_utf8(it).ok());
        match digits.and_then(|it| u8::from_str_radix(it, 16).ok()) {
            Some(value) => {
                bytes.push(value);
                rest = &tail[2..];
            }
            None => {
                bytes.push(byte);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_is_named_by_name_or_address() {
        for text in ["/jobs", "mq:/jobs", "mq:///jobs", "mq:/jobs?capacity=4"] {
            assert_eq!(queue(text).unwrap().name, "/jobs", "{text}");
        }
        for text in ["/a:b", "mq:/a:b", "mq:/a%3Ab"] {
            assert_eq!(queue(text).unwrap().name, "/a:b", "{text}");
        }
        for text in ["jobs", "", "fifo:/jobs", "mq:jobs"] {
            let error = queue(text).unwrap_err();
            assert_eq!(Exit::of(&error), Exit::WrongUse, "{text}");
        }
    }
}
