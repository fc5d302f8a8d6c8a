//! Opens and creates queues, and checks what was opened.

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

use crate::connect::group::{OWNER_BITS, find_group, give_to_group};
use crate::connect::{OpenError, OpenErrorKind};
use crate::io::mark::MARK;
use crate::io::owner::{is_outside, said};
use crate::io::sys::QueueFd;
use crate::mq::driver::Driver;
use crate::mq::error::{TARGET, shown};
use crate::mq::link::Link;
use crate::mq::mount::MQUEUE_MAGIC;
use crate::mq::name::{check, check_new};
use crate::mq::queue::{About, Queue};
use crate::mq::refusal::{bad_capacity, bad_max_message, create_failed, open_failed};
use crate::mq::system_limits::Limits;

/// How often opening tries again if others create and remove the queue meanwhile.
const CREATE_TRIES: usize = 16;

const OPEN: &str = "open queue";
const CREATE: &str = "create queue";

/// The options for a queue that is to be opened.
#[derive(Clone, Debug)]
pub(super) struct Choices {
    pub(super) read: bool,
    pub(super) write: bool,
    pub(super) create: bool,
    pub(super) create_new: bool,
    pub(super) capacity: Option<usize>,
    pub(super) max_message: Option<usize>,
    pub(super) mode: u32,
    /// The group of a new queue: its name or number.
    pub(super) group: Option<String>,
    pub(super) strict: bool,
    pub(super) allow_foreign_owner: bool,
    pub(super) unlink_on_drop: bool,
    pub(super) end_marker: bool,
    pub(super) driver: Driver,
    pub(super) poll_for: Duration,
    pub(super) watch_name: Option<Duration>,
}

impl Choices {
    pub(super) fn open(&self, name: &str) -> Result<Queue, OpenError> {
        check(if self.create_new { CREATE } else { OPEN }, name)?;
        let (fd, created) = self.acquire(name)?;
        let queue = match self.adopt(name, fd, created) {
            Ok(queue) => queue,
            Err(error) => {
                if created {
                    // No other process was told of it. It may be gone already.
                    let _ = posixmq::remove_queue(name);
                }
                return Err(error);
            }
        };
        let driver = self.driver;
        tracing::debug!(target: TARGET, name, created, %driver, "queue open");
        Ok(queue)
    }

    pub(super) fn open_fd(&self, fd: impl AsFd) -> Result<Queue, OpenError> {
        let fd = fd.as_fd();
        let number = fd.as_raw_fd();
        let system = |errno: Errno| OpenError::system("open descriptor", number, errno.into());
        if fstatfs(fd).map_err(system)?.filesystem_type() != MQUEUE_MAGIC {
            let found = "not a message queue";
            let kind = OpenErrorKind::WrongType { found };
            return Err(
                OpenError::new("open descriptor", number, kind, format!("it is {found}"))
                    .with_source(io::Error::from_raw_os_error(libc::EBADF)),
            );
        }
        let path = format!("/proc/self/fd/{number}");
        let name = nix::fcntl::readlink(path.as_str()).map_err(system)?;
        let name = name.to_string_lossy();
        let name = name.strip_suffix(" (deleted)").unwrap_or(&name);
        // Without the mount point, if it was opened there. It contains no directories.
        let name = format!("/{}", name.rsplit('/').next().unwrap_or_default());
        let flags = fcntl(fd, FcntlArg::F_GETFL).map_err(system)?;
        let access = OFlag::from_bits_truncate(flags) & OFlag::O_ACCMODE;
        let flags = access | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let own = nix::fcntl::open(path.as_str(), flags, Mode::empty());
        let own = own.map_err(|errno| open_failed(OPEN, &name, errno.into()))?;
        let choices = Self {
            read: access != OFlag::O_WRONLY,
            write: access != OFlag::O_RDONLY,
            capacity: None,
            max_message: None,
            ..self.clone()
        };
        choices.finish(&name, own.into(), false)
    }

    /// Opens or creates the queue; returns whether it was created.
    fn acquire(&self, name: &str) -> Result<(QueueFd, bool), OpenError> {
        let existing = || self.raw().existing().open(name);
        let failed = |error| open_failed(OPEN, name, error);
        if !(self.create || self.create_new) {
            return Ok((existing().map_err(failed)?.into(), false));
        }
        let is_zero = self.capacity == Some(0) || self.max_message == Some(0);
        if self.create && !self.create_new && !is_zero && self.group.is_none() {
            // First, because the system's limits take far longer to read than a queue to open.
            // Another program may have created one whose name this library would not choose.
            match existing() {
                Ok(opened) => return Ok((opened.into(), false)),
                Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {}
                Err(error) => return Err(failed(error)),
            }
        }
        check_new(name)?;
        let (capacity, max_message) = new_attributes(name, self.capacity, self.max_message)?;
        // Before it has its group only its owner may open it.
        let mode = match &self.group {
            Some(group) => {
                find_group(CREATE, shown(name), group)?;
                self.mode & OWNER_BITS
            }
            None => self.mode,
        };
        for _ in 0..CREATE_TRIES {
            // Always exclusive: this shows whether we created it.
            let mut raw = self.raw();
            raw.create_new().mode(mode | MARK);
            raw.capacity(capacity).max_msg_len(max_message);
            match raw.open(name) {
                Ok(made) => return Ok((made.into(), true)),
                Err(error) if error.raw_os_error() == Some(libc::EEXIST) && !self.create_new => {}
                Err(error) => return Err(create_failed(name, capacity, max_message, error).error),
            }
            match existing() {
                Ok(opened) => return Ok((opened.into(), false)),
                Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {}
                Err(error) => return Err(failed(error)),
            }
        }
        Err(open_failed(CREATE, name, Errno::EEXIST.into()))
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

    /// Checks what was opened, and sets the mode of a new queue.
    fn adopt(&self, name: &str, fd: QueueFd, created: bool) -> Result<Queue, OpenError> {
        let system = |errno: Errno| OpenError::system(OPEN, shown(name), errno.into());
        if created {
            if let Some(group) = &self.group {
                let group = find_group(CREATE, shown(name), group)?;
                give_to_group(CREATE, shown(name), fd.fd(), group)?;
            }
            // The umask has removed bits, never added any, so the mode was never wider.
            let mode = Mode::from_bits_truncate(self.mode | MARK);
            fchmod(fd.fd(), mode).map_err(system)?;
        } else {
            self.check_existing(name, &fstat(fd.fd()).map_err(system)?)?;
        }
        self.finish(name, fd, created)
    }

    fn check_existing(&self, name: &str, stat: &FileStat) -> Result<(), OpenError> {
        let (owner, euid) = (stat.st_uid, geteuid().as_raw());
        // Outside the user namespace all owners have one number, even if this process has it too.
        let own = owner == euid && !is_outside(owner);
        if !own && owner != 0 && !self.allow_foreign_owner {
            return Err(foreign(name, owner, euid));
        }
        let (mode, allowed) = (stat.st_mode & 0o777, self.mode);
        if mode & !allowed == 0 {
            return Ok(());
        }
        if self.strict {
            let cause = format!("its mode is {mode:04o}, wider than {allowed:04o}");
            return Err(mismatch(name, cause, "chmod it, create it again"));
        }
        tracing::warn!(
            target: TARGET, name, mode = format_args!("{mode:04o}"),
            "queue has a wider mode than asked for"
        );
        Ok(())
    }

    fn finish(&self, name: &str, fd: QueueFd, created: bool) -> Result<Queue, OpenError> {
        let system = |error| OpenError::system(OPEN, shown(name), error);
        let stat = fstat(fd.fd()).map_err(|errno| system(errno.into()))?;
        let attributes = fd.attributes().map_err(system)?;
        let (capacity, max_message) = (attributes.capacity, attributes.max_msg_len);
        let differs = |asked: Option<usize>, is| asked.is_some_and(|asked| asked != is);
        if differs(self.capacity, capacity) || differs(self.max_message, max_message) {
            let mut asked = String::new();
            if let Some(messages) = self.capacity {
                asked += &format!(" {messages} messages");
            }
            if let Some(bytes) = self.max_message {
                asked += &format!(" of up to {bytes} bytes");
            }
            let found = format!("holds {capacity} messages of up to {max_message} bytes, not");
            if self.strict {
                return Err(mismatch(
                    name,
                    format!("it {found}{asked}"),
                    "unlink it first",
                ));
            }
            tracing::warn!(target: TARGET, name, "queue {found}{asked}");
        }
        let both = !self.read && !self.write;
        let id = (stat.st_dev, stat.st_ino);
        let about = About {
            link: Link::new(name, Arc::clone(fd.fd()), id, self.watch_name),
            readable: self.read || both,
            writable: self.write || both,
            capacity,
            max_message,
            unlink_on_drop: self.unlink_on_drop && created,
            end_marker: self.end_marker,
            driver: self.driver,
            poll_for: self.poll_for,
            span: tracing::debug_span!(target: TARGET, "mq", name),
        };
        Ok(Queue::new(fd, about))
    }
}

/// The attributes of a new queue: both must be given, or the other one would be zero.
pub(super) fn new_attributes(
    name: &str,
    capacity: Option<usize>,
    max_message: Option<usize>,
) -> Result<(usize, usize), OpenError> {
    let limits = || Limits::read_system();
    let capacity = capacity.unwrap_or_else(|| limits().capacity_default());
    let max_message = max_message.unwrap_or_else(|| limits().max_message_default());
    if capacity == 0 {
        let (max, _) = limits().largest();
        return Err(bad_capacity(name, capacity, max));
    }
    if max_message == 0 {
        let (_, max) = limits().largest();
        return Err(bad_max_message(name, max_message, max));
    }
    Ok((capacity, max_message))
}

fn mismatch(name: &str, cause: String, cure: &str) -> OpenError {
    OpenError::new(OPEN, shown(name), OpenErrorKind::Mismatch, cause)
        .with_cure(format!("{cure}, or open it without strict"))
}

fn foreign(name: &str, owner: u32, euid: u32) -> OpenError {
    let kind = OpenErrorKind::ForeignOwner { owner };
    let cure = "use another name, run as its owner, or allow foreign owners if that one is trusted";
    OpenError::new(OPEN, shown(name), kind, said(owner, euid)).with_cure(cure)
}
