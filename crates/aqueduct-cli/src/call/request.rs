//! [`Requests`]: what is sent.

use std::cell::Cell;
use std::io;
use std::rc::Rc;

use aqueduct::bytes::Bytes;
use aqueduct::connect::{Message, MessageSender};
use futures_util::stream::{self, BoxStream};
use futures_util::{FutureExt, SinkExt, StreamExt};
use tokio::time::Instant;

use crate::config::{CallConfig, Ending};
use crate::input;

/// Requests that are there, or come from standard input.
pub(super) struct Requests<'a> {
    config: &'a CallConfig,
    messages: BoxStream<'static, io::Result<Bytes>>,
    /// How many were taken.
    number: u64,
    /// The one that was read before anybody was waited for.
    first: Option<Bytes>,
}

/// Why a request was not sent, or not all of it.
pub(super) enum Failed {
    /// Standard input has no such message.
    Input(anyhow::Error),
    /// The peer takes no more.
    Peer(io::Error),
}

impl From<io::Error> for Failed {
    fn from(error: io::Error) -> Self {
        Self::Peer(error)
    }
}

/// Where requests go.
pub(super) struct Outgoing {
    pub(super) sender: MessageSender,
    /// Whether the end of the requests is sent.
    pub(super) ends: bool,
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
        let mut requests = Self {
            config,
            messages,
            number: 0,
            first: None,
        };
        requests.first = match requests.next().await {
            Ok(first) => first,
            Err(Failed::Input(error)) => return Err(error),
            Err(Failed::Peer(error)) => return Err(error.into()),
        };
        if requests.first.is_none() && config.ending == Ending::Message {
            requests.first = Some(Bytes::new());
        }
        Ok(requests)
    }

    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, Failed> {
        if let Some(first) = self.first.take() {
            return Ok(Some(first));
        }
        let Some(next) = self.messages.next().await else {
            return Ok(None);
        };
        self.number += 1;
        let what = format_args!("message {}", self.number);
        let failed = |error| Failed::Input(input::failed(what, error));
        let message = next.map_err(failed)?;
        self.config.link.check(&message).map_err(failed)?;
        Ok(Some(message))
    }

    /// Sends one, and looks for the next; behind the last one the end.
    pub(super) async fn send(
        &mut self,
        request: Bytes,
        outgoing: &mut Outgoing,
    ) -> Result<Option<Bytes>, Failed> {
        outgoing.feed(request).await?;
        outgoing.flush().await?;
        let next = self.next().await?;
        if next.is_none() {
            outgoing.end().await?;
        }
        Ok(next)
    }

    /// Sends all of them as they come, and the end.
    pub(super) async fn send_all(&mut self, outgoing: &mut Outgoing) -> Result<(), Failed> {
        loop {
            let next = match self.next().now_or_never() {
                Some(next) => next,
                None => {
                    outgoing.flush().await?;
                    self.next().await
                }
            };
            match next {
                Ok(Some(request)) => outgoing.feed(request).await?,
                Ok(None) => break,
                Err(error) => {
                    // Those before it are good.
                    outgoing.flush().await?;
                    return Err(error);
                }
            }
        }
        outgoing.flush().await?;
        outgoing.end().await
    }
}

impl Outgoing {
    async fn feed(&mut self, request: Bytes) -> Result<(), Failed> {
        self.sender.feed(Message::new(request)).await?;
        self.sent_at.set(Instant::now());
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), Failed> {
        self.sender.flush().await?;
        self.sent_at.set(Instant::now());
        Ok(())
    }

    async fn end(&mut self) -> Result<(), Failed> {
        if self.ends {
            self.sender.close().await?;
        }
        Ok(())
    }
}
