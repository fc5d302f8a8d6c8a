//! `mq:/name`.

use super::query::Query;
use super::{AddressError, AddressProblem, Printer, escape};
use crate::mq::{self, Driver, HARD_MSG_MAX, HARD_MSGSIZE_MAX, MAX_PRIORITY};

const CAPACITY: &str = "a number of messages from 1 to 65536";
const MESSAGE: &str = "a number of bytes from 1 to 16777216, or a size such as 64KiB";
const PRIORITY: &str = "a number from 0 to 32767";
const DRIVERS: [(&str, Driver); 2] = [("pool", Driver::Pool), ("asyncfd", Driver::AsyncFd)];

/// A POSIX message queue: `mq:/name`, options `capacity`, `create`, `driver`, `max-message`,
/// `mode` and `priority`.
///
/// The name is a slash and 1 to 255 of the characters `A-Z a-z 0-9 . _ -`. Linux takes more (even
/// a newline), but such names cannot be typed or listed safely.
///
/// # Examples
///
/// ```
/// use aqueduct::Endpoint;
/// use aqueduct::endpoint::Mq;
///
/// let Endpoint::Mq(jobs) = "mq:/jobs?capacity=4&max-message=1KiB".parse()? else {
///     unreachable!()
/// };
/// assert_eq!((jobs.name(), jobs.max_message()), ("/jobs", Some(1024)));
/// assert_eq!(jobs, Mq::new("/jobs")?.with_capacity(4)?.with_max_message(1024)?);
/// # Ok::<(), aqueduct::AddressError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Mq {
    name: String,
    capacity: Option<usize>,
    create: Option<bool>,
    driver: Option<Driver>,
    max_message: Option<usize>,
    mode: Option<u32>,
    priority: Option<u32>,
}

impl Mq {
    pub(super) const OPTIONS: &'static [&'static str] = &[
        "capacity",
        "create",
        "driver",
        "max-message",
        "mode",
        "priority",
    ];

    /// The queue called `name`, all options left to their defaults.
    ///
    /// # Errors
    ///
    /// The name is not a slash and 1 to 255 of the characters allowed.
    pub fn new(name: impl Into<String>) -> Result<Self, AddressError> {
        let name = name.into();
        check(name.as_bytes()).map_err(|problem| AddressError::new(b"mq:", problem))?;
        Ok(Self {
            name,
            capacity: None,
            create: None,
            driver: None,
            max_message: None,
            mode: None,
            priority: None,
        })
    }

    /// Sets how many messages a queue that is made can hold.
    ///
    /// # Errors
    ///
    /// The number is 0 or above 65536, which no queue can have.
    pub fn with_capacity(mut self, capacity: usize) -> Result<Self, AddressError> {
        within("capacity", capacity, 1..=HARD_MSG_MAX, CAPACITY)?;
        self.capacity = Some(capacity);
        Ok(self)
    }

    /// Sets whether a missing queue is made.
    #[must_use]
    pub fn with_create(mut self, create: bool) -> Self {
        self.create = Some(create);
        self
    }

    /// Sets who waits for the queue to become ready.
    #[must_use]
    pub fn with_driver(mut self, driver: Driver) -> Self {
        self.driver = Some(driver);
        self
    }

    /// Sets the largest message, in bytes, of a queue that is made.
    ///
    /// # Errors
    ///
    /// The number is 0 or above 16777216, which no queue can have.
    pub fn with_max_message(mut self, bytes: usize) -> Result<Self, AddressError> {
        within("max-message", bytes, 1..=HARD_MSGSIZE_MAX, MESSAGE)?;
        self.max_message = Some(bytes);
        Ok(self)
    }

    /// Sets the permission bits of a queue that is made; bits above `0o777` are dropped.
    #[must_use]
    pub fn with_mode(mut self, mode: u32) -> Self {
        self.mode = Some(mode & 0o777);
        self
    }

    /// Sets the priority of messages that are sent with none of their own.
    ///
    /// # Errors
    ///
    /// The priority is above 32767.
    pub fn with_priority(mut self, priority: u32) -> Result<Self, AddressError> {
        within(
            "priority",
            priority as usize,
            0..=MAX_PRIORITY.into(),
            PRIORITY,
        )?;
        self.priority = Some(priority);
        Ok(self)
    }

    /// The name, with its slash.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// `capacity`: how many messages a queue that is made can hold.
    pub fn capacity(&self) -> Option<usize> {
        self.capacity
    }

    /// `create`: whether a missing queue is made.
    pub fn create(&self) -> Option<bool> {
        self.create
    }

    /// `driver`: who waits for the queue to become ready.
    pub fn driver(&self) -> Option<Driver> {
        self.driver
    }

    /// `max-message`: the largest message, in bytes, of a queue that is made.
    pub fn max_message(&self) -> Option<usize> {
        self.max_message
    }

    /// `mode`: the permission bits of a queue that is made.
    pub fn mode(&self) -> Option<u32> {
        self.mode
    }

    /// `priority`: the priority of messages that are sent with none of their own.
    pub fn priority(&self) -> Option<u32> {
        self.priority
    }

    pub(super) fn parse(rest: &[u8], query: &Query) -> Result<Self, AddressProblem> {
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

    pub(super) fn print(&self, printer: &mut Printer) {
        printer.rest(self.name.as_ref(), b"");
        printer.option("capacity", self.capacity);
        printer.option("create", self.create);
        printer.option("driver", self.driver);
        printer.option("max-message", self.max_message);
        printer.mode(self.mode);
        printer.option("priority", self.priority);
    }
}

fn check(name: &[u8]) -> Result<(), AddressProblem> {
    if std::str::from_utf8(name).is_ok_and(|name| mq::check_name(name).is_ok()) {
        return Ok(());
    }
    Err(AddressProblem::InvalidPart {
        part: "name",
        value: String::from_utf8_lossy(name).into_owned(),
        expected: "a slash and 1 to 255 of the characters A-Z a-z 0-9 . _ -, such as /jobs",
    })
}

fn within(
    option: &'static str,
    number: usize,
    range: std::ops::RangeInclusive<u64>,
    expected: &'static str,
) -> Result<(), AddressError> {
    if range.contains(&(number as u64)) {
        return Ok(());
    }
    let value = number.to_string();
    let nearest = None;
    let problem = AddressProblem::InvalidValue {
        option,
        value,
        expected,
        nearest,
    };
    Err(AddressError::new(b"mq:", problem))
}
