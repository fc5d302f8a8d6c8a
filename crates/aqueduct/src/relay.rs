//! Relays: move messages from one end to another, over any mechanisms.
//!
//! A [`Relay`] takes a message from a [`MessageReceiver`] only when the [`MessageSender`] has room
//! for it, so backpressure reaches the original sender. It holds no more than the buffers of the
//! two ends: one read and one write of a byte stream (64 KiB each, or one larger message), one
//! message of a queue or packet socket, and at most 8 messages from a queue to a byte stream.
//! Boundaries are kept, and priorities from queue to queue.
//!
//! # What is lost, and when
//!
//! - **Stopped**, it delivers everything that it has taken, as [`MessageReceiver::stop`] defines
//!   it. So a restart between FIFOs, queues and Unix sockets loses nothing. Neither does one over
//!   TCP if both sides heed each other's end of stream, as those of this crate do with
//!   [`Options::reconnect`](crate::connect::Options::reconnect).
//! - **Killed**, it loses the messages in hand, from a queue at most 8, and unread messages in its
//!   sockets. With a [`Spool`] it loses at most the one message that it has received and not yet
//!   written, and unread messages in its sockets.
//! - Nothing arrives twice, except after a kill with a spool or with receipts.
//! - A message that has a [`Receipt`](crate::connect::Receipt) is settled when a flush of the sending end
//!   has succeeded. Until then it is not lost with the relay: its transport delivers it again, and it
//!   may arrive twice. From one JetStream stream to another it arrives once, because it keeps its id.
//!
//! # Examples
//!
//! Lines from a FIFO go to a server, which may restart:
//!
//! ```
//! use aqueduct::Endpoint;
//! use aqueduct::connect::{Options, Reconnect};
//! use aqueduct::frame::Framing;
//! use aqueduct::relay::Relay;
//! use aqueduct::service;
//! # use futures_util::StreamExt;
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let dir = tempfile::tempdir()?;
//! # let from: Endpoint = format!("fifo:{}/lines", dir.path().display()).parse()?;
//! # let to: Endpoint = format!("unix:{}/collector", dir.path().display()).parse()?;
//! # let _ = r#"
//! let from: Endpoint = "fifo:/run/app/lines".parse()?;
//! let to: Endpoint = "unix:/run/app/collector".parse()?;
//! # "#;
//! let mut options = Options::new();
//! options.framing(Framing::lines()).reconnect(Reconnect::new());
//! # let mut collector = options.open_receiver(&to).await?;
//! let incoming = options.open_receiver(&from).await?;
//! # let path = from.path().ok_or("no path")?.to_owned();
//! # let echo = tokio::task::spawn_blocking(move || std::fs::write(path, "hello\n"));
//! let outgoing = options.open_sender(&to).await?;
//! let stop = service::shutdown_on_signal()?;
//! # let relay = tokio::spawn(async move {
//! Relay::new(incoming, outgoing).run(stop).await?; // until the last writer closes the FIFO
//! # Ok::<_, aqueduct::relay::Error>(()) });
//! # assert_eq!(collector.next().await.transpose()?.ok_or("end")?.body(), "hello");
//! # drop(collector);
//! # echo.await??;
//! # relay.await??;
//! # Ok(()) }
//! ```

mod spool;

use std::fmt;
use std::future::{pending, poll_fn};
use std::io;
use std::pin::Pin;
use std::task::{self, Poll, ready};
use std::time::Duration;

use futures_core::Stream;
use futures_sink::Sink;
use sync_wrapper::SyncWrapper;
use thiserror::Error;
use tokio::task::coop;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::connect::{Message, MessageReceiver, MessageSender, Warnings};
use crate::frame::FrameError;
use crate::io::timer::{sleep_until, timeout};

pub use self::spool::Spool;

/// How long a relay that is told to stop has to deliver what it has taken: 10 s. Senders get at
/// most half of it to finish.
const GRACE: Duration = Duration::from_secs(10);

/// How many messages of a queue are taken before they are flushed. Untaken, they would outlive this
/// process.
const MOST_GATHERED: usize = 8;

/// Moves messages from a [`MessageReceiver`] to a [`MessageSender`]; see the [module](self).
///
/// # Examples
///
/// ```
/// use aqueduct::Endpoint;
/// use aqueduct::connect::{Options, Reconnect};
/// use aqueduct::relay::Relay;
/// use aqueduct::service::CancellationToken;
/// use futures_util::{SinkExt, StreamExt};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = tempfile::tempdir()?;
/// # let from: Endpoint = format!("fifo:{}/from", dir.path().display()).parse()?;
/// # let to: Endpoint = format!("unix:{}/to", dir.path().display()).parse()?;
/// let mut options = Options::new();
/// options.reconnect(Reconnect::new());
/// let mut receiver = options.open_receiver(&to).await?;
/// let incoming = options.open_receiver(&from).await?;
/// let outgoing = options.open_sender(&to).await?;
/// let stop = CancellationToken::new();
/// let relay = tokio::spawn(Relay::new(incoming, outgoing).run(stop));
///
/// let mut sender = options.open_sender(&from).await?;
/// sender.send("hello".into()).await?;
/// sender.close().await?;
/// assert_eq!(receiver.next().await.transpose()?, Some("hello".into()));
/// # drop(receiver);
/// relay.await??;
/// # Ok(()) }
/// ```
#[must_use = "it does nothing until it is run"]
pub struct Relay<'a> {
    incoming: MessageReceiver,
    outgoing: MessageSender,
    grace: Duration,
    idle: Option<Duration>,
    tap: Option<Tap<'a>>,
    spool: Option<Spool>,
}

type Tap<'a> = SyncWrapper<Box<dyn FnMut(&Message) -> io::Result<()> + Send + 'a>>;

/// An error of a relay.
///
/// Messages that it had taken before were delivered, unless the variant says otherwise.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use aqueduct::connect::Connection;
/// use aqueduct::relay::{Error, Relay};
/// use aqueduct::service::CancellationToken;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// let (silent, incoming) = Connection::pair();
/// let (outgoing, _sink) = Connection::pair();
/// let relay = Relay::new(incoming.into_receiver(), outgoing.into_sender());
/// let relay = relay.idle(Duration::from_millis(10));
/// assert!(matches!(relay.run(CancellationToken::new()).await, Err(Error::Idle(_))));
/// # drop(silent);
/// # }
/// ```
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// Nothing more can be received.
    #[error("receiving failed")]
    Receive(#[source] io::Error),
    /// A message was taken that cannot be sent, as too large. It is lost, unless it has a
    /// [`Receipt`](crate::connect::Receipt): then it is given back.
    ///
    /// With a receipt it ends the relay. Otherwise a `tracing` warning says so, the relay goes on, and
    /// this is its result at the end: one message of any sender must not stop all others.
    #[error("cannot send a message of {len} bytes; it is lost")]
    Refused {
        /// Its size in bytes, or that of the first one if there were several.
        len: usize,
        /// The cause.
        source: io::Error,
    },
    /// Nothing more can be sent. Messages taken and not sent are lost.
    #[error("sending failed")]
    Send(#[source] io::Error),
    /// The [tap](Relay::tap) has failed. Everything that was taken was delivered.
    #[error("recording failed; {untapped} messages were delivered unrecorded")]
    Tap {
        /// How many messages were delivered without passing the tap.
        untapped: u64,
        /// The cause.
        source: io::Error,
    },
    /// No message arrived or left for this long.
    #[error("no message arrived or left for {0:?}")]
    Idle(Duration),
    /// Everything was relayed, but connections broke.
    ///
    /// Messages that their peers had not read are lost.
    #[error("{connections} connections broke; messages that their peers had not read are lost")]
    Broken {
        /// How many.
        connections: u64,
    },
    /// After the stop, not everything that was taken could be sent in time.
    #[error("stopped before everything that was taken could be sent; messages are lost")]
    GivenUp,
}

/// The next event.
enum Event {
    /// A message, which an earlier relay has left in the spool or which is taken now.
    Message {
        message: Message,
        left: bool,
    },
    Broken(io::Error),
    End,
    Failed(io::Error),
    /// The spool cannot be emptied.
    Unspooled(io::Error),
    Stop,
    Late,
    Idle(Duration),
}

impl<'a> Relay<'a> {
    /// Creates a relay with the default limits.
    pub fn new(incoming: MessageReceiver, outgoing: MessageSender) -> Self {
        Self {
            incoming,
            outgoing,
            grace: GRACE,
            idle: None,
            tap: None,
            spool: None,
        }
    }

    /// Sets how long delivery may take after the relay is stopped (10 s by default).
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// Sets how long it goes without a message before it gives up.
    ///
    /// `None`, the default, never gives up.
    pub fn idle(mut self, limit: impl Into<Option<Duration>>) -> Self {
        self.idle = limit.into();
        self
    }

    /// Passes each message to `tap` before it is sent, to count or record it.
    ///
    /// If the tap fails, the relay takes nothing more and ends with [`Error::Tap`]. Delivery comes
    /// first: the current message, and those that were taken with it, are still sent, and the error
    /// counts them.
    pub fn tap(mut self, tap: impl FnMut(&Message) -> io::Result<()> + Send + 'a) -> Self {
        self.tap = Some(SyncWrapper::new(Box::new(tap)));
        self
    }

    /// Keeps each message in a file from before it is sent until it is delivered.
    ///
    /// So a killed relay loses at most the message that it has received and not yet written. If the
    /// file cannot be written, the relay ends as if the [tap](Self::tap) had failed.
    pub fn spool(mut self, spool: Spool) -> Self {
        self.spool = Some(spool);
        self
    }

    /// Relays until the incoming end is over or `stop` is cancelled.
    ///
    /// Then it closes the outgoing end.
    ///
    /// # Errors
    ///
    /// See [`enum@Error`].
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe: dropping it loses the messages in hand that have no
    /// [`Receipt`](crate::connect::Receipt). Cancel `stop` instead.
    pub async fn run(self, stop: CancellationToken) -> Result<(), Error> {
        let Self {
            mut incoming,
            mut outgoing,
            grace,
            idle,
            mut tap,
            mut spool,
        } = self;
        let mut failure = None;
        let mut stopped: Option<Instant> = None;
        let most = match incoming.is_stored() {
            true if spool.is_none() => MOST_GATHERED,
            _ => usize::MAX,
        };
        // The first message that was refused, while the relay goes on.
        let mut refused = None;
        let mut warnings = Warnings::default();
        // How many may still be in the sender's buffer.
        let mut gathered = 0;
        // Ready for one more: nothing is taken that has no room.
        let mut ready = false;
        // It waits for nothing but the senders.
        let mut silent = false;
        // The time of the senders is over, but not everything is delivered.
        let mut overtime = false;
        loop {
            let stopping = stopped.is_some();
            let step = poll_fn(|cx| {
                silent = false;
                // Once it is told to stop it takes nothing more.
                let full = spool.as_ref().is_some_and(Spool::is_full);
                if (gathered >= most || full) && !stopping {
                    match poll_flushed(&mut outgoing, &mut spool, cx) {
                        Poll::Ready(Ok(())) => gathered = 0,
                        Poll::Ready(Err(event)) => return Poll::Ready(event),
                        Poll::Pending => return Poll::Pending,
                    }
                }
                if !ready {
                    match Pin::new(&mut outgoing).poll_ready(cx) {
                        Poll::Ready(Ok(())) => ready = true,
                        Poll::Ready(Err(error)) => return Poll::Ready(Event::Failed(error)),
                        Poll::Pending => return Poll::Pending,
                    }
                }
                if let Some(message) = spool.as_mut().and_then(Spool::next_left) {
                    let left = true;
                    return Poll::Ready(Event::Message { message, left });
                }
                if let Poll::Ready(item) = Pin::new(&mut incoming).poll_next(cx) {
                    return Poll::Ready(item.map_or(Event::End, |item| match item {
                        Ok(message) => Event::Message {
                            message,
                            left: false,
                        },
                        Err(error) => Event::Broken(error),
                    }));
                }
                // Without budget it is only the turn of other tasks, and there may be more.
                silent = coop::has_budget_remaining();
                if silent && overtime {
                    return Poll::Ready(Event::Late);
                }
                // Nothing is available at once: flush, and look after the peer.
                match poll_flushed(&mut outgoing, &mut spool, cx) {
                    Poll::Ready(Ok(())) => gathered = 0,
                    Poll::Ready(Err(event)) => return Poll::Ready(event),
                    Poll::Pending => {}
                }
                Poll::Pending
            });
            let late = async {
                let limit = if overtime { grace } else { grace / 2 };
                match stopped.and_then(|since| since.checked_add(limit)) {
                    Some(at) => sleep_until(at).await,
                    None => pending().await,
                }
            };
            let too_long = async {
                match idle.and_then(|limit| Some((limit, Instant::now().checked_add(limit)?))) {
                    Some((limit, at)) => {
                        sleep_until(at).await;
                        limit
                    }
                    None => pending().await,
                }
            };
            let event = tokio::select! {
                biased;
                () = stop.cancelled(), if stopped.is_none() => Event::Stop,
                event = step => event,
                () = late => Event::Late,
                limit = too_long, if stopped.is_none() => Event::Idle(limit),
            };
            match event {
                Event::Stop => {
                    stopped = Some(Instant::now());
                    incoming.stop();
                }
                Event::Message { mut message, left } => {
                    match &mut failure {
                        _ if left => {}
                        // It was taken, and is delivered.
                        Some(Error::Tap { untapped, .. }) => *untapped += 1,
                        _ => {
                            if let Err(source) = kept(&mut message, &mut tap, &mut spool) {
                                let untapped = 1;
                                failure = Some(Error::Tap { untapped, source });
                                stopped.get_or_insert_with(Instant::now);
                                incoming.stop();
                            }
                        }
                    }
                    ready = false;
                    gathered += 1;
                    let len = message.body().len();
                    let again = message.has_receipt();
                    if let Err(source) = Pin::new(&mut outgoing).start_send(message) {
                        let error = Error::Refused { len, source };
                        match &error {
                            Error::Refused { source, .. } if !again && is_refusal(source) => {
                                warn(&mut warnings, len, source);
                                refused.get_or_insert(error);
                            }
                            _ => failure = Some(error),
                        }
                    }
                    // What else is in the spool is not lost with a message that is refused.
                    let left = spool.as_ref().is_some_and(Spool::has_left);
                    if matches!(failure, Some(Error::Refused { .. })) && !left {
                        break;
                    }
                }
                Event::Broken(error) => {
                    failure = Some(Error::Receive(error));
                    break;
                }
                Event::End => break,
                Event::Unspooled(source) => {
                    let untapped = 0;
                    failure.get_or_insert(Error::Tap { untapped, source });
                    stopped.get_or_insert_with(Instant::now);
                    incoming.stop();
                    spool = None;
                }
                Event::Failed(error) => return Err(Error::Send(error)),
                // What was taken is delivered for as long as there is time.
                Event::Late if !silent && !overtime => overtime = true,
                Event::Late if !silent => return Err(Error::GivenUp),
                Event::Late => {
                    let bytes = incoming.unfinished();
                    tracing::warn!(
                        target: "aqueduct::relay", bytes,
                        "stopped before the senders have ended: messages that they still send are lost"
                    );
                    break;
                }
                Event::Idle(limit) => {
                    failure = Some(Error::Idle(limit));
                    break;
                }
            }
        }
        // Before anything else: a FIFO is kept open by each process that holds it.
        drop(incoming);
        let closing = poll_fn(|cx| Pin::new(&mut outgoing).poll_close(cx));
        tokio::pin!(closing);
        let closed = match stopped {
            Some(since) => timeout(grace.saturating_sub(since.elapsed()), closing).await,
            None => tokio::select! {
                biased;
                closed = &mut closing => Ok(closed),
                () = stop.cancelled() => timeout(grace, closing).await,
            },
        };
        let closed = match closed {
            // The system has all of it, and the peer does not end its side.
            Err(_) if is_flushed(&mut outgoing) => {
                tracing::warn!(
                    target: "aqueduct::relay",
                    "everything was sent, but the peer did not confirm reading it"
                );
                Ok(Ok(()))
            }
            closed => closed,
        };
        if let (None, Ok(Ok(()))) = (&failure, &closed)
            && let Err(source) = clear(&mut spool)
        {
            let untapped = 0;
            failure = Some(Error::Tap { untapped, source });
        }
        match (failure, closed) {
            (_, Err(_)) => Err(Error::GivenUp),
            (Some(failure), _) => Err(failure),
            (None, Ok(Err(error))) => Err(Error::Send(error)),
            (None, Ok(Ok(()))) => match (refused, outgoing.broken_connections()) {
                (Some(refused), _) => Err(refused),
                (None, 0) => Ok(()),
                (None, connections) => Err(Error::Broken { connections }),
            },
        }
    }
}

/// Whether an error of `start_send` is about that message alone.
fn is_refusal(error: &io::Error) -> bool {
    FrameError::of(error).is_some() || error.raw_os_error() == Some(libc::EMSGSIZE)
}

fn warn(warnings: &mut Warnings, len: usize, error: &io::Error) {
    match warnings.next() {
        Some(left_out) => tracing::warn!(
            target: "aqueduct::relay", len, left_out,
            "a message cannot be sent and is lost: {error}"
        ),
        None => tracing::debug!(
            target: "aqueduct::relay", len,
            "a message cannot be sent and is lost: {error}"
        ),
    }
}

/// Whether the system has everything that was sent.
fn is_flushed(outgoing: &mut MessageSender) -> bool {
    let mut cx = task::Context::from_waker(task::Waker::noop());
    matches!(Pin::new(outgoing).poll_flush(&mut cx), Poll::Ready(Ok(())))
}

/// Passes a message to the tap, and keeps it in the spool.
fn kept(
    message: &mut Message,
    tap: &mut Option<Tap<'_>>,
    spool: &mut Option<Spool>,
) -> io::Result<()> {
    if let Some(spool) = spool {
        spool.keep(message)?;
    }
    match tap {
        Some(tap) => tap.get_mut()(message),
        None => Ok(()),
    }
}

/// Flushes the sending end, after which nothing in the spool is needed.
fn poll_flushed(
    outgoing: &mut MessageSender,
    spool: &mut Option<Spool>,
    cx: &mut task::Context<'_>,
) -> Poll<Result<(), Event>> {
    match ready!(Pin::new(outgoing).poll_flush(cx)) {
        Ok(()) => Poll::Ready(clear(spool).map_err(Event::Unspooled)),
        Err(error) => Poll::Ready(Err(Event::Failed(error))),
    }
}

/// Everything is delivered.
fn clear(spool: &mut Option<Spool>) -> io::Result<()> {
    spool.as_mut().map_or(Ok(()), Spool::clear)
}

impl fmt::Debug for Relay<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Relay")
            .field("incoming", &self.incoming)
            .field("outgoing", &self.outgoing)
            .finish_non_exhaustive()
    }
}
