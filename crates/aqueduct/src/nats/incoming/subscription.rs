//! Core NATS: messages of a subscription.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_nats::{Client, PublishError, StatusCode, Subject, SubscribeError, Subscriber};
use bytes::Bytes;
use futures_util::{FutureExt, StreamExt};
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use tokio_util::sync::CancellationToken;

use super::{Incoming, Item};
use crate::connect::{Message, OpenError, OpenErrorKind, Warnings};
use crate::io::timer::timeout;
use crate::nats::connection::{Line, Target};
use crate::nats::failures::{UNAVAILABLE, reply_with};

const TARGET: &str = "aqueduct::nats";
/// How long the server may take to confirm that a service leaves.
const LEAVING: Duration = Duration::from_secs(5);
/// How long a refusal may take behind the answer to what was sent after it.
const REFUSAL: Duration = Duration::from_millis(50);
/// How many bytes of messages may wait. One alone may be larger.
const BYTES: usize = 64 << 20;
const STOPPING: &str = "the service is stopping";
const BUSY: &str = "the service is busy: too many requests wait for it";

/// A message of a subscription that waits to be taken.
pub(in crate::nats) struct Request {
    pub(in crate::nats) message: async_nats::Message,
    _share: Share,
    /// The connection that it came over.
    pub(in crate::nats) client: Client,
}

impl Item for Request {
    fn into_message(self) -> io::Result<Message> {
        Ok(Message::new(self.message.payload))
    }
}

/// The bytes of the messages that wait.
#[derive(Default)]
struct Waiting(Arc<AtomicUsize>);

/// The part of one message, until it is taken.
struct Share {
    all: Arc<AtomicUsize>,
    part: usize,
}

impl Waiting {
    /// `None`: there is no room for it.
    fn take(&self, part: usize) -> Option<Share> {
        let before = self.0.fetch_add(part, Ordering::Relaxed);
        let share = Share {
            all: Arc::clone(&self.0),
            part,
        };
        (before == 0 || before + part <= BYTES).then_some(share)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.all.fetch_sub(self.part, Ordering::Relaxed);
    }
}

/// Takes back a receiver whose requests nobody will answer. It is closed once they are passed on.
pub(in crate::nats) type GiveBack = mpsc::Sender<Incoming<Request>>;

/// Subscribes, and passes messages on until the end is stopped. One that `serves` answers requests that it
/// does not take.
pub(in crate::nats) async fn begin(
    target: Target,
    line: Line,
    serves: bool,
) -> Result<(Incoming<Request>, GiveBack), OpenError> {
    let subscriber = subscribe(&target, &line).await;
    let subscriber =
        subscriber.map_err(|error| target.error(OpenErrorKind::Other, error.to_string()))?;
    let (incoming, to_end, stop) = Incoming::new(target.address.backlog());
    let (give_back, given_back) = mpsc::channel(1);
    let passing = Passing {
        target,
        to_end,
        waiting: Waiting::default(),
        serves,
    };
    tokio::spawn(passing.run(line, subscriber, stop, given_back));
    Ok((incoming, give_back))
}

async fn subscribe(target: &Target, line: &Line) -> Result<Subscriber, SubscribeError> {
    let subject = target.address.subject.clone();
    match &target.address.queue {
        Some(queue) => line.client.queue_subscribe(subject, queue.clone()).await,
        None => line.client.subscribe(subject).await,
    }
}

/// The task of a subscription.
struct Passing {
    target: Target,
    to_end: mpsc::Sender<io::Result<Request>>,
    waiting: Waiting,
    serves: bool,
}

impl Passing {
    async fn run(
        self,
        mut line: Line,
        mut subscriber: Subscriber,
        stop: CancellationToken,
        mut given_back: mpsc::Receiver<Incoming<Request>>,
    ) {
        let mut warnings = Warnings::default();
        loop {
            let failure = tokio::select! {
                biased;
                Some(incoming) = given_back.recv() => {
                    return leave(&self.target, line, subscriber, incoming).await;
                }
                () = stop.cancelled() => return,
                Some(text) = line.refusals.recv() => {
                    if is_of_reply(&text) {
                        warn_of_reply(&self.target, &mut warnings, &text);
                        continue;
                    }
                    Some(self.target.refused(&text))
                }
                message = subscriber.next() => match message {
                    Some(message) => {
                        self.keep(message, &line).await;
                        continue;
                    }
                    None => None,
                },
            };
            let again = async {
                if let Some(failure) = failure {
                    return Err(failure);
                }
                let next = self.target.connect_again().await?;
                let subscriber = subscribe(&self.target, &next).await;
                Ok((next, subscriber.ok()))
            };
            let again = tokio::select! {
                () = stop.cancelled() => return,
                Some(incoming) = given_back.recv() => {
                    return leave(&self.target, line, subscriber, incoming).await;
                }
                again = again => again,
            };
            match again {
                Ok((next, Some(other))) => (line, subscriber) = (next, other),
                // It broke again: the old one yields its end again.
                Ok((_, None)) => {}
                Err(failure) => {
                    let _ = self.to_end.send(Err(failure.into())).await;
                    return;
                }
            }
        }
    }

    /// Lets a message wait for the end, if there is room for it.
    async fn keep(&self, message: async_nats::Message, line: &Line) {
        let reply = message.reply.clone().filter(|_| self.serves);
        let kept = self.waiting.take(message.length).is_some_and(|share| {
            let request = Request {
                message,
                _share: share,
                client: line.client.clone(),
            };
            !matches!(
                self.to_end.try_send(Ok(request)),
                Err(TrySendError::Full(_))
            )
        });
        if kept {
            return;
        }
        line.lost.add();
        if let Some(reply) = reply {
            // A connection that has broken shows by its end.
            let _ = reply_with(&line.client, reply, UNAVAILABLE, BUSY).await;
        }
    }
}

/// Whether a reply was refused, and not the subscription. The requester chooses where it goes.
fn is_of_reply(text: &str) -> bool {
    text.to_ascii_lowercase()
        .contains("permissions violation for publish")
}

fn warn_of_reply(target: &Target, warnings: &mut Warnings, text: &str) {
    if let Some(left_out) = warnings.next() {
        let before = match left_out {
            0 => String::new(),
            _ => format!(" ({left_out} more before)"),
        };
        tracing::warn!(
            target: TARGET, address = %target.object,
            "a reply was not sent: {text}; check the permissions of this user on the server{before}"
        );
    }
}

/// Ends the subscription of a service that is stopped. Requests that wait go to another member of
/// its queue group; those that none takes get an error.
async fn leave(
    target: &Target,
    mut line: Line,
    mut subscriber: Subscriber,
    mut incoming: Incoming<Request>,
) {
    let address = &target.object;
    let passes_on = target.address.queue.is_some();
    let client = line.client.clone();
    let (mut count, mut refused) = (0, 0);
    let leaving = async {
        // The server sends none after that, not even those that are published again. Without a
        // connection publishing fails.
        let _ = subscriber.drain().await;
        let given = std::iter::from_fn(|| incoming.messages.try_recv().ok());
        let mut waiting: Vec<_> = given.flatten().map(|it| it.message).collect();
        count = waiting.len();
        // The client forgets a drained subscription when it next has something to send: nothing until
        // the end of it.
        while let Some(message) = subscriber.next().await {
            waiting.push(message);
            count += 1;
        }
        let mut text = None;
        let unserved = if !passes_on {
            waiting.into_iter().filter_map(|it| it.reply).collect()
        } else if count > 0 {
            let mut passed = Passed::default();
            for request in waiting {
                passed.pass_on(&client, request).await?;
            }
            text = refusal(&mut line).await;
            // Where they may not be published again, nobody has got them either.
            passed.unserved(text.is_some())
        } else {
            Vec::new()
        };
        for reply in unserved {
            reply_with(&client, reply, UNAVAILABLE, STOPPING).await?;
            refused += 1;
        }
        if refused > 0 {
            client.flush().await?;
        }
        Ok::<_, async_nats::Error>(text)
    };
    let failure = match timeout(LEAVING, leaving).await {
        Ok(Ok(failure)) => failure,
        Ok(Err(error)) => Some(error.to_string()),
        Err(_) => Some("the server did not answer".to_owned()),
    };
    match (&target.address.queue, failure) {
        _ if count == 0 => {}
        (None, None) => tracing::warn!(
            target: TARGET, %address,
            "stopped: {count} requests that waited get an error; with queue= another service takes them"
        ),
        (Some(queue), None) if refused == 0 => tracing::warn!(
            target: TARGET, %address,
            "stopped: passed on {count} requests that waited to the queue group {queue}"
        ),
        (Some(queue), None) => tracing::warn!(
            target: TARGET, %address,
            "stopped: {refused} of {count} requests that waited get an error, because no other member of the \
             queue group {queue} is there"
        ),
        (_, Some(text)) => tracing::warn!(
            target: TARGET, %address,
            "stopped: {count} requests that waited are not passed on, and {refused} of them get an error: {text}"
        ),
    }
}

/// The requests that were published again, by where their replies go.
///
/// The server tells only a publisher that nobody has taken a request, and only where it receives the
/// replies: so it does until that is known, and no longer.
#[derive(Default)]
struct Passed(HashMap<String, (usize, Subscriber)>);

impl Passed {
    async fn pass_on(
        &mut self,
        client: &Client,
        request: async_nats::Message,
    ) -> Result<(), async_nats::Error> {
        // That of a request has no wildcards.
        let reply = request.reply.clone();
        if let Some(reply) = reply.filter(|it| !it.contains(['*', '>'])) {
            let (count, _) = match self.0.entry(reply.to_string()) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(new) => {
                    let notices = client.subscribe(new.key().clone()).await?;
                    new.insert((0, notices))
                }
            };
            *count += 1;
        }
        Ok(publish_again(client, request).await?)
    }

    /// Returns where replies to requests that nobody has taken go. All notices have come.
    fn unserved(self, all: bool) -> Vec<Subject> {
        let mut unserved = Vec::new();
        for (reply, (count, mut notices)) in self.0 {
            let notices = std::iter::from_fn(|| notices.next().now_or_never().flatten());
            let told = notices.filter(|it| it.status == Some(StatusCode::NO_RESPONDERS));
            let number = if all { count } else { told.count().min(count) };
            unserved.extend(std::iter::repeat_n(Subject::from(reply), number));
        }
        unserved
    }
}

async fn publish_again(client: &Client, request: async_nats::Message) -> Result<(), PublishError> {
    let async_nats::Message {
        subject,
        reply,
        payload: body,
        headers,
        ..
    } = request;
    match (reply, headers) {
        (Some(reply), Some(headers)) => {
            let published = client.publish_with_reply_and_headers(subject, reply, headers, body);
            published.await
        }
        (Some(reply), None) => client.publish_with_reply(subject, reply, body).await,
        (None, Some(headers)) => client.publish_with_headers(subject, headers, body).await,
        (None, None) => client.publish(subject, body).await,
    }
}

/// Waits until the server has answered all that was published before, and returns why it has refused
/// some of that.
async fn refusal(line: &mut Line) -> Option<String> {
    let client = &line.client;
    // The server answers in order: with this message back, all earlier answers are here.
    let inbox = client.new_inbox();
    let mut refusal = None;
    let mut note = |text: &str| {
        let is_own = text.contains(&inbox);
        if !is_own && is_of_reply(text) {
            refusal.get_or_insert(text.to_owned());
        }
        is_own
    };
    let mut back = match client.subscribe(inbox.clone()).await {
        Ok(back) => back,
        Err(error) => return Some(error.to_string()),
    };
    if let Err(error) = client.publish(inbox.clone(), Bytes::new()).await {
        return Some(error.to_string());
    }
    loop {
        tokio::select! {
            _ = back.next() => break,
            text = line.refusals.recv() => match text {
                // A user that may not do that gets an answer as well.
                Some(text) if note(&text) => break,
                Some(_) => {}
                None => break,
            },
        }
    }
    // Refusals take another way inside of the client.
    while let Ok(Some(text)) = timeout(REFUSAL, line.refusals.recv()).await {
        note(&text);
    }
    refusal
}
