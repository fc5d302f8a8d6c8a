use std::any::type_name;
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_core::{FusedStream, Stream};
use sync_wrapper::SyncWrapper;
use tokio::io::AsyncRead;

use super::decoding::{Decoding, Framed, Lent};
use super::turn::Turn;
use crate::channel::Error;
use crate::codec::Decode;
use crate::frame::{FramedRead, Late, Lend};

/// The receiving end for items of type `T`, over any stream of frames and any codec.
///
/// The type names neither: a function that takes a `Receiver<Job>` works with every transport.
///
/// A frame whose body does not parse is one `Err` item ([`Error::Decode`]), and the next frame
/// follows. An error of the transport or the framing ([`Error::Io`]) is the last item, after all
/// items that arrived whole before it.
///
/// # Ending early
///
/// Leaving a loop with `break` and dropping the receiver loses messages that were read together
/// with the last one. Call [`stop`](Self::stop) first, or let [`until`](Self::until) call it on a
/// signal. Then receive until `None`.
///
/// # Examples
///
/// ```
/// use aqueduct::Receiver;
/// use aqueduct::bytes::Bytes;
/// use aqueduct::codec::Text;
/// use futures_util::stream;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), aqueduct::Error> {
/// let frames = stream::iter([Ok(Bytes::from("one")), Ok(Bytes::from("two"))]);
/// let mut receiver: Receiver<String> = Receiver::new(frames, Text);
/// while let Some(item) = receiver.recv().await {
///     println!("{}", item?);
/// }
/// # Ok(())
/// # }
/// ```
#[must_use = "streams do nothing unless polled"]
pub struct Receiver<T> {
    stream: SyncWrapper<Box<dyn Decoding<T>>>,
    /// Stops the receiver when it completes.
    until: Option<SyncWrapper<Pin<Box<dyn Future<Output = ()> + Send>>>>,
    /// The name of the codec.
    codec: &'static str,
    turn: Turn,
    ended: bool,
}

impl<T> Receiver<T> {
    /// Creates a receiver that decodes frames from `stream` with `codec`.
    ///
    /// From a byte stream, [`FramedRead::typed`](crate::frame::FramedRead::typed) saves one copy
    /// per item.
    pub fn new<S, C>(stream: S, codec: C) -> Self
    where
        S: Stream<Item = io::Result<Bytes>> + Send + 'static,
        C: Decode<T> + 'static,
    {
        let name = codec.name();
        Self::over(Box::new(Framed::new(Box::pin(stream), codec)), name)
    }

    pub(super) fn over(stream: Box<dyn Decoding<T>>, codec: &'static str) -> Self {
        Self {
            stream: SyncWrapper::new(stream),
            until: None,
            codec,
            turn: Turn::default(),
            ended: false,
        }
    }

    /// Receives the next item; `None` is the end of the stream.
    ///
    /// # Errors
    ///
    /// - [`Error::Decode`]: this body is not a `T`. Call again for the next one.
    /// - [`Error::Io`]: the transport or the framing failed. `None` follows.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: an item is either returned or still to come. Safe in `tokio::select!`.
    pub async fn recv(&mut self) -> Option<Result<T, Error>> {
        poll_fn(|cx| self.poll_recv(cx)).await
    }

    /// Waits for at least one item and appends up to `max` available ones to `buf`.
    ///
    /// Returns how many it appended. 0 is the end of the stream, or `max` is 0. Errors are appended
    /// too, in their place. Items whose messages have a [receipt](crate::connect::Receipt) come one
    /// at a time, because asking for the next one settles the last.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a call that is dropped while it waits has taken nothing.
    pub async fn recv_many(&mut self, buf: &mut Vec<Result<T, Error>>, max: usize) -> usize {
        poll_fn(|cx| self.poll_recv_many(cx, buf, max)).await
    }

    /// Stops taking new messages; the receiver delivers those already taken, and ends.
    ///
    /// Call `stop` and receive until `None` to lose nothing that this end has taken. Messages not
    /// yet taken are treated as by [`MessageReceiver::stop`]. For a receiver of a custom stream,
    /// items that the stream has ready are delivered; for one of a
    /// [`FramedRead`](crate::frame::FramedRead), the whole frames in its buffer.
    ///
    /// [`until`](Self::until) calls this on a signal.
    ///
    /// [`MessageReceiver::stop`]: crate::connect::MessageReceiver::stop
    pub fn stop(&mut self) {
        self.until = None;
        self.stream.get_mut().stop();
    }

    /// [Stops](Self::stop) when `signal` completes.
    ///
    /// # Examples
    ///
    /// A collector of lines that ends on Ctrl-C, `SIGTERM` and `SIGHUP` and loses nothing. The end
    /// has a time limit, because a silent client of a TCP socket would be waited for (see
    /// [`MessageReceiver::stop`]):
    ///
    /// [`MessageReceiver::stop`]: crate::connect::MessageReceiver::stop
    ///
    /// ```
    /// use std::time::Duration;
    /// use aqueduct::Endpoint;
    /// use aqueduct::codec::Text;
    /// use aqueduct::connect::Options;
    /// use aqueduct::frame::Framing;
    /// use aqueduct::service::shutdown_on_signal;
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = tempfile::tempdir()?;
    /// # let log: Endpoint = format!("fifo:{}/log?persist=true", dir.path().display()).parse()?;
    /// # let _ = r#"
    /// let log: Endpoint = "fifo:/run/app/log?persist=true".parse()?;
    /// # "#;
    /// let stop = shutdown_on_signal()?;
    /// # stop.cancel();
    /// let mut options = Options::new();
    /// options.framing(Framing::lines());
    /// let lines = options.open_receiver(&log).await?.typed::<String>(Text);
    /// let mut lines = lines.until(stop.clone().cancelled_owned());
    /// let late = async {
    ///     stop.cancelled().await;
    ///     tokio::time::sleep(Duration::from_secs(5)).await;
    /// };
    /// tokio::pin!(late);
    /// loop {
    ///     tokio::select! {
    ///         line = lines.recv() => match line {
    ///             Some(line) => println!("{}", line?),
    ///             None => break,
    ///         },
    ///         () = &mut late => break,
    ///     }
    /// }
    /// # Ok(()) }
    /// ```
    pub fn until(mut self, signal: impl Future<Output = ()> + Send + 'static) -> Self {
        self.until = Some(SyncWrapper::new(Box::pin(signal)));
        self
    }

    /// See [`Lend::late`].
    pub(super) fn late(&mut self, owed: u64, sent: u64) -> Late {
        self.stream.get_mut().late(owed, sent)
    }

    /// Returns the name of the codec.
    pub(crate) fn codec_name(&self) -> &'static str {
        self.codec
    }

    /// Whether the stream has ended: every further call returns `None`.
    #[must_use]
    pub(crate) fn is_ended(&self) -> bool {
        self.ended
    }

    #[inline]
    fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<T, Error>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        if self.turn.is_due() {
            ready!(self.poll_turn(cx));
        }
        match self.stream.get_mut().poll_item(cx) {
            Poll::Ready(next) => Poll::Ready(self.note(next)),
            Poll::Pending => self.poll_stopped(cx),
        }
    }

    #[inline]
    fn note(&mut self, next: Option<Result<T, Error>>) -> Option<Result<T, Error>> {
        match &next {
            Some(Err(Error::Io(_))) | None => self.ended = true,
            Some(_) => self.turn.moved(),
        }
        next
    }

    /// Nothing is there: what is, if it is told to stop just now.
    #[inline(never)]
    fn poll_stopped(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<T, Error>>> {
        if !self.poll_until(cx) {
            return Poll::Pending;
        }
        let next = ready!(self.stream.get_mut().poll_item(cx));
        Poll::Ready(self.note(next))
    }

    #[inline(never)]
    fn poll_turn(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        ready!(self.turn.poll(cx));
        // Also a stream that always has something is told to stop.
        self.poll_until(cx);
        Poll::Ready(())
    }

    /// Whether it is told to stop just now.
    fn poll_until(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(until) = &mut self.until else {
            return false;
        };
        let stops = until.get_mut().as_mut().poll(cx).is_ready();
        if stops {
            self.stop();
        }
        stops
    }

    fn poll_recv_many(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut Vec<Result<T, Error>>,
        max: usize,
    ) -> Poll<usize> {
        let mut taken = 0;
        while taken < max {
            match self.poll_recv(cx) {
                Poll::Ready(Some(item)) => buf.push(item),
                Poll::Ready(None) => break,
                Poll::Pending if taken == 0 => return Poll::Pending,
                Poll::Pending => break,
            }
            taken += 1;
            // Asking for one more would settle this one, which the caller does not have yet.
            if self.stream.get_mut().is_unsettled() {
                break;
            }
        }
        Poll::Ready(taken)
    }
}

impl<T> Stream for Receiver<T> {
    type Item = Result<T, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_recv(cx)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        if self.ended { (0, Some(0)) } else { (0, None) }
    }
}

impl<T> FusedStream for Receiver<T> {
    fn is_terminated(&self) -> bool {
        self.ended
    }
}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver")
            .field("item", &type_name::<T>())
            .field("codec", &self.codec)
            .field("ended", &self.ended)
            .finish_non_exhaustive()
    }
}

impl<R: AsyncRead + Send + Unpin + 'static> FramedRead<R> {
    /// Creates a receiver of items that `codec` parses from the bodies.
    ///
    /// If the codec [can](Decode::borrows), items are parsed from the read buffer, without a
    /// separate frame for each.
    pub fn typed<T>(self, codec: impl Decode<T> + 'static) -> Receiver<T> {
        lent(self, codec)
    }
}

/// Creates a receiver over a stream that lends frames.
pub(crate) fn lent<T, S, C>(stream: S, codec: C) -> Receiver<T>
where
    S: Lend + Send + 'static,
    C: Decode<T> + 'static,
{
    let name = codec.name();
    Receiver::over(Box::new(Lent { stream, codec }), name)
}

#[cfg(test)]
mod tests {
    use futures_util::stream;
    use tokio_test::{assert_pending, assert_ready, task};

    use super::*;
    use crate::channel::mock;
    use crate::codec::{Raw, Text};

    fn receiver(frames: Vec<io::Result<Bytes>>) -> Receiver<String> {
        Receiver::new(stream::iter(frames), Text)
    }

    fn text(body: &'static str) -> io::Result<Bytes> {
        Ok(Bytes::from_static(body.as_bytes()))
    }

    #[tokio::test]
    async fn a_body_that_does_not_parse_costs_one_item() {
        let bad = Ok(Bytes::from_static(b"\xff\xfe"));
        let mut receiver = receiver(vec![text("a"), bad, text("b")]);
        assert_eq!(receiver.recv().await.unwrap().unwrap(), "a");
        match receiver.recv().await {
            Some(Err(Error::Decode {
                codec: "text",
                type_name: "alloc::string::String",
                len: 2,
                ..
            })) => {}
            other => panic!("{other:?}"),
        }
        assert_eq!(receiver.recv().await.unwrap().unwrap(), "b");
        assert!(receiver.recv().await.is_none());
    }

    /// Otherwise a transport that reads thousands of small items at once would let one task run for
    /// half a million of them.
    #[tokio::test]
    async fn items_that_are_there_are_taken_in_turns_with_other_tasks() {
        let frames = stream::repeat_with(|| text("a"));
        let mut receiver: Receiver<String> = Receiver::new(frames, Text);
        tokio::task::yield_now().await;
        let mut taken = 0;
        while task::spawn(receiver.recv()).poll().is_ready() {
            taken += 1;
            assert!(taken < 10_000, "it never lets others run");
        }
        assert!(taken > 100, "only {taken} in a turn");
        // The next turn.
        tokio::task::yield_now().await;
        assert_ready!(task::spawn(receiver.recv()).poll());
    }

    #[tokio::test]
    async fn a_transport_error_comes_once_and_then_the_stream_has_ended() {
        // A transport that would go on after an error, as a bare tokio-util decoder does.
        let broken = Err(io::Error::from_raw_os_error(libc::EIO));
        let mut receiver = receiver(vec![text("a"), broken, text("never")]);
        assert!(receiver.recv().await.unwrap().is_ok());
        let error = receiver.recv().await.unwrap().unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EIO));
        for _ in 0..3 {
            assert!(receiver.recv().await.is_none());
        }
        assert!(receiver.is_terminated());
        assert_eq!(receiver.size_hint(), (0, Some(0)));
    }

    #[tokio::test]
    async fn the_end_is_not_polled_beyond() {
        // `stream::unfold` panics when it is polled after its end.
        let frames = stream::unfold(0, |n| async move { (n < 1).then(|| (text("x"), n + 1)) });
        let mut receiver = Receiver::<String>::new(frames, Text);
        assert!(receiver.recv().await.is_some());
        assert!(receiver.recv().await.is_none());
        assert!(receiver.recv().await.is_none());
    }

    #[test]
    fn a_dropped_recv_takes_nothing_at_any_poll() {
        let (feed, frames) = mock::stream();
        let mut receiver = Receiver::<Bytes>::new(frames, Raw);
        for n in 0..100_u8 {
            let mut waiting = task::spawn(receiver.recv());
            assert_pending!(waiting.poll());
            feed.push(Bytes::copy_from_slice(&[n]));
            assert!(waiting.is_woken());
            // Dropped with the item ready but not taken.
            drop(waiting);
            let mut next = task::spawn(receiver.recv());
            let item = assert_ready!(next.poll()).unwrap().unwrap();
            assert_eq!(item[0], n);
        }
    }

    #[test]
    fn recv_many_takes_what_is_there_and_waits_only_for_the_first() {
        let (feed, frames) = mock::stream();
        let mut receiver = Receiver::<Bytes>::new(frames, Raw);
        let mut items = Vec::new();
        {
            let mut none = task::spawn(receiver.recv_many(&mut items, 0));
            assert_eq!(assert_ready!(none.poll()), 0, "max 0 waits for nothing");
        }
        {
            let mut waiting = task::spawn(receiver.recv_many(&mut items, 3));
            assert_pending!(waiting.poll());
        }
        for n in 0..4 {
            feed.push(Bytes::copy_from_slice(&[n]));
        }
        for expected in [3, 1] {
            let mut some = task::spawn(receiver.recv_many(&mut items, 3));
            assert_eq!(assert_ready!(some.poll()), expected);
        }
        drop(feed);
        {
            let mut end = task::spawn(receiver.recv_many(&mut items, 3));
            assert_eq!(assert_ready!(end.poll()), 0);
        }
        let got: Vec<u8> = items.into_iter().map(|item| item.unwrap()[0]).collect();
        assert_eq!(got, [0, 1, 2, 3]);
    }
}
