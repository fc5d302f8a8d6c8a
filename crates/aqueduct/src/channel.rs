//! [`Channel`], [`Sender`] and [`Receiver`]: typed items over any transport.

mod coalesce;
mod decoding;
mod encoding;
mod error;
mod handle;
mod memory;
#[cfg(test)]
mod mock;
mod receiver;
mod sender;
mod turn;

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_core::{FusedStream, Stream};
use futures_sink::Sink;

pub use self::error::Error;
pub use self::handle::SenderHandle;
pub use self::receiver::Receiver;
pub(crate) use self::receiver::lent;
pub(crate) use self::sender::straight;
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
    /// Replies to calls that were dropped.
    owed: u64,
}

impl<Out, In> Channel<Out, In> {
    /// Joins two halves.
    pub fn new(sender: Sender<Out>, receiver: Receiver<In>) -> Self {
        Self {
            sender,
            receiver,
            owed: 0,
        }
    }

    /// Takes the halves apart, for two tasks. Nothing is lost; [`new`](Self::new) joins them again.
    pub fn into_split(self) -> (Sender<Out>, Receiver<In>) {
        (self.sender, self.receiver)
    }

    /// Borrows both halves at once, to wait for both in one task.
    ///
    /// (`split` is the `StreamExt` method, which puts a lock between the halves; see
    /// [`into_split`](Self::into_split).)
    pub fn split_mut(&mut self) -> (&mut Sender<Out>, &mut Receiver<In>) {
        (&mut self.sender, &mut self.receiver)
    }

    /// Sends one item and flushes: [`Sender::send`].
    ///
    /// # Errors
    ///
    /// As there.
    ///
    /// # Cancel safety
    ///
    /// As there: not safe in that the item may or may not be sent; use [`Sender::reserve`].
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

    /// Sends one item and waits for the next one to come: a request and its reply, in strict turns.
    ///
    /// Over a protocol whose peer answers each item with one. Many requests at a time, deadlines and
    /// cancellation are [`Caller`](crate::Caller)'s.
    ///
    /// # Errors
    ///
    /// As for [`send`](Self::send) and [`recv`](Self::recv); [`UnexpectedEof`](io::ErrorKind::UnexpectedEof)
    /// in [`Error::Io`] if the stream ends before the reply.
    ///
    /// # Cancel safety
    ///
    /// As for [`send`](Self::send) while it sends. Dropped after that, its reply is still to come, and the
    /// next `call` throws it away.
    ///
    /// # Examples
    ///
    /// ```
    /// use aqueduct::Endpoint;
    /// use aqueduct::codec::Text;
    /// use aqueduct::connect::Options;
    /// use aqueduct::frame::Framing;
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let calculator: Endpoint = "exec:cat".parse()?;
    /// let mut options = Options::new();
    /// options.framing(Framing::lines());
    /// let mut calculator = options.connect(&calculator).await?.channel::<String, String>(Text);
    /// assert_eq!(calculator.call("6 * 7".into()).await?, "6 * 7");
    /// # Ok(()) }
    /// ```
    pub async fn call(&mut self, item: Out) -> Result<In, Error> {
        self.sender.reserve().await?.send(item)?;
        let before = self.owed;
        self.owed += 1;
        self.flush().await?;
        for _ in 0..before {
            if self.recv().await.is_none() {
                break;
            }
        }
        let ended = || Error::Io(io::ErrorKind::UnexpectedEof.into());
        self.recv().await.ok_or_else(ended)?
    }

    /// Receives the next item: [`Receiver::recv`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn recv(&mut self) -> Option<Result<In, Error>> {
        let item = self.receiver.recv().await;
        self.owed = self.owed.saturating_sub(1);
        item
    }
}

impl<Out, In> Stream for Channel<Out, In> {
    type Item = Result<In, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let item = ready!(Pin::new(&mut self.receiver).poll_next(cx));
        self.owed = self.owed.saturating_sub(1);
        Poll::Ready(item)
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
