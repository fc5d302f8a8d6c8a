//! Message queues: what their tests have in common. Most run over both drivers.

mod budget;
mod descriptor;
mod errors;
mod messages;
mod types;

use std::sync::atomic::{AtomicU32, Ordering};

use std::sync::Arc;

use aqueduct::bytes::Bytes;
use aqueduct::connect::{Message, MessageReceiver, MessageSender};
use aqueduct::frame::{BoxFrameSink, BoxFrameStream};
use aqueduct::mq::{self, Driver, OpenOptions, Queue};
use aqueduct::{OpenError, OpenErrorKind};

/// A queue name of a test's own; whatever queue has it is removed when the test ends, however.
#[derive(Debug)]
pub(crate) struct QueueName(pub(crate) String);

impl QueueName {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let next = NEXT.fetch_add(1, Ordering::Relaxed);
        Self::of(std::process::id(), next)
    }

    fn of(process: u32, number: u32) -> Self {
        Self(format!("/aqueduct-test-{process}-{number}"))
    }

    /// Removes what a process has left of its first thousand, and says how many that were.
    pub(crate) fn remove_all_of(process: u32) -> usize {
        let names = (0..1000).map(|number| Self::of(process, number));
        names.filter(|it| mq::unlink(&it.0).is_ok()).count()
    }

    /// A new queue of this name. Small: the system allows each user few bytes of queues.
    pub(crate) fn create(&self, driver: Driver, capacity: usize, max_message: usize) -> Queue {
        OpenOptions::new()
            .create_new(true)
            .capacity(capacity)
            .max_message(max_message)
            .driver(driver)
            .open(&self.0)
            .expect("a small queue can be made")
    }

    /// The queue once more, by a descriptor of its own.
    pub(crate) fn open(&self, driver: Driver) -> Queue {
        let opened = OpenOptions::new().driver(driver).open(&self.0);
        opened.expect("the queue is there")
    }
}

impl Drop for QueueName {
    fn drop(&mut self) {
        let _ = mq::unlink(&self.0);
    }
}

/// Stamps each test, an `async fn(Driver)`, out for both drivers.
macro_rules! over_both_drivers {
    ($($(#[$meta:meta])* $test:ident),* $(,)?) => {
        over_both_drivers!(@ pool, aqueduct::mq::Driver::Pool, $($(#[$meta])* $test),*);
        over_both_drivers!(@ async_fd, aqueduct::mq::Driver::AsyncFd, $($(#[$meta])* $test),*);
    };
    (@ $module:ident, $driver:expr, $($(#[$meta:meta])* $test:ident),*) => {
        mod $module {
            $(
                $(#[$meta])*
                #[tokio::test]
                async fn $test() {
                    crate::support::deadline(super::$test($driver)).await;
                }
            )*
        }
    };
}
pub(crate) use over_both_drivers;

pub(crate) fn body(text: &str) -> Message {
    message(0, text.to_owned())
}

/// A message as it is received.
pub(crate) fn message(priority: u32, body: impl Into<Bytes>) -> Message {
    Message::new(body).with_priority(priority)
}

/// Whether the queue's name stands for another queue, or for none; `None` if it stands for this one.
pub(crate) fn replaced(queue: &Queue) -> Option<bool> {
    let error = queue.check_name().err()?;
    let kind = OpenError::of(&error).map(OpenError::kind);
    assert_eq!(kind, Some(&OpenErrorKind::Replaced), "{error:?}");
    Some(error.to_string().contains("created again"))
}

/// Whether opening failed in this way.
pub(crate) fn refused<T>(result: Result<T, OpenError>, kind: OpenErrorKind) -> bool {
    result.is_err_and(|error| *error.kind() == kind)
}

/// The queue as a sink of bodies.
pub(crate) fn sink(queue: &Arc<Queue>) -> BoxFrameSink {
    let sender = MessageSender::try_from(Arc::clone(queue));
    sender.expect("it can be written").into_frames()
}

/// The queue as a stream of bodies.
pub(crate) fn stream(queue: &Arc<Queue>) -> BoxFrameStream {
    let receiver = MessageReceiver::try_from(Arc::clone(queue));
    receiver.expect("it can be read").into_frames()
}

/// The queue once more, blocking, as a program without this library has it.
pub(crate) fn blocking(name: &QueueName) -> nix::mqueue::MqdT {
    use nix::mqueue::{MQ_OFlag, mq_open};
    use nix::sys::stat::Mode;
    mq_open(name.0.as_str(), MQ_OFlag::O_RDWR, Mode::empty(), None).expect("the queue is there")
}
