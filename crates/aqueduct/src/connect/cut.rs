//! [`Cut`]: a byte stream, cut into messages, that can stop exactly where one ends.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_core::Stream;
use futures_util::StreamExt;
use tokio::io::{AsyncRead, ReadBuf};

use super::half::{Half, Rest};
use super::receiver::{Inlet, MessageReceiver};
use super::{Message, Options};
use crate::frame::{FramedRead, Framing, Pace};
use crate::io::Polled;

impl MessageReceiver {
    /// Cuts a byte stream into messages.
    pub(crate) fn bytes(
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
}

impl Options {
    /// Receives from a byte stream as the options say.
    pub(crate) fn receive(
        &self,
        half: impl Half + Send + Unpin + 'static,
        pace: Pace,
    ) -> MessageReceiver {
        let framing = self.framing.clone();
        match self.poll_for.is_zero() {
            true => MessageReceiver::bytes(half, framing, pace),
            false => MessageReceiver::bytes(Polled::new(half, self.poll_for), framing, pace),
        }
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

    fn unfinished(self: Pin<&mut Self>) -> usize {
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

    use bytes::{Bytes, BytesMut};
    use futures_util::TryStreamExt;
    use tokio_test::{assert_pending, assert_ready};
    use tokio_util::codec::Encoder;

    use super::*;
    use crate::connect::half::Shared;

    fn next(incoming: &mut MessageReceiver) -> Poll<Option<io::Result<Message>>> {
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
        let mut incoming = MessageReceiver::bytes(Shared(end), Framing::lines(), Pace::fixed(1024));
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
                let mut incoming =
                    MessageReceiver::bytes(Shared(end), framing.clone(), Pace::fixed(8192));
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
        let mut incoming =
            MessageReceiver::bytes(Shared(reader), Framing::length(), Pace::fixed(1024));
        assert_pending!(next(&mut incoming));
        incoming.stop();
        assert!(assert_ready!(next(&mut incoming)).is_none());
    }
}
