//! [`Requests`]: what is sent.

use std::cell::Cell;
use std::io;
use std::rc::Rc;

use aqueduct::bytes::Bytes;
use aqueduct::connect::{Message, MessageSender};
use futures_util::stream::{self, BoxStream};
use futures_util::{SinkExt, StreamExt};
use tokio::time::Instant;

use crate::config::{CallConfig, Ending};
use crate::forward::{End, Stopped, forward};
use crate::input;

/// Why a request was not sent, or not all of it.
pub(super) type Failed = Stopped<anyhow::Error>;

/// Requests that are there, or come from standard input.
pub(super) struct Requests<'a> {
    messages: BoxStream<'a, anyhow::Result<Message>>,
    /// The one that was read before anybody was waited for.
    first: Option<Message>,
}

/// Where requests go.
pub(super) struct Outgoing {
    pub(super) sender: MessageSender,
    /// What becomes of the end of the requests.
    pub(super) end: End,
    /// When something was sent last.
    pub(super) sent_at: Rc<Cell<Instant>>,
}

impl<'a> Requests<'a> {
    /// Reads the first one. Nothing there is one that is empty, unless all of standard input is one
    /// request.
    pub(super) async fn open(config: &'a CallConfig) -> anyhow::Result<Self> {
        let largest = config.link.largest();
        let messages = match &config.message {
            Some(message) => stream::iter([Ok(message.clone())]).boxed(),
            None => input::messages(config.input, largest)?.boxed(),
        };
        let mut number = 0_u64;
        let mut messages = messages.map(move |message: io::Result<Bytes>| {
            number += 1;
            let failed = |error| input::failed(format_args!("message {number}"), error);
            let message = message.map_err(failed)?;
            config.link.check(&message).map_err(failed)?;
            Ok(Message::new(message))
        });
        let mut first = messages.next().await.transpose()?;
        if first.is_none() && config.ending == Ending::Message {
            first = Some(Message::new(Bytes::new()));
        }
        let messages = messages.boxed();
        Ok(Self { messages, first })
    }

    pub(super) async fn next(&mut self) -> Result<Option<Message>, Failed> {
        match self.first.take() {
            Some(first) => Ok(Some(first)),
            None => self
                .messages
                .next()
                .await
                .transpose()
                .map_err(Stopped::From),
        }
    }

    /// Sends one, and looks for the next; behind the last one the end.
    pub(super) async fn send(
        &mut self,
        request: Message,
        outgoing: &mut Outgoing,
    ) -> Result<Option<Message>, Failed> {
        outgoing.sender.send(request).await?;
        outgoing.sent_at.set(Instant::now());
        let next = self.next().await?;
        if next.is_none() && outgoing.end == End::Passed {
            outgoing.sender.close().await?;
        }
        Ok(next)
    }

    /// Sends all of them as they come, and the end.
    pub(super) async fn send_all(&mut self, outgoing: &mut Outgoing) -> Result<(), Failed> {
        let first = stream::iter(self.first.take().map(Ok));
        let all = first.chain(&mut self.messages);
        let sent_at = Rc::clone(&outgoing.sent_at);
        let moved = |_: Option<&Message>| sent_at.set(Instant::now());
        forward(all, &mut outgoing.sender, outgoing.end, moved).await
    }
}
