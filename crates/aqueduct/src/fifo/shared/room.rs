//! [`Room`]: waits until a large frame fits into the pipe, so that one write takes all of it.

use std::fs;
use std::future::Future;
use std::io;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::sync::OnceLock;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use nix::fcntl::{FcntlArg, fcntl};

use crate::fifo::TARGET;
use crate::io::sys;
use crate::io::timer::{Sleep, sleep};

/// How soon the room is checked again, at first and while nobody reads. The kernel wakes a writer
/// as soon as one page is free, not when there is enough room.
const FIRST_CHECK: Duration = Duration::from_millis(1);
const LAST_CHECK: Duration = Duration::from_millis(100);

/// How often it is checked before that while only yielding to other tasks: an active reader makes
/// room in microseconds.
const YIELDS: u32 = 16;

/// How many frames of a size the pipe is enlarged for, so that not each of them has to wait.
const FRAMES: usize = 4;

/// The kernel counts the contents of a pipe in pages.
const PAGE: usize = 4096;

/// A writer's wait for room. It has the lock, so no other writer takes the room.
#[derive(Debug, Default)]
pub(super) struct Room {
    checks: u32,
    /// The number of unread bytes at the last check.
    unread: usize,
    pause: Option<Pin<Box<Sleep>>>,
    /// A pipe of this size was not possible.
    refused: Option<usize>,
}

impl Room {
    /// Waits until `len` bytes fit; returns whether they can at all.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        fd: impl AsFd,
        len: usize,
    ) -> Poll<io::Result<bool>> {
        loop {
            if let Some(pause) = &mut self.pause {
                ready!(pause.as_mut().poll(cx));
                self.pause = None;
            }
            let capacity = self.capacity_for(fd.as_fd(), len)?;
            if capacity < len {
                return Poll::Ready(Ok(false));
            }
            let unread = sys::unread(fd.as_fd())?;
            if free(capacity, unread) >= len {
                self.checks = 0;
                return Poll::Ready(Ok(true));
            }
            // As long as somebody reads, the pauses stay short.
            if unread < self.unread && self.checks > YIELDS {
                self.checks = YIELDS;
            }
            self.unread = unread;
            self.checks = self.checks.saturating_add(1);
            if self.checks <= YIELDS {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            let doubled = 2u32.saturating_pow(self.checks - YIELDS - 1);
            let wait = FIRST_CHECK.saturating_mul(doubled).min(LAST_CHECK);
            self.pause = Some(Box::pin(sleep(wait)));
        }
    }

    /// Whether the last poll had to wait.
    pub(super) fn is_waited_for(&self) -> bool {
        self.checks > 0
    }

    /// Returns the capacity of the pipe, enlarged if necessary.
    fn capacity_for(&mut self, fd: impl AsFd, len: usize) -> io::Result<usize> {
        let capacity = capacity(fd.as_fd())?;
        if capacity >= len || len > largest() || self.refused.is_some_and(|it| it <= len) {
            return Ok(capacity);
        }
        let amply = (len * FRAMES).min(largest());
        for wanted in [amply, len] {
            match set_capacity(fd.as_fd(), wanted) {
                Ok(capacity) => return Ok(capacity),
                Err(error) => {
                    tracing::debug!(target: TARGET, wanted, %error, "cannot enlarge the pipe");
                }
            }
        }
        self.refused = Some(len);
        Ok(capacity)
    }
}

/// How many bytes certainly fit into a pipe that holds `capacity` bytes, with `unread` in it.
///
/// A page that is not full is filled up only by a write that fits whole into the rest of it. So two
/// consecutive pages hold more than one page's bytes, and the first may be partly read.
fn free(capacity: usize, unread: usize) -> usize {
    if unread == 0 {
        return capacity;
    }
    let pages = unread.div_ceil(PAGE / 2) + 1;
    capacity.saturating_sub(pages * PAGE)
}

/// The largest pipe of a process without privileges; proc_sys_fs(5).
fn largest() -> usize {
    static LARGEST: OnceLock<usize> = OnceLock::new();
    *LARGEST.get_or_init(|| {
        let text = fs::read_to_string("/proc/sys/fs/pipe-max-size").unwrap_or_default();
        text.trim().parse().unwrap_or(1 << 20)
    })
}

fn capacity(fd: impl AsFd) -> io::Result<usize> {
    let bytes = fcntl(fd, FcntlArg::F_GETPIPE_SZ)?;
    Ok(usize::try_from(bytes).unwrap_or(0))
}

fn set_capacity(fd: impl AsFd, bytes: usize) -> io::Result<usize> {
    let bytes = i32::try_from(bytes).map_err(|_| io::ErrorKind::InvalidInput)?;
    let got = fcntl(fd, FcntlArg::F_SETPIPE_SZ(bytes))?;
    Ok(usize::try_from(got).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    /// Whatever is in a pipe, a write that is promised to fit is taken whole.
    #[test]
    fn a_write_that_fits_is_taken_whole() {
        let (mut reader, mut writer) = io::pipe().unwrap();
        crate::io::fd::set_nonblocking(&writer, true).unwrap();
        let mut unread = 0;
        let mut seed = 7_usize;
        for _ in 0..20_000 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let random = seed >> 33;
            let fits = free(capacity(&writer).unwrap(), unread);
            let size = match random % 3 {
                0 => fits,
                1 => (random / 3 % 5000).min(fits),
                _ => 0,
            };
            if size > 0 {
                assert_eq!(
                    writer.write(&vec![1; size]).unwrap(),
                    size,
                    "{unread} unread"
                );
                unread += size;
            }
            let take = (random / 5 % 9000).min(unread);
            reader.read_exact(&mut vec![0; take]).unwrap();
            unread -= take;
        }
    }
}
