//! The sending end: a task that publishes, and keeps what is not acknowledged.

use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use async_nats::StatusCode;
use async_nats::header::{HeaderMap, NATS_EXPECTED_STREAM, NATS_MESSAGE_ID};
use async_nats::jetstream::publish::PublishAck;
use async_nats::jetstream::response::Response;
use bytes::Bytes;
use futures_sink::Sink;
use futures_util::StreamExt;
use futures_util::task::AtomicWaker;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard, PollSender};

use super::connection::{Failure, Line, Target};
use crate::connect::{Message, MessageSender};
use crate::frame::FrameError;
use crate::io::timer::{sleep, sleep_until};

/// How long an acknowledgement may take before the connection is replaced.
const LATE: Duration = Duration::from_secs(10);
/// How soon a refused message is tried again.
const PAUSE: Duration = Duration::from_millis(250);
/// What a message with headers takes beside its body and its id: `NATS/1.0`, two names, line ends.
const HEADERS: usize = 64;

pub(super) fn sender(target: Target, line: Line) -> MessageSender {
    let (given, messages) = mpsc::channel(target.address.window());
    let shared = Arc::new(Shared::default());
    let gone = CancellationToken::new();
    let stream = target.address.stream.as_deref().unwrap_or_default();
    let room = match target.address.stream {
        Some(_) => HEADERS + stream.len() + ID,
        None => 0,
    };
    let outgoing = Outgoing {
        given: 0,
        sender: Some(PollSender::new(given)),
        shared: Arc::clone(&shared),
        largest: line.client.max_payload().saturating_sub(room),
        _gone: gone.clone().drop_guard(),
    };
    let largest = outgoing.largest;
    let engine = Engine {
        ids: target.address.has_ids().then(Ids::new),
        target,
        messages,
        kept: VecDeque::new(),
        given: 0,
        shared,
    };
    tokio::spawn(async move {
        tokio::select! {
            () = gone.cancelled() => {}
            () = engine.run(line) => {}
        }
    });
    MessageSender::new(outgoing).with_max_message(largest)
}

/// What the end and its task share.
#[derive(Default)]
struct Shared {
    /// How many messages are confirmed.
    confirmed: AtomicU64,
    failure: OnceLock<Failure>,
    changed: AtomicWaker,
}

impl Shared {
    fn check(&self) -> io::Result<()> {
        match self.failure.get() {
            Some(failure) => Err(failure.clone().into()),
            None => Ok(()),
        }
    }
}

struct Outgoing {
    given: u64,
    sender: Option<PollSender<Message>>,
    shared: Arc<Shared>,
    largest: usize,
    _gone: DropGuard,
}

impl Sink<Message> for Outgoing {
    type Error = io::Error;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.shared.changed.register(cx.waker());
        self.shared.check()?;
        match &mut self.sender {
            Some(sender) => ready!(sender.poll_reserve(cx)).map_err(|_| gone())?,
            None => return Poll::Ready(Err(gone())),
        }
        Poll::Ready(Ok(()))
    }

    fn start_send(mut self: Pin<&mut Self>, message: Message) -> io::Result<()> {
        let (len, max) = (message.body().len(), self.largest);
        if len > max {
            let error = FrameError::TooLarge { len, max };
            return Err(io::Error::new(io::ErrorKind::InvalidInput, error));
        }
        let Some(sender) = &mut self.sender else {
            return Err(gone());
        };
        sender.send_item(message).map_err(|_| gone())?;
        self.given += 1;
        Ok(())
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.shared.changed.register(cx.waker());
        self.shared.check()?;
        match self.shared.confirmed.load(Ordering::Acquire) < self.given {
            true => Poll::Pending,
            false => Poll::Ready(Ok(())),
        }
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.as_mut().poll_flush(cx))?;
        self.sender = None;
        Poll::Ready(Ok(()))
    }
}

fn gone() -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, "cannot send: this end is closed")
}

/// The ids of messages that have none: a random prefix, and a number.
struct Ids {
    prefix: String,
    next: u64,
}

/// The longest id: `created:stream:sequence` of a stream may be longer than ours.
const ID: usize = 320;

impl Ids {
    fn new() -> Self {
        // The keys of each are random.
        let random = || RandomState::new().hash_one(std::process::id());
        let prefix = format!("{:016x}{:016x}", random(), random());
        Self { prefix, next: 0 }
    }

    fn next(&mut self) -> Box<str> {
        self.next += 1;
        format!("{}:{}", self.prefix, self.next).into()
    }
}

/// A message that is not acknowledged.
struct Kept {
    number: u64,
    id: Option<Box<str>>,
    body: Bytes,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Sent,
    Stored,
    /// There was no room for it.
    Refused,
}

struct Engine {
    target: Target,
    messages: mpsc::Receiver<Message>,
    /// In order.
    kept: VecDeque<Kept>,
    given: u64,
    ids: Option<Ids>,
    shared: Arc<Shared>,
}

/// Why a connection is left.
enum Left {
    Lost,
    Finished,
    Failed(Failure),
}

impl Engine {
    async fn run(mut self, first: Line) {
        let mut line = Some(first);
        loop {
            let next = match line.take() {
                Some(line) => Ok(line),
                None => self.target.connect_again().await,
            };
            let left = match next {
                Ok(line) if line.stream.is_some() => self.publish(line).await,
                Ok(line) => self.publish_core(line).await,
                Err(failure) => Left::Failed(failure),
            };
            match left {
                Left::Lost => {}
                Left::Finished => return,
                Left::Failed(failure) => {
                    let _ = self.shared.failure.set(failure);
                    self.shared.changed.wake();
                    return;
                }
            }
        }
    }

    /// Sends without acknowledgements: a message is confirmed when the system has it.
    async fn publish_core(&mut self, line: Line) -> Left {
        let (client, mut refusals) = (line.client, line.refusals);
        loop {
            let message = tokio::select! {
                message = self.messages.recv() => message,
                Some(text) = refusals.recv() => return Left::Failed(self.refused(&text)),
            };
            let Some(message) = message else {
                return Left::Finished;
            };
            let subject = self.target.address.subject.clone();
            self.given += 1;
            if client.publish(subject, message.into_body()).await.is_err() {
                self.confirm(self.given);
                return Left::Lost;
            }
            if self.messages.is_empty() {
                let flushed = client.flush().await;
                self.confirm(self.given);
                if flushed.is_err() {
                    return Left::Lost;
                }
            }
        }
    }

    /// Sends what is kept, and then what is given, until the connection breaks.
    async fn publish(&mut self, line: Line) -> Left {
        let Line {
            client,
            mut refusals,
            ..
        } = line;
        let inbox = client.new_inbox();
        let Ok(mut answers) = client.subscribe(format!("{inbox}.*")).await else {
            return Left::Lost;
        };
        for at in 0..self.kept.len() {
            if self.kept[at].state != State::Stored {
                self.kept[at].state = State::Sent;
                if self.send(&client, &inbox, at).await.is_err() {
                    return Left::Lost;
                }
            }
        }
        let mut patience = Instant::now() + LATE;
        loop {
            if let Some(at) = self.refused_first() {
                // One at a time, so that none overtakes another.
                sleep(PAUSE).await;
                self.kept[at].state = State::Sent;
                if self.send(&client, &inbox, at).await.is_err() {
                    return Left::Lost;
                }
                patience = Instant::now() + LATE;
            }
            let refused = self.kept.iter().any(|it| it.state == State::Refused);
            let room = self.kept.len() < self.target.address.window() && !refused;
            tokio::select! {
                biased;
                answer = answers.next() => match answer {
                    None => return Left::Lost,
                    Some(answer) => {
                        patience = Instant::now() + LATE;
                        match self.answered(&inbox, &answer) {
                            Ok(true) => {}
                            Ok(false) => return self.pause().await,
                            Err(failure) => return Left::Failed(failure),
                        }
                    }
                },
                Some(text) = refusals.recv() => return Left::Failed(self.refused(&text)),
                message = self.messages.recv(), if room => {
                    let Some(message) = message else {
                        return Left::Finished;
                    };
                    if self.kept.is_empty() {
                        patience = Instant::now() + LATE;
                    }
                    let at = self.keep(message);
                    if self.send(&client, &inbox, at).await.is_err() {
                        return Left::Lost;
                    }
                }
                () = sleep_until(patience), if !self.kept.is_empty() => return Left::Lost,
            }
        }
    }

    /// JetStream is not there, or not yet: the next connection looks for the stream.
    async fn pause(&self) -> Left {
        sleep(PAUSE).await;
        Left::Lost
    }

    fn keep(&mut self, mut message: Message) -> usize {
        self.given += 1;
        let ids = self.ids.as_mut();
        let id = ids.map(|ids| message.take_id().unwrap_or_else(|| ids.next()));
        self.kept.push_back(Kept {
            number: self.given,
            id,
            body: message.into_body(),
            state: State::Sent,
        });
        self.kept.len() - 1
    }

    async fn send(
        &self,
        client: &async_nats::Client,
        inbox: &str,
        at: usize,
    ) -> Result<(), async_nats::PublishError> {
        let Kept {
            number, id, body, ..
        } = &self.kept[at];
        let address = &self.target.address;
        let mut headers = HeaderMap::new();
        if let Some(id) = id {
            headers.insert(NATS_MESSAGE_ID, &**id);
        }
        if let Some(stream) = &address.stream {
            headers.insert(NATS_EXPECTED_STREAM, stream.as_str());
        }
        let (subject, reply) = (address.subject.clone(), format!("{inbox}.{number}"));
        let body = body.clone();
        client
            .publish_with_reply_and_headers(subject, reply, headers, body)
            .await
    }

    /// The first refused message, once nothing is on its way.
    fn refused_first(&self) -> Option<usize> {
        let waits = self.kept.iter().any(|it| it.state == State::Sent);
        let refused = || self.kept.iter().position(|it| it.state == State::Refused);
        if waits { None } else { refused() }
    }

    /// Notes the answer to a message; `false`: JetStream is not there.
    fn answered(&mut self, inbox: &str, answer: &async_nats::Message) -> Result<bool, Failure> {
        if answer.status == Some(StatusCode::NO_RESPONDERS) {
            return Ok(false);
        }
        let number = answer
            .subject
            .strip_prefix(inbox)
            .and_then(|it| it.strip_prefix('.'));
        let number = number.and_then(|it| it.parse::<u64>().ok());
        let kept = self.kept.iter_mut().find(|it| Some(it.number) == number);
        let Some(kept) = kept else {
            return Ok(true);
        };
        match serde_json::from_slice(&answer.payload) {
            Ok(Response::Ok::<PublishAck>(_)) => kept.state = State::Stored,
            Ok(Response::Err { error }) if passes(error.error_code().0) => {
                kept.state = State::Refused;
            }
            Ok(Response::Err { error }) => {
                let len = kept.body.len();
                return Err(self.fatal(format!("a message of {len} bytes is refused: {error}")));
            }
            Err(error) => return Err(self.fatal(format!("the answer is not valid: {error}"))),
        }
        while self
            .kept
            .front()
            .is_some_and(|it| it.state == State::Stored)
        {
            if let Some(stored) = self.kept.pop_front() {
                self.confirm(stored.number);
            }
        }
        Ok(true)
    }

    fn confirm(&self, number: u64) {
        self.shared.confirmed.store(number, Ordering::Release);
        self.shared.changed.wake();
    }

    fn fatal(&self, cause: String) -> Failure {
        Failure {
            kind: io::ErrorKind::InvalidInput,
            text: format!("cannot send to {}: {cause}", self.target.object),
        }
    }

    fn refused(&self, text: &str) -> Failure {
        let mut failure = self.fatal(format!("{text}; check the permissions of its user"));
        failure.kind = io::ErrorKind::PermissionDenied;
        failure
    }
}

/// Whether an error means that there is no room now: of messages, bytes, or messages of a subject;
/// or resources are short.
fn passes(code: u64) -> bool {
    matches!(code, 10_077 | 10_023 | 10_047)
}
