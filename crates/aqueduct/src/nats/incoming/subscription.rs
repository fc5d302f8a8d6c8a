//! Core NATS: messages of a subscription.

use std::io;

use async_nats::{SubscribeError, Subscriber};
use futures_util::StreamExt;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::connect::{Message, OpenError, OpenErrorKind};
use crate::nats::connection::{Line, Target};

/// Subscribes, and passes messages on until the end is stopped.
pub(super) async fn begin(
    target: Target,
    line: Line,
    to_end: mpsc::Sender<io::Result<Message>>,
    stop: CancellationToken,
) -> Result<(), OpenError> {
    let subscriber = subscribe(&target, &line).await;
    let subscriber =
        subscriber.map_err(|error| target.error(OpenErrorKind::Other, error.to_string()))?;
    tokio::spawn(pass_on(target, line, subscriber, to_end, stop));
    Ok(())
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
    to_end: mpsc::Sender<io::Result<Message>>,
    stop: CancellationToken,
) {
    loop {
        let failure = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            Some(text) = line.refusals.recv() => Some(target.refused(&text)),
            message = subscriber.next() => match message {
                Some(message) => {
                    if to_end.send(Ok(Message::new(message.payload))).await.is_err() {
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
