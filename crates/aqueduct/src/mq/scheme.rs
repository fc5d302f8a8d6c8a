//! `mq:/name`: the address of a queue, and how it is opened.

use std::os::fd::BorrowedFd;
use std::sync::Arc;

use super::messages::{Given, Taken};
use super::{
    Driver, HARD_MSG_MAX, HARD_MSGSIZE_MAX, MAX_PRIORITY, OpenOptions, Priority, Queue, Receiver,
    check_name, unlink,
};
use crate::address::{
    AddressProblem, Awaited, Capabilities, Direction, EndOfStream, LargestMessage, Ordering,
    Printer, Query, Sharing, escape,
};
use crate::connect::{
    Asked, End, Mechanism, MessageReceiver, MessageSender, OpenError, Opening, Options, Place,
    Scheme,
};

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
        "max-message",
        "mode",
        "priority",
    ],
    synonyms: &["mqueue", "queue", "posixmq"],
    parse: |rest, query| Ok(Arc::new(Mq::parse(rest, query)?)),
};

/// The name is a slash and 1 to 255 of the characters `A-Z a-z 0-9 . _ -`. Linux takes more (even
/// a newline), but such names cannot be typed or listed safely.
#[derive(Clone, Debug)]
struct Mq {
    name: String,
    capacity: Option<usize>,
    create: Option<bool>,
    driver: Option<Driver>,
    max_message: Option<usize>,
    mode: Option<u32>,
    priority: Option<u32>,
}

impl Mq {
    fn parse(rest: &[u8], query: &Query) -> Result<Self, AddressProblem> {
        let name = escape::decode(rest)?;
        check(&name)?;
        Ok(Self {
            // Nothing is lost: `check` lets only ASCII pass.
            name: String::from_utf8_lossy(&name).into_owned(),
            capacity: query.number("capacity", 1..=HARD_MSG_MAX, false, CAPACITY)?,
            create: query.boolean("create")?,
            driver: query.choice("driver", &DRIVERS, "pool or asyncfd")?,
            max_message: query.number("max-message", 1..=HARD_MSGSIZE_MAX, true, MESSAGE)?,
            mode: query.mode()?,
            priority: query.number("priority", 0..=MAX_PRIORITY.into(), false, PRIORITY)?,
        })
    }

    /// How to open it; the options of the address take precedence.
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
        Box::pin(async move { Ok(unlink(&self.name)?) })
    }

    fn open_sender<'a>(&'a self, asked: Asked<'a>) -> Opening<'a, MessageSender> {
        Box::pin(async move {
            let mut options = self.options(asked.options);
            let queue = options.write(true).open(&self.name)?;
            let priority = self.priority.unwrap_or_default();
            Ok(sender(queue, priority, asked.options))
        })
    }

    fn open_receiver<'a>(&'a self, asked: Asked<'a>) -> Opening<'a, MessageReceiver> {
        Box::pin(async move {
            let options = self.options(asked.options);
            let receiver = options.open_receiver(&self.name)?;
            Ok(taken(receiver, asked.options))
        })
    }

    fn drain(&self, asked: Asked<'_>) -> Result<usize, OpenError> {
        let queue = self.options(asked.options).read(true).open(&self.name)?;
        queue.drain().map_err(|e| asked.failed(e))
    }
}

/// The sending end over a queue that is open already.
pub(crate) fn send_to(fd: BorrowedFd<'_>, options: &Options) -> Result<MessageSender, OpenError> {
    let queue = inherited(options).open_fd(fd)?;
    Ok(sender(queue, 0, options))
}

/// The receiving end over a queue that is open already.
pub(crate) fn receive_from(
    fd: BorrowedFd<'_>,
    options: &Options,
) -> Result<MessageReceiver, OpenError> {
    let queue = inherited(options).open_fd(fd)?;
    Ok(taken(Receiver::new(queue)?, options))
}

fn sender(queue: Queue, priority: Priority, options: &Options) -> MessageSender {
    let largest = queue.max_message();
    let given = Given::new(queue, priority, options.paired);
    MessageSender::new(given).with_max_message(largest)
}

fn taken(receiver: Receiver, options: &Options) -> MessageReceiver {
    MessageReceiver::new(Taken::new(receiver, options.paired))
}

/// What the options say of waiting for a queue.
fn inherited(given: &Options) -> OpenOptions {
    let mut options = OpenOptions::new();
    options
        .poll_for(given.poll_for)
        .check_name_every(given.watch_name);
    options
}

fn check(name: &[u8]) -> Result<(), AddressProblem> {
    if std::str::from_utf8(name).is_ok_and(|name| check_name(name).is_ok()) {
        return Ok(());
    }
    Err(AddressProblem::InvalidPart {
        part: "name",
        value: String::from_utf8_lossy(name).into_owned(),
        expected: "a slash and 1 to 255 of the characters A-Z a-z 0-9 . _ -, such as /jobs",
    })
}
