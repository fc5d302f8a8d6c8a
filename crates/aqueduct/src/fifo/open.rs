use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use nix::sys::inotify::AddWatchFlags;
use tokio::runtime::Handle;
use tokio::time::Instant;

use super::error::Error;
use super::locate::Located;
use super::name::PathState;
use super::returning::Returning;
use super::watch::Watch;
use super::{Receiver, Sender};
use crate::io::fd::Access;

/// The mode of a FIFO that is made, and the widest that is taken without a warning, unless another
/// is asked for: its owner alone may open it.
pub const DEFAULT_MODE: u32 = 0o600;

/// How long a FIFO may be gone from its path, while a sender waits for a reader, before that is
/// taken for more than a program that removes it and makes it anew: 1 second.
pub const VANISH_GRACE: Duration = Duration::from_secs(1);

/// How soon a waiting sender tries again without an event, at first and after many tries.
///
/// It must try: a reader that itself waits in a blocking open(2) makes no event.
pub(super) const FIRST_TICK: Duration = Duration::from_millis(1);
pub(super) const LAST_TICK: Duration = Duration::from_millis(100);

/// How often something that was exchanged while it was being opened is looked up anew.
const MAX_RACES: u32 = 16;

/// What a sender does when the last reader has gone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReaderGone {
    /// A write fails with `EPIPE`.
    ///
    /// What was written and not read stays in the FIFO for as long as a writer has it open. When
    /// a reader has come again, it reads that first, and writing works again. If the reader that
    /// has gone died inside a frame, it begins in the middle of that frame, as with
    /// [`Keep`](Self::Keep).
    #[default]
    Fail,
    /// A write waits until a reader has come again, for as long as
    /// [`wait_timeout`](OpenOptions::wait_timeout) says: then it fails with
    /// [`TimedOut`](Error::TimedOut).
    ///
    /// What was written and not read stays in the FIFO meanwhile, as with [`Fail`](Self::Fail). So
    /// that it does not vanish with the last writer, shutting down (`poll_shutdown`, the `close` of
    /// a sink) waits likewise while there is no reader and anything is unread. Dropping the sender
    /// waits for nothing.
    Wait,
    /// Bytes are kept for the next reader: nothing fails, and once the FIFO is full a write waits.
    ///
    /// The sender opens the FIFO for reading too (`O_RDWR`, see fifo(7)), which has consequences:
    ///
    /// - It counts as a reader. No other sender is told that there is none, neither by `ENXIO`
    ///   when opening nor by `EPIPE`, for as long as this one lives.
    /// - It never learns that the reader has gone.
    /// - What nobody has read when the last process closes the FIFO is lost.
    /// - It needs permission to read the FIFO as well.
    ///
    /// A reader takes bytes, not frames. One that dies in the middle of a frame has taken the
    /// first part of it with it, and the next reader begins in the middle: with length framing it
    /// reads garbage for a length, with lines or NUL framing one frame without its beginning.
    Keep,
}

/// How to make and open a FIFO.
///
/// What is already at the path is taken only if it is a FIFO, not a symbolic link to one, and
/// belongs to this user or to root: anybody else could have put it there to listen in. (Root can
/// listen in anyway.) A wider mode than asked for is taken with a `tracing` warning, since a
/// plain `mkfifo` makes `0644`. Each check can be changed here.
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
    pub(super) create: bool,
    pub(super) create_new: bool,
    pub(super) mode: u32,
    pub(super) strict: bool,
    pub(super) allow_foreign_owner: bool,
    pub(super) allow_symlink: bool,
    pub(super) unlink_on_drop: bool,
    persistent: bool,
    on_reader_gone: ReaderGone,
    wait_timeout: Option<Duration>,
}

impl Default for OpenOptions {
    fn default() -> Self {
        Self::new()
    }
}

impl OpenOptions {
    /// Opens what is there, making nothing; mode [`DEFAULT_MODE`]; everything else off.
    pub const fn new() -> Self {
        Self {
            create: false,
            create_new: false,
            mode: DEFAULT_MODE,
            strict: false,
            allow_foreign_owner: false,
            allow_symlink: false,
            unlink_on_drop: false,
            persistent: false,
            on_reader_gone: ReaderGone::Fail,
            wait_timeout: None,
        }
    }

    /// Makes the FIFO if there is nothing at the path. Either side may: the later one finds it.
    pub fn create(&mut self, create: bool) -> &mut Self {
        self.create = create;
        self
    }

    /// Makes the FIFO, and fails if there is anything at the path. Goes before `create`.
    pub fn create_new(&mut self, create_new: bool) -> &mut Self {
        self.create_new = create_new;
        self
    }

    /// The permission bits of a FIFO that is made, exactly, whatever the umask; and the widest
    /// that an existing one may have without a warning (or, if `strict`, at all).
    ///
    /// The umask itself is left alone. Where it takes bits away the FIFO has a narrower mode for
    /// a moment; giving them back needs `/proc`.
    pub fn mode(&mut self, mode: u32) -> &mut Self {
        self.mode = mode;
        self
    }

    /// Refuses an existing FIFO with a wider mode than asked for, instead of warning.
    pub fn strict(&mut self, strict: bool) -> &mut Self {
        self.strict = strict;
        self
    }

    /// Takes a FIFO whoever it belongs to.
    pub fn allow_foreign_owner(&mut self, allow: bool) -> &mut Self {
        self.allow_foreign_owner = allow;
        self
    }

    /// Follows a symbolic link at the path. What it leads to is checked all the same; it is never
    /// created through a link.
    pub fn allow_symlink(&mut self, allow: bool) -> &mut Self {
        self.allow_symlink = allow;
        self
    }

    /// Removes the path when the end is dropped, if this very call made the FIFO and the path
    /// still names it (device and inode are compared).
    ///
    /// What was there before is never removed. Opening that fails or is dropped after making the
    /// FIFO removes it too.
    pub fn unlink_on_drop(&mut self, unlink: bool) -> &mut Self {
        self.unlink_on_drop = unlink;
        self
    }

    /// For a receiver: outlive the writers. The stream never ends; [`Receiver`] says more.
    pub fn persistent(&mut self, persistent: bool) -> &mut Self {
        self.persistent = persistent;
        self
    }

    /// For a sender: what to do when the last reader has gone. [`ReaderGone::Fail`] by default.
    pub fn on_reader_gone(&mut self, then: ReaderGone) -> &mut Self {
        self.on_reader_gone = then;
        self
    }

    /// For [`open_sender`](Self::open_sender): how long to wait for a reader. For ever by default.
    pub fn wait_timeout(&mut self, timeout: Option<Duration>) -> &mut Self {
        self.wait_timeout = timeout;
        self
    }

    /// Opens the receiving end at once, whether there are writers or not.
    ///
    /// # Errors
    ///
    /// Every [`Error`] except [`NoReader`](Error::NoReader) and [`TimedOut`](Error::TimedOut).
    pub fn open_receiver(&self, path: impl AsRef<Path>) -> Result<Receiver, Error> {
        let path = path.as_ref();
        require_runtime(path)?;
        let access = if self.persistent {
            Access::ReadWrite
        } else {
            Access::Read
        };
        for _ in 0..MAX_RACES {
            let Some(located) = Located::find(self, path)? else {
                continue;
            };
            if let Some(fd) = located.open(access)?
                && located.state()? == PathState::Current
            {
                return Receiver::new(located.name, fd, self.persistent);
            }
        }
        Err(unstable(path))
    }

    /// Opens the sending end now, or says that there is no reader.
    ///
    /// With [`ReaderGone::Keep`] no reader is needed: the first one finds what was written before,
    /// if this sender still has the FIFO open.
    ///
    /// # Errors
    ///
    /// [`NoReader`](Error::NoReader) (`ENXIO`, see fifo(7)); every other [`Error`] except
    /// [`TimedOut`](Error::TimedOut).
    pub fn try_open_sender(&self, path: impl AsRef<Path>) -> Result<Sender, Error> {
        let path = path.as_ref();
        require_runtime(path)?;
        let access = match self.on_reader_gone {
            ReaderGone::Fail | ReaderGone::Wait => Access::Write,
            ReaderGone::Keep => Access::ReadWrite,
        };
        for _ in 0..MAX_RACES {
            let Some(located) = Located::find(self, path)? else {
                continue;
            };
            let opened = located.open(access)?;
            if located.state()? != PathState::Current {
                continue;
            }
            let Some(fd) = opened else {
                return Err(Error::NoReader {
                    path: path.to_owned(),
                });
            };
            return Sender::new(located.name, fd, self.returning());
        }
        Err(unstable(path))
    }

    /// Opens the sending end as soon as there is a reader.
    ///
    /// It waits without a thread and next to no CPU time: an inotify watch tells of a reader that
    /// comes, and ten tries a second at most find one that itself waits in a blocking open(2), which
    /// makes no event. If the path comes to name another FIFO meanwhile, that is checked and
    /// waited for instead. If the path is gone for longer than [`VANISH_GRACE`], the FIFO is made
    /// again with `create`, and [`NotFound`](Error::NotFound) is returned without.
    ///
    /// It needs a runtime with Tokio's timer enabled.
    ///
    /// # Errors
    ///
    /// [`TimedOut`](Error::TimedOut) after `wait_timeout`; every other [`Error`] except
    /// [`NoReader`](Error::NoReader).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the wait at once and leaves nothing open. A FIFO that it made
    /// stays, unless `unlink_on_drop` was asked for.
    pub async fn open_sender(&self, path: impl AsRef<Path>) -> Result<Sender, Error> {
        let path = path.as_ref();
        require_runtime(path)?;
        let wait = Wait::new(self.wait_timeout);
        let mut races = 0;
        loop {
            if let Some(located) = Located::find(self, path)? {
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
    ) -> Result<Option<Sender>, Error> {
        let path = located.name.path();
        // Only where there is none yet: to let go of a watch takes the kernel milliseconds.
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
                        return Sender::new(located.name, fd, self.returning()).map(Some);
                    }
                }
                PathState::Replaced => {
                    tracing::debug!(target: super::TARGET, ?path, "replaced while waiting for a reader");
                    // Never in a tight loop with a program that exchanges it all the time.
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
                tracing::debug!(target: super::TARGET, ?path, "waiting for a reader");
                watch = Some(watch_for_reader(&located));
                // Once more at once: one that came before the watch made no event.
                continue;
            };
            wait.pause(watch, tick, path).await?;
            tick = (tick * 2).min(LAST_TICK);
        }
    }

    /// What a sender does about a reader that has gone, if it waits for another one.
    fn returning(&self) -> Option<Returning> {
        let waits = self.on_reader_gone == ReaderGone::Wait;
        waits.then(|| Returning::new(self.wait_timeout))
    }

    /// Opens it for sending if there is a reader now.
    fn open_with_reader(&self, located: &Located) -> Result<Option<OwnedFd>, Error> {
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
}

/// How long a sender has waited for its reader, and may.
struct Wait {
    since: Instant,
    timeout: Option<Duration>,
}

impl Wait {
    fn new(timeout: Option<Duration>) -> Self {
        Self {
            since: Instant::now(),
            timeout,
        }
    }

    /// Waits for an event, for `tick`, or until the time is up: then it is an error.
    async fn pause(&self, watch: &Watch, tick: Duration, path: &Path) -> Result<(), Error> {
        let left = self
            .timeout
            .map(|it| it.saturating_sub(self.since.elapsed()));
        if left.is_some_and(|it| it.is_zero()) {
            return Err(Error::TimedOut {
                path: path.to_owned(),
                waited: self.since.elapsed(),
            });
        }
        watch
            .changed_within(left.map_or(tick, |it| it.min(tick)))
            .await;
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

fn require_runtime(path: &Path) -> Result<(), Error> {
    match Handle::try_current() {
        Ok(_) => Ok(()),
        Err(e) => Err(Error::Register {
            path: path.to_owned(),
            source: io::Error::other(e),
        }),
    }
}

fn unstable(path: &Path) -> Error {
    Error::Unstable {
        path: path.to_owned(),
        times: MAX_RACES,
    }
}
