use std::any::type_name;
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures_sink::Sink;
use sync_wrapper::SyncWrapper;
use tokio::io::AsyncWrite;

use super::coalesce::{DEFAULT_CLOSE_TIMEOUT, Shared};
use super::encoding::{Encoding, Framed, Straight};
use super::turn::Turn;
use crate::channel::Error;
use crate::codec::Encode;
use crate::frame::{FramedWrite, QueueWith};
use crate::io::timer::timeout as limited;

/// Sends items of type `T`, to any sink of frames, by any codec.
///
/// The type names neither: a function that takes a `Sender<Job>` works with every transport.
///
/// [`send`](Self::send) is one item, on its way when it returns. For many, [`feed`](Self::feed) each
/// and [`flush`](Self::flush) once, or give them to [`send_all`](Self::send_all): that saves system
/// calls. [`coalesced`](Self::coalesced) has plain `send`s save them too. Finish with [`close`](Self::close):
/// dropping a sender throws away what is queued and not yet written (a framed transport reports
/// that through `tracing`).
///
/// Items are serialised into memory that is used again as soon as the transport is done with it.
///
/// # Which call survives `select!`
///
/// Every future here may be dropped without harm to the stream: no frame is ever torn or sent
/// twice. What becomes of the *item* differs:
///
/// | dropped while waiting | the item |
/// |---|---|
/// | [`send`](Self::send), [`feed`](Self::feed) for room | is dropped with the future, not sent |
/// | [`send`](Self::send) for the flush | is queued and goes with the next flush |
/// | [`reserve`](Self::reserve), [`flush`](Self::flush), [`close`](Self::close) | there is none; call again |
///
/// So to lose nothing and know it, wait with `reserve`, which holds no item, hand the item over with
/// [`Permit::send`], which does not wait, and `flush`.
///
/// # Examples
///
/// ```
/// use std::io;
/// use aqueduct::Sender;
/// use aqueduct::bytes::Bytes;
/// use aqueduct::codec::Text;
/// use futures_util::{SinkExt, sink};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), aqueduct::Error> {
/// let frames = sink::drain::<Bytes>().sink_map_err(io::Error::other);
/// let mut sender: Sender<&str> = Sender::new(frames, Text);
/// sender.send("at once").await?;
/// let permit = sender.reserve().await?;
/// permit.send("without doubt")?;
/// sender.close().await?;
/// # Ok(())
/// # }
/// ```
#[must_use = "sinks do nothing unless polled"]
pub struct Sender<T> {
    /// Gone once it is closed, so that the other side sees the end then and not when we are dropped.
    sink: Option<SyncWrapper<Box<dyn Encoding<T>>>>,
    closing: bool,
    /// `sink` gathers bursts of sends.
    coalesced: Option<Arc<Shared>>,
    /// The last `Sink::poll_ready` was pending.
    wants_room: bool,
    turn: Turn,
    /// The name of the codec.
    codec: &'static str,
}

impl<T> Sender<T> {
    /// Sends to `sink` what `codec` makes of the items.
    ///
    /// Over a byte stream, [`FramedWrite::typed`](crate::frame::FramedWrite::typed) spares each item a copy.
    pub fn new<S, C>(sink: S, codec: C) -> Self
    where
        S: Sink<Bytes, Error = io::Error> + Send + 'static,
        C: Encode<T> + 'static,
    {
        let name = codec.name();
        Self::over(Box::new(Framed::new(Box::pin(sink), codec)), name)
    }

    pub(super) fn over(sink: Box<dyn Encoding<T>>, codec: &'static str) -> Self {
        Self {
            sink: Some(SyncWrapper::new(sink)),
            closing: false,
            coalesced: None,
            wants_room: false,
            turn: Turn::default(),
            codec,
        }
    }

    /// Lets each burst of [`send`](Self::send)s go together, which makes a loop of them several times
    /// as fast: the first is written at once, as ever, and what is sent after it is written together
    /// as soon as the sending task waits for anything or yields. It is made to yield after some
    /// thousand sends at the latest, and a full buffer (64 KiB, on pipes 8 KiB) is written and may
    /// make it wait; neither ends the burst.
    ///
    /// What changes is what `Ok` of a `send` says: of the first of a burst that it was handed to the
    /// system, of the others that this is about to happen. So:
    ///
    /// - An error of the transport can come with a later call.
    /// - A task that computes for long without a pause holds back what it has sent just before:
    ///   [`flush`](Self::flush) first.
    /// - Dropping the sender still writes what was sent, in the background where the other side
    ///   does not take it at once, for 5 s at most. It is lost if the process
    ///   or its runtime ends first: only [`flush`](Self::flush) and [`close`](Self::close) make
    ///   sure.
    ///
    /// The first send spawns a small task for it on the current Tokio runtime; without one, or once
    /// that has ended, each send is written by itself.
    pub fn coalesced(mut self) -> Self {
        if self.coalesced.is_none()
            && let Some(sink) = self.sink.take()
        {
            let (sink, shared) = sink.into_inner().coalesced();
            self.sink = Some(SyncWrapper::new(sink));
            self.coalesced = Some(shared);
        }
        self
    }

    /// Sends one item and waits until it has been handed to the system, with all queued before it
    /// (or is about to be, if the sender is [`coalesced`](Self::coalesced)).
    ///
    /// That it was handed over does not say that the other side has read it.
    ///
    /// # Errors
    ///
    /// [`Error::Encode`]: the item cannot be serialised; nothing of it was sent and the sender goes
    /// on. [`Error::Io`]: the frame is over the limit (then too the sender goes on), or the transport
    /// failed, such as `EPIPE` when the other side has gone. [`Error::Closed`] after
    /// [`close`](Self::close).
    ///
    /// # Cancel safety
    ///
    /// Not wholly: dropped while it waits for room, the item goes with it; dropped while it waits for
    /// the flush, the item is queued and sent by the next flush. Use [`reserve`](Self::reserve) to know.
    pub async fn send(&mut self, item: T) -> Result<(), Error> {
        let Some(shared) = &self.coalesced else {
            self.feed(item).await?;
            return self.flush().await;
        };
        // A loop that never waits would otherwise never let the burst go.
        poll_fn(|cx| {
            let turn = self.turn.poll(cx);
            if turn.is_pending() {
                shared.goes_on();
            }
            turn
        })
        .await;
        self.turn.moved();
        let mut frame = Some(self.open_sink()?.encode(item)?);
        if let Some(shared) = &self.coalesced {
            poll_fn(|cx| shared.poll_send(cx, &mut frame)).await?;
        }
        Ok(())
    }

    /// Sends all items and flushes once, which saves system calls; what is queued goes out on the
    /// way whenever enough of it waits.
    ///
    /// (To send what a [`Stream`](futures_core::Stream) gives, there is
    /// [`SinkExt::send_all`](futures_util::SinkExt::send_all), called by that name, or
    /// `StreamExt::forward`.)
    ///
    /// # Errors
    ///
    /// As for [`send`](Self::send). It ends at the first item that cannot be sent; those before it
    /// are queued, and those behind it dropped.
    ///
    /// # Cancel safety
    ///
    /// Not safe: it is unknown how many items were taken.
    ///
    /// # Examples
    ///
    /// ```
    /// use aqueduct::{Channel, codec::Text};
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), aqueduct::Error> {
    /// let (here, there) = Channel::<String, String>::pair(Text);
    /// let ((mut sender, _), (_, mut receiver)) = (here.into_split(), there.into_split());
    /// sender.send_all(["one".into(), "two".into()]).await?;
    /// let mut items = Vec::new();
    /// assert_eq!(receiver.recv_many(&mut items, 10).await, 2);
    /// # Ok(()) }
    /// ```
    pub async fn send_all(&mut self, items: impl IntoIterator<Item = T>) -> Result<(), Error> {
        for item in items {
            self.feed(item).await?;
        }
        self.flush().await
    }

    /// Queues one item; waits only if the queue is full. Nothing is sure to move before
    /// [`flush`](Self::flush).
    ///
    /// # Errors
    ///
    /// As for [`send`](Self::send).
    ///
    /// # Cancel safety
    ///
    /// Dropped while it waits for room, the item goes with it, unsent. Use
    /// [`reserve`](Self::reserve) to keep it.
    pub async fn feed(&mut self, item: T) -> Result<(), Error> {
        poll_fn(|cx| self.poll_reserve(cx)).await?;
        self.start(item)
    }

    /// Hands all queued items to the system.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if the transport failed. After [`close`](Self::close) there is nothing to do.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: what has not been written stays queued; call it again to go on.
    pub async fn flush(&mut self) -> Result<(), Error> {
        poll_fn(|cx| self.poll_drain(cx)).await
    }

    /// Waits until there is room for one item. The [`Permit`] then takes it without waiting.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if the transport failed, [`Error::Closed`] after [`close`](Self::close).
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: there is no item yet that could be lost. A permit that is dropped unused gives its
    /// room back.
    pub async fn reserve(&mut self) -> Result<Permit<'_, T>, Error> {
        poll_fn(|cx| self.poll_reserve(cx)).await?;
        Ok(Permit { sender: self })
    }

    /// Writes out what is queued and ends the stream: the other side receives all of it, then the
    /// end, where its mechanism has one. Waits 5 s at most.
    ///
    /// On success the transport is closed, even if this value lives on. Closing twice does nothing.
    ///
    /// # Errors
    ///
    /// [`Error::TimedOut`]: the other side did not take everything in time; what is left stays queued
    /// and a further `close` goes on with it. [`Error::Io`]: the transport failed. Either way no new
    /// items are taken any more.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: call it again to go on.
    pub async fn close(&mut self) -> Result<(), Error> {
        self.close_timeout(DEFAULT_CLOSE_TIMEOUT).await
    }

    /// [`close`](Self::close) with a deadline of your own.
    ///
    /// # Errors
    ///
    /// As for [`close`](Self::close).
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: call it again to go on.
    pub async fn close_timeout(&mut self, timeout: Duration) -> Result<(), Error> {
        let closed = poll_fn(|cx| self.poll_end(cx));
        match limited(timeout, closed).await {
            Ok(result) => result,
            Err(_) => Err(Error::TimedOut { after: timeout }),
        }
    }

    /// Hands all queued items to the system, as the end of a `send`: of a coalesced sender another task
    /// may be about to do it. Whether it is done.
    pub(super) async fn flush_burst(&mut self) -> Result<bool, Error> {
        let Some(shared) = &self.coalesced else {
            return self.flush().await.map(|()| true);
        };
        poll_fn(|cx| shared.poll_send(cx, &mut None)).await?;
        Ok(false)
    }

    #[inline]
    fn open_sink(&mut self) -> Result<&mut dyn Encoding<T>, Error> {
        match &mut self.sink {
            Some(sink) if !self.closing => Ok(&mut **sink.get_mut()),
            _ => Err(Error::Closed),
        }
    }

    #[inline]
    fn poll_reserve(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        ready!(self.turn.poll(cx));
        let ready = self.open_sink()?.poll_ready(cx).map_err(Error::Io);
        self.wants_room &= ready.is_pending();
        ready
    }

    #[inline]
    fn start(&mut self, item: T) -> Result<(), Error> {
        self.turn.moved();
        self.open_sink()?.start(item)
    }

    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        match &mut self.sink {
            Some(sink) => sink.get_mut().poll_flush(cx).map_err(Error::Io),
            None => Poll::Ready(Ok(())),
        }
    }

    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.closing = true;
        if let Some(sink) = &mut self.sink {
            ready!(sink.get_mut().poll_close(cx))?;
            self.sink = None;
        }
        Poll::Ready(Ok(()))
    }
}

impl<T> Sink<T> for Sender<T> {
    type Error = Error;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let ready = self.poll_reserve(cx);
        self.wants_room |= ready.is_pending();
        ready
    }

    fn start_send(mut self: Pin<&mut Self>, item: T) -> Result<(), Error> {
        self.start(item)
    }

    /// Pending as long as `poll_ready` is, also where nothing is left to flush: the other side has
    /// to read first, or this task's share of the processor is used up. Some callers (tarpc) flush
    /// until there is room, in a loop which would never end.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        ready!(self.poll_drain(cx))?;
        if self.wants_room && !self.closing {
            return self.poll_ready(cx);
        }
        Poll::Ready(Ok(()))
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.poll_end(cx)
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender")
            .field("item", &type_name::<T>())
            .field("codec", &self.codec)
            .field("closed", &self.closing)
            .finish_non_exhaustive()
    }
}

impl<W: AsyncWrite + Send + Unpin + 'static> FramedWrite<W> {
    /// The sending end of what `codec` makes of the items. They are serialised straight into the buffer
    /// that is written; for [`Sender::new`] each is a frame of its own first.
    ///
    /// # Examples
    ///
    /// ```
    /// use aqueduct::{codec::Text, frame::Framing, pipe};
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (tx, rx) = pipe::pipe()?;
    /// let mut tx = tx.framed(Framing::length()).typed(Text);
    /// let mut rx = rx.framed(Framing::length()).typed::<String>(Text);
    /// tx.send("hello").await?;
    /// assert_eq!(rx.recv().await.transpose()?, Some("hello".into()));
    /// # Ok(()) }
    /// ```
    pub fn typed<T>(self, codec: impl Encode<T> + 'static) -> Sender<T> {
        straight(self, codec)
    }
}

/// A sender over a sink whose buffer items are serialised into, unless items are frames already or it
/// has no such buffer.
pub(crate) fn straight<T, S, C>(mut sink: S, codec: C) -> Sender<T>
where
    S: QueueWith + Send + 'static,
    C: Encode<T> + 'static,
{
    if codec.hands_over() || !sink.is_straight() {
        return Sender::new(sink, codec);
    }
    let name = codec.name();
    Sender::over(Box::new(Straight { sink, codec }), name)
}

/// Room for one item in a [`Sender`], from [`Sender::reserve`].
#[must_use = "a permit that is dropped sends nothing"]
#[derive(Debug)]
pub struct Permit<'a, T> {
    sender: &'a mut Sender<T>,
}

impl<T> Permit<'_, T> {
    /// Queues the item, at once. [`Sender::flush`] makes sure that it moves.
    ///
    /// # Errors
    ///
    /// [`Error::Encode`] if it cannot be serialised, [`Error::Io`] if its frame is over the limit;
    /// nothing of it is sent and the sender goes on.
    pub fn send(self, item: T) -> Result<(), Error> {
        self.sender.start(item)
    }
}

#[cfg(test)]
mod tests;
