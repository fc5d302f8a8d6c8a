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

/// The sending end for items of type `T`, over any sink of frames and any codec.
///
/// The type names neither: a function that takes a `Sender<Job>` works with every transport.
///
/// [`send`](Self::send) passes one item to the system. To save system calls, [`feed`](Self::feed)
/// many items and [`flush`](Self::flush) once, or use [`send_all`](Self::send_all), or make plain
/// `send`s [`coalesced`](Self::coalesced). Finish with [`close`](Self::close): dropping a sender
/// discards queued items that are not yet written. A framed transport reports this through
/// `tracing`.
///
/// Items are serialised into memory that is reused once the transport is done with it.
///
/// # Cancel safety
///
/// Every future may be dropped: no frame is ever torn or sent twice. The *item* differs:
///
/// | dropped while waiting | the item |
/// |---|---|
/// | [`send`](Self::send), [`feed`](Self::feed) for room | is dropped with the future, not sent |
/// | [`send`](Self::send) for the flush | is queued and sent with the next flush |
/// | [`reserve`](Self::reserve), [`flush`](Self::flush), [`close`](Self::close) | there is none; call again |
///
/// To use `select!` without losing an item, wait with `reserve`, which holds no item. Then hand the
/// item over with [`Permit::send`], which does not wait, and `flush`.
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
    /// `None` after closing, so that the peer sees the end then and not when this is dropped.
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
    /// Creates a sender that encodes items with `codec` into frames for `sink`.
    ///
    /// Over a byte stream, [`FramedWrite::typed`](crate::frame::FramedWrite::typed) saves one copy
    /// per item.
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

    /// Makes bursts of [`send`](Self::send)s share system calls.
    ///
    /// This makes a loop of sends several times as fast. The first item of a burst is written at
    /// once. Items sent after it are written together as soon as the sending task waits or yields.
    /// The task is made to yield after about a thousand sends. A full buffer (64 KiB, on pipes 8
    /// KiB) is written earlier and may make the task wait; neither ends the burst.
    ///
    /// For the first item of a burst, `Ok` means that the system has it. For the others it means
    /// that the system is about to get it. Therefore:
    ///
    /// - An error of the transport can be returned by a later call.
    /// - A task that computes for long without waiting holds back what it sent just before.
    ///   [`flush`](Self::flush) first.
    /// - Dropping the sender still writes what was sent. If the peer does not take it at once, this
    ///   happens in the background, for 5 s at most. Items are lost if the process or its runtime
    ///   ends first; [`flush`](Self::flush) or [`close`](Self::close) to be sure.
    ///
    /// The first send spawns a small task on the current Tokio runtime. Without a runtime, or after
    /// it has ended, each send is written separately.
    ///
    /// # Examples
    ///
    /// ```
    /// use aqueduct::{Channel, codec::Text};
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), aqueduct::Error> {
    /// let (here, mut there) = Channel::<String, String>::pair(Text);
    /// let (sender, _receiver) = here.into_split();
    /// let mut sender = sender.coalesced();
    /// for n in 0..3 {
    ///     sender.send(format!("item {n}")).await?;
    /// }
    /// sender.close().await?;
    /// while let Some(item) = there.recv().await {
    ///     println!("{}", item?);
    /// }
    /// # Ok(()) }
    /// ```
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

    /// Sends one item and waits until the system has it.
    ///
    /// Items queued before it are sent too. If the sender is [`coalesced`](Self::coalesced), the
    /// system may be about to get the item. Success does not mean that the peer has read it.
    ///
    /// # Errors
    ///
    /// - [`Error::Encode`]: the item cannot be serialised. Nothing of it was sent, and the sender
    ///   goes on.
    /// - [`Error::Io`]: the frame is over the limit, and the sender goes on. Or the transport
    ///   failed, with `EPIPE` for example if the peer has gone.
    /// - [`Error::Closed`] after [`close`](Self::close).
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe. If the future is dropped while it waits for room, the item is dropped. If
    /// it is dropped while it waits for the flush, the item stays queued and is sent by the next
    /// flush. Use [`reserve`](Self::reserve) to know.
    pub async fn send(&mut self, item: T) -> Result<(), Error> {
        let Some(shared) = &self.coalesced else {
            self.feed(item).await?;
            return self.flush().await;
        };
        // A loop that never waits would otherwise never end the burst.
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

    /// Sends all items and flushes once, which saves system calls.
    ///
    /// Queued items are written on the way whenever there are enough of them. To send the items of
    /// a [`Stream`](futures_core::Stream), call
    /// [`SinkExt::send_all`](futures_util::SinkExt::send_all) by its full name, or
    /// `StreamExt::forward`.
    ///
    /// # Errors
    ///
    /// As for [`send`](Self::send). It ends at the first item that cannot be sent. Items before it
    /// stay queued, items after it are dropped.
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe: after a drop it is unknown how many items were taken.
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

    /// Queues one item, and waits only if the queue is full.
    ///
    /// [`flush`](Self::flush) makes sure that it is sent.
    ///
    /// # Errors
    ///
    /// As for [`send`](Self::send).
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe. If the future is dropped while it waits for room, the item is dropped. Use
    /// [`reserve`](Self::reserve) to keep it.
    pub async fn feed(&mut self, item: T) -> Result<(), Error> {
        poll_fn(|cx| self.poll_reserve(cx)).await?;
        self.start(item)
    }

    /// Hands all queued items to the system.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if the transport failed. After [`close`](Self::close) it does nothing.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: unwritten items stay queued; call it again to continue.
    pub async fn flush(&mut self) -> Result<(), Error> {
        poll_fn(|cx| self.poll_drain(cx)).await
    }

    /// Waits until there is room for one item.
    ///
    /// The [`Permit`] then takes the item without waiting.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if the transport failed, [`Error::Closed`] after [`close`](Self::close).
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: it holds no item. An unused permit gives its room back.
    ///
    /// # Examples
    ///
    /// ```
    /// use aqueduct::{Channel, codec::Text};
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), aqueduct::Error> {
    /// let (here, mut there) = Channel::<String, String>::pair(Text);
    /// let (mut sender, _receiver) = here.into_split();
    /// let mut jobs = vec!["sort the attic".to_string()];
    /// tokio::select! {
    ///     permit = sender.reserve() => permit?.send(jobs.remove(0))?,
    ///     () = std::future::pending() => {} // Anything else: no job is lost.
    /// }
    /// sender.close().await?;
    /// assert_eq!(there.recv().await.transpose()?.as_deref(), Some("sort the attic"));
    /// # Ok(()) }
    /// ```
    pub async fn reserve(&mut self) -> Result<Permit<'_, T>, Error> {
        poll_fn(|cx| self.poll_reserve(cx)).await?;
        Ok(Permit { sender: self })
    }

    /// Flushes and ends the stream, within 5 s.
    ///
    /// The peer receives all items, then the end of stream, if the mechanism has one. On success
    /// the transport is closed, even if this value lives on. Closing twice does nothing.
    ///
    /// # Errors
    ///
    /// - [`Error::TimedOut`]: the peer did not take everything in time. The rest stays queued;
    ///   another `close` continues.
    /// - [`Error::Io`]: the transport failed.
    ///
    /// In both cases no new items are accepted.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: call it again to continue.
    pub async fn close(&mut self) -> Result<(), Error> {
        self.close_timeout(DEFAULT_CLOSE_TIMEOUT).await
    }

    /// Flushes and ends the stream, within `timeout`; see [`close`](Self::close).
    ///
    /// # Errors
    ///
    /// As for [`close`](Self::close).
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: call it again to continue.
    pub async fn close_timeout(&mut self, timeout: Duration) -> Result<(), Error> {
        let closed = poll_fn(|cx| self.poll_end(cx));
        match limited(timeout, closed).await {
            Ok(result) => result,
            Err(_) => Err(Error::TimedOut { after: timeout }),
        }
    }

    /// Hands all queued items to the system at the end of a `send`. Returns whether it is done: for
    /// a coalesced sender another task may be about to do it.
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

    /// Flushes; pending as long as `poll_ready` is, even if nothing is left.
    ///
    /// The peer has to read first, or this task's budget is used up. Some callers (tarpc) flush in a
    /// loop until there is room, which would otherwise never end.
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
    /// Creates a sender of items that `codec` turns into bodies.
    ///
    /// Items are serialised straight into the write buffer. With [`Sender::new`] each item is a
    /// separate frame first.
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

/// Creates a sender that serialises into the sink's buffer, unless items are frames already or the
/// sink has no such buffer.
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

/// Room for one item in a [`Sender`]; see [`Sender::reserve`].
///
/// # Examples
///
/// ```
/// use aqueduct::{Channel, codec::Text};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), aqueduct::Error> {
/// let (here, mut there) = Channel::<String, String>::pair(Text);
/// let (mut sender, _receiver) = here.into_split();
/// let permit = sender.reserve().await?;
/// permit.send("hello".into())?; // Queued, without waiting.
/// sender.flush().await?;
/// assert_eq!(there.recv().await.transpose()?.as_deref(), Some("hello"));
/// # Ok(()) }
/// ```
#[must_use = "a permit that is dropped sends nothing"]
#[derive(Debug)]
pub struct Permit<'a, T> {
    sender: &'a mut Sender<T>,
}

impl<T> Permit<'_, T> {
    /// Queues the item at once. [`Sender::flush`] makes sure that it is sent.
    ///
    /// # Errors
    ///
    /// [`Error::Encode`] if it cannot be serialised, [`Error::Io`] if its frame is over the limit.
    /// Nothing of it is sent, and the sender goes on.
    pub fn send(self, item: T) -> Result<(), Error> {
        self.sender.start(item)
    }
}

#[cfg(test)]
mod tests;
