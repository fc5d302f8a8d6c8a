use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker, ready};
use std::time::Duration;

use bytes::Bytes;
use futures_util::task::AtomicWaker;
use tokio::time::{Instant, Sleep, sleep};

use super::unread::Unread;
use super::{Error, Event, Options};
use crate::frame::{BoxFrameSink, BoxFrameStream};

pub(super) type Ends = (BoxFrameSink, BoxFrameStream);
pub(super) type Attempt = Pin<Box<dyn Future<Output = io::Result<Ends>> + Send>>;
pub(super) type Connector = Box<dyn FnMut() -> Attempt + Send>;

/// What the two halves share: the connection, or the way to the next one.
///
/// | state | what ends it | next |
/// |---|---|---|
/// | `Idle` | a poll of either half | `Connecting` |
/// | `Connecting` | success | `Up` |
/// | | failure | `Pausing`, or `Over` if it gives up |
/// | `Pausing` | its time | `Idle` |
/// | `Up` | an error, or the end of the stream | `Pausing`, or `Over` if it gives up or is closed |
/// | `Over` | | |
pub(super) struct Shared {
    options: Options,
    connector: Connector,
    state: State,
    /// What both halves are woken by, while there is no connection.
    waker: Waker,
    unread: Unread,
    /// Failures in a row.
    failed: u32,
    /// When the first of them began.
    trying_since: Option<Instant>,
    /// Counts the connections, so that readiness of one is not taken for that of another.
    generation: u64,
    /// The connection that has room for a frame.
    ready: Option<u64>,
    /// A frame that was let in just when its connection broke.
    kept: Option<Bytes>,
    /// A loss that the user of the sink has not been told yet.
    report: Option<Error>,
    /// The sink was closed: no new frames, and no connection but for the one that is kept.
    closing: bool,
}

enum State {
    Idle,
    Connecting {
        attempt: Attempt,
        limit: Pin<Box<Sleep>>,
    },
    Pausing(Pin<Box<Sleep>>),
    Up(Connection),
    Over(Error),
}

struct Connection {
    sink: BoxFrameSink,
    stream: BoxFrameStream,
    since: Instant,
    received: bool,
    flushed: u64,
    unflushed: u64,
    sink_closed: bool,
}

/// The tasks that use the two halves.
#[derive(Debug, Default)]
pub(super) struct Wakers {
    pub(super) sink: AtomicWaker,
    pub(super) stream: AtomicWaker,
}

impl Wake for Wakers {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.sink.wake();
        self.stream.wake();
    }
}

impl Shared {
    pub(super) fn new(options: Options, connector: Connector, wakers: Arc<Wakers>) -> Self {
        Self {
            options,
            connector,
            state: State::Idle,
            waker: Waker::from(wakers),
            unread: Unread::default(),
            failed: 0,
            trying_since: None,
            generation: 0,
            ready: None,
            kept: None,
            report: None,
            closing: false,
        }
    }

    pub(super) fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.closing {
            return Poll::Ready(Err(Error::Closed.into()));
        }
        loop {
            self.take_report()?;
            ready!(self.poll_give_kept(cx))?;
            let connection = ready!(self.poll_up())?;
            let result = ready!(connection.sink.as_mut().poll_ready(cx));
            match result {
                Ok(()) => {
                    self.ready = Some(self.generation);
                    return Poll::Ready(Ok(()));
                }
                Err(error) => self.lose(error, true),
            }
        }
    }

    pub(super) fn start_send(&mut self, frame: Bytes) -> io::Result<()> {
        if self.closing {
            return Err(Error::Closed.into());
        }
        let has_room = self.ready.take() == Some(self.generation);
        match &mut self.state {
            State::Over(error) => Err(error.clone().into()),
            State::Up(_) if has_room => self.give(frame),
            _ if self.kept.is_some() => Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "start_send without room: wait for poll_ready before each frame",
            )),
            _ => {
                self.kept = Some(frame);
                Ok(())
            }
        }
    }

    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            self.take_report()?;
            ready!(self.poll_give_kept(cx))?;
            let State::Up(connection) = &mut self.state else {
                return Poll::Ready(Ok(()));
            };
            if connection.unflushed == 0 {
                return Poll::Ready(Ok(()));
            }
            let result = ready!(connection.sink.as_mut().poll_flush(cx));
            match result {
                Ok(()) => {
                    connection.all_flushed();
                    return Poll::Ready(Ok(()));
                }
                Err(error) => self.lose(error, true),
            }
        }
    }

    pub(super) fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.closing = true;
        loop {
            self.take_report()?;
            ready!(self.poll_give_kept(cx))?;
            let State::Up(connection) = &mut self.state else {
                if !matches!(self.state, State::Over(_)) {
                    self.end(Error::Closed);
                }
                return Poll::Ready(Ok(()));
            };
            if connection.sink_closed {
                return Poll::Ready(Ok(()));
            }
            let result = ready!(connection.sink.as_mut().poll_close(cx));
            match result {
                Ok(()) => {
                    connection.all_flushed();
                    connection.sink_closed = true;
                    return Poll::Ready(Ok(()));
                }
                Err(error) => self.lose(error, true),
            }
        }
    }

    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        if let Some(frame) = ready!(self.unread.poll_next(cx)) {
            return Poll::Ready(Some(Ok(frame)));
        }
        loop {
            let connection = match ready!(self.poll_up()) {
                Ok(connection) => connection,
                Err(Error::Closed) => return Poll::Ready(None),
                Err(error) => return Poll::Ready(Some(Err(error.into()))),
            };
            let error = match ready!(connection.stream.as_mut().poll_next(cx)) {
                Some(Ok(frame)) => {
                    connection.received = true;
                    return Poll::Ready(Some(Ok(frame)));
                }
                Some(Err(error)) => Some(error),
                None => None,
            };
            if connection.sink_closed {
                // This end was closed and the peer has had it all: what comes now is its end.
                self.end(Error::Closed);
                return Poll::Ready(error.map(Err));
            }
            self.lose(error.unwrap_or_else(ended_by_peer), false);
        }
    }

    /// The stream is dropped: nobody will take what is received.
    pub(super) fn refuse_frames(&mut self) {
        self.unread.refuse();
    }

    /// Drives towards a connection. Both halves are woken when there is something to do.
    fn poll_up(&mut self) -> Poll<Result<&mut Connection, Error>> {
        loop {
            let mut cx = Context::from_waker(&self.waker);
            match &mut self.state {
                State::Up(_) => break,
                State::Over(error) => return Poll::Ready(Err(error.clone())),
                State::Idle => {
                    self.trying_since.get_or_insert_with(Instant::now);
                    self.state = State::Connecting {
                        attempt: (self.connector)(),
                        limit: Box::pin(sleep(self.options.attempt_timeout)),
                    };
                }
                State::Connecting { attempt, limit } => {
                    let result = match attempt.as_mut().poll(&mut cx) {
                        Poll::Ready(result) => result,
                        Poll::Pending => {
                            ready!(limit.as_mut().poll(&mut cx));
                            Err(timed_out(self.options.attempt_timeout))
                        }
                    };
                    match result {
                        Ok(ends) => self.up(ends),
                        Err(error) => {
                            let retry = (self.options.retry_if)(&error);
                            self.fail(Arc::new(error), retry);
                        }
                    }
                }
                State::Pausing(pause) => {
                    ready!(pause.as_mut().poll(&mut cx));
                    self.state = State::Idle;
                }
            }
        }
        match &mut self.state {
            State::Up(connection) => Poll::Ready(Ok(connection)),
            // Not reached: the loop ends with a connection.
            _ => Poll::Pending,
        }
    }

    fn up(&mut self, (sink, stream): Ends) {
        self.generation += 1;
        self.state = State::Up(Connection {
            sink,
            stream,
            since: Instant::now(),
            received: false,
            flushed: 0,
            unflushed: 0,
            sink_closed: false,
        });
        self.tell(Event::Connected {
            failed: self.failed,
        });
        self.waker.wake_by_ref();
    }

    /// Counts a failure, and pauses or gives up.
    fn fail(&mut self, error: Arc<io::Error>, retry: bool) {
        self.failed = self.failed.saturating_add(1);
        let elapsed = self.trying_since.map_or(Duration::ZERO, |at| at.elapsed());
        let left = self
            .options
            .give_up_after
            .map(|limit| limit.saturating_sub(elapsed));
        let enough = self.options.attempts.is_some_and(|max| self.failed >= max)
            || left.is_some_and(|left| left.is_zero());
        if enough || !retry {
            let error = Error::GaveUp {
                attempts: self.failed,
                elapsed,
                source: error,
            };
            self.tell(Event::GaveUp(error.clone()));
            self.end(error);
            return;
        }
        let pause = self.options.pause(self.failed);
        let pause = left.map_or(pause, |left| pause.min(left));
        self.tell(Event::Retrying {
            error,
            failed: self.failed,
            pause,
        });
        self.pause(pause);
    }

    /// The connection is of no more use, but for what its stream may have received before.
    fn lose(&mut self, error: io::Error, found_by_sink: bool) {
        let State::Up(connection) = std::mem::replace(&mut self.state, State::Idle) else {
            return;
        };
        let error = Arc::new(error);
        let unflushed = connection.unflushed;
        if unflushed > 0 {
            self.report = Some(Error::Unflushed {
                frames: unflushed,
                source: Arc::clone(&error),
            });
        }
        self.tell(Event::Lost {
            error: Arc::clone(&error),
            flushed: connection.flushed,
            unflushed,
        });
        let proved =
            connection.received || connection.since.elapsed() >= self.options.longest_pause;
        if found_by_sink && !self.unread.keep(connection.stream) {
            self.tell(Event::Unread);
        }
        if self.closing && self.kept.is_none() {
            self.end(Error::Closed);
        } else if proved {
            self.failed = 0;
            self.trying_since = None;
            self.pause(self.options.pause(0));
        } else {
            self.fail(error, true);
        }
    }

    fn pause(&mut self, pause: Duration) {
        self.state = State::Pausing(Box::pin(sleep(pause)));
        self.waker.wake_by_ref();
    }

    fn end(&mut self, error: Error) {
        self.state = State::Over(error);
        self.waker.wake_by_ref();
    }

    /// Gives the frame that was kept to the connection, if there is one.
    fn poll_give_kept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.kept.is_some() {
            let connection = ready!(self.poll_up())?;
            let result = ready!(connection.sink.as_mut().poll_ready(cx));
            match result {
                Ok(()) => {
                    if let Some(frame) = self.kept.take() {
                        self.give(frame)?;
                    }
                }
                Err(error) => {
                    self.lose(error, true);
                    self.take_report()?;
                }
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Gives a frame to the connection, which has room for it.
    fn give(&mut self, frame: Bytes) -> io::Result<()> {
        let State::Up(connection) = &mut self.state else {
            return Ok(());
        };
        match connection.sink.as_mut().start_send(frame) {
            Ok(()) => {
                connection.unflushed += 1;
                Ok(())
            }
            // Refused, as too large for one: nothing of it was sent and the connection goes on.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => Err(error),
            Err(error) => {
                // It may have been taken.
                connection.unflushed += 1;
                self.lose(error, true);
                self.take_report()
            }
        }
    }

    /// Tells the user of the sink what it has lost, once.
    fn take_report(&mut self) -> io::Result<()> {
        self.report.take().map_or(Ok(()), |error| Err(error.into()))
    }

    fn tell(&mut self, event: Event) {
        event.trace();
        if let Some(on_event) = &mut self.options.on_event {
            on_event(&event);
        }
    }
}

impl Connection {
    fn all_flushed(&mut self) {
        self.flushed += self.unflushed;
        self.unflushed = 0;
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let state = match &self.state {
            State::Idle => "idle",
            State::Connecting { .. } => "connecting",
            State::Pausing(_) => "pausing",
            State::Up(_) => "up",
            State::Over(_) => "over",
        };
        f.debug_struct("Shared")
            .field("state", &state)
            .field("failed", &self.failed)
            .field("connections", &self.generation)
            .field("closing", &self.closing)
            .finish_non_exhaustive()
    }
}

fn ended_by_peer() -> io::Error {
    io::Error::new(
        io::ErrorKind::UnexpectedEof,
        "the peer ended the connection",
    )
}

fn timed_out(after: Duration) -> io::Error {
    io::Error::new(
        io::ErrorKind::TimedOut,
        format!("no connection within {after:?}"),
    )
}
