//! [`Cut`]: a byte stream, split into messages, that can stop exactly at the end of one.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use futures_core::Stream;

use super::half::{Half, Rest};
use super::receipt::Last;
use super::receiver::{Inlet, MessageReceiver};
use super::{Message, Options};
use crate::frame::{FramedRead, Framing, Lend, Lent, Pace, Within};
use crate::io::Polled;

impl MessageReceiver {
    /// Splits a byte stream into messages.
    pub(crate) fn bytes(
        io: impl Half + Send + Unpin + 'static,
        framing: Framing,
        pace: Pace,
    ) -> Self {
        Self::bytes_behind(BytesMut::new(), io, framing, pace)
    }

    /// The same as [`bytes`](Self::bytes), where `read` was read before.
    pub(crate) fn bytes_behind(
        read: BytesMut,
        io: impl Half + Send + Unpin + 'static,
        framing: Framing,
        pace: Pace,
    ) -> Self {
        let mut frames = FramedRead::new(io, framing).with_pace(pace);
        if !read.is_empty() {
            frames = frames.with_read_buffer(read);
        }
        Self::new(Cut {
            frames,
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

/// A byte stream, split into messages.
struct Cut<R> {
    frames: FramedRead<R>,
    /// How many messages may still be delivered, if limited.
    left: Option<u64>,
    /// Once it is told to stop: what happens to the rest.
    stopped: Option<Rest>,
}

impl<R> Cut<R> {
    /// Returns how much may be read without taking a byte that has to stay, while the buffer holds
    /// no whole frame.
    fn at_most(&self) -> usize {
        let framing = self.frames.decoder();
        let missing = framing.missing(self.frames.read_buffer());
        match self.left {
            _ if self.stopped == Some(Rest::Stays) => missing,
            // Raw: each read is a frame.
            _ if framing.least_overhead() == 0 => usize::MAX,
            // Each frame after the current one takes at least its overhead.
            Some(left) => usize::try_from(left.saturating_sub(1))
                .unwrap_or(usize::MAX)
                .saturating_mul(framing.least_overhead())
                .saturating_add(missing),
            None => usize::MAX,
        }
    }

    /// Whether all bytes that were read belong to whole messages.
    fn is_between(&self) -> bool {
        self.frames.read_buffer().is_empty() && !self.frames.decoder().is_dropping()
    }
}

impl<R: Half + Unpin> Stream for Cut<R> {
    type Item = io::Result<Message>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        if this.left == Some(0) {
            return Poll::Ready(None);
        }
        if this.left.is_none() && this.stopped.is_none() {
            let frame = ready!(Pin::new(&mut this.frames).poll_next(cx));
            return Poll::Ready(frame.map(|frame| frame.map(Message::new)));
        }
        loop {
            if this.stopped == Some(Rest::Stays) && this.is_between() {
                let rest = this.frames.get_mut().stop();
                this.stopped = Some(rest);
                if rest == Rest::Stays {
                    return Poll::Ready(None);
                }
            }
            // Frames in the buffer need no read, so this holds for every read of this poll.
            let at_most = this.at_most();
            let is_cut_off = this.stopped == Some(Rest::CutOff);
            match ready!(this.frames.poll_next_within(cx, at_most, is_cut_off)) {
                Within::Spent => {}
                Within::Ended => {
                    let bytes = this.frames.read_buffer().len();
                    if bytes > 0 {
                        tracing::debug!(
                            target: "aqueduct::connect", bytes,
                            "dropped the first part of a message that was cut off by stopping"
                        );
                    }
                    return Poll::Ready(None);
                }
                Within::Next(None) => return Poll::Ready(None),
                Within::Next(Some(frame)) => {
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
    fn poll_body(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        _: &mut Last,
    ) -> Poll<Option<io::Result<Bytes>>> {
        if self.left.is_none() && self.stopped.is_none() {
            return Pin::new(&mut self.get_mut().frames).poll_next(cx);
        }
        let next = ready!(self.poll_next(cx));
        Poll::Ready(next.map(|next| next.map(Message::into_body)))
    }

    #[inline]
    fn poll_lend(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        _: &mut Last,
    ) -> Poll<Option<io::Result<Lent<'_>>>> {
        if self.left.is_none() && self.stopped.is_none() {
            return self.get_mut().frames.poll_lend(cx);
        }
        let next = ready!(self.poll_next(cx));
        Poll::Ready(next.map(|next| next.map(|message| Lent::Kept(message.into_body()))))
    }

    fn stop(mut self: Pin<&mut Self>) {
        if self.stopped.is_none() {
            let rest = self.frames.get_mut().stop();
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

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use bytes::Bytes;
    use futures_util::{StreamExt, TryStreamExt};
    use tokio::io::{AsyncRead, ReadBuf};
    use tokio_test::{assert_pending, assert_ready};
    use tokio_util::codec::Encoder;

    use super::*;
    use crate::connect::half::Shared;
    use crate::frame::PIPE_CHUNK;

    fn next(incoming: &mut MessageReceiver) -> Poll<Option<io::Result<Message>>> {
        tokio_test::task::spawn(incoming.next()).poll()
    }

    fn body(item: Option<io::Result<Message>>) -> Bytes {
        item.unwrap().unwrap().into_body()
    }

    #[tokio::test]
    async fn a_stopped_stream_delivers_what_it_took_and_leaves_the_rest() {
        let (reader, mut writer) = io::pipe().unwrap();
        let theirs = reader.try_clone().unwrap();
        let end = crate::pipe::Receiver::from_owned_fd(reader.into()).unwrap();
        let mut incoming = MessageReceiver::bytes(Shared(end), Framing::lines(), Pace::fixed(1024));
        writer.write_all(b"one\ntwo\nthr").unwrap();
        let first = tokio::time::timeout(Duration::from_secs(30), incoming.next());
        assert_eq!(body(first.await.unwrap()), "one");
        incoming.stop();
        assert_eq!(body(assert_ready!(next(&mut incoming))), "two");
        // The rest of an unfinished message is waited for, and taken without a byte more.
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
        for name in Framing::names().iter().filter(|it| **it != "raw") {
            let framing: Framing = name.parse().unwrap();
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

    /// A source that never ends: frames of 100,000 bytes. Records the largest read.
    #[derive(Clone, Default)]
    struct Endless(Arc<AtomicUsize>, usize);

    impl AsyncRead for Endless {
        fn poll_read(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            buf: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            self.0.fetch_max(buf.remaining(), Ordering::Relaxed);
            let mut frame = 100_000_u32.to_be_bytes().to_vec();
            frame.resize(4 + 100_000, b'x');
            let rest = &frame[self.1..];
            let rest = &rest[..rest.len().min(buf.remaining())];
            buf.put_slice(rest);
            self.1 = (self.1 + rest.len()) % frame.len();
            Poll::Ready(Ok(()))
        }
    }

    /// Reads that stop at a limit are no waits for the peer, from which a pipe would learn that
    /// large steps pay.
    #[tokio::test]
    async fn a_limit_of_messages_changes_no_pace() {
        let reader = Endless::default();
        let most = reader.0.clone();
        let mut incoming = MessageReceiver::bytes(Shared(reader), Framing::length(), Pace::pipe());
        // Each time the buffer is empty some 80,000 bytes may be read.
        incoming.limit(20_000);
        for _ in 0..100 {
            assert_eq!(body(incoming.next().await).len(), 100_000);
        }
        assert_eq!(most.load(Ordering::Relaxed), PIPE_CHUNK);
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
