//! [`OpenOptions`]: opening and making queues.

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::libc;
use nix::sys::stat::{FileStat, Mode, fchmod, fstat};
use nix::sys::statfs::fstatfs;
use nix::unistd::geteuid;

use crate::io::mark::MARK;
use crate::io::sys::QueueFd;
use crate::mq::limits::Limits;
use crate::mq::link::Link;
use crate::mq::list::MQUEUE_MAGIC;
use crate::mq::queue::About;
use crate::mq::refusal::{create_failed, open_failed};
use crate::mq::{AttributeMismatch, Driver, Error, Queue, Receiver, Sender, TARGET, check_name};

/// The mode of a new queue, and the widest an existing one may have without a warning.
pub const DEFAULT_MODE: u32 = 0o600;

/// How often [`OpenOptions::create`] tries again when the queue comes and goes under its hands.
const CREATE_TRIES: usize = 16;

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
/// assert_eq!((queue.capacity(), queue.max_message()), (10, 256));
/// # Ok::<_, aqueduct::mq::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct OpenOptions {
    read: bool,
    write: bool,
    create: bool,
    create_new: bool,
    capacity: Option<usize>,
    max_message: Option<usize>,
    mode: u32,
    strict: bool,
    allow_foreign_owner: bool,
    unlink_on_drop: bool,
    driver: Driver,
    poll_for: Duration,
    check_name_every: Option<Duration>,
}

impl OpenOptions {
    /// An existing queue, for both directions, of this user, waited for by [`Driver::Pool`].
    pub fn new() -> Self {
        Self {
            read: false,
            write: false,
            create: false,
            create_new: false,
            capacity: None,
            max_message: None,
            mode: DEFAULT_MODE,
            strict: false,
            allow_foreign_owner: false,
            unlink_on_drop: false,
            driver: Driver::default(),
            poll_for: Duration::ZERO,
            check_name_every: None,
        }
    }

    /// Open for receiving. With neither this nor [`write`](Self::write), both are meant.
    pub fn read(&mut self, read: bool) -> &mut Self {
        self.read = read;
        self
    }

    /// Open for sending. With neither this nor [`read`](Self::read), both are meant.
    pub fn write(&mut self, write: bool) -> &mut Self {
        self.write = write;
        self
    }

    /// Make the queue if there is none.
    pub fn create(&mut self, create: bool) -> &mut Self {
        self.create = create;
        self
    }

    /// Make the queue, and fail if there is one.
    pub fn create_new(&mut self, create_new: bool) -> &mut Self {
        self.create_new = create_new;
        self
    }

    /// How many messages a new queue holds. Without this the system's default
    /// (`fs.mqueue.msg_default`, 10 where nobody changed it).
    ///
    /// An existing queue keeps what it has; see [`strict`](Self::strict) and
    /// [`Queue::mismatch`].
    pub fn capacity(&mut self, messages: usize) -> &mut Self {
        self.capacity = Some(messages);
        self
    }

    /// The size of a new queue's largest message. Without this the system's default
    /// (`fs.mqueue.msgsize_default`, 8192 where nobody changed it).
    ///
    /// An existing queue keeps what it has, as with [`capacity`](Self::capacity).
    pub fn max_message(&mut self, bytes: usize) -> &mut Self {
        self.max_message = Some(bytes);
        self
    }

    /// The mode a new queue gets, exactly, whatever the process's umask; [`DEFAULT_MODE`] without
    /// this. Also the widest mode expected of an existing one.
    pub fn mode(&mut self, mode: u32) -> &mut Self {
        self.mode = mode & 0o777;
        self
    }

    /// Refuse an existing queue whose mode is wider than [`mode`](Self::mode) or whose attributes
    /// are not those asked for. Without this it is taken, with a warning through `tracing`.
    pub fn strict(&mut self, strict: bool) -> &mut Self {
        self.strict = strict;
        self
    }

    /// Take an existing queue that belongs to another user than this one and root.
    ///
    /// Names are open to all: another user may have made a queue of this name first, to read what
    /// is sent to it. So this is refused by default, also to root. A queue of root's is taken in
    /// any case: root could read it whoever made it.
    pub fn allow_foreign_owner(&mut self, allow: bool) -> &mut Self {
        self.allow_foreign_owner = allow;
        self
    }

    /// Remove the queue's name when the [`Queue`] is dropped, if opening made the queue and the
    /// name still stands for it.
    pub fn unlink_on_drop(&mut self, unlink: bool) -> &mut Self {
        self.unlink_on_drop = unlink;
        self
    }

    /// What waits for the queue.
    pub fn driver(&mut self, driver: Driver) -> &mut Self {
        self.driver = driver;
        self
    }

    /// Latency mode: before each wait, tries again for this long, while the other tasks of the
    /// runtime have their turns, and sleeps only then. Zero, the default, is a handful of tries.
    ///
    /// Take it, with some 50 us, where answers come soon after questions and a processor can be
    /// spared: waking a process that sleeps on an idle processor takes far longer than an answer.
    /// It is done only while it pays; where nothing comes in that time the next waits sleep at
    /// once, and polling costs them 3 us each on average.
    pub fn poll_for(&mut self, limit: Duration) -> &mut Self {
        self.poll_for = limit;
        self
    }

    /// Looks this often whether the name still stands for this queue, while a task waits to send
    /// or to receive, and before a message is sent: [`Error::Replaced`] if not. `None`, the
    /// default, never looks. Less than 10 ms counts as 10 ms.
    ///
    /// A queue that is unlinked goes on to work for those who have it open, and the kernel tells
    /// them nothing. So when another program removes a queue and makes it anew, or puts it away
    /// for good, one who waits for the old one waits for ever. With this, all that was sent to the
    /// old queue before it lost its name is received first; a message whose sending fails is not
    /// sent; and no more is sent to the old queue than in one interval. What nobody has received
    /// can be taken out afterwards ([`Queue::try_recv`]).
    ///
    /// A look is a few system calls on the task's thread, one for all tasks that use this
    /// [`Queue`]. Where no queue file system is mounted on [`MOUNT_POINT`](crate::mq::MOUNT_POINT)
    /// it opens the queue for a moment, which ends this process's `mq_notify(3)` for it.
    pub fn check_name_every(&mut self, interval: Option<Duration>) -> &mut Self {
        self.check_name_every = interval;
        self
    }

    /// Opens the queue. Needs no runtime; only waiting does.
    ///
    /// # Errors
    ///
    /// - [`Error::Name`]: see [`check_name`].
    /// - [`Error::Capacity`], [`Error::MaxMessage`] (`EINVAL`), [`Error::QueueBytes`] or
    ///   [`Error::Descriptors`] (both `EMFILE`), [`Error::TooManyQueues`] (`ENOSPC`): it cannot be
    ///   made like this here, and which limit it is.
    /// - [`Error::NotFound`], [`Error::AlreadyExists`], [`Error::PermissionDenied`].
    /// - [`Error::ForeignOwner`], [`Error::WiderMode`], [`Error::Attributes`]: there is one, but
    ///   not one as asked for.
    pub fn open(&self, name: impl AsRef<str>) -> Result<Queue, Error> {
        let name = name.as_ref();
        check_name(name)?;
        let (fd, created) = self.acquire(name)?;
        let queue = match self.adopt(name, fd, created) {
            Ok(queue) => queue,
            Err(error) => {
                if created {
                    // Nobody was told of it. If it is gone already that is as well.
                    let _ = posixmq::remove_queue(name);
                }
                return Err(error);
            }
        };
        let driver = self.driver;
        tracing::debug!(target: TARGET, name, created, %driver, "queue open");
        Ok(queue)
    }

    /// Opens the queue for receiving only, as a stream of messages.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn open_receiver(&self, name: impl AsRef<str>) -> Result<Receiver, Error> {
        let mut options = self.clone();
        Receiver::new(options.read(true).write(false).open(name)?)
    }

    /// Opens the queue for sending only, as a sink of messages of priority 0.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn open_sender(&self, name: impl AsRef<str>) -> Result<Sender, Error> {
        let mut options = self.clone();
        Sender::new(options.read(false).write(true).open(name)?)
    }

    /// Takes over a queue that somebody else has opened, such as a descriptor that was inherited.
    ///
    /// The queue is opened again through `/proc`, so that it can be in non-blocking mode here
    /// without being so for those who share the descriptor. It has the directions of the
    /// descriptor. Of the options only those on waiting count: [`driver`](Self::driver),
    /// [`poll_for`](Self::poll_for), [`check_name_every`](Self::check_name_every).
    ///
    /// # Errors
    ///
    /// [`Error::NotAQueue`]; [`Error::PermissionDenied`] if this process may use the descriptor
    /// but not open the queue.
    pub fn open_fd(&self, fd: impl AsFd) -> Result<Queue, Error> {
        let fd = fd.as_fd();
        let system = |errno: Errno| Error::System {
            name: format!("descriptor {}", fd.as_raw_fd()),
            action: "open",
            source: errno.into(),
        };
        if fstatfs(fd).map_err(system)?.filesystem_type() != MQUEUE_MAGIC {
            return Err(Error::NotAQueue);
        }
        let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
        let name = nix::fcntl::readlink(path.as_str()).map_err(system)?;
        let name = name.to_string_lossy();
        let name = name.strip_suffix(" (deleted)").unwrap_or(&name);
        // With the mount before it, if it was opened there. There are no directories in it.
        let name = format!("/{}", name.rsplit('/').next().unwrap_or_default());
        let flags = fcntl(fd, FcntlArg::F_GETFL).map_err(system)?;
        let access = OFlag::from_bits_truncate(flags) & OFlag::O_ACCMODE;
        let flags = access | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let own = nix::fcntl::open(path.as_str(), flags, Mode::empty());
        let own = own.map_err(|errno| open_failed(&name, "open", errno.into()))?;
        let options = Self {
            read: access != OFlag::O_WRONLY,
            write: access != OFlag::O_RDONLY,
            capacity: None,
            max_message: None,
            ..self.clone()
        };
        options.finish(&name, own.into(), false)
    }

    /// Opens or makes the queue; says whether it was made.
    fn acquire(&self, name: &str) -> Result<(QueueFd, bool), Error> {
        let existing = || self.raw().existing().open(name);
        if !(self.create || self.create_new) {
            let opened = existing().map_err(|error| open_failed(name, "open", error))?;
            return Ok((opened.into(), false));
        }
        let (capacity, max_message) = self.new_attributes(name)?;
        for _ in 0..CREATE_TRIES {
            // Always exclusive: that tells whether it is ours.
            let mut raw = self.raw();
            raw.create_new().mode(self.mode | MARK);
            raw.capacity(capacity).max_msg_len(max_message);
            match raw.open(name) {
                Ok(made) => return Ok((made.into(), true)),
                Err(error) if error.raw_os_error() == Some(libc::EEXIST) && !self.create_new => {}
                Err(error) => return Err(create_failed(name, capacity, max_message, error)),
            }
            match existing() {
                Ok(opened) => return Ok((opened.into(), false)),
                Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {}
                Err(error) => return Err(open_failed(name, "open", error)),
            }
        }
        Err(open_failed(name, "create", Errno::EEXIST.into()))
    }

    fn raw(&self) -> posixmq::OpenOptions {
        let mut raw = match (self.read, self.write) {
            (true, false) => posixmq::OpenOptions::readonly(),
            (false, true) => posixmq::OpenOptions::writeonly(),
            _ => posixmq::OpenOptions::readwrite(),
        };
        raw.nonblocking();
        raw
    }

    /// The attributes a new queue gets: both must be given, or the one left out would be zero.
    pub(super) fn new_attributes(&self, name: &str) -> Result<(usize, usize), Error> {
        let limits = || Limits::read_system();
        let capacity = self.capacity.unwrap_or_else(|| limits().capacity_default());
        let max_message = self
            .max_message
            .unwrap_or_else(|| limits().max_message_default());
        let name = || name.to_owned();
        if capacity == 0 {
            let (max, _) = limits().largest();
            return Err(Error::Capacity {
                name: name(),
                asked: capacity,
                max,
            });
        }
        if max_message == 0 {
            let (_, max) = limits().largest();
            return Err(Error::MaxMessage {
                name: name(),
                asked: max_message,
                max,
            });
        }
        Ok((capacity, max_message))
    }

    /// Checks what was opened, and brings what was made to its mode.
    fn adopt(&self, name: &str, fd: QueueFd, created: bool) -> Result<Queue, Error> {
        let system = |action| {
            move |errno: Errno| Error::System {
                name: name.to_owned(),
                action,
                source: errno.into(),
            }
        };
        if created {
            // The umask has taken bits away, never added any, so there was no moment of more.
            let mode = Mode::from_bits_truncate(self.mode | MARK);
            fchmod(fd.fd(), mode).map_err(system("set the mode of"))?;
        } else {
            self.check_existing(name, &fstat(fd.fd()).map_err(system("look at"))?)?;
        }
        self.finish(name, fd, created)
    }

    fn check_existing(&self, name: &str, stat: &FileStat) -> Result<(), Error> {
        let (owner, euid) = (stat.st_uid, geteuid().as_raw());
        let name = name.to_owned();
        if owner != euid && owner != 0 && !self.allow_foreign_owner {
            return Err(Error::ForeignOwner { name, owner, euid });
        }
        let (mode, allowed) = (stat.st_mode & 0o777, self.mode);
        if mode & !allowed == 0 {
            return Ok(());
        }
        if self.strict {
            return Err(Error::WiderMode {
                name,
                mode,
                allowed,
            });
        }
        tracing::warn!(
            target: TARGET, name, mode = format_args!("{mode:04o}"),
            "queue has a wider mode than asked for"
        );
        Ok(())
    }

    fn finish(&self, name: &str, fd: QueueFd, created: bool) -> Result<Queue, Error> {
        let system = |source: io::Error| Error::System {
            name: name.to_owned(),
            action: "look at",
            source,
        };
        let stat = fstat(fd.fd()).map_err(|errno| system(errno.into()))?;
        let attributes = fd.attributes().map_err(system)?;
        let (capacity, max_message) = (attributes.capacity, attributes.max_msg_len);
        let differs = |asked: Option<usize>, is| asked.is_some_and(|asked| asked != is);
        let mut mismatch = None;
        if differs(self.capacity, capacity) || differs(self.max_message, max_message) {
            let found = AttributeMismatch {
                asked_capacity: self.capacity,
                asked_max_message: self.max_message,
                capacity,
                max_message,
            };
            if self.strict {
                let name = name.to_owned();
                return Err(Error::Attributes {
                    name,
                    mismatch: found,
                });
            }
            tracing::warn!(target: TARGET, name, "queue {found}");
            mismatch = Some(found);
        }
        let both = !self.read && !self.write;
        let id = (stat.st_dev, stat.st_ino);
        let about = About {
            link: Link::new(name, Arc::clone(fd.fd()), id, self.check_name_every),
            readable: self.read || both,
            writable: self.write || both,
            capacity,
            max_message,
            created,
            unlink_on_drop: self.unlink_on_drop && created,
            driver: self.driver,
            poll_for: self.poll_for,
            mismatch,
            span: tracing::debug_span!(target: TARGET, "mq", name),
        };
        Ok(Queue::new(fd, about))
    }
}

impl Default for OpenOptions {
    fn default() -> Self {
        Self::new()
    }
}
