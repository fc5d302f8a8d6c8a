//! [`Queue`]: an open message queue.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;

use nix::errno::Errno;
use tokio::runtime::Handle;
use tokio::task::coop;

use crate::connect::{Message, OpenError, OpenErrorKind};
use crate::frame::FrameError;
use crate::io::source::Direction;
use crate::io::sys::QueueFd;
use crate::io::timer::timeout as limited;
use crate::mq::buffer::Buffers;
use crate::mq::driver::{Driver, Side};
use crate::mq::error::{TARGET, no_runtime, one_way};
use crate::mq::link::Link;
use crate::mq::name::unlink;

/// The highest priority of Linux: one less than `MQ_PRIO_MAX`, 32,768
/// ([`mq_overview(7)`](https://man7.org/linux/man-pages/man7/mq_overview.7.html)).
pub(super) const MAX_PRIORITY: u32 = 32_767;

/// From this size on a message is sent only after checking whether the queue is full: the kernel
/// copies a message before it checks.
const LOOK_FROM: usize = 16 << 10;

/// A queue's attributes, as `mq_getattr(3)` returns them.
///
/// # Examples
///
/// ```
/// use aqueduct::mq::OpenOptions;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let name = format!("/doc-attributes-{}", std::process::id());
/// let mut options = OpenOptions::new();
/// options.create(true).capacity(4).max_message(64).unlink_on_drop(true);
/// let attributes = options.open(&name)?.attributes()?;
/// assert_eq!((attributes.capacity, attributes.max_message, attributes.messages), (4, 64, 0));
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Attributes {
    /// How many messages it holds before senders wait.
    pub capacity: usize,
    /// The size of its largest message in bytes.
    pub max_message: usize,
    /// How many messages are in it now.
    pub messages: usize,
}

impl Attributes {
    /// A function, not a `From`, which would make posixmq part of the public API.
    pub(super) fn read(from: posixmq::Attributes) -> Self {
        Self {
            capacity: from.capacity,
            max_message: from.max_msg_len,
            messages: from.current_messages,
        }
    }
}

/// An open message queue.
///
/// Every method takes `&self`: put the queue in an [`Arc`] and use it from any number of tasks, for
/// both directions at once if it was opened for both. An `Arc<Queue>` converts into a
/// [`MessageSender`](crate::connect::MessageSender) or a
/// [`MessageReceiver`](crate::connect::MessageReceiver), which are `Sink` and `Stream` and lead to
/// typed ends.
///
/// Dropping it closes it. The queue and its messages stay in the system, unless it was opened with
/// [`unlink_on_drop`](crate::mq::OpenOptions::unlink_on_drop).
///
/// # Examples
///
/// ```
/// use aqueduct::mq::OpenOptions;
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let name = format!("/doc-queue-{}", std::process::id());
/// let queue = OpenOptions::new()
///     .create_new(true)
///     .capacity(4)
///     .max_message(128)
///     .unlink_on_drop(true)
///     .open(&name)?;
///
/// queue.send(0, b"when you have time").await?;
/// queue.send(9, b"now").await?;
///
/// let first = queue.recv().await?;
/// assert_eq!((first.priority(), first.body()), (Some(9), &"now".into()));
/// assert_eq!(queue.recv().await?.body(), "when you have time");
/// # Ok(())
/// # }
/// ```
pub struct Queue {
    // Dropped first: deregister before close.
    read: Arc<Side>,
    write: Arc<Side>,
    fd: QueueFd,
    buffers: Arc<Buffers>,
    about: About,
}

/// The facts about an open queue.
#[derive(Clone, Debug)]
pub(super) struct About {
    pub(super) link: Arc<Link>,
    pub(super) readable: bool,
    pub(super) writable: bool,
    pub(super) capacity: usize,
    pub(super) max_message: usize,
    pub(super) unlink_on_drop: bool,
    /// Whether an empty message marks the end, for its message ends.
    pub(super) end_marker: bool,
    pub(super) driver: Driver,
    pub(super) poll_for: Duration,
    pub(super) span: tracing::Span,
}

impl Queue {
    pub(super) fn new(fd: QueueFd, about: About) -> Self {
        let side = |direction, duplicate| {
            let (link, fd) = (Arc::clone(&about.link), Arc::clone(fd.fd()));
            Side::new(about.driver, about.poll_for, link, direction, fd, duplicate)
        };
        Self {
            read: side(Direction::Read, false),
            write: side(Direction::Write, about.readable),
            buffers: Buffers::new(about.max_message),
            fd,
            about,
        }
    }

    /// Sends a message, waiting while the queue is full.
    ///
    /// Waiting tasks have no order, neither among themselves nor against other processes: the
    /// kernel serves a process that blocks in `mq_send` before tasks that wait here.
    ///
    /// # Errors
    ///
    /// In every case nothing was sent.
    ///
    /// - [`FrameError::TooLarge`] and [`FrameError::Priority`] (above 32,767), checked before any
    ///   system call.
    /// - An [`OpenError`](crate::OpenError) of kind `Unsupported` (`EBADF`) if the queue is open
    ///   for receiving only.
    /// - One of kind [`NoRuntime`](OpenErrorKind::NoRuntime) or
    ///   [`LimitReached`](OpenErrorKind::LimitReached) if it would have to wait and cannot.
    /// - One of kind [`Replaced`](OpenErrorKind::Replaced), if the name is
    ///   [watched](crate::mq::OpenOptions::watch_name).
    /// - Any other error of `mq_send(3)`.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a send that is dropped before it is done has sent nothing and never will.
    pub async fn send(&self, priority: u32, body: &[u8]) -> io::Result<()> {
        self.check_send(priority, body.len())?;
        coop::consume_budget().await;
        self.write.run(|| self.send_checked(priority, body)).await
    }

    /// Receives the oldest message of the highest priority.
    ///
    /// Waits while the queue is empty.
    ///
    /// Any number of tasks may wait; each message goes to one of them. A future that is kept for
    /// long without being polled may hold the wake-up that another one waits for, so drop it when
    /// you are not waiting. A [`MessageReceiver`](crate::connect::MessageReceiver) may rest.
    ///
    /// # Errors
    ///
    /// - An [`OpenError`](crate::OpenError) of kind `Unsupported` (`EBADF`) if the queue is open
    ///   for sending only.
    /// - One of kind [`NoRuntime`](OpenErrorKind::NoRuntime) or
    ///   [`LimitReached`](OpenErrorKind::LimitReached) if it would have to wait and cannot.
    /// - One of kind [`Replaced`](OpenErrorKind::Replaced), if the name is
    ///   [watched](crate::mq::OpenOptions::watch_name): the queue is empty, and no process that
    ///   opens its name now will send to it.
    /// - Any other error of `mq_receive(3)`.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a message is taken from the queue only in the poll that returns it.
    pub async fn recv(&self) -> io::Result<Message> {
        self.check_recv()?;
        coop::consume_budget().await;
        self.read.run(|| self.receive()).await
    }

    /// Sends a message if the queue has room now. Needs no runtime.
    ///
    /// # Errors
    ///
    /// `WouldBlock` (`EAGAIN`) if the queue is full, otherwise as for [`send`](Self::send).
    pub fn try_send(&self, priority: u32, body: &[u8]) -> io::Result<()> {
        self.check_send(priority, body.len())?;
        self.send_checked(priority, body)
    }

    /// Receives a message if there is one now. Needs no runtime.
    ///
    /// # Errors
    ///
    /// `WouldBlock` (`EAGAIN`) if the queue is empty, otherwise as for [`recv`](Self::recv).
    pub fn try_recv(&self) -> io::Result<Message> {
        self.check_recv()?;
        self.receive()
    }

    /// Sends a message, waiting for no longer than `timeout`.
    ///
    /// Tokio's clock measures the time: unlike `mq_timedsend(3)`, steps of the system's clock do
    /// not matter.
    ///
    /// # Errors
    ///
    /// `TimedOut`: nothing was sent and nothing will be. Otherwise as for [`send`](Self::send).
    ///
    /// # Cancel safety
    ///
    /// Cancel safe, as [`send`](Self::send).
    pub async fn send_timeout(
        &self,
        priority: u32,
        body: &[u8],
        timeout: Duration,
    ) -> io::Result<()> {
        self.check_send(priority, body.len())?;
        bounded(
            timeout,
            self.write.run(|| self.send_checked(priority, body)),
        )
        .await
    }

    /// Receives a message, waiting for no longer than `timeout`.
    ///
    /// A message that is available is received even if `timeout` is zero.
    ///
    /// # Errors
    ///
    /// `TimedOut`: nothing was taken from the queue. Otherwise as for [`recv`](Self::recv).
    ///
    /// # Cancel safety
    ///
    /// Cancel safe, as [`recv`](Self::recv).
    pub async fn recv_timeout(&self, timeout: Duration) -> io::Result<Message> {
        self.check_recv()?;
        bounded(timeout, self.read.run(|| self.receive())).await
    }

    /// Receives and discards all available messages, and returns their number.
    ///
    /// Messages outlive all processes. A service that starts either calls this or processes the
    /// messages left by its previous run.
    ///
    /// # Errors
    ///
    /// As for [`try_recv`](Self::try_recv), but an empty queue is not an error.
    pub fn drain(&self) -> io::Result<usize> {
        self.check_recv()?;
        let mut count = 0;
        // At most as many as fit, or a fast sender would keep us here.
        while count < self.about.capacity {
            match self.receive() {
                Ok(_) => count += 1,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(count)
    }

    /// Returns the capacity, the largest message, and how many messages are waiting.
    ///
    /// # Errors
    ///
    /// Any error of `mq_getattr(3)`; none is known for an open queue.
    pub fn attributes(&self) -> io::Result<Attributes> {
        self.fd.attributes().map(Attributes::read)
    }

    /// Returns the name by which it was opened.
    pub fn name(&self) -> &str {
        self.about.link.name()
    }

    /// Checks that the queue's name still refers to it.
    ///
    /// The kernel does not report that a queue is unlinked: it works on for processes that have it
    /// open. [`watch_name`](crate::mq::OpenOptions::watch_name) checks while a task waits.
    ///
    /// # Errors
    ///
    /// An [`OpenError`] of kind [`Replaced`](OpenErrorKind::Replaced) (`ESTALE`) if the name refers
    /// to another queue or none. An error of `fstat(2)` or `mq_open(3)` if the check failed.
    pub fn check_name(&self) -> io::Result<()> {
        self.about.link.check()
    }

    /// Removes the queue's name, if it still refers to this queue.
    ///
    /// Processes that have the queue open can go on using it. The kernel has no call that does
    /// both, so another process could exchange the queue in the moment between the check and the
    /// removal.
    ///
    /// # Errors
    ///
    /// [`Replaced`](OpenErrorKind::Replaced) if the name refers to another queue or none; nothing
    /// is removed then. Otherwise as for [`unlink`](crate::mq::unlink).
    pub fn unlink(&self) -> io::Result<()> {
        self.check_name()?;
        Ok(unlink(self.name())?)
    }

    pub(super) fn about(&self) -> &About {
        &self.about
    }

    pub(super) fn side(&self, direction: Direction) -> &Arc<Side> {
        match direction {
            Direction::Read => &self.read,
            Direction::Write => &self.write,
        }
    }

    pub(super) fn check_recv(&self) -> Result<(), OpenError> {
        match self.about.readable {
            true => Ok(()),
            false => Err(one_way(
                "receive from queue",
                self.name(),
                "sending",
                "receiving",
            )),
        }
    }

    pub(super) fn check_writable(&self) -> Result<(), OpenError> {
        match self.about.writable {
            true => Ok(()),
            false => Err(one_way(
                "send to queue",
                self.name(),
                "receiving",
                "sending",
            )),
        }
    }

    pub(super) fn check_send(&self, priority: u32, len: usize) -> io::Result<()> {
        let max = self.about.max_message;
        self.check_writable()?;
        if len > max {
            return Err(FrameError::TooLarge { len, max }.into());
        }
        if priority > MAX_PRIORITY {
            let max = MAX_PRIORITY;
            return Err(FrameError::Priority {
                asked: priority,
                max,
            }
            .into());
        }
        Ok(self.about.link.check_if_due()?)
    }

    /// One `mq_receive`.
    pub(super) fn receive(&self) -> io::Result<Message> {
        let receive = |buffer: &mut [u8]| self.fd.recv(buffer);
        let (priority, body) = self.buffers.receive(receive)?;
        Ok(Message::new(body).with_priority(priority))
    }

    /// One `mq_send` of a message that was checked before.
    pub(super) fn send_checked(&self, priority: u32, body: &[u8]) -> io::Result<()> {
        if body.len() >= LOOK_FROM && self.is_full()? {
            return Err(Errno::EAGAIN.into());
        }
        self.fd.send(priority, body)
    }

    fn is_full(&self) -> io::Result<bool> {
        Ok(self.fd.attributes()?.current_messages >= self.about.capacity)
    }
}

impl AsFd for Queue {
    /// Returns the descriptor, which is in non-blocking mode and must stay so.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.fd().as_fd()
    }
}

impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue")
            .field("name", &self.name())
            .field("readable", &self.about.readable)
            .field("writable", &self.about.writable)
            .field("capacity", &self.about.capacity)
            .field("max_message", &self.about.max_message)
            .field("driver", &self.about.driver)
            .finish_non_exhaustive()
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        if self.about.unlink_on_drop {
            match self.unlink() {
                Ok(()) => {}
                Err(error) if is_replaced(&error) => {}
                Err(error) => {
                    let name = self.name();
                    tracing::warn!(target: TARGET, name, %error, "queue not unlinked");
                }
            }
        }
        tracing::debug!(target: TARGET, parent: &self.about.span, "queue closed");
    }
}

async fn bounded<R>(timeout: Duration, op: impl Future<Output = io::Result<R>>) -> io::Result<R> {
    // Tokio's timer would panic.
    Handle::try_current().map_err(|_| no_runtime())?;
    // Outside, so that a lack of budget does not look as if there was nothing to receive.
    coop::consume_budget().await;
    match limited(timeout, op).await {
        Ok(result) => result,
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    }
}

fn is_replaced(error: &io::Error) -> bool {
    OpenError::of(error).is_some_and(|it| *it.kind() == OpenErrorKind::Replaced)
}
