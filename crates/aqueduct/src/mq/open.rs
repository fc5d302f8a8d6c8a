//! [`OpenOptions`]: how queues are opened and created.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use crate::connect::{MessageReceiver, MessageSender, OpenError};
use crate::mq::driver::Driver;
use crate::mq::ends;
use crate::mq::opening::Choices;
use crate::mq::queue::Queue;

/// The mode of a new queue, and the widest that an existing one may have without a warning.
const DEFAULT_MODE: u32 = 0o600;

/// Options for opening or creating a queue.
///
/// By default, [`open`](Self::open) opens an existing queue for sending and receiving.
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
    /// Creates the default options.
    ///
    /// They open an existing queue of this user, for both directions.
    ///
    /// [`Driver::Pool`] waits for it.
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

    /// Sets whether to create the queue if it does not exist.
    ///
    /// A new name is a slash and 1 to 255 letters, digits, dots, underscores and hyphens. Existing
    /// queues of other programs are opened under any name that Linux allows.
    pub fn create(&mut self, create: bool) -> &mut Self {
        self.0.create = create;
        self
    }

    /// Sets whether to create the queue, and fail if it exists.
    pub fn create_new(&mut self, create_new: bool) -> &mut Self {
        self.0.create_new = create_new;
        self
    }

    /// Sets how many messages a new queue holds.
    ///
    /// The default is `fs.mqueue.msg_default`, usually 10. An existing queue keeps its capacity;
    /// see [`strict`](Self::strict).
    pub fn capacity(&mut self, messages: usize) -> &mut Self {
        self.0.capacity = Some(messages);
        self
    }

    /// Sets the size of a new queue's largest message.
    ///
    /// The default is `fs.mqueue.msgsize_default`, usually 8192. An existing queue keeps its size;
    /// see [`strict`](Self::strict).
    pub fn max_message(&mut self, bytes: usize) -> &mut Self {
        self.0.max_message = Some(bytes);
        self
    }

    /// Sets the exact mode of a new queue, regardless of the umask (0600 by default).
    ///
    /// It is also the widest mode expected of an existing one.
    pub fn mode(&mut self, mode: u32) -> &mut Self {
        self.0.mode = mode & 0o777;
        self
    }

    /// Gives a new queue to a group, by name or number, before any other process can open it.
    pub(super) fn group(&mut self, group: &str) -> &mut Self {
        self.0.group = Some(group.to_owned());
        self
    }

    /// Sets whether to refuse an existing queue with another mode or other attributes.
    ///
    /// That is, a mode wider than [`mode`](Self::mode), or attributes that differ from those asked
    /// for. By default the queue is used, with a `tracing` warning.
    pub fn strict(&mut self, strict: bool) -> &mut Self {
        self.0.strict = strict;
        self
    }

    /// Sets whether to accept a queue of any user (off by default).
    ///
    /// That is, an existing queue whose owner is neither this user nor root.
    ///
    /// Any user can create a queue of any name to read what is sent to it, so by default such a
    /// queue is refused, even to root. Root's queues are always accepted: root can read all queues.
    pub fn allow_foreign_owner(&mut self, allow: bool) -> &mut Self {
        self.0.allow_foreign_owner = allow;
        self
    }

    /// Sets whether to remove the queue's name when the [`Queue`] is dropped.
    ///
    /// This happens only if opening created the queue and the name still refers to it.
    pub fn unlink_on_drop(&mut self, unlink: bool) -> &mut Self {
        self.0.unlink_on_drop = unlink;
        self
    }

    /// Agrees with the peer that an empty message marks the end of the conversation.
    ///
    /// Closing the sending end then sends one, of the lowest priority, and the receiving end ends
    /// at it. Other empty messages are refused ([`FrameError::Empty`]). For one sender and one
    /// receiver; the [module](crate::mq#the-end-of-a-conversation) describes more.
    ///
    /// [`FrameError::Empty`]: crate::frame::FrameError::Empty
    pub fn end_marker(&mut self, end_marker: bool) -> &mut Self {
        self.0.end_marker = end_marker;
        self
    }

    /// Sets the driver that waits for the queue.
    pub fn driver(&mut self, driver: Driver) -> &mut Self {
        self.0.driver = driver;
        self
    }

    /// Sets how long to poll before each wait (latency mode).
    ///
    /// The queue is tried again for this long, while the other tasks of the runtime have their
    /// turns, before it sleeps. Zero, the default, is a handful of tries.
    ///
    /// Use about 50 µs if replies follow requests quickly and a processor can be spared: waking a
    /// process on an idle processor takes far longer than a reply. Polling adapts: if nothing
    /// arrives in that time the next waits sleep at once, and polling costs them 3 µs each on
    /// average.
    pub fn poll_for(&mut self, limit: Duration) -> &mut Self {
        self.0.poll_for = limit;
        self
    }

    /// Sets how often to check that the name still refers to this queue.
    ///
    /// The check runs while a task waits and before a message is sent; it fails with
    /// [`Replaced`](crate::OpenErrorKind::Replaced). `None`, the default, never checks. Less than
    /// 10 ms counts as 10 ms.
    ///
    /// An unlinked queue works on for processes that have it open, and the kernel does not tell
    /// them. If another program removes a queue, or creates it again, a task that waits for the old
    /// one waits for ever. With this option, messages sent to the old queue before it lost its name
    /// are received first. A message whose sending fails is not sent. Messages go to the old queue
    /// for one interval at most. [`Queue::try_recv`] takes out the rest.
    ///
    /// A check is a few system calls on the task's thread, one for all tasks that use this
    /// [`Queue`]. If no queue file system is mounted on `/dev/mqueue`, it opens the queue for a
    /// moment, which cancels this process's `mq_notify(3)` for it.
    pub fn watch_name(&mut self, interval: impl Into<Option<Duration>>) -> &mut Self {
        self.0.watch_name = interval.into();
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
    /// - `OverQuota` (`EMFILE`): `RLIMIT_MSGQUEUE`.
    /// - `LimitReached`: the process's file descriptors (`EMFILE`) or the system's queues
    ///   (`ENOSPC`).
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
    /// As for [`open`](Self::open).
    ///
    /// # Examples
    ///
    /// See [`open_sender`](Self::open_sender).
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
    /// As for [`open`](Self::open).
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
    /// The queue is opened again through `/proc`, so that it can be non-blocking here but not for
    /// the processes that share the descriptor. It has the directions of the descriptor. Only the
    /// options about waiting apply.
    ///
    /// # Errors
    ///
    /// `WrongType` (`EBADF`) if the descriptor is not a queue's. `PermissionDenied` if this process
    /// may use the descriptor but not open the queue.
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

    /// The same as [`OpenOptions::open_fd`] with the default options; `fd` is closed.
    fn try_from(fd: OwnedFd) -> Result<Self, OpenError> {
        OpenOptions::new().open_fd(fd)
    }
}
