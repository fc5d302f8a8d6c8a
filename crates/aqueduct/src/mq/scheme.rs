//! `mq:/name`: the address of a queue, and how it is opened.

use std::os::fd::BorrowedFd;
use std::sync::Arc;

use crate::address::{
    AddressProblem, Awaited, Capabilities, Direction, EndOfStream, LargestMessage, Ordering,
    Printer, Query, Sharing, escape,
};
use crate::connect::group::GROUP_MODE;
use crate::connect::{
    Asked, End, Mechanism, MessageReceiver, MessageSender, OpenError, Opening, Options, Place,
    Scheme,
};
use crate::mq::driver::Driver;
use crate::mq::ends;
use crate::mq::name::{is_possible, unlink};
use crate::mq::open::OpenOptions;
use crate::mq::queue::MAX_PRIORITY;
use crate::mq::system_limits::{HARD_MSG_MAX, HARD_MSGSIZE_MAX};

const CAPACITY: &str = "a number of messages from 1 to 65536";
const MESSAGE: &str = "a number of bytes from 1 to 16777216, or a size such as 64KiB";
const PRIORITY: &str = "a number from 0 to 32767";
const DRIVERS: [(&str, Driver); 2] = [("pool", Driver::Pool), ("asyncfd", Driver::AsyncFd)];

pub(crate) static SCHEME: Scheme = Scheme {
    name: "mq",
    form: "mq:/name",
    summary: "POSIX message queue",
    options: &[
        "capacity",
        "create",
        "driver",
        "group",
        "max-message",
        "mode",
        "priority",
    ],
    synonyms: &["mqueue", "queue", "posixmq"],
    parse: |rest, query| Ok(Arc::new(Mq::parse(rest, query)?)),
};

/// The name may be any that Linux allows, as long as it is UTF-8: queues of other programs can be
/// opened. A new queue needs a stricter name.
#[derive(Clone, Debug)]
struct Mq {
    name: String,
    capacity: Option<usize>,
    create: Option<bool>,
    driver: Option<Driver>,
    group: Option<String>,
    max_message: Option<usize>,
    mode: Option<u32>,
    priority: Option<u32>,
}

impl Mq {
    fn parse(rest: &[u8], query: &Query) -> Result<Self, AddressProblem> {
        Ok(Self {
            name: name(escape::decode(rest)?)?,
            capacity: query.number("capacity", 1..=HARD_MSG_MAX, false, CAPACITY)?,
            create: query.boolean("create")?,
            driver: query.choice("driver", &DRIVERS, "pool or asyncfd")?,
            group: query.group()?,
            max_message: query.number("max-message", 1..=HARD_MSGSIZE_MAX, true, MESSAGE)?,
            mode: query.mode()?,
            priority: query.number("priority", 0..=MAX_PRIORITY.into(), false, PRIORITY)?,
        })
    }

    /// The options for opening it; those of the address take precedence.
    fn options(&self, given: &Options) -> OpenOptions {
        let mut options = inherited(given);
        options
            .create(self.create.unwrap_or(given.create))
            .allow_foreign_owner(given.allow_foreign_owner);
        if let Some(capacity) = self.capacity {
            options.capacity(capacity);
        }
        if let Some(bytes) = self.max_message {
            options.max_message(bytes);
        }
        if let Some(group) = &self.group {
            options.mode(GROUP_MODE).group(group);
        }
        if let Some(mode) = self.mode {
            options.mode(mode);
        }
        if let Some(driver) = self.driver {
            options.driver(driver);
        }
        options
    }
}

impl Mechanism for Mq {
    fn print(&self, printer: &mut Printer) {
        printer.rest(self.name.as_ref(), b"");
        printer.option("capacity", self.capacity);
        printer.option("create", self.create);
        printer.option("driver", self.driver);
        printer.group(self.group.as_deref());
        printer.option("max-message", self.max_message);
        printer.mode(self.mode);
        printer.option("priority", self.priority);
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            direction: Direction::OneWay,
            keeps_boundaries: Some(true),
            ordering: Ordering::Priority,
            end_of_stream: EndOfStream::Never,
            largest_message: match self.max_message {
                Some(bytes) => LargestMessage::Bytes(bytes),
                None => LargestMessage::AsOpened,
            },
            readers: Sharing::Many,
            writers: Sharing::Many,
            awaits: Awaited::Nobody,
            listens: Some(false),
            outlives_processes: true,
            private: false,
            stdio: false,
        }
    }

    fn place(&self, _: End) -> Option<Place> {
        Some(Place::Name("mq", self.name.clone().into_bytes()))
    }

    fn remove<'a>(&'a self, _: Asked<'a>) -> Opening<'a, ()> {
        Box::pin(async move { unlink(&self.name) })
    }

    fn open_sender<'a>(&'a self, asked: Asked<'a>) -> Opening<'a, MessageSender> {
        Box::pin(async move {
            let mut options = self.options(asked.options);
            let queue = options.write(true).open(&self.name)?;
            ends::sender(Arc::new(queue), self.priority.unwrap_or_default())
        })
    }

    fn open_receiver<'a>(&'a self, asked: Asked<'a>) -> Opening<'a, MessageReceiver> {
        Box::pin(async move { self.options(asked.options).open_receiver(&self.name) })
    }

    fn drain(&self, asked: Asked<'_>) -> Result<usize, OpenError> {
        let queue = self.options(asked.options).read(true).open(&self.name)?;
        queue.drain().map_err(|e| asked.failed(e))
    }
}

/// Creates the sending end over a queue that is already open.
pub(crate) fn send_to(fd: BorrowedFd<'_>, options: &Options) -> Result<MessageSender, OpenError> {
    ends::sender(Arc::new(inherited(options).open_fd(fd)?), 0)
}

/// Creates the receiving end over a queue that is already open.
pub(crate) fn receive_from(
    fd: BorrowedFd<'_>,
    options: &Options,
) -> Result<MessageReceiver, OpenError> {
    ends::receiver(Arc::new(inherited(options).open_fd(fd)?))
}

/// The options that apply to a queue however it was opened.
fn inherited(given: &Options) -> OpenOptions {
    let mut options = OpenOptions::new();
    options
        .poll_for(given.poll_for)
        .watch_name(given.watch_name)
        .end_marker(given.paired);
    options
}

fn name(bytes: Vec<u8>) -> Result<String, AddressProblem> {
    let problem = |bytes: &[u8]| AddressProblem::InvalidPart {
        part: "name",
        value: String::from_utf8_lossy(bytes).into_owned(),
        expected: "a slash and 1 to 255 bytes of UTF-8 without another slash, such as /jobs",
    };
    match String::from_utf8(bytes) {
        Ok(name) if is_possible(&name) => Ok(name),
        Ok(name) => Err(problem(name.as_bytes())),
        Err(error) => Err(problem(error.as_bytes())),
    }
}
