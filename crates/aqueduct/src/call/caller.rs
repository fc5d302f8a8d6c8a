use std::any::type_name;
use std::collections::HashMap;
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::error::Error;
use super::wire::{self, Body, Failure, Frame, Hello};
use crate::channel::{self, Receiver, SenderHandle};
use crate::codec::{BoxError, Codec};
use crate::connect::Connection;
use crate::frame::FrameError;
use crate::io::timer::timeout;

/// How long a call whose request cannot be sent waits to learn why the connection ended.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Sends requests over one connection and receives their replies in any order.
///
/// Clones share the connection, which is closed when the last one is dropped. The [module](super)
/// documents the promises.
///
/// # Examples
///
/// ```
/// use aqueduct::call::{Caller, Responder};
/// use aqueduct::codec::Text;
/// use aqueduct::connect::Connection;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (here, there) = Connection::pair();
/// tokio::spawn(Responder::new(there, Text).run(|text: String| async move { text.to_uppercase() }));
///
/// let shouter: Caller<String, String> = Caller::new(here, Text)?;
/// let clone = shouter.clone();
/// let other = tokio::spawn(async move { clone.call("from a task".into()).await });
/// assert_eq!(shouter.call("hello".into()).await?, "HELLO");
/// assert_eq!(other.await??, "FROM A TASK");
/// # Ok(()) }
/// ```
pub struct Caller<Q, R> {
    owner: Arc<Owner<Q, R>>,
    limit: Option<Duration>,
}

/// Ends the connection when the last caller is dropped.
struct Owner<Q, R> {
    shared: Arc<Shared<Q, R>>,
    task: AbortHandle,
}

impl<Q, R> Drop for Owner<Q, R> {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Shared<Q, R> {
    sender: SenderHandle<Frame<Q>>,
    open: Mutex<Open<R>>,
    /// How many more requests the responder accepts: none before its hello.
    slots: Arc<Semaphore>,
    cancels: Notify,
}

struct Open<R> {
    next: u64,
    calls: HashMap<u64, Call<R>>,
    /// Calls that were dropped, of which the responder must be told.
    cancelled: Vec<u64>,
    ended: Option<Error>,
}

struct Call<R> {
    /// `None` once nobody waits.
    reply: Option<oneshot::Sender<Result<R, Error>>>,
    /// The time limit.
    after: Option<Duration>,
    /// Held until the responder has answered, even if nobody waits.
    _slot: OwnedSemaphorePermit,
}

impl<Q, R> Caller<Q, R>
where
    Q: Send + 'static,
    R: Send + 'static,
{
    /// Creates a caller of the [`Responder`](super::Responder) at the other end of `connection`.
    ///
    /// A small task on the current Tokio runtime receives the replies.
    ///
    /// # Errors
    ///
    /// [`Error::Framing`] if the framing cannot carry any byte, as with lines. [`Error::NoRuntime`]
    /// without a runtime. Only the first call finds out whether the peer answers calls.
    pub fn new<C>(connection: Connection, codec: C) -> Result<Self, Error>
    where
        C: Codec<Q> + Codec<R> + Clone + 'static,
    {
        let runtime = Handle::try_current().map_err(|_| Error::NoRuntime)?;
        let (sender, receiver) = wire::open::<Q, R, C>(connection, codec).ok_or(Error::Framing)?;
        let shared = Arc::new(Shared {
            // Requests that are made at the same time are sent together.
            sender: sender.coalesced().shared(),
            open: Mutex::new(Open {
                next: 1,
                calls: HashMap::new(),
                cancelled: Vec::new(),
                ended: None,
            }),
            slots: Arc::new(Semaphore::new(0)),
            cancels: Notify::new(),
        });
        let task = runtime
            .spawn(run(Ending(Arc::clone(&shared)), receiver))
            .abort_handle();
        Ok(Self {
            owner: Arc::new(Owner { shared, task }),
            limit: None,
        })
    }

    /// Returns a caller with a time limit for each call.
    ///
    /// The limit covers the time from the call to the reply, with all waiting. Without one a call
    /// waits as long as the connection lives. It applies to this handle and its clones; the
    /// connection is shared.
    #[must_use]
    pub fn timeout(&self, limit: Duration) -> Self {
        Self {
            owner: Arc::clone(&self.owner),
            limit: Some(limit),
        }
    }

    /// Sends a request and waits for its reply.
    ///
    /// # Errors
    ///
    /// [`enum@Error`]. Most errors are of this call only. [`Error::Ended`] and a peer that does not
    /// speak the same format fail every further call too.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives up the call: the responder drops the request, unless it has
    /// already been handled. Other calls are not affected.
    pub async fn call(&self, request: Q) -> Result<R, Error> {
        match self.limit {
            None => self.owner.shared.call(request, None).await,
            Some(after) => {
                let call = self.owner.shared.call(request, Some(after));
                let done = timeout(after, call).await;
                done.unwrap_or(Err(Error::TimedOut { after }))
            }
        }
    }
}

impl<Q, R> Shared<Q, R> {
    fn open(&self) -> MutexGuard<'_, Open<R>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn call(&self, request: Q, after: Option<Duration>) -> Result<R, Error> {
        let begun = Instant::now();
        let slot = Arc::clone(&self.slots).acquire_owned().await;
        let slot = slot.map_err(|_| self.ended())?;
        let (reply, mut replied) = oneshot::channel();
        let id = {
            let mut open = self.open();
            if let Some(ended) = &open.ended {
                return Err(ended.clone());
            }
            let id = open.next;
            open.next += 1;
            let call = Call {
                reply: Some(reply),
                after,
                _slot: slot,
            };
            open.calls.insert(id, call);
            id
        };
        let mut waiting = Waiting {
            shared: self,
            id,
            sent: false,
        };
        let frame = Frame::Request {
            id,
            limit: after.map_or(0, |after| left(after, begun)),
            body: request,
        };
        let sent = async {
            let queued = self.sender.queue(frame).await?;
            waiting.sent = true;
            queued.flushed().await
        };
        let answer = tokio::select! {
            biased;
            sent = sent => match sent {
                Ok(()) => replied.await,
                Err(error) if is_refusal(&error) => return Err(Error::Request(Arc::new(error))),
                // The receiving direction knows the reason, if anything does.
                Err(error) => match timeout(LAST_WORDS, &mut replied).await {
                    Ok(answer) => answer,
                    Err(_) => return Err(Error::io(error.into())),
                },
            },
            // The connection has ended. There may never be room to send.
            answer = &mut replied => answer,
        };
        answer.unwrap_or_else(|_| Err(self.ended()))
    }

    /// Why there are no more calls.
    fn ended(&self) -> Error {
        let ended = self.open().ended.clone();
        ended.unwrap_or(Error::Ended { source: None })
    }

    fn end(&self, error: Error) {
        let (calls, error) = {
            let mut open = self.open();
            let error = open.ended.get_or_insert(error).clone();
            (std::mem::take(&mut open.calls), error)
        };
        self.slots.close();
        for reply in calls.into_values().filter_map(|call| call.reply) {
            let _ = reply.send(Err(error.clone()));
        }
    }

    fn answer(&self, id: u64, answer: Result<R, Failure>) {
        let call = self.open().calls.remove(&id);
        if let Some(call) = call
            && let Some(reply) = call.reply
        {
            let _ = reply.send(answer.map_err(|failure| Error::of(failure, call.after)));
        }
    }
}

/// The rest of a time limit, in milliseconds; 0 is no limit.
fn left(after: Duration, begun: Instant) -> u32 {
    let left = after.saturating_sub(begun.elapsed()).as_millis();
    u32::try_from(left.max(1)).unwrap_or(0)
}

/// Whether an error is of one request, and the connection goes on.
fn is_refusal(error: &channel::Error) -> bool {
    match error {
        channel::Error::Encode { .. } => true,
        channel::Error::Io(error) => FrameError::of(error).is_some(),
        _ => false,
    }
}

/// A call that is given up when it is dropped.
struct Waiting<'a, Q, R> {
    shared: &'a Shared<Q, R>,
    id: u64,
    /// The request is on its way.
    sent: bool,
}

impl<Q, R> Drop for Waiting<'_, Q, R> {
    fn drop(&mut self) {
        let mut open = self.shared.open();
        let Some(call) = open.calls.get_mut(&self.id) else {
            return;
        };
        if self.sent {
            call.reply = None;
            open.cancelled.push(self.id);
            drop(open);
            self.shared.cancels.notify_one();
        } else {
            let call = open.calls.remove(&self.id);
            drop(open);
            drop(call);
        }
    }
}

/// Ends the open calls with the task that receives replies, however that ends: with its runtime or
/// by a panic of the codec, too.
struct Ending<Q, R>(Arc<Shared<Q, R>>);

impl<Q, R> Drop for Ending<Q, R> {
    fn drop(&mut self) {
        let problem = "the task that receives replies has ended, with its runtime or by a panic";
        self.0.end(Error::io(io::Error::other(problem)));
    }
}

/// The task: receives replies, and reports calls that were dropped.
async fn run<Q, R>(ending: Ending<Q, R>, mut receiver: Receiver<Frame<Body<R>>>) {
    let shared = &ending.0;
    let codec = receiver.codec_name();
    let writing = async {
        let mut sent = shared.sender.send(Frame::Hello(Hello::new(0, codec))).await;
        while sent.is_ok() {
            shared.cancels.notified().await;
            let ids = std::mem::take(&mut shared.open().cancelled);
            let cancels = ids.into_iter().map(|id| Frame::Cancel { id });
            sent = shared.sender.send_all(cancels).await;
        }
        // A broken connection is noticed where replies arrive.
        std::future::pending::<Error>().await
    };
    let reading = receive(shared, &mut receiver, codec);
    let ended = tokio::select! {
        ended = reading => ended,
        ended = writing => ended,
    };
    shared.end(ended);
    let _ = shared.sender.close().await;
}

/// Receives until the connection has ended, and returns the reason.
async fn receive<Q, R>(
    shared: &Shared<Q, R>,
    receiver: &mut Receiver<Frame<Body<R>>>,
    codec: &str,
) -> Error {
    let mut greeted = false;
    loop {
        let frame = match receiver.recv().await {
            Some(Ok(frame)) => frame,
            Some(Err(error)) => return Error::io(io::Error::from(error)),
            None => return Error::Ended { source: None },
        };
        match frame {
            Frame::Hello(hello) if !greeted => {
                if let Err(error) = Error::check(&hello, codec) {
                    return error;
                }
                greeted = true;
                let slots = usize::try_from(hello.concurrency).unwrap_or(usize::MAX);
                shared.slots.add_permits(slots.min(Semaphore::MAX_PERMITS));
            }
            Frame::Reply { id, body } if greeted => {
                let undecodable = |error: BoxError| Failure::new(Failure::REPLY, error.to_string());
                shared.answer(id, body.map_err(undecodable));
            }
            Frame::Failure { id, failure } if greeted => {
                shared.answer(id, Err(failure));
            }
            Frame::Unknown(got) => return Error::not_spoken(&got, true),
            other => return Error::not_spoken(other.name().as_bytes(), true),
        }
    }
}

impl<Q, R> Clone for Caller<Q, R> {
    fn clone(&self) -> Self {
        Self {
            owner: Arc::clone(&self.owner),
            limit: self.limit,
        }
    }
}

impl<Q, R> fmt::Debug for Caller<Q, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Caller")
            .field("request", &type_name::<Q>())
            .field("reply", &type_name::<R>())
            .field("limit", &self.limit)
            .finish_non_exhaustive()
    }
}
