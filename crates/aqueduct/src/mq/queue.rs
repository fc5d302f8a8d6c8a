//! [`Queue`]: an open message queue.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use nix::errno::Errno;
use tokio::runtime::Handle;
use tokio::task::coop;

use crate::io::source::Direction;
use crate::io::sys::QueueFd;
use crate::mq::buffer::Buffers;
use crate::mq::driver::Side;
use crate::mq::link::{Link, NameState};
use crate::mq::{
    AttributeMismatch, Attributes, Driver, Error, MAX_PRIORITY, Message, OpenOptions, Priority,
    TARGET, unlink,
};

/// From what size of a message on it is looked whether the queue is full before it is sent: the kernel
/// copies a message before it looks.
const LOOK_FROM: usize = 16 << 10;

/// An open message queue.
///
/// Everything takes `&self`: put it in an [`Arc`] and use it from as many tasks as you like, for
/// both directions at once if it was opened for both. [`Sender`](crate::mq::Sender),
/// [`Receiver`](crate::mq::Receiver) and [`Framed`](crate::mq::Framed) make `Sink`s and `Stream`s
/// of it.
///
/// Dropping it closes it and leaves the queue and its messages in the system, unless it was opened
/// with [`unlink_on_drop`](OpenOptions::unlink_on_drop).
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
/// assert_eq!(queue.recv().await?.body, "now");
/// assert_eq!(queue.recv().await?.body, "when you have time");
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

/// What is known of an open queue.
#[derive(Clone, Debug)]
pub(super) struct About {
    pub(super) link: Arc<Link>,
    pub(super) readable: bool,
    pub(super) writable: bool,
    pub(super) capacity: usize,
    pub(super) max_message: usize,
    pub(super) created: bool,
    pub(super) unlink_on_drop: bool,
    pub(super) driver: Driver,
    pub(super) poll_for: Duration,
    pub(super) mismatch: Option<AttributeMismatch>,
    pub(super) span: tracing::Span,
}

impl Queue {
    /// Opens an existing queue for sending and receiving.
    ///
    /// For anything else there are [`OpenOptions`].
    ///
    /// # Errors
    ///
    /// As [`OpenOptions::open`].
    pub fn open(name: &str) -> Result<Self, Error> {
        OpenOptions::new().open(name)
    }

    pub(super) fn new(fd: QueueFd, about: About) -> Self {
        let side = |direction, duplicate| {
            let fd = Arc::clone(fd.fd());
            Side::new(&about, direction, fd, duplicate)
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
    /// Waiters have no order among themselves, nor against other processes: one that blocks in
    /// `mq_send` is served by the kernel before those who wait here.
    ///
    /// # Errors
    ///
    /// - [`Error::MessageTooLarge`], [`Error::Priority`], [`Error::NotWritable`]: checked here,
    ///   before any system call; nothing was sent.
    /// - [`Error::NoRuntime`], [`Error::RuntimeGone`], [`Error::PoolExhausted`]: it would have had
    ///   to wait and cannot; nothing was sent.
    /// - [`Error::Replaced`], where that is [looked for](OpenOptions::check_name_every); nothing
    ///   was sent.
    /// - Other errors of `mq_send(3)` as they are.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a send that is dropped before it is done has sent nothing and never will.
    pub async fn send(&self, priority: Priority, body: &[u8]) -> io::Result<()> {
        self.check_send(priority, body.len())?;
        coop::consume_budget().await;
        self.write.run(|| self.send_checked(priority, body)).await
    }

    /// Receives the oldest message of the highest priority, waiting while the queue is empty.
    ///
    /// Any number of tasks may wait; each message goes to one of them. A future of this that is
    /// kept for long without being polled may hold the wake-up that another one waits for, so
    /// drop it when you are not waiting; a [`Receiver`](crate::mq::Receiver) may rest.
    ///
    /// # Errors
    ///
    /// - [`Error::NotReadable`]: the queue is open for sending only.
    /// - [`Error::NoRuntime`], [`Error::RuntimeGone`], [`Error::PoolExhausted`]: it would have had
    ///   to wait and cannot.
    /// - [`Error::Replaced`], where that is [looked for](OpenOptions::check_name_every): the queue
    ///   is empty, and nobody who opens its name now will send to it.
    /// - Other errors of `mq_receive(3)` as they are.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a message is taken from the queue only in the poll that returns it.
    pub async fn recv(&self) -> io::Result<Message> {
        self.check_recv()?;
        coop::consume_budget().await;
        self.read.run(|| self.receive()).await
    }

    /// As [`recv`](Self::recv), but into a buffer of the caller's: gives the priority and how many
    /// bytes of `buffer` the message has filled. Nothing is allocated and nothing copied twice.
    ///
    /// # Errors
    ///
    /// [`Error::BufferTooSmall`] if `buffer` is shorter than [`max_message`](Self::max_message);
    /// the kernel takes no shorter one, whatever the message's length. Else as
    /// [`recv`](Self::recv).
    ///
    /// # Cancel safety
    ///
    /// Cancel safe, as [`recv`](Self::recv): of a future that is dropped unfinished, `buffer` is
    /// as it was.
    ///
    /// # Examples
    ///
    /// ```
    /// use aqueduct::mq::OpenOptions;
    ///
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let name = format!("/doc-into-{}", std::process::id());
    /// let mut options = OpenOptions::new();
    /// options.create_new(true).capacity(4).max_message(128).unlink_on_drop(true);
    /// let queue = options.open(&name)?;
    /// queue.send(3, b"hello").await?;
    ///
    /// let mut buffer = vec![0; queue.max_message()];
    /// let (priority, len) = queue.recv_into(&mut buffer).await?;
    /// assert_eq!((priority, &buffer[..len]), (3, &b"hello"[..]));
    /// # Ok(())
    /// # }
    /// ```
    pub async fn recv_into(&self, buffer: &mut [u8]) -> io::Result<(Priority, usize)> {
        self.check_recv()?;
        self.check_buffer(buffer)?;
        coop::consume_budget().await;
        self.read.run(|| self.fd.recv(buffer)).await
    }

    /// Sends a message if the queue has room now. Needs no runtime.
    ///
    /// # Errors
    ///
    /// `WouldBlock` (`EAGAIN`) when the queue is full, else as [`send`](Self::send).
    pub fn try_send(&self, priority: Priority, body: &[u8]) -> io::Result<()> {
        self.check_send(priority, body.len())?;
        self.send_checked(priority, body)
    }

    /// Receives a message if there is one now. Needs no runtime.
    ///
    /// # Errors
    ///
    /// `WouldBlock` (`EAGAIN`) when the queue is empty, else as [`recv`](Self::recv).
    pub fn try_recv(&self) -> io::Result<Message> {
        self.check_recv()?;
        self.receive()
    }

    /// As [`recv_into`](Self::recv_into), if there is a message now. Needs no runtime.
    ///
    /// # Errors
    ///
    /// `WouldBlock` (`EAGAIN`) when the queue is empty, else as [`recv_into`](Self::recv_into).
    pub fn try_recv_into(&self, buffer: &mut [u8]) -> io::Result<(Priority, usize)> {
        self.check_recv()?;
        self.check_buffer(buffer)?;
        self.fd.recv(buffer)
    }

    /// As [`send`](Self::send), but for no longer than `timeout`, measured by Tokio's clock: steps
    /// of the system's clock do not matter, as they do to `mq_timedsend(3)`.
    ///
    /// # Errors
    ///
    /// `TimedOut`; nothing was sent then and nothing will be. Else as [`send`](Self::send).
    ///
    /// # Cancel safety
    ///
    /// Cancel safe, as [`send`](Self::send).
    pub async fn send_timeout(
        &self,
        priority: Priority,
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

    /// As [`recv`](Self::recv), but for no longer than `timeout`. A message that is there is
    /// received even if `timeout` is zero.
    ///
    /// # Errors
    ///
    /// `TimedOut`; nothing was taken from the queue then. Else as [`recv`](Self::recv).
    ///
    /// # Cancel safety
    ///
    /// Cancel safe, as [`recv`](Self::recv).
    pub async fn recv_timeout(&self, timeout: Duration) -> io::Result<Message> {
        self.check_recv()?;
        bounded(timeout, self.read.run(|| self.receive())).await
    }

    /// Receives and forgets all messages that are there, and returns how many there were.
    ///
    /// Messages outlive all processes: a service that starts chooses between this and working
    /// through what is left of its former life.
    ///
    /// # Errors
    ///
    /// As [`try_recv`](Self::try_recv), but an empty queue is none.
    pub fn drain(&self) -> io::Result<usize> {
        self.check_recv()?;
        let mut count = 0;
        // No more than fit, or a quick sender would keep us here.
        while count < self.about.capacity {
            match self.lend(|_| {}) {
                Ok(_) => count += 1,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(count)
    }

    /// The queue's capacity, its largest message, and how many messages are in it now.
    ///
    /// # Errors
    ///
    /// Those of `mq_getattr(3)`; none is known for an open queue.
    pub fn attributes(&self) -> io::Result<Attributes> {
        self.fd.attributes().map(Attributes::from)
    }

    /// The name it was opened by.
    pub fn name(&self) -> &str {
        self.about.link.name()
    }

    /// How many messages the queue holds before senders wait.
    pub fn capacity(&self) -> usize {
        self.about.capacity
    }

    /// The size of the largest message.
    pub fn max_message(&self) -> usize {
        self.about.max_message
    }

    /// Whether opening it made the queue.
    pub fn is_created(&self) -> bool {
        self.about.created
    }

    /// Whether it is open for receiving.
    pub fn is_readable(&self) -> bool {
        self.about.readable
    }

    /// Whether it is open for sending.
    pub fn is_writable(&self) -> bool {
        self.about.writable
    }

    /// What waits for it.
    pub fn driver(&self) -> Driver {
        self.about.driver
    }

    /// How the queue that was there differs from what was asked for, if it does.
    pub fn mismatch(&self) -> Option<AttributeMismatch> {
        self.about.mismatch
    }

    /// What the queue's name stands for by now.
    ///
    /// The kernel tells nobody when a queue is unlinked: it goes on to work for those who have it
    /// open. [`OpenOptions::check_name_every`] looks now and then while a task waits.
    ///
    /// # Errors
    ///
    /// Those of `fstat(2)` and, where the queue was unlinked, of `mq_open(3)`.
    pub fn name_state(&self) -> io::Result<NameState> {
        Ok(self.about.link.state()?)
    }

    /// Checks that the queue's name still stands for it.
    ///
    /// # Errors
    ///
    /// [`Error::Replaced`] if not; [`Error::System`] if that could not be found out.
    pub fn check_name(&self) -> Result<(), Error> {
        self.about.link.check()
    }

    /// Removes the queue's name, if it still stands for this queue. All who have it open can go on
    /// to use it.
    ///
    /// The kernel has no call that does both, so between the look and the removal is a moment in
    /// which another process could exchange the queue.
    ///
    /// # Errors
    ///
    /// [`Error::Replaced`] if the name stands for another queue or none; nothing is removed then.
    /// [`Error::PermissionDenied`] if the queue is another user's.
    pub fn unlink(&self) -> Result<(), Error> {
        self.check_name()?;
        unlink(self.name())
    }

    pub(super) fn side(&self, direction: Direction) -> &Arc<Side> {
        match direction {
            Direction::Read => &self.read,
            Direction::Write => &self.write,
        }
    }

    pub(super) fn span(&self) -> &tracing::Span {
        &self.about.span
    }

    pub(super) fn check_recv(&self) -> Result<(), Error> {
        if self.about.readable {
            return Ok(());
        }
        let name = self.name().to_owned();
        Err(Error::NotReadable { name })
    }

    pub(super) fn check_send(&self, priority: Priority, len: usize) -> Result<(), Error> {
        let name = || self.name().to_owned();
        let max = self.about.max_message;
        if !self.about.writable {
            Err(Error::NotWritable { name: name() })
        } else if len > max {
            let name = name();
            Err(Error::MessageTooLarge { name, len, max })
        } else if priority > MAX_PRIORITY {
            Err(Error::Priority { asked: priority })
        } else {
            self.about.link.check_if_due()
        }
    }

    fn check_buffer(&self, buffer: &[u8]) -> Result<(), Error> {
        let (len, needed) = (buffer.len(), self.about.max_message);
        if len >= needed {
            return Ok(());
        }
        let name = self.name().to_owned();
        Err(Error::BufferTooSmall { name, len, needed })
    }

    /// One `mq_receive`.
    pub(super) fn receive(&self) -> io::Result<Message> {
        let receive = |buffer: &mut [u8]| self.fd.recv(buffer);
        let (priority, body) = self.buffers.receive(receive)?;
        Ok(Message { priority, body })
    }

    /// One `mq_receive` whose body is only looked at.
    pub(super) fn lend(&self, take: impl FnOnce(&[u8])) -> io::Result<Priority> {
        self.buffers.lend(|buffer| self.fd.recv(buffer), take)
    }

    /// One `mq_send` of what was checked before.
    pub(super) fn send_checked(&self, priority: Priority, body: &[u8]) -> io::Result<()> {
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
    /// The descriptor, which is in non-blocking mode and must stay so.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.fd().as_fd()
    }
}

impl TryFrom<OwnedFd> for Queue {
    type Error = Error;

    /// As [`OpenOptions::open_fd`] with the default options, and `fd` is closed.
    fn try_from(fd: OwnedFd) -> Result<Self, Error> {
        OpenOptions::new().open_fd(fd)
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
                Ok(()) | Err(Error::Replaced { .. }) => {}
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
    Handle::try_current().map_err(|_| Error::NoRuntime)?;
    // Outside, so that no lack of budget makes it look as if there was nothing to receive.
    coop::consume_budget().await;
    match tokio::time::timeout(timeout, op).await {
        Ok(result) => result,
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    }
}
