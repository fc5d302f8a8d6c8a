//! The ends of a stream of Aqueduct's frames.

use std::io;

use ::aqueduct::frame::{FramedRead, FramedWrite};
use bytes::Bytes;
use futures_util::{Sink, SinkExt, Stream, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite};

use super::ended;
use crate::check::Check;
use crate::message::Message;
use crate::session::{Receives, Sends};

/// Frames of bytes, on their way out.
#[derive(Debug)]
pub struct Tx<S> {
    /// Takes the frames.
    pub sink: S,
    /// Whether each is flushed.
    pub each: bool,
}

impl<S> Sends for Tx<S>
where
    S: Sink<Bytes, Error = io::Error> + Send + Unpin + 'static,
{
    async fn send(&mut self, message: &'static Message) -> anyhow::Result<()> {
        if self.each {
            return Ok(self.sink.send(message.bytes.clone()).await?);
        }
        Ok(self.sink.feed(message.bytes.clone()).await?)
    }

    async fn flush(&mut self) -> anyhow::Result<()> {
        Ok(self.sink.flush().await?)
    }
}

/// Frames of bytes, on their way in.
#[derive(Debug)]
pub struct Rx<R>(pub R);

impl<R> Receives for Rx<R>
where
    R: Stream<Item = io::Result<Bytes>> + Send + Unpin + 'static,
{
    async fn receive(&mut self, check: &mut Check) -> anyhow::Result<()> {
        let frame = self.0.next().await;
        check.frame(&frame.ok_or_else(ended)??)
    }
}

/// Frames on loan, on their way out: copied once.
#[derive(Debug)]
pub struct Lends<W>(pub FramedWrite<W>);

impl<W: AsyncWrite + Send + Unpin + 'static> Sends for Lends<W> {
    async fn send(&mut self, message: &'static Message) -> anyhow::Result<()> {
        Ok(self.0.feed_borrowed(&message.bytes).await?)
    }

    async fn flush(&mut self) -> anyhow::Result<()> {
        Ok(self.0.flush().await?)
    }
}

/// Frames on loan, on their way in: not copied.
#[derive(Debug)]
pub struct Borrows<R>(pub FramedRead<R>);

impl<R: AsyncRead + Send + Unpin + 'static> Receives for Borrows<R> {
    async fn receive(&mut self, check: &mut Check) -> anyhow::Result<()> {
        let frame = self.0.next_borrowed().await;
        check.frame(frame.ok_or_else(ended)??)
    }
}
