//! [`Channel`], [`Sender`] and [`Receiver`]: typed items over any transport.

mod coalesce;
mod decoding;
mod encoding;
mod error;
mod memory;
#[cfg(test)]
mod mock;
mod receiver;
mod sender;
mod turn;

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_core::{FusedStream, Stream};
use futures_sink::Sink;

pub use self::error::Error;
pub use self::receiver::Receiver;
pub use self::sender::{Permit, Sender};

/// Both directions of a conversation: sends `Out`, receives `In`.
///
/// It joins any [`Sender`] and any [`Receiver`], also over two transports of different kinds, such
/// as two FIFOs, or a queue there and a pipe back. The two halves share nothing: one may end or be
/// closed while the other goes on.
///
/// It is a [`Stream`] of what is received and a [`Sink`] for what is sent.
///
/// # Examples
///
/// ```
/// use aqueduct::Channel;
/// use aqueduct::codec::Text;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), aqueduct::Error> {
/// let (mut here, mut there) = Channel::<String, String>::pair(Text);
/// here.send("ping".into()).await?;
/// assert_eq!(there.recv().await.transpose()?, Some("ping".into()));
/// there.send("pong".into()).await?;
/// assert_eq!(here.recv().await.transpose()?, Some("pong".into()));
/// # Ok(())
/// # }
/// ```
#[must_use = "a channel does nothing unless items are sent or received"]
#[derive(Debug)]
pub struct Channel<Out, In> {
    sender: Sender<Out>,
    receiver: Receiver<In>,
}

impl<Out, In> Channel<Out, In> {
    /// Joins two halves.
    pub fn new(sender: Sender<Out>, receiver: Receiver<In>) -> Self {
        Self { sender, receiver }
    }

    /// Takes the halves apart, for two tasks. Nothing is lost; [`new`](Self::new) joins them again.
    pub fn into_split(self) -> (Sender<Out>, Receiver<In>) {
        (self.sender, self.receiver)
    }

    /// Lets each burst of [`send`](Self::send)s go together: [`Sender::coalesced`].
    pub fn coalesced(mut self) -> Self {
        self.sender = self.sender.coalesced();
        self
    }

    /// Borrows both halves at once, to wait for both in one task.
    pub fn split(&mut self) -> (&mut Sender<Out>, &mut Receiver<In>) {
        (&mut self.sender, &mut self.receiver)
    }

    /// The sending half.
    pub fn sender(&self) -> &Sender<Out> {
        &self.sender
    }

    /// The receiving half.
    pub fn receiver(&self) -> &Receiver<In> {
        &self.receiver
    }

    /// Sends one item and flushes: [`Sender::send`].
    ///
    /// # Errors
    ///
    /// As there.
    ///
    /// # Cancel safety
    ///
    /// As there: not safe in that the item may or may not be sent; use [`reserve`](Self::reserve).
    pub async fn send(&mut self, item: Out) -> Result<(), Error> {
        self.sender.send(item).await
    }

    /// Queues one item without flushing: [`Sender::feed`].
    ///
    /// # Errors
    ///
    /// As there.
    ///
    /// # Cancel safety
    ///
    /// As there: a dropped future may take the item with it.
    pub async fn feed(&mut self, item: Out) -> Result<(), Error> {
        self.sender.feed(item).await
    }

    /// Sends all items of an iterator and flushes: [`Sender::send_all`].
    ///
    /// # Errors
    ///
    /// As there.
    ///
    /// # Cancel safety
    ///
    /// As there.
    pub async fn send_all(&mut self, items: impl IntoIterator<Item = Out>) -> Result<(), Error> {
        self.sender.send_all(items).await
    }

    /// Writes out all queued items: [`Sender::flush`].
    ///
    /// # Errors
    ///
    /// As there.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn flush(&mut self) -> Result<(), Error> {
        self.sender.flush().await
    }

    /// Waits for room for one item: [`Sender::reserve`].
    ///
    /// # Errors
    ///
    /// As there.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn reserve(&mut self) -> Result<Permit<'_, Out>, Error> {
        self.sender.reserve().await
    }

    /// Closes the sending half: [`Sender::close`]. Receiving goes on.
    ///
    /// # Errors
    ///
    /// As there.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: call it again to go on.
    pub async fn close(&mut self) -> Result<(), Error> {
        self.sender.close().await
    }

    /// Closes the sending half with a deadline of your own: [`Sender::close_timeout`].
    ///
    /// # Errors
    ///
    /// As there.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: call it again to go on.
    pub async fn close_timeout(&mut self, timeout: Duration) -> Result<(), Error> {
        self.sender.close_timeout(timeout).await
    }

    /// Receives the next item: [`Receiver::recv`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn recv(&mut self) -> Option<Result<In, Error>> {
        self.receiver.recv().await
    }

    /// Receives what is there, at most `max` items: [`Receiver::recv_many`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn recv_many(&mut self, buf: &mut Vec<Result<In, Error>>, max: usize) -> usize {
        self.receiver.recv_many(buf, max).await
    }
}

impl<Out, In> Stream for Channel<Out, In> {
    type Item = Result<In, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Pin::new(&mut self.receiver).poll_next(cx)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.receiver.size_hint()
    }
}

impl<Out, In> FusedStream for Channel<Out, In> {
    fn is_terminated(&self) -> bool {
        self.receiver.is_terminated()
    }
}

impl<Out, In> Sink<Out> for Channel<Out, In> {
    type Error = Error;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Pin::new(&mut self.sender).poll_ready(cx)
    }

    fn start_send(mut self: Pin<&mut Self>, item: Out) -> Result<(), Error> {
        Pin::new(&mut self.sender).start_send(item)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Pin::new(&mut self.sender).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Pin::new(&mut self.sender).poll_close(cx)
    }
}
