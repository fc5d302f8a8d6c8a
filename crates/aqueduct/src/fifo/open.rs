//! [`OpenOptions`]: creates and opens a FIFO, and waits for its reader.

use std::future::Future;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::time::Duration;

use nix::sys::inotify::AddWatchFlags;
use tokio::runtime::Handle;
use tokio::time::Instant;

use super::TARGET;
use super::explain::failed;
use super::locate::{Located, Wanted};
use super::name::{Name, PathState, shown};
use super::receiver::Receiver;
use super::returning::Returning;
use super::sender::{Again, Sender};
use super::sole::Sole;
use crate::connect::{OpenError, OpenErrorKind};
use crate::io::fd::Access;
use crate::io::timer::sleep;
use crate::io::watch::{FIRST_TICK, LAST_TICK, NameWatch, Watch};

/// How long a path may be missing before this counts as more than a program that replaces the FIFO.
pub(super) const VANISH_GRACE: Duration = Duration::from_secs(1);

/// How often a path that is replaced while it is being opened is looked up again.
const MAX_RACES: u32 = 16;

/// What a sender does when the last reader has closed the FIFO.
///
/// Set by [`OpenOptions::on_reader_gone`].
///
/// # Examples
///
/// ```
/// use aqueduct::fifo::{OpenOptions, ReaderGone};
/// use tokio::io::{AsyncReadExt, AsyncWriteExt};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("jobs");
/// let mut options = OpenOptions::new();
/// options.create(true).on_reader_gone(ReaderGone::Keep);
/// let mut sender = options.try_open_sender(&path)?; // needs no reader
/// sender.write_all(b"hello").await?;
///
/// let mut buf = [0; 5];
/// OpenOptions::new().open_receiver(&path)?.read_exact(&mut buf).await?;
/// assert_eq!(&buf, b"hello");
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReaderGone {
    /// A write fails with `EPIPE`.
    ///
    /// Unread bytes stay in the FIFO while a writer has it open. The next reader reads them first,
    /// and writing works again. If the previous reader died inside a frame, the next one starts in
    /// the middle of that frame, as with [`Keep`](Self::Keep).
    #[default]
    Fail,
    /// A write waits for the next reader, up to the limit of [`wait`](OpenOptions::wait).
    ///
    /// After that it fails with [`TimedOut`](OpenErrorKind::TimedOut). Unread bytes stay in the
    /// FIFO meanwhile, as with [`Fail`](Self::Fail). Shutting down (`poll_shutdown`, the `close` of
    /// a sink) also waits while there is no reader and anything is unread, because unread bytes
    /// vanish with the last writer. Dropping the sender does not wait.
    Wait,
    /// Bytes are kept for the next reader. Once the FIFO is full a write waits.
    ///
    /// The sender opens the FIFO for reading too (`O_RDWR`, see fifo(7)), which has consequences:
    ///
    /// - It counts as a reader. While it lives, other senders do not notice that there is no
    ///   reader, neither by `ENXIO` when opening nor by `EPIPE`.
    /// - It never notices that the reader has closed the FIFO.
    /// - Bytes that are unread when the last process closes the FIFO are lost.
    /// - It needs permission to read the FIFO as well.
    ///
    /// A reader takes bytes, not frames. One that dies inside a frame takes the first part of it,
    /// and the next reader starts in the middle: with length framing it reads garbage as a length,
    /// with lines or NUL framing one frame without its beginning.
    Keep,
}

/// Options for creating and opening a FIFO.
///
/// An existing file at the path is accepted only if it is a FIFO, not a symbolic link to one, and
/// its owner is this user or root. Otherwise someone could plant it to eavesdrop. (Root can
/// eavesdrop anyway.) A wider mode than asked for is accepted with a `tracing` warning, since a
/// plain `mkfifo` creates `0644`.
///
/// # Examples
///
/// ```
/// use aqueduct::fifo;
/// use tokio::io::{AsyncReadExt, AsyncWriteExt};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("jobs");
/// let mut receiver = fifo::OpenOptions::new()
///     .create(true)
///     .unlink_on_drop(true)
///     .open_receiver(&path)?;
/// let mut sender = fifo::OpenOptions::new().open_sender(&path).await?;
///
/// sender.write_all(b"hello").await?;
/// drop(sender);
/// let mut text = String::new();
/// receiver.read_to_string(&mut text).await?;
/// assert_eq!(text, "hello");
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
#[must_use = "options do nothing until something is opened with them"]
pub struct OpenOptions {
    wanted: Wanted,
    persistent: bool,
    on_reader_gone: ReaderGone,
    wait: Option<Duration>,
    watch_name: Option<Duration>,
    sole_reader: bool,
}

impl Default for OpenOptions {
    fn default() -> Self {
        Self::new()
    }
}

impl OpenOptions {
    /// Creates the default options: open an existing FIFO; mode `0o600`.
    pub const fn new() -> Self {
        Self {
            wanted: Wanted {
                create: false,
                mode: 0o600,
                group: None,
                allow_foreign_owner: false,
                unlink_on_drop: false,
            },
            persistent: false,
            on_reader_gone: ReaderGone::Fail,
            wait: None,
            watch_name: None,
            sole_reader: false,
        }
    }

    /// Sets whether to create the FIFO if there is nothing at the path.
    ///
    /// Both sides may set it: the later one finds the FIFO.
    pub fn create(&mut self, create: bool) -> &mut Self {
        self.wanted.create = create;
        self
    }

    /// Sets the exact permission bits of a new FIFO, regardless of the umask.
    ///
    /// They are also the widest mode that an existing FIFO may have without a warning. The default
    /// is `0o600`. The umask itself is not changed. Where it removes bits, the FIFO has a narrower
    /// mode for a moment; restoring them needs `/proc`.
    pub fn mode(&mut self, mode: u32) -> &mut Self {
        self.wanted.mode = mode;
        self
    }

    /// Gives a new FIFO to a group, by name or number, before any other process can open it.
    pub(super) fn group(&mut self, group: &str) -> &mut Self {
        self.wanted.group = Some(group.to_owned());
        self
    }

    /// Sets whether to accept a FIFO of any owner.
    pub fn allow_foreign_owner(&mut self, allow: bool) -> &mut Self {
        self.wanted.allow_foreign_owner = allow;
        self
    }

    /// Sets whether to remove the path when the end is dropped.
    ///
    /// This happens only if this call created the FIFO and the path still names it (device and
    /// inode are compared). A FIFO that existed before is never removed. If opening fails, or is
    /// dropped after creating the FIFO, it is removed too.
    pub fn unlink_on_drop(&mut self, unlink: bool) -> &mut Self {
        self.wanted.unlink_on_drop = unlink;
        self
    }

    /// Makes a receiver outlive its writers: the stream never ends.
    ///
    /// [`Receiver`] describes the consequences.
    pub fn persist(&mut self, persist: bool) -> &mut Self {
        self.persistent = persist;
        self
    }

    /// Sets what a sender does when the last reader has closed the FIFO.
    ///
    /// The default is [`ReaderGone::Fail`].
    pub fn on_reader_gone(&mut self, then: ReaderGone) -> &mut Self {
        self.on_reader_gone = then;
        self
    }

    /// Sets how long to wait for a reader.
    ///
    /// Applies to [`open_sender`](Self::open_sender) and [`ReaderGone::Wait`]. `None`, the default,
    /// is no limit.
    pub fn wait(&mut self, limit: impl Into<Option<Duration>>) -> &mut Self {
        self.wait = limit.into();
        self
    }

    /// Makes a waiting end notice that its path was removed or replaced.
    ///
    /// Otherwise peers that open the path later never meet this end. `None`, the default, does not
    /// watch. inotify(7) reports a change at once. A check every `interval` finds changes that it
    /// does not report.
    ///
    /// A waiting end then fails with [`Replaced`](OpenErrorKind::Replaced) (`ESTALE`), which
    /// [`OpenError::of`] finds inside the [`io::Error`]:
    ///
    /// - A **receiver**, when it has read all bytes and no writer has the FIFO open. While one has,
    ///   the stream goes on, and ends with that writer. A [persistent](Self::persist) one fails
    ///   at once, so that the caller can open the new FIFO; reading on delivers the data of the
    ///   remaining writers, and then the end of the stream.
    /// - A **sender** that waits for the next reader ([`ReaderGone::Wait`]), or for room in a FIFO
    ///   that it keeps open for reading itself ([`ReaderGone::Keep`]). While a reader has the FIFO
    ///   open, the sender goes on. A [`SharedSender`](super::SharedSender) with
    ///   [`ReaderGone::Wait`] opens the new FIFO itself, and starts a frame again that was not
    ///   written completely.
    ///
    /// # Examples
    ///
    /// ```
    /// use aqueduct::fifo::OpenOptions;
    /// use aqueduct::{OpenError, OpenErrorKind};
    /// use std::time::Duration;
    /// use tokio::io::AsyncReadExt;
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("jobs");
    /// let mut receiver = OpenOptions::new()
    ///     .create(true)
    ///     .persist(true)
    ///     .watch_name(Duration::from_secs(1))
    ///     .open_receiver(&path)?;
    /// std::fs::remove_file(&path)?;
    /// let error = receiver.read_u8().await.unwrap_err();
    /// assert_eq!(OpenError::of(&error).unwrap().kind(), &OpenErrorKind::Replaced);
    /// # Ok(()) }
    /// ```
    pub fn watch_name(&mut self, interval: impl Into<Option<Duration>>) -> &mut Self {
        self.watch_name = interval.into();
        self
    }

    /// Refuses to receive from a FIFO that another receiver with this option reads.
    pub(super) fn sole_reader(&mut self, sole: bool) -> &mut Self {
        self.sole_reader = sole;
        self
    }

    /// Opens the receiving end at once, whether or not there are writers.
    ///
    /// # Errors
    ///
    /// - [`NotFound`](OpenErrorKind::NotFound) (`ENOENT`): there is no FIFO, or a directory on the
    ///   way is missing.
    /// - [`WrongType`](OpenErrorKind::WrongType): the path names something else, or is a symbolic
    ///   link.
    /// - [`ForeignOwner`](OpenErrorKind::ForeignOwner): the FIFO belongs to another user who is not
    ///   root.
    /// - [`PermissionDenied`](OpenErrorKind::PermissionDenied) (`EACCES`): the FIFO's mode, or that
    ///   of a directory, does not allow it.
    /// - [`InvalidName`](OpenErrorKind::InvalidName) and
    ///   [`InvalidOption`](OpenErrorKind::InvalidOption): no FIFO can have this path or mode.
    /// - [`Replaced`](OpenErrorKind::Replaced): other processes kept replacing the file at the
    ///   path.
    /// - [`NoRuntime`](OpenErrorKind::NoRuntime): there is no Tokio runtime.
    /// - [`LimitReached`](OpenErrorKind::LimitReached) (`EMFILE`, …), and
    ///   [`Other`](OpenErrorKind::Other) with another errno, such as `EROFS`.
    pub fn open_receiver(&self, path: impl AsRef<Path>) -> Result<Receiver, OpenError> {
        let path = path.as_ref();
        require_runtime(path)?;
        let access = match self.persistent {
            true => Access::ReadWrite,
            false => Access::Read,
        };
        for _ in 0..MAX_RACES {
            let Some(located) = Located::find(&self.wanted, path)? else {
                continue;
            };
            let mut sole = None;
            if self.sole_reader {
                sole = Sole::take(&located, path)?;
            }
            if let Some(fd) = located.open(access)?
                && located.state()? == PathState::Current
                && (sole.is_some() || !self.sole_reader)
            {
                let watch = self.watch_name.map(NameWatch::new);
                return Receiver::new(located.name, fd, self.persistent, watch)
                    .map(|it| it.holding(sole))
                    .map_err(|e| unregistered(path, e));
            }
        }
        Err(unstable(path))
    }

    /// Opens the sending end now, or fails if there is no reader.
    ///
    /// With [`ReaderGone::Keep`] no reader is needed: the first one reads bytes that were written
    /// before, if this sender still has the FIFO open.
    ///
    /// # Errors
    ///
    /// [`Refused`](OpenErrorKind::Refused) (`ENXIO`, see fifo(7)): there is no reader. Otherwise as
    /// for [`open_receiver`](Self::open_receiver).
    pub fn try_open_sender(&self, path: impl AsRef<Path>) -> Result<Sender, OpenError> {
        let path = path.as_ref();
        require_runtime(path)?;
        let access = match self.on_reader_gone {
            ReaderGone::Fail | ReaderGone::Wait => Access::Write,
            ReaderGone::Keep => Access::ReadWrite,
        };
        for _ in 0..MAX_RACES {
            let Some(located) = Located::find(&self.wanted, path)? else {
                continue;
            };
            let opened = located.open(access)?;
            if located.state()? != PathState::Current {
                continue;
            }
            let Some(fd) = opened else {
                let cause = "it has no reader";
                return Err(failed(path, OpenErrorKind::Refused, cause)
                    .with_cure("start the receiver, or wait for one")
                    .with_source(io::Error::from_raw_os_error(libc::ENXIO)));
            };
            return self.sender(located.name, fd);
        }
        Err(unstable(path))
    }

    /// Opens the sending end as soon as there is a reader.
    ///
    /// Waiting uses no thread and next to no CPU time. An inotify watch reports a reader that opens
    /// the FIFO. At most ten attempts per second find a reader that itself waits in a blocking
    /// open(2), which causes no event. If another FIFO takes the place meanwhile, it is checked and
    /// waited for instead. If the path is missing for longer than 1 second, the FIFO is created
    /// again with `create`, otherwise [`NotFound`](OpenErrorKind::NotFound) is returned.
    ///
    /// # Errors
    ///
    /// [`TimedOut`](OpenErrorKind::TimedOut) after the limit of [`wait`](Self::wait). Otherwise as
    /// for [`open_receiver`](Self::open_receiver).
    ///
    /// # Cancel safety
    ///
    /// Cancel safe. Dropping the future ends the wait at once and leaves nothing open. A FIFO that
    /// it created stays, unless `unlink_on_drop` is set.
    pub async fn open_sender(&self, path: impl AsRef<Path>) -> Result<Sender, OpenError> {
        let path = path.as_ref();
        require_runtime(path)?;
        let wait = Wait::new(self.wait);
        let mut races = 0;
        loop {
            if let Some(located) = Located::find(&self.wanted, path)? {
                races = 0;
                if let Some(sender) = self.wait_for_reader(located, &wait).await? {
                    return Ok(sender);
                }
            } else {
                races += 1;
                if races == MAX_RACES {
                    return Err(unstable(path));
                }
            }
        }
    }

    /// Waits until the FIFO has a reader. `None`: it is no longer at its path.
    async fn wait_for_reader(
        &self,
        located: Located,
        wait: &Wait,
    ) -> Result<Option<Sender>, OpenError> {
        let path = located.name.path();
        // Only if there is none yet: releasing a watch takes the kernel milliseconds.
        let mut watch = None;
        let mut tick = FIRST_TICK;
        let mut vanished = None;
        loop {
            match located.state()? {
                PathState::Current => {
                    vanished = None;
                    if let Some(fd) = self.open_with_reader(&located)?
                        && located.state()? == PathState::Current
                    {
                        return self.sender(located.name, fd).map(Some);
                    }
                }
                PathState::Replaced => {
                    tracing::debug!(target: TARGET, ?path, "replaced while waiting for a reader");
                    // Never in a tight loop with a program that keeps replacing it.
                    wait.pause(&Watch::none(), FIRST_TICK, path).await?;
                    return Ok(None);
                }
                PathState::Missing => {
                    if vanished.get_or_insert_with(Instant::now).elapsed() >= VANISH_GRACE {
                        return Ok(None);
                    }
                }
            }
            let Some(watch) = &watch else {
                tracing::debug!(target: TARGET, ?path, "waiting for a reader");
                watch = Some(watch_for_reader(&located));
                // Tried again at once: a reader that came before the watch caused no event.
                continue;
            };
            wait.pause(watch, tick, path).await?;
            tick = (tick * 2).min(LAST_TICK);
        }
    }

    /// Opens it for sending if there is a reader now.
    fn open_with_reader(&self, located: &Located) -> Result<Option<OwnedFd>, OpenError> {
        let opened = located.open(Access::Write)?;
        match self.on_reader_gone {
            ReaderGone::Fail | ReaderGone::Wait => Ok(opened),
            // The first one stays open meanwhile, so that the reader sees no end of stream.
            ReaderGone::Keep => match opened {
                Some(_first) => located.open(Access::ReadWrite),
                None => Ok(None),
            },
        }
    }

    fn sender(&self, name: Name, fd: OwnedFd) -> Result<Sender, OpenError> {
        let path = name.path().to_owned();
        let watch = self.watch_name.map(NameWatch::new);
        let opened = match self.on_reader_gone {
            ReaderGone::Fail => Sender::new(name, fd),
            ReaderGone::Keep => Sender::new(name, fd).map(|it| it.watching(watch)),
            ReaderGone::Wait => {
                let returning = Returning::new(self.wait, watch);
                let again = self.again(path.clone());
                Sender::new(name, fd).map(|it| it.waiting(returning, again))
            }
        };
        opened.map_err(|e| unregistered(&path, e))
    }

    /// Opens the FIFO that takes the place of a lost one.
    fn again(&self, path: PathBuf) -> Again {
        // Resolved when it was opened, whatever the working directory is later.
        let path = std::path::absolute(&path).unwrap_or(path);
        let options = self.clone();
        Box::new(move || {
            let (options, path) = (options.clone(), path.clone());
            Box::pin(async move {
                settled(&path).await;
                options.open_sender(&path).await
            }) as Pin<Box<dyn Future<Output = _> + Send>>
        })
    }
}

impl Receiver {
    /// Opens an existing FIFO with the settings of [`OpenOptions::new`].
    ///
    /// # Errors
    ///
    /// See [`OpenOptions::open_receiver`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self, OpenError> {
        OpenOptions::new().open_receiver(path)
    }
}

impl Sender {
    /// Opens an existing FIFO as soon as it has a reader.
    ///
    /// It uses the settings of [`OpenOptions::new`].
    ///
    /// # Errors
    ///
    /// See [`OpenOptions::open_sender`].
    ///
    /// # Cancel safety
    ///
    /// See [`OpenOptions::open_sender`].
    pub async fn open(path: impl AsRef<Path>) -> Result<Self, OpenError> {
        OpenOptions::new().open_sender(path).await
    }
}

/// Waits until there is something at `path`, or long enough to know that nobody is about to create
/// it: a program that replaces a FIFO removes it a moment before it creates the new one.
pub(super) async fn settled(path: &Path) {
    let since = Instant::now();
    let mut tick = FIRST_TICK;
    while path.symlink_metadata().is_err() && since.elapsed() < VANISH_GRACE {
        sleep(tick).await;
        tick = (tick * 2).min(LAST_TICK);
    }
}

/// How long a sender has waited for its reader, and its limit.
struct Wait {
    since: Instant,
    limit: Option<Duration>,
}

impl Wait {
    fn new(limit: Option<Duration>) -> Self {
        let since = Instant::now();
        Self { since, limit }
    }

    /// Waits for an event, for `tick`, or until the time is up, which is an error.
    async fn pause(&self, watch: &Watch, tick: Duration, path: &Path) -> Result<(), OpenError> {
        let waited = self.since.elapsed();
        let left = self.limit.map(|it| it.saturating_sub(waited));
        if left.is_some_and(|it| it.is_zero()) {
            // The caller knows the limit; the exact time is of no use.
            let limit = self.limit.unwrap_or(waited);
            return Err(OpenError::timed_out(
                "open fifo",
                shown(path),
                "reader",
                limit,
            ));
        }
        let tick = left.map_or(tick, |it| it.min(tick));
        watch.changed_within(tick).await;
        Ok(())
    }
}

fn watch_for_reader(located: &Located) -> Watch {
    let events = AddWatchFlags::IN_OPEN
        | AddWatchFlags::IN_ATTRIB
        | AddWatchFlags::IN_DELETE_SELF
        | AddWatchFlags::IN_MOVE_SELF;
    Watch::on(located.as_fd(), located.name.path(), events)
}

fn require_runtime(path: &Path) -> Result<(), OpenError> {
    match Handle::try_current() {
        Ok(_) => Ok(()),
        Err(e) => Err(unregistered(path, io::Error::other(e))),
    }
}

fn unregistered(path: &Path, source: io::Error) -> OpenError {
    let cause = format!("it cannot be registered with Tokio ({source})");
    failed(path, OpenErrorKind::NoRuntime, cause)
        .with_cure("call this inside a runtime with its I/O driver enabled")
        .with_source(source)
}

fn unstable(path: &Path) -> OpenError {
    let cause = format!("it was replaced {MAX_RACES} times while it was being opened");
    failed(path, OpenErrorKind::Replaced, cause).with_cure("find out which program replaces it")
}
