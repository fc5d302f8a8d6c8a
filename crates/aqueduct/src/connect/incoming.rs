use std::fmt::{self, Debug, Formatter};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_core::Stream;
use futures_util::StreamExt;
use tokio::io::{AsyncRead, ReadBuf};

use super::Message;
use super::half::{Half, Rest};
use crate::Receiver;
use crate::child::Child;
use crate::codec::Decode;
use crate::endpoint::Endpoint;
use crate::frame::{BoxFrameStream, FramedRead, Framing, Pace};

/// Messages that come from an endpoint.
///
/// # Errors
///
/// What the transport reports, with its errno, or a [`FrameError`](crate::frame::FrameError)
/// inside an [`io::Error`]. An error of a byte stream is its last item.
///
/// # Cancel safety
///
/// Dropping a future of `next()` loses nothing.
#[must_use = "streams do nothing unless polled"]
pub struct Incoming {
    inlet: Pin<Box<dyn Inlet + Send>>,
    child: Option<Child>,
    /// What was bound for it.
    local: Option<Endpoint>,
}

/// What each kind of transport has to offer.
pub(super) trait Inlet: Stream<Item = io::Result<Message>> {
    /// Takes nothing new from the transport; what was taken is still delivered.
    fn stop(self: Pin<&mut Self>);

    /// Ends after `count` messages and takes nothing of what follows.
    fn limit(self: Pin<&mut Self>, count: u64);

    /// Bytes taken that are no whole message yet.
    fn unfinished(&self) -> usize;
}

impl Incoming {
    pub(super) fn new(inlet: impl Inlet + Send + 'static) -> Self {
        Self {
            inlet: Box::pin(inlet),
            child: None,
            local: None,
        }
    }

    pub(super) fn bound_to(mut self, local: Endpoint) -> Self {
        self.local = Some(local);
        self
    }

    pub(super) fn with_child(mut self, child: Child) -> Self {
        self.child = Some(child);
        self
    }

    /// Cuts a byte stream into messages.
    pub(super) fn bytes(
        io: impl Half + Send + Unpin + 'static,
        framing: Framing,
        pace: Pace,
    ) -> Self {
        let gate = Gate {
            io,
            at_most: usize::MAX,
            holds_end: false,
            halt: None,
        };
        Self::new(Cut {
            frames: FramedRead::new(gate, framing).with_pace(pace),
            left: None,
            stopped: None,
        })
    }

    /// Ends the stream after `count` more messages, and takes nothing of what follows them from
    /// the transport: the next reader finds the beginning of a message.
    ///
    /// To that end the last reads of a byte stream get smaller and smaller, with delimiters down to
    /// one byte.
    pub fn limit(&mut self, count: u64) {
        self.inlet.as_mut().limit(count);
    }

    /// Takes no new message: the stream delivers those that were taken, and ends. What happens to
    /// those that were sent and not taken depends on who can still have them:
    ///
    /// - **Queue, FIFO, pipe, program, inherited socket**: they are left where they are, for the
    ///   next reader. A message whose first part was taken is read to its end and no further. A
    ///   FIFO whose last writer has gone is read to its end: nobody else holds what is in it.
    /// - **Unix sockets** (`unix:`, `unixpacket:`): all that the kernel has taken from the peer is
    ///   delivered, and nothing more is taken: a write of the peer fails with `EPIPE` at once. A
    ///   message that is cut in two by that is not delivered; its sender knows that it was not
    ///   taken. Those who wait to be accepted are heard too; those who come later are refused.
    /// - **TCP**: the peer is told, by an end of the other direction, and all that it sends until
    ///   it ends its own is delivered. Whether it heeds that is up to it ([`Options::reconnect`]
    ///   does), so give it a time limit; what comes later is lost, and the peer does not know.
    ///   A connection that is made in the very moment is reset.
    ///
    /// If the rest of a message that was begun does not come, the stream waits;
    /// [`unfinished`](Self::unfinished) says how much there is of it. Drop the stream as soon as it
    /// has ended: a FIFO is looked after by whoever has it open.
    ///
    /// [`Options::reconnect`]: super::Options::reconnect
    pub fn stop(&mut self) {
        self.inlet.as_mut().stop();
    }

    /// What to connect to, to send to this, where it was bound to a two-way endpoint; for TCP with the
    /// address and port that the system chose where a name or port 0 was asked for. As
    /// [`Listener::local_endpoint`](super::Listener::local_endpoint).
    pub fn local_endpoint(&self) -> Option<&Endpoint> {
        self.local.as_ref()
    }

    /// How many bytes were taken of a message that is not whole yet (framing included).
    pub fn unfinished(&self) -> usize {
        self.inlet.unfinished()
    }

    /// Takes the process that `exec:` has started, to wait for its exit status or to kill it; see
    /// [`Connection::take_child`](super::Connection::take_child).
    pub fn take_child(&mut self) -> Option<Child> {
        self.child.take()
    }

    /// The receiving end of what `codec` makes of the bodies.
    pub fn typed<T>(self, codec: impl Decode<T> + 'static) -> Receiver<T> {
        Receiver::new(self.into_frames(), codec)
    }

    /// The receiving half of the waist: the bodies alone.
    pub fn into_frames(self) -> BoxFrameStream {
        Box::pin(Frames::new(self))
    }
}

impl Stream for Incoming {
    type Item = io::Result<Message>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.inlet.as_mut().poll_next(cx)
    }
}

impl Debug for Incoming {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.debug_struct("Incoming").finish_non_exhaustive()
    }
}

/// A stream of frames over one of messages.
pub(crate) struct Frames {
    incoming: Incoming,
}

impl Frames {
    pub(crate) fn new(incoming: Incoming) -> Self {
        Self { incoming }
    }

    /// Whether a message has begun that is not whole yet.
    pub(crate) fn has_begun(&self) -> bool {
        self.incoming.unfinished() > 0
    }
}

impl Stream for Frames {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let next = ready!(self.incoming.inlet.as_mut().poll_next(cx));
        Poll::Ready(next.map(|message| message.map(Message::into_body)))
    }
}

/// A byte stream, cut into messages.
struct Cut<R> {
    frames: FramedRead<Gate<R>>,
    /// How many messages may still be delivered, if that is limited.
    left: Option<u64>,
    /// Once it is told to stop: what becomes of the rest.
    stopped: Option<Rest>,
}

impl<R> Cut<R> {
    /// The most that may be read without a byte of what is not to be taken, when the buffer holds
    /// no whole frame.
    fn at_most(&self) -> usize {
        let framing = self.frames.decoder();
        let missing = framing.missing(self.frames.read_buffer());
        match self.left {
            _ if self.stopped == Some(Rest::Stays) => missing,
            // Raw: what one read returns is a frame.
            _ if framing.overhead() == 0 => usize::MAX,
            // Each frame after the one at hand takes at least its overhead.
            Some(left) => usize::try_from(left.saturating_sub(1))
                .unwrap_or(usize::MAX)
                .saturating_mul(framing.overhead())
                .saturating_add(missing),
            None => usize::MAX,
        }
    }
}

impl<R: Half + Unpin> Stream for Cut<R> {
    type Item = io::Result<Message>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        if this.left == Some(0) {
            return Poll::Ready(None);
        }
        loop {
            if this.stopped == Some(Rest::Stays) && this.frames.read_buffer().is_empty() {
                let rest = this.frames.get_mut().io.stop();
                this.stopped = Some(rest);
                if rest == Rest::Stays {
                    return Poll::Ready(None);
                }
            }
            // Frames in the buffer come without a read, so this holds for every read of this poll.
            let at_most = this.at_most();
            let holds_end = this.stopped == Some(Rest::CutOff);
            this.frames.get_mut().prepare(at_most, holds_end);
            let next = this.frames.poll_next_unpin(cx);
            match (next, this.frames.get_ref().halt) {
                (Poll::Pending, Some(Halt::Spent)) => {}
                (Poll::Pending, Some(Halt::Ended)) => {
                    let bytes = this.frames.read_buffer().len();
                    if bytes > 0 {
                        tracing::debug!(
                            target: "aqueduct::connect", bytes,
                            "dropped the first part of a message that was cut when it stopped"
                        );
                    }
                    return Poll::Ready(None);
                }
                (Poll::Pending, None) => return Poll::Pending,
                (Poll::Ready(None), _) => return Poll::Ready(None),
                (Poll::Ready(Some(frame)), _) => {
                    if let Some(left) = &mut this.left {
                        *left -= 1;
                    }
                    return Poll::Ready(Some(frame.map(Message::new)));
                }
            }
        }
    }
}

impl<R: Half + Unpin> Inlet for Cut<R> {
    fn stop(mut self: Pin<&mut Self>) {
        if self.stopped.is_none() {
            let rest = self.frames.get_mut().io.stop();
            self.stopped = Some(rest);
        }
    }

    fn limit(mut self: Pin<&mut Self>, count: u64) {
        self.left = Some(count);
    }

    fn unfinished(&self) -> usize {
        self.frames.read_buffer().len()
    }
}

/// Lets a limited number of bytes through, so that reading can stop exactly where a message ends.
struct Gate<R> {
    io: R,
    /// How many bytes may still be read.
    at_most: usize,
    /// Whether the end of the stream is kept from the reader, for whom it would end a message.
    holds_end: bool,
    /// Why a read was pending that is not.
    halt: Option<Halt>,
}

/// Why the gate lets nothing through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Halt {
    /// As many bytes as were allowed have come.
    Spent,
    /// The stream has ended, which is kept.
    Ended,
}

impl<R> Gate<R> {
    fn prepare(&mut self, at_most: usize, holds_end: bool) {
        self.at_most = at_most;
        self.holds_end = holds_end;
        self.halt = None;
    }
}

impl<R: AsyncRead + Unpin> AsyncRead for Gate<R> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        if self.at_most == 0 {
            self.halt = Some(Halt::Spent);
            return Poll::Pending;
        }
        if self.at_most >= buf.remaining() {
            ready!(Pin::new(&mut self.io).poll_read(cx, buf))?;
        } else {
            let mut part = ReadBuf::new(buf.initialize_unfilled_to(self.at_most));
            ready!(Pin::new(&mut self.io).poll_read(cx, &mut part))?;
            let n = part.filled().len();
            buf.advance(n);
        }
        let n = buf.filled().len() - before;
        if n == 0 && self.holds_end {
            self.halt = Some(Halt::Ended);
            return Poll::Pending;
        }
        if self.at_most != usize::MAX {
            self.at_most -= n;
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::time::Duration;

    use bytes::BytesMut;
    use futures_util::TryStreamExt;
    use tokio_test::{assert_pending, assert_ready};
    use tokio_util::codec::Encoder;

    use super::*;
    use crate::connect::half::Shared;

    fn next(incoming: &mut Incoming) -> Poll<Option<io::Result<Message>>> {
        tokio_test::task::spawn(incoming.next()).poll()
    }

    fn body(item: Option<io::Result<Message>>) -> Bytes {
        item.unwrap().unwrap().into_body()
    }

    #[tokio::test]
    async fn a_stopped_stream_delivers_what_was_taken_and_leaves_the_rest_where_it_is() {
        let (reader, mut writer) = io::pipe().unwrap();
        let theirs = reader.try_clone().unwrap();
        let end = crate::pipe::Receiver::from_owned_fd(reader.into()).unwrap();
        let mut incoming = Incoming::bytes(Shared(end), Framing::lines(), Pace::fixed(1024));
        writer.write_all(b"one\ntwo\nthr").unwrap();
        let first = tokio::time::timeout(Duration::from_secs(30), incoming.next());
        assert_eq!(body(first.await.unwrap()), "one");
        incoming.stop();
        assert_eq!(body(assert_ready!(next(&mut incoming))), "two");
        // The rest of a message that was begun is waited for, and taken without a byte more.
        assert_pending!(next(&mut incoming));
        assert_eq!(incoming.unfinished(), 3);
        writer.write_all(b"ee\nfour\n").unwrap();
        let third = tokio::time::timeout(Duration::from_secs(30), incoming.next());
        assert_eq!(body(third.await.unwrap()), "three");
        assert!(assert_ready!(next(&mut incoming)).is_none());
        drop(writer);
        assert_eq!(io::read_to_string(theirs).unwrap(), "four\n");
    }

    #[tokio::test]
    async fn a_limited_stream_leaves_what_follows_to_the_next_reader() {
        for framing in [Framing::lines(), Framing::nul(), Framing::length()] {
            let (reader, mut writer) = io::pipe().unwrap();
            let mut wire = BytesMut::new();
            for i in 0..500 {
                let body = Bytes::from(vec![b'x'; i % 7]);
                Encoder::encode(&mut framing.clone(), body, &mut wire).unwrap();
            }
            writer.write_all(&wire).unwrap();
            drop(writer);
            // Four readers, one after the other.
            let mut seen = 0;
            for count in [1, 300, 2, 1000] {
                let end = reader.try_clone().unwrap();
                let end = crate::pipe::Receiver::from_owned_fd(end.into()).unwrap();
                let mut incoming = Incoming::bytes(Shared(end), framing.clone(), Pace::fixed(8192));
                incoming.limit(count);
                let all = incoming.try_collect::<Vec<_>>();
                let all = tokio::time::timeout(Duration::from_secs(30), all).await;
                let all = all.unwrap().unwrap();
                assert_eq!(all.len(), (count as usize).min(500 - seen));
                for message in all {
                    assert_eq!(message.body().len(), seen % 7);
                    seen += 1;
                }
            }
            assert_eq!(seen, 500);
        }
    }

    #[tokio::test]
    async fn a_stream_stopped_between_messages_ends_at_once() {
        let (_writer, reader) = crate::pipe::pipe().unwrap();
        let mut incoming = Incoming::bytes(Shared(reader), Framing::length(), Pace::fixed(1024));
        assert_pending!(next(&mut incoming));
        incoming.stop();
        assert!(assert_ready!(next(&mut incoming)).is_none());
    }
}
