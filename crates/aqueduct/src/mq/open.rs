//! [`OpenOptions`]: how queues are opened and made.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use crate::connect::{MessageReceiver, MessageSender, OpenError};
use crate::mq::driver::Driver;
use crate::mq::ends;
use crate::mq::opening::Choices;
use crate::mq::queue::Queue;

/// The mode of a new queue, and the widest an existing one may have without a warning.
const DEFAULT_MODE: u32 = 0o600;

/// How a queue is opened, or made.
///
/// Without anything set, [`open`](Self::open) opens an existing queue for sending and receiving.
///
/// # Examples
///
/// ```
/// use aqueduct::mq::OpenOptions;
///
/// let name = format!("/doc-open-{}", std::process::id());
/// let queue = OpenOptions::new()
///     .create(true)
///     .capacity(10)
///     .max_message(256)
///     .unlink_on_drop(true)
///     .open(&name)?;
/// let attributes = queue.attributes()?;
/// assert_eq!((attributes.capacity, attributes.max_message), (10, 256));
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct OpenOptions(Choices);

impl OpenOptions {
    /// Opens an existing queue of this user for both directions, to be waited for by
    /// [`Driver::Pool`].
    pub fn new() -> Self {
        Self(Choices {
            read: false,
            write: false,
            create: false,
            create_new: false,
            capacity: None,
            max_message: None,
            mode: DEFAULT_MODE,
            group: None,
            strict: false,
            allow_foreign_owner: false,
            unlink_on_drop: false,
            end_marker: false,
            driver: Driver::default(),
            poll_for: Duration::ZERO,
            watch_name: None,
        })
    }

    /// Opens it for receiving. With neither this nor [`write`](Self::write), for both.
    pub fn read(&mut self, read: bool) -> &mut Self {
        self.0.read = read;
        self
    }

    /// Opens it for sending. With neither this nor [`read`](Self::read), for both.
    pub fn write(&mut self, write: bool) -> &mut Self {
        self.0.write = write;
        self
    }

    /// Makes the queue if there is none.
    ///
    /// A new name has a slash and 1 to 255 letters, digits, dots, underscores and hyphens. Queues
    /// that other programs have made are opened under any name that Linux allows.
    pub fn create(&mut self, create: bool) -> &mut Self {
        self.0.create = create;
        self
    }

    /// Makes the queue, and fails if there is one.
    pub fn create_new(&mut self, create_new: bool) -> &mut Self {
        self.0.create_new = create_new;
        self
    }

    /// Sets how many messages a new queue holds. By default `fs.mqueue.msg_default`, usually 10.
    ///
    /// An existing queue keeps its capacity; see [`strict`](Self::strict).
    pub fn capacity(&mut self, messages: usize) -> &mut Self {
        self.0.capacity = Some(messages);
        self
    }

    /// Sets the size of a new queue's largest message. By default `fs.mqueue.msgsize_default`,
    /// usually 8192.
    ///
    /// An existing queue keeps its size; see [`strict`](Self::strict).
    pub fn max_message(&mut self, bytes: usize) -> &mut Self {
        self.0.max_message = Some(bytes);
        self
    }

    /// Sets the exact mode of a new queue, regardless of the umask; 0600 by default. Also the widest
    /// mode expected of an existing one.
    pub fn mode(&mut self, mode: u32) -> &mut Self {
        self.0.mode = mode & 0o777;
        self
    }

    /// Gives a new queue to a group, by name or number, before anybody else can open it.
    pub(super) fn group(&mut self, group: &str) -> &mut Self {
        self.0.group = Some(group.to_owned());
        self
    }

    /// Refuses an existing queue whose mode is wider than [`mode`](Self::mode) or whose attributes
    /// are not those asked for. By default it is used, with a warning through `tracing`.
    pub fn strict(&mut self, strict: bool) -> &mut Self {
        self.0.strict = strict;
        self
    }

    /// Accepts an existing queue whose owner is neither this user nor root.
    ///
    /// Any user can make a queue of any name, to read what is sent to it, so by default such a queue
    /// is refused, also to root. A queue of root's is always accepted: root can read all queues.
    pub fn allow_foreign_owner(&mut self, allow: bool) -> &mut Self {
        self.0.allow_foreign_owner = allow;
        self
    }

    /// Removes the queue's name when the [`Queue`] is dropped, if opening made the queue and the
    /// name still stands for it.
    pub fn unlink_on_drop(&mut self, unlink: bool) -> &mut Self {
        self.0.unlink_on_drop = unlink;
        self
    }

    /// Agrees with the peer that an empty message marks the end of the conversation.
    ///
    /// Closing the sending end then sends one, of the lowest priority, and the receiving end ends
    /// at one; other empty messages are refused ([`FrameError::Empty`]). For one sender and one
    /// receiver; see the [module](crate::mq#the-end-of-a-conversation) for more of them.
    ///
    /// [`FrameError::Empty`]: crate::frame::FrameError::Empty
    pub fn end_marker(&mut self, end_marker: bool) -> &mut Self {
        self.0.end_marker = end_marker;
        self
    }

    /// Chooses the driver that waits for the queue.
    pub fn driver(&mut self, driver: Driver) -> &mut Self {
        self.0.driver = driver;
        self
    }

    /// Latency mode: before each wait, tries again for this long, while the other tasks of the
    /// runtime have their turns, and sleeps only then. Zero, the default, is a handful of tries.
    ///
    /// Use it, with some 50 us, where answers follow questions quickly and a processor can be spared:
    /// waking a process on an idle processor takes far longer than an answer. It adapts: where
    /// nothing arrives in that time the next waits sleep at once, and polling costs them 3 us each
    /// on average.
    pub fn poll_for(&mut self, limit: Duration) -> &mut Self {
        self.0.poll_for = limit;
        self
    }

    /// Checks this often whether the name still stands for this queue, while a task waits and before
    /// a message is sent: [`Replaced`](crate::OpenErrorKind::Replaced) if not. `None`,
    /// the default, never checks. Less than 10 ms counts as 10 ms.
    ///
    /// An unlinked queue goes on working for those who have it open, and the kernel tells them
    /// nothing: when another program removes a queue, or makes it anew, a task that waits for the
    /// old one waits for ever. With this, all that was sent to the old queue before it lost its name
    /// is received first, a message whose sending fails is not sent, and messages go to the old
    /// queue for one interval at most. What is left can be taken out with [`Queue::try_recv`].
    ///
    /// A check is a few system calls on the task's thread, one for all tasks that use this
    /// [`Queue`]. Where no queue file system is mounted on `/dev/mqueue` it opens the queue for a
    /// moment, which cancels this process's `mq_notify(3)` for it.
    pub fn watch_name(&mut self, interval: Option<Duration>) -> &mut Self {
        self.0.watch_name = interval;
        self
    }

    /// Opens the queue. Needs no runtime; only waiting does.
    ///
    /// # Errors
    ///
    /// By [`OpenErrorKind`](crate::OpenErrorKind):
    ///
    /// - `InvalidName` (`EINVAL`, `ENOENT` for `/`, `EACCES`, `ENAMETOOLONG`).
    /// - `InvalidOption` (`EINVAL`): the capacity or the largest message is not allowed here.
    /// - `OverQuota` (`EMFILE`): `RLIMIT_MSGQUEUE`. `LimitReached`: the process's descriptors
    ///   (`EMFILE`) or the system's queues (`ENOSPC`).
    /// - `NotFound`, `AlreadyExists`, `PermissionDenied`.
    /// - `ForeignOwner`, and `Mismatch` with [`strict`](Self::strict): it exists, but not as asked
    ///   for.
    pub fn open(&self, name: impl AsRef<str>) -> Result<Queue, OpenError> {
        self.0.open(name.as_ref())
    }

    /// Opens the queue for receiving only, as a stream of messages.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn open_receiver(&self, name: impl AsRef<str>) -> Result<MessageReceiver, OpenError> {
        let mut options = self.clone();
        ends::receiver(Arc::new(options.read(true).write(false).open(name)?))
    }

    /// Opens the queue for sending only, as a sink of messages.
    ///
    /// Messages without a priority get 0.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    ///
    /// # Examples
    ///
    /// ```
    /// use aqueduct::connect::{Message, Prioritized};
    /// use aqueduct::{codec::Text, mq::OpenOptions};
    ///
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let name = format!("/doc-ends-{}", std::process::id());
    /// let mut options = OpenOptions::new();
    /// options.create(true).capacity(4).max_message(64).unlink_on_drop(true);
    /// let mut jobs = options.open_receiver(&name)?.prioritized::<String>(Text);
    /// let mut to_do = options.open_sender(&name)?.prioritized::<&str>(Text);
    ///
    /// to_do.send(Prioritized { priority: 1, item: "tidy up" }).await?;
    /// to_do.send(Prioritized { priority: 9, item: "put out the fire" }).await?;
    /// let first = jobs.recv().await.transpose()?;
    /// assert_eq!(first, Some(Prioritized { priority: 9, item: "put out the fire".to_owned() }));
    /// # Ok(())
    /// # }
    /// ```
    pub fn open_sender(&self, name: impl AsRef<str>) -> Result<MessageSender, OpenError> {
        let mut options = self.clone();
        ends::sender(Arc::new(options.read(false).write(true).open(name)?), 0)
    }

    /// Opens the queue of a descriptor, such as an inherited one.
    ///
    /// The queue is opened again through `/proc`, so that it can be in non-blocking mode here
    /// without being so for the processes that share the descriptor. It has the directions of the
    /// descriptor. Only the options about waiting apply.
    ///
    /// # Errors
    ///
    /// `WrongType` (`EBADF`) if it is not a queue's; `PermissionDenied` if this process may use the
    /// descriptor but not open the queue.
    pub fn open_fd(&self, fd: impl AsFd) -> Result<Queue, OpenError> {
        self.0.open_fd(fd)
    }
}

impl Default for OpenOptions {
    fn default() -> Self {
        Self::new()
    }
}

impl TryFrom<OwnedFd> for Queue {
    type Error = OpenError;

    /// As [`OpenOptions::open_fd`] with the default options, and `fd` is closed.
    fn try_from(fd: OwnedFd) -> Result<Self, OpenError> {
        OpenOptions::new().open_fd(fd)
    }
}
