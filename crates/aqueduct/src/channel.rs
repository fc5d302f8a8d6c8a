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

use crate::frame::Late;

pub use self::error::Error;
pub use self::handle::SenderHandle;
pub use self::receiver::Receiver;
pub(crate) use self::receiver::lent;
pub(crate) use self::sender::straight;
pub use self::sender::{Permit, Sender};

/// Both directions of a conversation: sends `Out` and receives `In`.
///
/// A channel joins any [`Sender`] and any [`Receiver`], also over two transports, such as two
/// FIFOs. The halves share nothing: one may end or be closed while the other goes on.
///
/// It is a [`Stream`] of received items and a [`Sink`] of items to send.
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
    /// How many connections were lost when the last call was sent.
    lost: u64,
}

impl<Out, In> Channel<Out, In> {
    /// Joins two halves.
    ///
    /// # Examples
    ///
    /// ```
    /// use aqueduct::codec::Text;
    /// use aqueduct::frame::Framing;
    /// use aqueduct::{Channel, pipe};
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (tx, rx) = pipe::pipe()?;
    /// let tx = tx.framed(Framing::lines()).typed::<String>(Text);
    /// let rx = rx.framed(Framing::lines()).typed::<String>(Text);
    /// let mut echo = Channel::new(tx, rx);
    /// assert_eq!(echo.call("hello".into()).await?, "hello");
    /// # Ok(()) }
    /// ```
    pub fn new(sender: Sender<Out>, receiver: Receiver<In>) -> Self {
        Self {
            sender,
            receiver,
            owed: 0,
            lost: 0,
        }
    }

    /// Splits the channel into its halves, for two tasks. Nothing is lost.
    ///
    /// [`new`](Self::new) joins them again.
    pub fn into_split(self) -> (Sender<Out>, Receiver<In>) {
        (self.sender, self.receiver)
    }

    /// Borrows both halves, to wait for both in one task.
    ///
    /// (`StreamExt::split` is another method, which puts a lock between the halves; see
    /// [`into_split`](Self::into_split).)
    pub fn split_mut(&mut self) -> (&mut Sender<Out>, &mut Receiver<In>) {
        (&mut self.sender, &mut self.receiver)
    }

    /// Sends one item and flushes, as [`Sender::send`] does.
    ///
    /// # Errors
    ///
    /// See [`Sender::send`].
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe: after a drop the item may or may not be sent. Use [`Sender::reserve`] to
    /// know.
    pub async fn send(&mut self, item: Out) -> Result<(), Error> {
        self.sender.send(item).await
    }

    /// Queues one item without flushing, as [`Sender::feed`] does.
    ///
    /// # Errors
    ///
    /// See [`Sender::feed`].
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe: a dropped future may drop the item.
    pub async fn feed(&mut self, item: Out) -> Result<(), Error> {
        self.sender.feed(item).await
    }

    /// Flushes all queued items, as [`Sender::flush`] does.
    ///
    /// # Errors
    ///
    /// See [`Sender::flush`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn flush(&mut self) -> Result<(), Error> {
        self.sender.flush().await
    }

    /// Closes the sending half, as [`Sender::close`] does. Receiving goes on.
    ///
    /// # Errors
    ///
    /// See [`Sender::close`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: call it again to continue.
    pub async fn close(&mut self) -> Result<(), Error> {
        self.sender.close().await
    }

    /// Sends one item and waits for the next one to arrive: a request and its reply.
    ///
    /// For protocols in which the peer answers each item with one, in turn. For many requests at a
    /// time, deadlines and cancellation, use [`Caller`](crate::Caller).
    ///
    /// # Errors
    ///
    /// As for [`send`](Self::send) and [`recv`](Self::recv). If the stream ends before the reply,
    /// [`Error::Io`] holds an [`UnexpectedEof`](io::ErrorKind::UnexpectedEof).
    ///
    /// # Cancel safety
    ///
    /// While it sends, as for [`send`](Self::send). If it is dropped later, its reply is not taken for
    /// that of the next `call`:
    ///
    /// - Usually the next `call` waits for the pending reply, and discards it. Do not take it with
    ///   [`split_mut`](Self::split_mut) in between.
    /// - `nats:` discards it when it arrives, if it does.
    /// - Over `udp:` a reply may be lost, and over a connection that
    ///   [reconnects](crate::connect::Options::reconnect) it may have gone with the connection before.
    ///   Where neither is known, the next `call` fails, with an [`io::Error`] of kind
    ///   [`Other`](io::ErrorKind::Other). Connect again.
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
        self.owed = self.late(self.owed, 0)?;
        self.sender.reserve().await?.send(item)?;
        let before = self.owed;
        self.owed += 1;
        self.flush().await?;
        let before = self.late(before, 1)?;
        self.owed = before + 1;
        for _ in 0..before {
            if self.recv().await.is_none() {
                break;
            }
        }
        let ended = || Error::Io(io::ErrorKind::UnexpectedEof.into());
        self.recv().await.ok_or_else(ended)?
    }

    /// How many of the `owed` replies are still to be discarded.
    fn late(&mut self, owed: u64, sent: u64) -> Result<u64, Error> {
        let before = self.lost;
        match self.receiver.late(owed, sent) {
            Late::InOrder { lost } if owed == 0 || lost == before => {
                self.lost = lost;
                Ok(owed)
            }
            Late::Dropped => Ok(0),
            _ if owed == 0 => Ok(0),
            _ => Err(Error::Io(io::Error::other(
                "the reply to a call that was dropped may arrive late or never, and would be taken for that of \
                 the next call: connect again",
            ))),
        }
    }

    /// Receives the next item, as [`Receiver::recv`] does.
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
