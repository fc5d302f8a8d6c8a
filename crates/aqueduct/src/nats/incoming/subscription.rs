//! Core NATS: messages of a subscription.

use std::io;

use async_nats::{Client, Subject, SubscribeError, Subscriber};
use bytes::Bytes;
use futures_util::StreamExt;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::Incoming;
use crate::connect::{Message, OpenError, OpenErrorKind, Warnings};
use crate::nats::connection::{Line, Target};

/// A message of a subscription, and where a reply to it goes.
pub(in crate::nats) struct Request {
    pub(in crate::nats) body: Bytes,
    pub(in crate::nats) reply: Option<Subject>,
    /// The connection that it came over.
    pub(in crate::nats) client: Client,
}

impl From<Request> for Message {
    fn from(request: Request) -> Self {
        Self::new(request.body)
    }
}

/// Subscribes, and passes messages on until the end is stopped.
pub(in crate::nats) async fn begin(
    target: Target,
    line: Line,
) -> Result<Incoming<Request>, OpenError> {
    let subscriber = subscribe(&target, &line).await;
    let subscriber =
        subscriber.map_err(|error| target.error(OpenErrorKind::Other, error.to_string()))?;
    let (incoming, to_end, stop) = Incoming::new(target.address.window());
    tokio::spawn(pass_on(target, line, subscriber, to_end, stop));
    Ok(incoming)
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
) {
    let mut warnings = Warnings::default();
    loop {
        let failure = tokio::select! {
            biased;
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
                    let request = Request {
                        body: message.payload,
                        reply: message.reply,
                        client: line.client.clone(),
                    };
                    if to_end.send(Ok(request)).await.is_err() {
                        return;
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
            target: "aqueduct::nats", address = %target.object,
            "a reply was not sent: {text}; check the permissions of this user on the server{before}"
        );
    }
}
