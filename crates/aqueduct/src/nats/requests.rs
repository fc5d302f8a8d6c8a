//! Requests over core NATS: messages with a reply subject, and the replies to them.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;

use async_nats::{StatusCode, Subscriber};
use futures_util::StreamExt;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::connection::{Failure, Line, Target};
use super::failures::error_of;
use super::incoming::{Incoming, Item};
use super::outgoing::{Given, Outgoing, Shared};
use crate::connect::{
    Link, Message, MessageLink, MessageReceiver, MessageSender, OpenError, OpenErrorKind,
};

/// How many requests without a reply are remembered. The first reply to an older one is taken for a
/// further one.
const UNANSWERED: usize = 65_536;

/// Both halves of a connection. It ends with its connection to the server: the replies to what was
/// asked over it would go nowhere.
pub(super) struct Conversation {
    outgoing: Outgoing,
    incoming: Incoming<Reply>,
}

/// A reply, and the request that it is for.
struct Reply {
    message: io::Result<Message>,
    number: u64,
    is_first: bool,
}

impl Item for Reply {
    fn into_message(self) -> io::Result<Message> {
        self.message
    }
}

/// The first reply to a request is wanted at any time. A further one, such as that of another service,
/// is wanted only until the next request, whose reply the reader would take it for. Of a request that was
/// given up none is wanted.
fn is_wanted(number: u64, is_first: bool, shared: &Shared) -> bool {
    let is_newest = is_first || number == shared.newest();
    let is_wanted = is_newest && !shared.is_given_up(number);
    if !is_wanted {
        tracing::debug!(target: "aqueduct::nats", number, "dropped a reply to an older request");
    }
    is_wanted
}

impl Conversation {
    pub(super) async fn begin(target: Target, line: Line) -> Result<Self, OpenError> {
        let inbox = line.client.new_inbox();
        let replies = line.client.subscribe(format!("{inbox}.*")).await;
        let replies =
            replies.map_err(|error| target.error(OpenErrorKind::Other, error.to_string()))?;
        let (outgoing, given) = Outgoing::new(&target, &line);
        let (incoming, to_end, stop) = Incoming::new(target.address.window());
        let shared = Arc::clone(&given.shared);
        let incoming = incoming.replies(shared, |reply: &Reply, shared| {
            is_wanted(reply.number, reply.is_first, shared)
        });
        let asking = Asking {
            target,
            line,
            inbox,
            replies,
            unanswered: BTreeSet::new(),
            to_end: Some(to_end),
            stop,
        };
        tokio::spawn(asking.run(given));
        Ok(Self { outgoing, incoming })
    }
}

impl MessageLink for Conversation {
    fn max_message(&self) -> Option<usize> {
        Some(self.outgoing.largest)
    }

    fn split(self: Box<Self>) -> (MessageSender, MessageReceiver) {
        let largest = self.outgoing.largest;
        let sender = MessageSender::new(self.outgoing).with_max_message(largest);
        (sender, MessageReceiver::new(self.incoming))
    }

    fn into_receiver(self: Box<Self>) -> MessageReceiver {
        self.split().1
    }

    fn into_sender(self: Box<Self>) -> MessageSender {
        self.split().0
    }

    fn into_link(self: Box<Self>) -> Link {
        let (sender, receiver) = self.split();
        Link::frames(sender, receiver).without_end()
    }
}

/// The task of a [`Conversation`].
struct Asking {
    target: Target,
    line: Line,
    /// The reply to request 1 comes to `inbox.1`.
    inbox: String,
    replies: Subscriber,
    unanswered: BTreeSet<u64>,
    /// `None`: no more replies are wanted.
    to_end: Option<mpsc::Sender<io::Result<Reply>>>,
    stop: CancellationToken,
}

impl Asking {
    async fn run(mut self, given: Given) {
        let Given {
            mut messages,
            shared,
            gone,
        } = given;
        let mut asks = true;
        let mut asked = 0;
        // A reply for which there was no room yet.
        let mut reply = None;
        while asks || self.to_end.is_some() {
            let failure = tokio::select! {
                biased;
                Some(text) = self.line.refusals.recv() => self.target.refused(&text),
                room = room_in(self.to_end.clone()), if reply.is_some() => {
                    match (room, reply.take()) {
                        (Some(room), Some(reply)) => drop(room.send(reply)),
                        // Nobody receives.
                        _ => self.to_end = None,
                    }
                    continue;
                }
                () = self.stop.cancelled(), if self.to_end.is_some() => {
                    self.to_end = None;
                    continue;
                }
                next = self.replies.next(), if reply.is_none() => match next {
                    Some(next) => {
                        reply = self.received(next, &shared);
                        continue;
                    }
                    None => self.lost(),
                },
                () = gone.cancelled(), if asks => {
                    asks = false;
                    continue;
                }
                message = messages.recv(), if asks => match message {
                    Some(message) => {
                        asked += 1;
                        let is_last = messages.is_empty();
                        match self.ask(message, asked, is_last).await {
                            Ok(()) => {
                                if is_last {
                                    shared.confirm(asked);
                                }
                                continue;
                            }
                            Err(()) => self.lost(),
                        }
                    }
                    None => {
                        asks = false;
                        continue;
                    }
                },
            };
            shared.fail(failure.clone());
            if let Some(to_end) = &self.to_end {
                tokio::select! {
                    _ = to_end.send(Err(failure.into())) => {}
                    () = self.stop.cancelled() => {}
                }
            }
            return;
        }
    }

    async fn ask(&mut self, message: Message, number: u64, is_last: bool) -> Result<(), ()> {
        self.unanswered.insert(number);
        if self.unanswered.len() > UNANSWERED {
            self.unanswered.pop_first();
        }
        let client = &self.line.client;
        let subject = self.target.address.subject.clone();
        let reply = format!("{}.{number}", self.inbox);
        let asked = client.publish_with_reply(subject, reply, message.into_body());
        asked.await.map_err(drop)?;
        if is_last {
            client.flush().await.map_err(drop)?;
        }
        Ok(())
    }

    /// The reply, if it is wanted.
    fn received(
        &mut self,
        reply: async_nats::Message,
        shared: &Shared,
    ) -> Option<io::Result<Reply>> {
        let number = reply.subject.strip_prefix(self.inbox.as_str());
        let number = number.and_then(|it| it.strip_prefix('.')?.parse().ok())?;
        let is_first = self.unanswered.remove(&number);
        let is_wanted = self.to_end.is_some() && is_wanted(number, is_first, shared);
        is_wanted.then(|| {
            Ok(Reply {
                message: self.message(reply),
                number,
                is_first,
            })
        })
    }

    fn message(&self, reply: async_nats::Message) -> io::Result<Message> {
        if let Some(error) = error_of(&reply) {
            let address = &self.target.object;
            let text = format!("{address}: the service failed: {error}");
            return Err(io::Error::other(text));
        }
        if reply.status != Some(StatusCode::NO_RESPONDERS) {
            return Ok(Message::new(reply.payload));
        }
        let subject = &self.target.address.subject;
        let text = format!(
            "no process receives the subject {subject}: start one, such as `aqueduct serve`"
        );
        Err(io::Error::new(io::ErrorKind::ConnectionRefused, text))
    }

    fn lost(&self) -> Failure {
        let object = &self.target.object;
        Failure {
            kind: io::ErrorKind::ConnectionReset,
            text: format!(
                "lost the server of {object}: a request without a reply may have been processed or not; \
                 connect again"
            ),
        }
    }
}

/// Waits for room for a reply; `None` if nobody receives it.
async fn room_in<T>(to_end: Option<mpsc::Sender<T>>) -> Option<mpsc::OwnedPermit<T>> {
    to_end?.reserve_owned().await.ok()
}
