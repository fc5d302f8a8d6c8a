//! Requests over core NATS: messages with a reply subject, and the replies to them.

use std::io;

use async_nats::{StatusCode, Subject, Subscriber};
use futures_util::StreamExt;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::connection::{Failure, Line, Target};
use super::incoming::Incoming;
use super::outgoing::{Given, Outgoing};
use crate::connect::{
    Link, Message, MessageLink, MessageReceiver, MessageSender, OpenError, OpenErrorKind,
};

/// Both halves of a connection. It ends with its connection to the server: the replies to what was
/// asked over it would go nowhere.
pub(super) struct Conversation {
    outgoing: Outgoing,
    incoming: Incoming<Message>,
}

impl Conversation {
    pub(super) async fn begin(target: Target, line: Line) -> Result<Self, OpenError> {
        let inbox = Subject::from(line.client.new_inbox());
        let replies = line.client.subscribe(inbox.clone()).await;
        let replies =
            replies.map_err(|error| target.error(OpenErrorKind::Other, error.to_string()))?;
        let (outgoing, given) = Outgoing::new(&target, &line);
        let (incoming, to_end, stop) = Incoming::new(target.address.window());
        let asking = Asking {
            target,
            line,
            inbox,
            replies,
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
    inbox: Subject,
    replies: Subscriber,
    /// `None`: no more replies are wanted.
    to_end: Option<mpsc::Sender<io::Result<Message>>>,
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
                        reply = self.to_end.is_some().then(|| self.received(next));
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
                        match self.ask(message, is_last).await {
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

    async fn ask(&self, message: Message, is_last: bool) -> Result<(), ()> {
        let client = &self.line.client;
        let (subject, inbox) = (self.target.address.subject.clone(), self.inbox.clone());
        let asked = client.publish_with_reply(subject, inbox, message.into_body());
        asked.await.map_err(drop)?;
        if is_last {
            client.flush().await.map_err(drop)?;
        }
        Ok(())
    }

    fn received(&self, reply: async_nats::Message) -> io::Result<Message> {
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
