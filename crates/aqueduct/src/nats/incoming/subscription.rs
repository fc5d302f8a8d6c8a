//! Core NATS: messages of a subscription.

use std::io;
use std::time::Duration;

use async_nats::{Client, HeaderMap, PublishError, Subject, SubscribeError, Subscriber};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::Incoming;
use crate::connect::{Message, OpenError, OpenErrorKind, Warnings};
use crate::io::timer::timeout;
use crate::nats::connection::{Line, Target};

const TARGET: &str = "aqueduct::nats";
/// How long the server may take to confirm that a service leaves.
const LEAVING: Duration = Duration::from_secs(5);
/// How long a refusal may take behind the answer to what was sent after it.
const REFUSAL: Duration = Duration::from_millis(50);

/// A message of a subscription, and where a reply to it goes.
pub(in crate::nats) struct Request {
    pub(in crate::nats) body: Bytes,
    pub(in crate::nats) reply: Option<Subject>,
    subject: Subject,
    headers: Option<HeaderMap>,
    /// The connection that it came over.
    pub(in crate::nats) client: Client,
}

impl From<Request> for Message {
    fn from(request: Request) -> Self {
        Self::new(request.body)
    }
}

impl Request {
    fn new(message: async_nats::Message, client: Client) -> Self {
        Self {
            body: message.payload,
            reply: message.reply,
            subject: message.subject,
            headers: message.headers,
            client,
        }
    }
}

/// Takes back a receiver whose requests nobody will answer. It is closed once they are passed on.
pub(in crate::nats) type GiveBack = mpsc::Sender<Incoming<Request>>;

/// Subscribes, and passes messages on until the end is stopped.
pub(in crate::nats) async fn begin(
    target: Target,
    line: Line,
) -> Result<(Incoming<Request>, GiveBack), OpenError> {
    let subscriber = subscribe(&target, &line).await;
    let subscriber =
        subscriber.map_err(|error| target.error(OpenErrorKind::Other, error.to_string()))?;
    let (incoming, to_end, stop) = Incoming::new(target.address.window());
    let (give_back, given_back) = mpsc::channel(1);
    tokio::spawn(pass_on(target, line, subscriber, to_end, stop, given_back));
    Ok((incoming, give_back))
}

async fn subscribe(target: &Target, line: &Line) -> Result<Subscriber, SubscribeError> {
    let subject = target.address.subject.clone();
    match &target.address.queue {
        Some(queue) => line.client.queue_subscribe(subject, queue.clone()).await,
        None => line.client.subscribe(subject).await,
    }
}

async fn pass_on(
    target: Target,
    mut line: Line,
    mut subscriber: Subscriber,
    to_end: mpsc::Sender<io::Result<Request>>,
    stop: CancellationToken,
    mut given_back: mpsc::Receiver<Incoming<Request>>,
) {
    let mut warnings = Warnings::default();
    loop {
        let failure = tokio::select! {
            biased;
            Some(incoming) = given_back.recv() => {
                return leave(&target, line, subscriber, incoming, None).await;
            }
            () = stop.cancelled() => return,
            Some(text) = line.refusals.recv() => {
                if is_of_reply(&text) {
                    warn_of_reply(&target, &mut warnings, &text);
                    continue;
                }
                Some(target.refused(&text))
            }
            message = subscriber.next() => match message {
                Some(message) => {
                    let request = Request::new(message, line.client.clone());
                    tokio::select! {
                        biased;
                        Some(incoming) = given_back.recv() => {
                            return leave(&target, line, subscriber, incoming, Some(request)).await;
                        }
                        room = to_end.reserve() => match room {
                            Ok(room) => room.send(Ok(request)),
                            Err(_) => return,
                        },
                    }
                    continue;
                }
                None => None,
            },
        };
        let again = async {
            if let Some(failure) = failure {
                return Err(failure);
            }
            let next = target.connect_again().await?;
            let subscriber = subscribe(&target, &next).await;
            Ok((next, subscriber.ok()))
        };
        let again = tokio::select! {
            () = stop.cancelled() => return,
            Some(incoming) = given_back.recv() => {
                return leave(&target, line, subscriber, incoming, None).await;
            }
            again = again => again,
        };
        match again {
            Ok((next, Some(other))) => (line, subscriber) = (next, other),
            // It broke again: the old one yields its end again.
            Ok((_, None)) => {}
            Err(failure) => {
                let _ = to_end.send(Err(failure.into())).await;
                return;
            }
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
/// its queue group.
async fn leave(
    target: &Target,
    mut line: Line,
    mut subscriber: Subscriber,
    mut incoming: Incoming<Request>,
    in_hand: Option<Request>,
) {
    let address = &target.object;
    let passes_on = target.address.queue.is_some();
    let client = line.client.clone();
    let mut count = 0;
    let passing_on = async {
        // The server sends none after that, not even those that are published again. Without a
        // connection publishing fails.
        let _ = subscriber.drain().await;
        let given = std::iter::from_fn(|| incoming.messages.try_recv().ok());
        let given = stream::iter(given.flatten().chain(in_hand));
        let rest = subscriber.map(|message| Request::new(message, client.clone()));
        let mut waiting = std::pin::pin!(given.chain(rest));
        let mut published = Ok(());
        while let Some(request) = waiting.next().await {
            count += 1;
            if passes_on && published.is_ok() {
                published = publish_again(&client, request).await;
            }
        }
        match published {
            Ok(()) if passes_on && count > 0 => refusal(&mut line).await,
            Ok(()) => None,
            Err(error) => Some(error.to_string()),
        }
    };
    let refused = match timeout(LEAVING, passing_on).await {
        Ok(refused) => refused,
        Err(_) => Some("the server did not answer".to_owned()),
    };
    match (&target.address.queue, refused) {
        _ if count == 0 => {}
        (None, _) => tracing::warn!(
            target: TARGET, %address,
            "stopped: {count} requests that waited get no reply; with queue= another service takes them"
        ),
        (Some(queue), None) => tracing::warn!(
            target: TARGET, %address,
            "stopped: passed on {count} requests that waited to the queue group {queue}; if no other member \
             is there, they get no reply"
        ),
        (Some(queue), Some(text)) => tracing::warn!(
            target: TARGET, %address,
            "stopped: {count} requests that waited get no reply; cannot pass them on to the queue group \
             {queue}: {text}"
        ),
    }
}

async fn publish_again(client: &Client, request: Request) -> Result<(), PublishError> {
    let Request {
        body,
        reply,
        subject,
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

/// Returns why the server has refused what was published before.
async fn refusal(line: &mut Line) -> Option<String> {
    let client = &line.client;
    // Its end comes behind a refusal.
    match client.subscribe(client.new_inbox()).await {
        Ok(mut inbox) => {
            let _ = inbox.drain().await;
            while inbox.next().await.is_some() {}
        }
        Err(error) => return Some(error.to_string()),
    }
    // Refusals take another way inside of the client.
    while let Ok(Some(text)) = timeout(REFUSAL, line.refusals.recv()).await {
        if is_of_reply(&text) {
            return Some(text);
        }
    }
    None
}
