//! [`SocketWatch`]: notices that a path no longer leads to a bound socket; [`Watched`]: what follows.

use std::fs::{OpenOptions, symlink_metadata};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::PathBuf;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use crate::connect::{OpenError, OpenErrorKind};
use crate::io::watch::{NameWatch, Watch};

/// Watches whether a path still leads to the file of a bound socket.
pub(crate) struct SocketWatch {
    path: PathBuf,
    /// Device and inode of the socket's file.
    made: (u64, u64),
    watch: NameWatch,
}

impl SocketWatch {
    pub(super) fn new(path: PathBuf, made: (u64, u64), every: Duration) -> Self {
        Self {
            path,
            made,
            watch: NameWatch::new(every),
        }
    }

    /// Waits until the path leads to something else or nothing.
    pub(super) fn poll_lost(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Self { path, made, watch } = self;
        let start = || {
            let mut options = OpenOptions::new();
            options.read(true);
            options.custom_flags(libc::O_PATH | libc::O_NOFOLLOW);
            match options.open(&*path) {
                Ok(file)
                    if file
                        .metadata()
                        .is_ok_and(|it| (it.dev(), it.ino()) == *made) =>
                {
                    Watch::on(file.as_fd(), path, NameWatch::EVENTS)
                }
                _ => Watch::none(),
            }
        };
        let is_lost = || {
            let now = symlink_metadata(&*path).ok();
            Ok(now.map(|it| (it.dev(), it.ino())) != Some(*made))
        };
        watch.poll_lost(cx, start, is_lost).map(|_| ())
    }
}

/// A bound path that is watched, and what follows when it no longer leads to the socket.
pub(crate) struct Watched {
    /// The action and the address, for errors and logs.
    action: &'static str,
    address: String,
    every: Duration,
    /// Whether the path is bound again.
    lasts: bool,
    state: State,
}

enum State {
    /// The watch is not set up yet.
    New,
    Watching(Box<SocketWatch>),
    /// The path is lost. What has reached the socket before is taken first.
    Lost,
    /// It has no path to watch, or failed before.
    Idle,
}

impl Watched {
    pub(crate) fn new(action: &'static str, address: &str, every: Duration, lasts: bool) -> Self {
        Self {
            action,
            address: address.to_owned(),
            every,
            lasts,
            state: State::New,
        }
    }

    /// Waits until the path no longer leads to the socket, which `watch` sets up a watch for.
    pub(crate) fn poll_lost(
        &mut self,
        cx: &mut Context<'_>,
        watch: impl FnOnce(Duration) -> Option<SocketWatch>,
    ) -> Poll<()> {
        if let State::New = self.state {
            self.state = match watch(self.every) {
                Some(watch) => State::Watching(Box::new(watch)),
                None => State::Idle,
            };
        }
        match &mut self.state {
            State::Watching(watch) => ready!(watch.poll_lost(cx)),
            State::Lost => {}
            State::New | State::Idle => return Poll::Pending,
        }
        self.state = State::Lost;
        Poll::Ready(())
    }

    /// Binds the path again with `bind`, or returns the error with which the socket ends. The old
    /// socket's lock must be released before.
    pub(crate) fn bind_again<T>(
        &mut self,
        bind: impl FnOnce() -> Result<T, OpenError>,
    ) -> Result<T, OpenError> {
        self.state = State::Idle;
        if !self.lasts {
            let cause = "its path was removed or leads to another socket";
            let kind = OpenErrorKind::Replaced;
            let error = OpenError::new(self.action, &self.address, kind, cause);
            return Err(error.with_cure("bind it again"));
        }
        tracing::warn!(address = %self.address, "the path was removed or replaced: binding it again");
        let bound = bind()?;
        self.state = State::New;
        Ok(bound)
    }
}
