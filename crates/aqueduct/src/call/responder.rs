use std::any::type_name;
use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::future::{Future, pending};
use std::pin::Pin;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::{AbortHandle, Aborted, abortable};
use futures_util::stream::FuturesUnordered;
use sync_wrapper::SyncWrapper;

use super::error::Error;
use super::wire::{self, Body, Ends, Failure, Frame, Hello};
use crate::channel::{self, Permit, Receiver, Sender};
use crate::codec::Codec;
use crate::connect::Connection;
use crate::frame::FrameError;
use crate::io::timer::{Elapsed, timeout};

/// How many requests are handled at a time, unless set otherwise.
const CONCURRENCY: u32 = 64;

/// How long a responder that stops waits for its caller to close.
const LINGER: Duration = Duration::from_secs(1);

/// Answers the requests of a [`Caller`](super::Caller) over one connection.
///
/// The [module](super) documents the promises.
///
/// # Examples
///
/// ```
/// use aqueduct::call::{Caller, Responder};
/// use aqueduct::codec::Json;
/// use aqueduct::connect::Connection;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (here, there) = Connection::pair();
/// let server = Responder::new(there, Json).concurrency(8);
/// tokio::spawn(server.run(|(a, b): (i64, i64)| async move { a + b }));
///
/// let adder: Caller<(i64, i64), i64> = Caller::new(here, Json)?;
/// assert_eq!(adder.call((1, 2)).await?, 3);
/// # Ok(()) }
/// ```
#[must_use = "it does nothing until it is run"]
pub struct Responder<Q, R> {
    ends: Result<Ends<R, Q>, Error>,
    concurrency: u32,
    until: SyncWrapper<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl<Q, R> Responder<Q, R> {
    /// Creates a responder over `connection`.
    pub fn new<C>(connection: Connection, codec: C) -> Self
    where
        C: Codec<R> + Codec<Q> + Clone + 'static,
    {
        Self {
            ends: wire::open::<R, Q, C>(connection, codec).ok_or(Error::Framing),
            concurrency: CONCURRENCY,
            until: SyncWrapper::new(Box::pin(pending())),
        }
    }

    /// Sets how many requests are handled at a time.
    ///
    /// At least 1; the default is 64. The caller learns the number and holds back further requests.
    /// If it does not, the responder stops reading from it until it has taken its answers.
    pub fn concurrency(mut self, requests: u32) -> Self {
        self.concurrency = requests.max(1);
        self
    }

    /// Stops the responder when `signal` completes.
    ///
    /// Requests in hand are finished and answered, new ones are refused with [`Error::Stopping`],
    /// and the connection is closed.
    pub fn until(mut self, signal: impl Future<Output = ()> + Send + 'static) -> Self {
        self.until = SyncWrapper::new(Box::pin(signal));
        self
    }

    /// Answers each request with the result of `handler`.
    ///
    /// It runs until the caller closes the connection.
    ///
    /// Handlers run concurrently, in the task that polls this future. To run them in parallel, or
    /// to survive their panics, spawn tasks in the handler. A handler is dropped when its caller no
    /// longer waits: at the time limit of the call, when the call is dropped, or when the
    /// connection has ended.
    ///
    /// # Errors
    ///
    /// - [`Error::Ended`] if the connection failed.
    /// - [`Error::NotSpoken`], [`Error::Version`] or [`Error::Codec`] if the peer does not speak
    ///   the same format.
    /// - [`Error::Framing`] if the framing cannot carry any byte.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the connection and drops the requests in hand.
    pub async fn run<F, Fut>(self, handler: F) -> Result<(), Error>
    where
        F: Fn(Q) -> Fut,
        Fut: Future<Output = R>,
    {
        let (mut sender, mut receiver) = self.ends?;
        let codec = receiver.codec_name();
        let hello = Frame::Hello(Hello::new(self.concurrency, codec));
        sender.send(hello).await.map_err(ended)?;
        let until = self.until.into_inner();
        let desk = Desk::new(self.concurrency, codec);
        let done = desk.run(&mut sender, &mut receiver, until, handler).await;
        let stopped = match done {
            Ok(Over::Closed) => return Ok(()),
            Err(error @ Error::Ended { .. }) => return Err(error),
            Ok(Over::Stopped) => Ok(()),
            Err(error) => Err(error),
        };
        let closed = sender.close().await.map_err(ended);
        // A socket that is closed with unread input discards data still on its way to the peer.
        let discard = async { while let Some(Ok(_)) = receiver.recv().await {} };
        let _ = timeout(LINGER, discard).await;
        stopped.and(closed)
    }
}

/// How a conversation ended.
enum Over {
    /// The caller closed it.
    Closed,
    /// The responder was told to stop, and has answered everything.
    Stopped,
}

fn ended(error: channel::Error) -> Error {
    Error::io(error.into())
}

/// Waits for room for one `more`, or until everything is flushed.
async fn advance<T>(
    sender: &mut Sender<T>,
    more: bool,
) -> Result<Option<Permit<'_, T>>, channel::Error> {
    if more {
        return Ok(Some(sender.reserve().await?));
    }
    sender.flush().await?;
    Ok(None)
}

/// A request to be handled.
struct Task<Q> {
    id: u64,
    limit: Option<Duration>,
    request: Q,
}

/// The state of a responder's requests.
struct Desk<R> {
    /// The requests in hand.
    open: HashMap<u64, AbortHandle>,
    /// Answers to be sent, with the id of their request.
    out: VecDeque<(u64, Frame<R>)>,
    greeted: bool,
    stopping: bool,
    concurrency: usize,
    codec: &'static str,
}

impl<R> Desk<R> {
    fn new(concurrency: u32, codec: &'static str) -> Self {
        Self {
            open: HashMap::new(),
            out: VecDeque::new(),
            greeted: false,
            stopping: false,
            concurrency: usize::try_from(concurrency).unwrap_or(usize::MAX),
            codec,
        }
    }

    /// Converses until one side ends it.
    async fn run<Q, F, Fut>(
        mut self,
        sender: &mut Sender<Frame<R>>,
        receiver: &mut Receiver<Frame<Body<Q>>>,
        mut until: Pin<Box<dyn Future<Output = ()> + Send>>,
        handler: F,
    ) -> Result<Over, Error>
    where
        F: Fn(Q) -> Fut,
        Fut: Future<Output = R>,
    {
        let mut running = FuturesUnordered::new();
        let handler = &handler;
        // Whether something waits for a flush.
        let mut unflushed = false;
        while !(self.stopping && self.is_idle() && !unflushed) {
            let more = !self.out.is_empty();
            // In this order, so that ready answers are sent together.
            tokio::select! {
                biased;
                () = &mut until, if !self.stopping => self.stopping = true,
                Some((id, outcome)) = running.next() => self.done(id, outcome),
                // A caller that heeds the limit is always heard. Another one is not read further
                // before it has taken its answers: they would fill the memory.
                frame = receiver.recv(), if self.unanswered() <= self.concurrency => {
                    let Some(frame) = frame else {
                        return Ok(Over::Closed);
                    };
                    if let Some(Task { id, limit, request }) = self.take(frame.map_err(ended)?)? {
                        let handling = async move {
                            match limit {
                                Some(limit) => timeout(limit, handler(request)).await,
                                None => Ok(handler(request).await),
                            }
                        };
                        let (handling, abort) = abortable(handling);
                        self.open.insert(id, abort);
                        running.push(async move { (id, handling.await) });
                    }
                }
                written = advance(sender, more), if more || unflushed => {
                    let permit = written.map_err(ended)?;
                    unflushed = permit.is_some();
                    if let Some(permit) = permit
                        && let Some((id, frame)) = self.out.pop_front()
                        && let Err(error) = permit.send(frame)
                    {
                        self.unsendable(id, error)?;
                    }
                }
            }
        }
        Ok(Over::Stopped)
    }

    /// How many requests are in hand, or have an answer that was not sent yet.
    fn unanswered(&self) -> usize {
        self.open.len() + self.out.len()
    }

    fn is_idle(&self) -> bool {
        self.unanswered() == 0
    }

    fn fail(&mut self, id: u64, code: u8, text: impl Into<String>) {
        let failure = Failure::new(code, text);
        self.out.push_back((id, Frame::Failure { id, failure }));
    }

    /// Takes a message from the caller; returns a request that is to be handled.
    fn take<Q>(&mut self, frame: Frame<Body<Q>>) -> Result<Option<Task<Q>>, Error> {
        match frame {
            Frame::Hello(hello) if !self.greeted => {
                Error::check(&hello, self.codec)?;
                self.greeted = true;
            }
            Frame::Request { id, limit, body } if self.greeted && !self.open.contains_key(&id) => {
                let limit = (limit > 0).then(|| Duration::from_millis(limit.into()));
                match body {
                    _ if self.stopping => self.fail(id, Failure::STOPPING, ""),
                    _ if self.unanswered() >= self.concurrency => {
                        self.fail(id, Failure::TOO_MANY, "too many requests at a time");
                    }
                    Ok(request) => return Ok(Some(Task { id, limit, request })),
                    Err(error) => self.fail(id, Failure::UNDECODABLE, error.to_string()),
                }
            }
            Frame::Cancel { id } if self.greeted => {
                // Nothing is left to do for an answered request.
                if let Some(abort) = self.open.get(&id) {
                    abort.abort();
                }
            }
            Frame::Unknown(got) => return Err(Error::not_spoken(&got, false)),
            other => return Err(Error::not_spoken(other.name().as_bytes(), false)),
        }
        Ok(None)
    }

    /// A handler has ended.
    fn done(&mut self, id: u64, outcome: Result<Result<R, Elapsed>, Aborted>) {
        self.open.remove(&id);
        match outcome {
            Ok(Ok(body)) => self.out.push_back((id, Frame::Reply { id, body })),
            Ok(Err(Elapsed)) => self.fail(id, Failure::LATE, ""),
            Err(Aborted) => self.fail(id, Failure::CANCELLED, "the call was dropped"),
        }
    }

    /// An answer that cannot be sent ends its call, or the connection.
    fn unsendable(&mut self, id: u64, error: channel::Error) -> Result<(), Error> {
        let text = match &error {
            channel::Error::Encode { source, .. } => format!("{error}: {source}"),
            channel::Error::Io(refused) if FrameError::of(refused).is_some() => refused.to_string(),
            _ => return Err(Error::io(error.into())),
        };
        self.fail(id, Failure::UNSENDABLE, text);
        Ok(())
    }
}

impl<Q, R> fmt::Debug for Responder<Q, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Responder")
            .field("request", &type_name::<Q>())
            .field("reply", &type_name::<R>())
            .field("concurrency", &self.concurrency)
            .finish_non_exhaustive()
    }
}
