use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use nix::poll::PollFlags;
use tokio::io::{AsyncRead, Interest, ReadBuf};
use tokio::time::Instant;
use tracing::Span;

use crate::frame::{FramedRead, Framing, Pace};
use crate::io::fd;
use crate::io::source::{Direction, Source};
use crate::io::sys;
use crate::io::timer::{Sleep, sleep_until};
use crate::pipe;

/// The target of `tracing` events.
pub(super) const TARGET: &str = "aqueduct::child";

/// How long a stream from a child may go on after the child has exited, unless set otherwise.
const DEFAULT_GRACE: Duration = Duration::from_secs(1);

/// How a stream from a child ended.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use aqueduct::child::{Command, StreamEnd};
/// use tokio::io::AsyncReadExt;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> std::io::Result<()> {
/// let mut command = Command::new("sh");
/// command.args(["-c", "echo done; sleep 2 &"]).pipe_from_child(1);
/// let mut output = command.spawn()?.take_receiver(1)?;
/// output.set_grace(Duration::from_millis(10));
/// output.read_to_string(&mut String::new()).await?;
/// assert_eq!(output.end(), Some(StreamEnd::Abandoned)); // `sleep` still holds the pipe.
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StreamEnd {
    /// Every process that had it open has closed it, and every byte was read.
    Eof,
    /// The child has exited, the grace has passed, and the stream is still open.
    ///
    /// Another process holds it open, usually one that the child left behind. Every byte that the
    /// child itself wrote was read.
    Abandoned,
}

/// The reading end of a pipe from a child.
///
/// The end of stream comes when every writer has closed the pipe, *or* when the child has exited,
/// every byte that it had written was read, and the grace has passed. [`end`](Self::end) says
/// which. So a process that the child left behind, and that holds the pipe open, can neither hang
/// the reader nor keep it busy for ever. Bytes that the child itself wrote are never cut off,
/// however slowly they are read.
///
/// The grace begins when this reader is polled and finds that the child has exited. It is 1 s
/// unless [`set_grace`](Self::set_grace) changes it.
///
/// # Cancel safety
///
/// As for [`pipe::Receiver`]: a dropped future has read nothing, except those of `read_exact` and
/// similar methods.
///
/// # Examples
///
/// ```
/// use aqueduct::child::{Command, StreamEnd};
/// use tokio::io::AsyncReadExt;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> std::io::Result<()> {
/// let mut command = Command::new("echo");
/// command.arg("hello").pipe_from_child(1);
/// let mut child = command.spawn()?;
/// let mut output = child.take_receiver(1)?;
/// let mut text = String::new();
/// output.read_to_string(&mut text).await?;
/// assert_eq!((text.as_str(), output.end()), ("hello\n", Some(StreamEnd::Eof)));
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Receiver {
    pipe: pipe::Receiver,
    grace: Option<Duration>,
    state: State,
    end: Arc<OnceLock<StreamEnd>>,
    /// The span of the child.
    span: Span,
}

/// ```text
/// Running ── exit seen ──> Draining ── end of stream ──> (`end` is set)
///    └───── end of stream ────────┴── grace passed and all the child wrote is read ──┘
/// ```
#[derive(Debug)]
enum State {
    Running {
        exit: Exit,
        reads: u32,
    },
    Draining {
        /// How many bytes may still be the child's own: the contents of the pipe when it was seen
        /// to have exited.
        owed: usize,
        exited: Instant,
        timer: Option<Pin<Box<Sleep>>>,
    },
}

/// After this many reads without a pause the exit is checked: a pipe that is never empty must not
/// hide it.
const READS_PER_LOOK: u32 = 32;

impl Receiver {
    pub(super) fn new(
        pipe: pipe::Receiver,
        exit: Exit,
        end: Arc<OnceLock<StreamEnd>>,
        span: Span,
    ) -> Self {
        Self {
            pipe,
            grace: Some(DEFAULT_GRACE),
            state: State::Running { exit, reads: 0 },
            end,
            span,
        }
    }

    /// Sets how long the stream may go on after the child has exited.
    ///
    /// `None` is no limit: use it if the child leaves a process behind that is meant to go on
    /// writing.
    pub fn set_grace(&mut self, grace: impl Into<Option<Duration>>) {
        self.grace = grace.into();
        if let State::Draining { timer, .. } = &mut self.state {
            *timer = None;
        }
    }

    /// Returns how the stream ended; `None` while it has not been read to its end.
    ///
    /// After [`Abandoned`](StreamEnd::Abandoned) this value still holds the pipe open. When it is
    /// dropped, the process left behind gets `SIGPIPE` or `EPIPE` at its next write.
    #[must_use]
    pub fn end(&self) -> Option<StreamEnd> {
        self.end.get().copied()
    }

    /// Splits the stream into frames, as [`pipe::Receiver::framed`] does.
    pub fn framed(self, framing: Framing) -> FramedRead<Self> {
        FramedRead::new(self, framing).with_pace(Pace::pipe())
    }

    /// Checks whether the child has exited; leaves a waker if it has not.
    fn look_for_exit(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if self.grace.is_none() {
            return Ok(());
        }
        if let State::Running { exit, .. } = &mut self.state
            && exit.poll(cx)?.is_ready()
        {
            self.state = State::Draining {
                owed: sys::unread(&self.pipe)?,
                exited: Instant::now(),
                timer: None,
            };
        }
        Ok(())
    }

    /// Counts a read that is about to be tried, and checks for the exit from time to time. Before
    /// the read, since an error must not replace bytes that were read.
    fn note_try(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if let State::Running { reads, .. } = &mut self.state {
            *reads = reads.wrapping_add(1);
            if *reads % READS_PER_LOOK == 0 {
                self.look_for_exit(cx)?;
            }
        }
        Ok(())
    }

    /// Notes that `n` bytes were read.
    fn note_read(&mut self, n: usize) {
        if let State::Draining { owed, .. } = &mut self.state {
            *owed = owed.saturating_sub(n);
        }
    }

    /// Whether the bound has been reached.
    fn is_overdue(&self) -> bool {
        match (&self.state, self.grace) {
            (
                State::Draining {
                    owed: 0, exited, ..
                },
                Some(grace),
            ) => exited.elapsed() >= grace,
            _ => false,
        }
    }

    fn poll_grace(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let (State::Draining { exited, timer, .. }, Some(grace)) = (&mut self.state, self.grace)
        else {
            return Poll::Pending;
        };
        let timer = timer.get_or_insert_with(|| {
            // A grace beyond the range of the clock is practically unlimited.
            let far = Duration::from_secs(86400 * 365);
            let deadline = exited.checked_add(grace).unwrap_or(*exited + far);
            Box::pin(sleep_until(deadline))
        });
        timer.as_mut().poll(cx)
    }

    /// Ends the stream, unless something is still to come that must not be cut off: the child's own
    /// bytes, or the rest before the true end. Returns whether it did.
    fn abandon(&mut self) -> io::Result<bool> {
        if let State::Draining { owed, .. } = &mut self.state
            && *owed > 0
        {
            *owed = sys::unread(&self.pipe)?.min(*owed);
            if *owed > 0 {
                return Ok(false);
            }
        }
        let now = fd::poll_now(self.pipe.as_fd(), PollFlags::POLLIN)?;
        if now.contains(PollFlags::POLLHUP) {
            return Ok(false);
        }
        tracing::info!(
            target: TARGET,
            parent: &self.span,
            fd = self.pipe.as_raw_fd(),
            "the child has exited but another process holds its pipe open; reading no further"
        );
        self.set_end(StreamEnd::Abandoned);
        Ok(true)
    }

    fn set_end(&self, end: StreamEnd) {
        // The first end stays; there is no second.
        let _ = self.end.set(end);
    }
}

impl AsyncRead for Receiver {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.end().is_some() || buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        if this.is_overdue() && this.abandon()? {
            return Poll::Ready(Ok(()));
        }
        this.note_try(cx)?;
        let before = buf.filled().len();
        if let Poll::Ready(result) = Pin::new(&mut this.pipe).poll_read(cx, buf) {
            result?;
            match buf.filled().len() - before {
                0 => this.set_end(StreamEnd::Eof),
                n => this.note_read(n),
            }
            return Poll::Ready(Ok(()));
        }
        this.look_for_exit(cx)?;
        ready!(this.poll_grace(cx));
        if this.abandon()? {
            return Poll::Ready(Ok(()));
        }
        // Available bytes make the pipe ready, and wake us.
        Poll::Pending
    }
}

impl AsFd for Receiver {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pipe.as_fd()
    }
}

impl AsRawFd for Receiver {
    fn as_raw_fd(&self) -> RawFd {
        self.pipe.as_raw_fd()
    }
}

/// Reports when a process has exited, whoever waits for it and whether or not it was reaped.
#[derive(Debug)]
pub(super) struct Exit {
    /// `None`: it already has.
    pidfd: Option<Source>,
}

impl Exit {
    /// `process` must not have been reaped except through this handle, so that its number is still
    /// its own.
    pub(super) fn of(process: &tokio::process::Child) -> io::Result<Self> {
        let Some(pid) = process.id() else {
            return Ok(Self { pidfd: None });
        };
        // Readable from exit on, for good. Nothing is ever read from it, so it need not be
        // non-blocking (which Linux 5.3 could not do).
        let pidfd = Source::new(sys::pidfd_open(pid)?, Interest::READABLE)?;
        Ok(Self { pidfd: Some(pidfd) })
    }

    /// Ready when the process has exited. Only the last task that polled is woken.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(pidfd) = &self.pidfd else {
            return Poll::Ready(Ok(()));
        };
        let ready = pidfd.poll_ready(cx, Direction::Read);
        if let Poll::Ready(Ok(())) = ready {
            self.pidfd = None;
        }
        ready
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::task::coop::unconstrained;

    use super::*;

    /// The end of a pipe from a child that has exited, and the writing end, as a process that the
    /// child left behind would have it.
    async fn left_behind() -> (Receiver, pipe::Sender) {
        let mut child = tokio::process::Command::new("true").spawn().unwrap();
        let exit = Exit::of(&child).unwrap();
        child.wait().await.unwrap();
        let (tx, rx) = pipe::pipe().unwrap();
        (Receiver::new(rx, exit, Arc::default(), Span::none()), tx)
    }

    #[tokio::test]
    async fn a_pipe_that_is_never_empty_does_not_hide_the_exit() {
        let (mut receiver, mut tx) = left_behind().await;
        receiver.set_grace(Some(Duration::from_millis(20)));
        tx.write_all(&[1; 1000]).await.unwrap();
        receiver.pipe.readable().await.unwrap();
        let begun = Instant::now();
        let endless = async {
            while begun.elapsed() < Duration::from_secs(20) {
                tx.write_all(&[1; 16]).await.unwrap();
                if receiver.read(&mut [0; 16]).await.unwrap() == 0 {
                    break;
                }
            }
        };
        // Not even Tokio's budget gives a moment of "nothing to read".
        unconstrained(endless).await;
        assert_eq!(receiver.end(), Some(StreamEnd::Abandoned));
    }

    #[tokio::test]
    async fn a_true_end_is_preferred_and_what_comes_before_it_is_read() {
        let (mut receiver, mut tx) = left_behind().await;
        receiver.set_grace(Some(Duration::ZERO));
        tx.write_all(&[1; 32 * 16]).await.unwrap();
        receiver.pipe.readable().await.unwrap();
        // The exit is seen with the last of these reads, and nothing is owed any more.
        for _ in 0..READS_PER_LOOK {
            assert_eq!(receiver.read(&mut [0; 16]).await.unwrap(), 16);
        }
        assert!(receiver.is_overdue());
        tx.write_all(&[2; 100]).await.unwrap();
        drop(tx);
        let mut rest = Vec::new();
        receiver.read_to_end(&mut rest).await.unwrap();
        assert_eq!(rest.len(), 100);
        assert_eq!(receiver.end(), Some(StreamEnd::Eof));
    }

    /// The check for the exit used to come after every 32nd read, and its error replaced the bytes
    /// that were read.
    #[tokio::test]
    async fn no_byte_is_lost_to_an_error_of_the_look_for_the_exit() {
        // Its driver has gone: the check fails.
        let other = tokio::runtime::Builder::new_current_thread();
        let other = { other }.enable_all().build().unwrap();
        let exit = {
            let _guard = other.enter();
            let this_process = sys::pidfd_open(std::process::id()).unwrap();
            let pidfd = Some(Source::new(this_process, Interest::READABLE).unwrap());
            Exit { pidfd }
        };
        other.shutdown_background();
        let (mut tx, rx) = pipe::pipe().unwrap();
        let mut receiver = Receiver::new(rx, exit, Arc::default(), Span::none());
        let sent: Vec<u8> = (0..100).collect();
        tx.write_all(&sent).await.unwrap();
        receiver.pipe.readable().await.unwrap();
        let (mut came, mut errors) = (Vec::new(), 0);
        while came.len() < sent.len() && errors < 10 {
            match receiver.read_u8().await {
                Ok(byte) => came.push(byte),
                Err(_) => errors += 1,
            }
        }
        assert_eq!(came, sent);
        assert!(errors > 0, "there was one to be lost to");
    }

    #[test]
    fn the_grace_needs_no_timer_of_the_runtime() {
        let runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = { runtime }.enable_io().build().unwrap();
        runtime.block_on(async {
            let (mut receiver, _tx) = left_behind().await;
            receiver.set_grace(Some(Duration::from_millis(20)));
            assert_eq!(receiver.read(&mut [0; 16]).await.unwrap(), 0);
            assert_eq!(receiver.end(), Some(StreamEnd::Abandoned));
        });
    }

    #[tokio::test]
    async fn once_ended_it_stays_ended() {
        let (mut receiver, mut tx) = left_behind().await;
        receiver.set_grace(Some(Duration::ZERO));
        assert_eq!(receiver.read(&mut [0; 16]).await.unwrap(), 0);
        assert_eq!(receiver.end(), Some(StreamEnd::Abandoned));
        tx.write_all(b"late").await.unwrap();
        assert_eq!(receiver.read(&mut [0; 16]).await.unwrap(), 0);
    }
}
