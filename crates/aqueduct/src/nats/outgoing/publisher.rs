//! [`Publisher`]: the task of a sender, which keeps what is not acknowledged.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use async_nats::StatusCode;
use async_nats::header::{HeaderMap, NATS_EXPECTED_STREAM, NATS_MESSAGE_ID};
use async_nats::jetstream::publish::PublishAck;
use async_nats::jetstream::response::Response;
use futures_util::StreamExt;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::Shared;
use super::kept::{Ids, Kept, State};
use crate::connect::{Message, Receipt};
use crate::io::timer::{sleep, sleep_until};
use crate::nats::connection::{Failure, Left, Line, Target};

/// How long an acknowledgement may take before the connection is replaced.
const LATE: Duration = Duration::from_secs(10);
/// How soon a refused message is tried again.
const PAUSE: Duration = Duration::from_millis(250);

pub(super) struct Publisher {
    target: Target,
    messages: mpsc::Receiver<Message>,
    /// In order.
    kept: VecDeque<Kept>,
    /// How many of them are [refused](State::Refused).
    refused: usize,
    given: u64,
    ids: Option<Ids>,
    /// When the server was last heard, or had nothing to answer.
    heard: Instant,
    shared: Arc<Shared>,
}

impl Publisher {
    pub(super) fn new(
        target: Target,
        messages: mpsc::Receiver<Message>,
        shared: Arc<Shared>,
    ) -> Self {
        Self {
            ids: target.address.has_ids().then(Ids::new),
            target,
            messages,
            kept: VecDeque::new(),
            refused: 0,
            given: 0,
            heard: Instant::now(),
            shared,
        }
    }

    pub(super) async fn run(mut self, first: Line) {
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
                    self.shared.fail(failure);
                    return;
                }
            }
        }
    }

    /// Sends without acknowledgements: a message is confirmed when the system has it.
    async fn publish_core(&mut self, line: Line) -> Left {
        let (client, mut refusals) = (line.client, line.refusals);
        let mut receipts = Vec::new();
        loop {
            let message = tokio::select! {
                message = self.messages.recv() => message,
                Some(text) = refusals.recv() => return Left::Failed(self.target.refused(&text)),
            };
            let Some(mut message) = message else {
                return Left::Finished;
            };
            let subject = self.target.address.subject.clone();
            self.given += 1;
            receipts.extend(message.take_receipt());
            if client.publish(subject, message.into_body()).await.is_err() {
                self.shared.confirm(self.given);
                return Left::Lost;
            }
            if self.messages.is_empty() {
                let flushed = client.flush().await;
                if flushed.is_ok() {
                    receipts.drain(..).for_each(Receipt::settle);
                }
                self.shared.confirm(self.given);
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
            stream,
            ..
        } = line;
        if let Some(stream) = stream {
            self.warn_of_doubles(stream.cached_info().config.duplicate_window);
        }
        let inbox = client.new_inbox();
        let Ok(mut answers) = client.subscribe(format!("{inbox}.*")).await else {
            return Left::Lost;
        };
        self.refused = 0;
        for at in 0..self.kept.len() {
            if self.kept[at].state != State::Stored {
                self.kept[at].state = State::Sent;
                if self.send(&client, &inbox, at).await.is_err() {
                    return Left::Lost;
                }
            }
        }
        self.heard = Instant::now();
        loop {
            if let Some(at) = self.refused_first() {
                // One at a time, so that none overtakes another.
                sleep(PAUSE).await;
                self.kept[at].state = State::Sent;
                self.refused -= 1;
                if self.send(&client, &inbox, at).await.is_err() {
                    return Left::Lost;
                }
                self.heard = Instant::now();
            }
            let room = self.kept.len() < self.target.address.window() && self.refused == 0;
            tokio::select! {
                biased;
                answer = answers.next() => match answer {
                    None => return Left::Lost,
                    Some(answer) => {
                        self.heard = Instant::now();
                        match self.answered(&inbox, &answer) {
                            Ok(true) => {}
                            Ok(false) => return self.pause().await,
                            Err(failure) => return Left::Failed(failure),
                        }
                    }
                },
                Some(text) = refusals.recv() => return Left::Failed(self.target.refused(&text)),
                message = self.messages.recv(), if room => {
                    let Some(message) = message else {
                        return Left::Finished;
                    };
                    if self.kept.is_empty() {
                        self.heard = Instant::now();
                    }
                    let at = self.keep(message);
                    if self.send(&client, &inbox, at).await.is_err() {
                        return Left::Lost;
                    }
                }
                () = sleep_until(self.heard + LATE), if !self.kept.is_empty() => return Left::Lost,
            }
        }
    }

    /// Says so if what is sent again may be stored already, and the server has forgotten its ids.
    fn warn_of_doubles(&self, window: Duration) {
        let count = self
            .kept
            .iter()
            .filter(|it| it.state == State::Sent)
            .count();
        let silent = self.heard.elapsed();
        if count > 0 && self.ids.is_some() && silent > window {
            tracing::warn!(
                target: "aqueduct::nats", address = %self.target.object,
                "the server was away for {silent:.1?}, longer than the duplicate window of the stream \
                 ({window:?}): messages in hand ({count}) may be stored twice"
            );
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
            receipt: message.take_receipt(),
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
        if self.refused == 0 || self.kept.iter().any(|it| it.state == State::Sent) {
            return None;
        }
        self.kept.iter().position(|it| it.state == State::Refused)
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
        let state = match serde_json::from_slice(&answer.payload) {
            Ok(Response::Ok::<PublishAck>(_)) => State::Stored,
            Ok(Response::Err { error }) if passes(error.error_code().0) => State::Refused,
            Ok(Response::Err { error }) => {
                let len = kept.body.len();
                return Err(self.fatal(format!("a message of {len} bytes is refused: {error}")));
            }
            Err(error) => return Err(self.fatal(format!("the answer is not valid: {error}"))),
        };
        self.refused += usize::from(state == State::Refused);
        self.refused -= usize::from(kept.state == State::Refused);
        kept.state = state;
        while self
            .kept
            .front()
            .is_some_and(|it| it.state == State::Stored)
        {
            if let Some(mut stored) = self.kept.pop_front() {
                if let Some(receipt) = stored.receipt.take() {
                    receipt.settle();
                }
                self.shared.confirm(stored.number);
            }
        }
        Ok(true)
    }

    fn fatal(&self, cause: String) -> Failure {
        Failure {
            kind: io::ErrorKind::InvalidInput,
            text: format!("cannot send to {}: {cause}", self.target.object),
        }
    }
}

/// Whether an error means that there is no room now: of messages, bytes, or messages of a subject;
/// or resources are short.
fn passes(code: u64) -> bool {
    matches!(code, 10_077 | 10_023 | 10_047)
}
