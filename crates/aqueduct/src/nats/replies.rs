//! Served subjects of core NATS: each message is a connection, over which one reply goes back.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use async_nats::{Client, Subject};
use bytes::Bytes;
use futures_sink::Sink;
use futures_util::future::BoxFuture;
use futures_util::{StreamExt, stream};

use super::failures::{FAILED, reply_with};
use super::incoming::Incoming;
use super::incoming::subscription::{GiveBack, Request};
use crate::connect::{Accept, Connection, Link, MessageLink, MessageReceiver, MessageSender, Peer};
use crate::frame::{FrameError, Framing};

/// A subscription whose messages are accepted.
pub(super) struct Requests {
    /// `None` once the receiver was taken.
    pub(super) incoming: Option<Incoming<Request>>,
    pub(super) give_back: GiveBack,
    pub(super) framing: Framing,
}

impl Accept for Requests {
    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Connection>>> {
        let Some(incoming) = &mut self.incoming else {
            return Poll::Ready(None);
        };
        let next = ready!(incoming.poll_item(cx));
        let connection = |it: Request| {
            let peer = Peer::Subject(it.message.subject.as_str().into());
            Connection::messages(Exchange(it), self.framing.clone(), peer)
        };
        Poll::Ready(next.map(|next| next.map(connection)))
    }

    fn closed(&self) -> BoxFuture<'static, ()> {
        let give_back = self.give_back.clone();
        Box::pin(async move { give_back.closed().await })
    }

    fn take_receiver(&mut self) -> Option<MessageReceiver> {
        self.incoming.take().map(MessageReceiver::new)
    }
}

impl Drop for Requests {
    fn drop(&mut self) {
        if let Some(incoming) = self.incoming.take() {
            // There is room for one, and nothing else is sent. Fails if the subscription has ended.
            let _ = self.give_back.try_send(incoming);
        }
    }
}

/// One request.
struct Exchange(Request);

impl Exchange {
    fn body(&self) -> io::Result<Bytes> {
        Ok(self.0.message.payload.clone())
    }
}

impl MessageLink for Exchange {
    fn max_message(&self) -> Option<usize> {
        Some(self.0.client.max_payload())
    }

    fn split(self: Box<Self>) -> (MessageSender, MessageReceiver) {
        let body = std::future::ready(self.body());
        let incoming = MessageReceiver::frames(stream::once(body));
        (self.into_sender(), incoming)
    }

    fn into_receiver(self: Box<Self>) -> MessageReceiver {
        self.split().1
    }

    fn into_sender(self: Box<Self>) -> MessageSender {
        let Request {
            client, message, ..
        } = self.0;
        MessageSender::frames(Reply {
            client,
            to: message.reply,
            sending: None,
        })
    }

    fn into_link(self: Box<Self>) -> Link {
        // The stream of one message ends at once, which does not mean that its sender has gone.
        let body = stream::once(std::future::ready(self.body())).chain(stream::pending());
        Link::frames(self.into_sender(), MessageReceiver::frames(body)).without_end()
    }
}

/// Where the reply to a request goes.
struct Reply {
    client: Client,
    to: Option<Subject>,
    sending: Option<BoxFuture<'static, io::Result<()>>>,
}

impl Reply {
    fn poll_sending(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(sending) = &mut self.sending {
            let sent = ready!(sending.as_mut().poll(cx));
            self.sending = None;
            sent?;
        }
        Poll::Ready(Ok(()))
    }
}

impl Sink<Bytes> for Reply {
    type Error = io::Error;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_sending(cx)
    }

    fn start_send(mut self: Pin<&mut Self>, body: Bytes) -> io::Result<()> {
        let (len, max) = (body.len(), self.client.max_payload());
        let too_large = (len > max).then_some(FrameError::TooLarge { len, max });
        let Some(to) = self.to.clone() else {
            // An empty reply carries nothing that could be lost.
            return match len {
                0 => Ok(()),
                _ => Err(io::Error::new(
                    io::ErrorKind::NotConnected,
                    "cannot reply: the message has no reply subject; send it with `aqueduct call`",
                )),
            };
        };
        let client = self.client.clone();
        self.sending = Some(Box::pin(async move {
            let Some(error) = too_large else {
                client.publish(to, body).await.map_err(lost)?;
                return client.flush().await.map_err(lost);
            };
            // Its caller waits, and learns why.
            let text = error.to_string();
            let told = reply_with(&client, to, FAILED, &text);
            told.await.map_err(lost)?;
            client.flush().await.map_err(lost)?;
            Err(io::Error::new(io::ErrorKind::InvalidInput, error))
        }));
        Ok(())
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_sending(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_sending(cx)
    }
}

fn lost(error: impl std::fmt::Display) -> io::Error {
    let text = format!("cannot reply: the connection to the server broke: {error}");
    io::Error::new(io::ErrorKind::ConnectionReset, text)
}
