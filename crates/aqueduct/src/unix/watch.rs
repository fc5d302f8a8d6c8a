//! [`SocketWatch`]: notices that a path no longer leads to a bound socket.

use std::fs::{OpenOptions, symlink_metadata};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::PathBuf;
use std::task::{Context, Poll};
use std::time::Duration;

use crate::io::watch::{NameWatch, Watch};

/// Watches whether a path still leads to the file of a bound socket.
pub(super) struct SocketWatch {
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
