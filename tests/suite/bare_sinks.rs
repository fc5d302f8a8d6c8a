//! The sinks of the waist used as they are, without a typed sender around them: whoever drives one
//! against a full peer sleeps until there is room.

use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use aqueduct::fifo::{self, SharedSender};
use aqueduct::frame::{BoxFrameSink, BoxFrameStream, Framing};
use aqueduct::mq::Driver;
use aqueduct::pipe::{self, packet};
use aqueduct::unix::seqpacket;
use bytes::{BufMut, Bytes, BytesMut};
use futures_util::{Sink, SinkExt, Stream, StreamExt, stream};

use crate::fifo::with_fifo;
use crate::mq::{self, QueueName};
use crate::support::deadline;

/// More than any of the mechanisms holds, of messages that all of them carry.
const MESSAGES: u32 = 400;
const SIZE: usize = 500;

/// Far more calls than all of the messages need, and far fewer than a moment of spinning makes.
const MOST_CALLS: usize = 20 * MESSAGES as usize;

fn message(number: u32) -> Bytes {
    let mut message = BytesMut::with_capacity(SIZE);
    message.put_u32(number);
    message.resize(SIZE, b'.');
    message.freeze()
}

/// A sink that counts how often it is asked, and says so when that was too often: also within one
/// poll of the task, which then would never end.
struct Counted<S> {
    sink: S,
    calls: Arc<AtomicUsize>,
}

impl<S: Unpin> Counted<S> {
    fn asked(self: Pin<&mut Self>) -> Pin<&mut S> {
        let this = self.get_mut();
        let calls = this.calls.fetch_add(1, Ordering::Relaxed);
        assert!(calls < MOST_CALLS, "it spins");
        Pin::new(&mut this.sink)
    }
}

impl<S: Sink<Bytes, Error = io::Error> + Unpin> Sink<Bytes> for Counted<S> {
    type Error = io::Error;

    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.asked().poll_ready(cx)
    }

    fn start_send(self: Pin<&mut Self>, item: Bytes) -> io::Result<()> {
        Pin::new(&mut self.get_mut().sink).start_send(item)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.asked().poll_flush(cx)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.asked().poll_close(cx)
    }
}

/// The ways to drive a sink that other crates have.
#[derive(Clone, Copy, Debug)]
enum By {
    Send,
    SendAll,
    Forward,
    /// As tarpc does it: flush, in a loop, for as long as there is no room.
    FlushUntilRoom,
}

async fn drive(by: By, mut sink: impl Sink<Bytes, Error = io::Error> + Unpin) -> io::Result<()> {
    let messages = (0..MESSAGES).map(message);
    match by {
        By::Send => {
            for message in messages {
                sink.send(message).await?;
            }
            Ok(())
        }
        By::SendAll => sink.send_all(&mut stream::iter(messages).map(Ok)).await,
        By::Forward => stream::iter(messages).map(Ok).forward(&mut sink).await,
        By::FlushUntilRoom => {
            for message in messages {
                std::future::poll_fn(|cx| {
                    while sink.poll_ready_unpin(cx)?.is_pending() {
                        ready!(sink.poll_flush_unpin(cx))?;
                    }
                    Poll::Ready(io::Result::Ok(()))
                })
                .await?;
                sink.start_send_unpin(message)?;
            }
            sink.flush().await
        }
    }
}

/// Drives `sink` until the peer is full, sees that nobody asks it any more then, reads all, and sees
/// that all has come.
async fn sleeps_while_the_peer_is_full(
    by: By,
    sink: impl Sink<Bytes, Error = io::Error> + Unpin + Send + 'static,
    stream: impl Stream<Item = io::Result<Bytes>>,
) {
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Counted {
        sink,
        calls: Arc::clone(&calls),
    };
    let driving = tokio::spawn(drive(by, counted));
    let mut quiet = 0;
    while quiet < 200 {
        let before = calls.load(Ordering::Relaxed);
        tokio::task::yield_now().await;
        let asked = before == 0 || before != calls.load(Ordering::Relaxed);
        quiet = if asked { 0 } else { quiet + 1 };
        if driving.is_finished() {
            driving.await.expect("it does not spin").expect("sent");
            panic!("the peer was never full");
        }
    }
    let mut stream = pin!(stream);
    for number in 0..MESSAGES {
        let received = deadline(stream.next()).await.expect("one more");
        assert_eq!(received.expect("received"), message(number), "{by:?}");
    }
    let driven = deadline(driving).await.expect("it does not spin");
    driven.expect("sent");
}

/// `$ends` makes a sink and the stream that its messages come out of; what else it makes is kept
/// meanwhile.
macro_rules! none_spins {
    ($($name:ident: $ends:expr;)*) => {
        $(
            #[tokio::test]
            async fn $name() {
                for by in [By::Send, By::SendAll, By::Forward, By::FlushUntilRoom] {
                    let (sink, stream, _kept) = $ends;
                    deadline(sleeps_while_the_peer_is_full(by, sink, stream)).await;
                }
            }
        )*
    };
}

none_spins! {
    pipes: {
        let (tx, rx) = pipe::pipe().unwrap();
        (tx.framed(Framing::length()), rx.framed(Framing::length()), ())
    };
    packet_pipes: {
        let (tx, rx) = packet::pipe().unwrap();
        (tx, rx, ())
    };
    shared_fifos: {
        let (dir, path) = with_fifo();
        let rx = fifo::Receiver::open(&path).unwrap();
        let tx = fifo::OpenOptions::new().try_open_sender(&path).unwrap();
        let tx = SharedSender::new(tx, Framing::length().max_frame(4092));
        (tx, rx.framed(Framing::length()), dir)
    };
    seqpacket_sockets: {
        let (a, b) = seqpacket::pair().unwrap();
        socket2::SockRef::from(&a).set_send_buffer_size(32 * 1024).unwrap();
        let ((sink, end), (other, stream)) = (a.into_split(), b.into_split());
        (sink, stream, (end, other))
    };
    queues_of_the_pool: queue(Driver::Pool);
    queues_of_the_async_fd: queue(Driver::AsyncFd);
}

fn queue(driver: Driver) -> (BoxFrameSink, BoxFrameStream, QueueName) {
    let name = QueueName::new();
    let queue = Arc::new(name.create(driver, 4, SIZE));
    (mq::sink(&queue), mq::stream(&queue), name)
}

/// A caller that does not ask first is told so, and what was accepted before is neither lost nor doubled.
async fn refuses_who_does_not_ask(
    mut sink: impl Sink<Bytes, Error = io::Error> + Unpin,
    mut stream: impl Stream<Item = io::Result<Bytes>> + Unpin,
) {
    let mut accepted = 0;
    let error = loop {
        match sink.start_send_unpin(message(accepted)) {
            Ok(()) => accepted += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    assert!(
        error.to_string().contains("without a poll_ready"),
        "{error}"
    );
    let flush = async {
        deadline(sink.flush()).await.expect("there is room again");
        deadline(sink.close()).await.expect("it closes");
        drop(sink);
    };
    let receive = async {
        for expected in 0..accepted {
            let came = deadline(stream.next()).await.expect("it goes on");
            assert_eq!(came.expect("it is whole"), message(expected));
        }
        assert!(deadline(stream.next()).await.is_none());
    };
    tokio::join!(flush, receive);
}

#[tokio::test]
async fn a_full_sink_refuses_who_does_not_ask() {
    let (tx, rx) = packet::pipe().expect("a pipe");
    refuses_who_does_not_ask(tx, rx).await;
    let (a, b) = seqpacket::pair().expect("a pair");
    refuses_who_does_not_ask(a.into_split().0, b.into_split().1).await;
}
