//! What wraps a transport, a stream or a sink gives it back, and lends it.

use std::time::Duration;

use aqueduct::Polled;
use aqueduct::codec::Text;
use aqueduct::frame::{FramedRead, FramedWrite, Framing};
use aqueduct::handshake::{LimitedSink, LimitedStream};
use aqueduct::service::{CancellationToken, Context, TimedSink, TimedStream, Timeouts, serve};
use aqueduct::{Channel, Receiver, pipe, stdio};
use bytes::{Bytes, BytesMut};
use futures_util::stream::{self, FusedStream};
use futures_util::{SinkExt, Stream, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio_util::codec::LinesCodec;

use crate::support::deadline;

const LIMIT: Duration = Duration::from_secs(3600);

/// A protocol that changes inside a connection: lines, and behind them what is no line.
#[tokio::test]
async fn a_reader_goes_on_with_what_another_has_read_and_gives_its_transport_back() {
    let (mut here, there) = UnixStream::pair().expect("a pair");
    here.write_all(b"one\ntwo\nrest")
        .await
        .expect("there is room");
    let mut lines = FramedRead::with_codec(there, LinesCodec::new());
    let line = deadline(lines.next()).await.expect("no end");
    assert_eq!(line.expect("it is whole"), "one");
    assert!(lines.memory() >= "two\nrest".len(), "{}", lines.memory());
    let read = BytesMut::from(lines.read_buffer());
    let there = lines.into_inner();
    let mut frames = FramedRead::new(there, Framing::lines()).with_read_buffer(read);
    let line = deadline(frames.next()).await.expect("no end");
    assert_eq!(line.expect("it is whole"), "two");
    assert_eq!(frames.read_buffer(), b"rest");
    here.write_all(b" of it\n").await.expect("there is room");
    let next = std::future::poll_fn(|cx| {
        frames.poll_next_borrowed(cx).map(|it| {
            let it = it.expect("no end").expect("it is whole");
            Bytes::copy_from_slice(it)
        })
    });
    assert_eq!(deadline(next).await, "rest of it");
}

#[tokio::test]
async fn bytes_of_the_users_own_go_between_frames() {
    let (mut sender, mut receiver) = pipe::pipe().expect("a pipe");
    sender.write_all(b"magic").await.expect("there is room");
    let mut frames = FramedWrite::new(sender, Framing::lines());
    frames.send("one".into()).await.expect("there is room");
    let bytes = frames.get_mut().write_all(b"+").await;
    bytes.expect("there is room");
    frames.send("two".into()).await.expect("there is room");
    drop(frames);
    let mut all = String::new();
    deadline(receiver.read_to_string(&mut all))
        .await
        .expect("read");
    assert_eq!(all, "magicone\n+two\n");
}

#[tokio::test]
async fn a_polled_stream_is_the_stream() {
    let (here, mut there) = UnixStream::pair().expect("a pair");
    let mut polled = Polled::new(here, Duration::from_micros(10));
    let credentials = polled.get_ref().peer_cred().expect("it has a peer");
    assert_eq!(credentials.pid(), Some(std::process::id() as i32));
    polled
        .get_mut()
        .write_all(b"x")
        .await
        .expect("there is room");
    assert_eq!(deadline(there.read_u8()).await.expect("it comes"), b'x');
    drop(polled.into_inner());
    let end = deadline(there.read(&mut [0])).await;
    assert_eq!(end.expect("it is closed"), 0);
}

fn items() -> impl Stream<Item = std::io::Result<Bytes>> + Unpin {
    stream::iter(["one", "two", "three"].map(|it| Ok(it.into())))
}

async fn next<S>(stream: &mut S) -> Bytes
where
    S: Stream<Item = std::io::Result<Bytes>> + Unpin,
{
    let item = deadline(stream.next()).await.expect("no end");
    item.expect("it is whole")
}

#[tokio::test]
async fn a_stream_with_limits_is_the_stream_and_tells_that_it_has_ended() {
    let mut timed = TimedStream::messages(items(), Timeouts::new().idle(LIMIT));
    assert_eq!(timed.get_ref().size_hint(), (3, Some(3)));
    assert_eq!(next(timed.get_mut()).await, "one");
    assert_eq!(next(&mut timed).await, "two");
    assert!(!timed.is_terminated());
    assert_eq!(next(&mut timed.into_inner()).await, "three");

    let mut timed = TimedStream::messages(items(), Timeouts::none());
    for expected in ["one", "two", "three"] {
        // An error may come in place of each.
        assert_eq!(timed.size_hint(), (0, None));
        assert_eq!(next(&mut timed).await, expected);
    }
    assert!(timed.next().await.is_none());
    assert!(timed.is_terminated());
    assert_eq!(timed.size_hint(), (0, Some(0)));

    let mut limited = LimitedStream::new(items(), 3);
    assert_eq!(next(&mut limited).await, "one");
    assert!(!limited.is_terminated());
    assert_eq!(next(&mut limited).await, "two");
    let error = limited.next().await.expect("no end");
    error.expect_err("it is too long");
    assert!(limited.is_terminated());
    let limited = LimitedStream::new(items(), 3);
    assert_eq!(next(&mut limited.into_inner()).await, "one");
}

#[tokio::test]
async fn a_sink_with_limits_is_the_sink() {
    let (sender, mut receiver) = pipe::pipe().expect("a pipe");
    let frames = FramedWrite::new(sender, Framing::lines());
    let mut limited = LimitedSink::new(TimedSink::new(frames, Timeouts::new()), 3);
    limited.send("one".into()).await.expect("there is room");
    limited
        .send("long".into())
        .await
        .expect_err("it is too long");
    let mut timed = limited.into_inner();
    timed.send("long".into()).await.expect("there is no limit");
    assert_eq!(timed.get_ref().unsent(), 0);
    timed
        .get_mut()
        .send("two".into())
        .await
        .expect("there is room");
    let mut limited = LimitedSink::new(timed.into_inner(), 3);
    limited.feed("end".into()).await.expect("there is room");
    limited.close().await.expect("there is room");
    drop(limited);
    let mut all = String::new();
    deadline(receiver.read_to_string(&mut all))
        .await
        .expect("read");
    assert_eq!(all, "one\nlong\ntwo\nend\n");
}

/// The context of a service, which goes on until it is dropped.
async fn context() -> (Context, tokio::task::JoinHandle<()>) {
    let (give, mut given) = tokio::sync::mpsc::channel(1);
    let service = tokio::spawn(async {
        let one = stream::iter([Ok(())]).chain(stream::pending());
        let handler = move |(), cx| {
            let give = give.clone();
            async move {
                let _ = give.send(cx).await;
                std::future::pending::<Result<(), aqueduct::Error>>().await
            }
        };
        let _ = serve(one, CancellationToken::new(), handler).await;
    });
    (given.recv().await.expect("it comes"), service)
}

#[tokio::test]
async fn a_stream_that_ends_at_shutdown_is_the_stream() {
    let (context, service) = context().await;
    let mut until = context.until_shutdown(items());
    assert_eq!(until.size_hint(), (0, Some(3)));
    assert_eq!(next(until.get_mut()).await, "one");
    assert_eq!(until.get_ref().size_hint(), (2, Some(2)));
    assert_eq!(next(&mut until).await, "two");
    assert!(!until.is_terminated());
    assert_eq!(next(&mut until.into_inner()).await, "three");
    let mut until = context.until_shutdown(stream::empty::<std::io::Result<Bytes>>());
    assert!(until.next().await.is_none());
    assert!(until.is_terminated());
    assert_eq!(until.size_hint(), (0, Some(0)));
    service.abort();
}

#[tokio::test]
async fn a_channel_has_its_halves_and_tells_that_it_has_ended() {
    let (here, mut there) = Channel::<String, String>::pair(Text);
    let mut here = here.coalesced();
    assert_eq!(here.sender().codec_name(), "text");
    assert_eq!(here.receiver().codec_name(), "text");
    let sent = here.send_all(["one".to_owned(), "two".to_owned()]).await;
    sent.expect("there is room");
    for expected in ["one", "two"] {
        let came = deadline(there.recv()).await.expect("no end");
        assert_eq!(came.expect("it is whole"), expected);
    }
    assert!(!there.is_terminated());
    drop(here);
    assert!(deadline(there.recv()).await.is_none());
    assert!(there.is_terminated());
    assert_eq!(there.size_hint(), (0, Some(0)));
    let receiver: Receiver<String> = Receiver::new(items(), Text);
    assert_eq!(receiver.size_hint(), (3, Some(3)));
}

/// Logs are read by others than messages are.
#[tokio::test]
async fn what_is_printed_of_an_end_has_no_message_in_it() {
    const SECRET: &str = "hunter2";
    let (sender, receiver) = pipe::pipe().expect("a pipe");
    let mut sink = FramedWrite::new(sender, Framing::lines());
    sink.feed(SECRET.into()).await.expect("there is room");
    let mut lines = FramedRead::new(receiver, Framing::lines());
    let mut printed = vec![("FramedWrite", format!("{sink:?}"))];
    sink.feed(SECRET.into()).await.expect("there is room");
    sink.flush().await.expect("there is room");
    assert_eq!(next(&mut lines).await, SECRET);
    assert!(lines.read_buffer().starts_with(SECRET.as_bytes()));
    printed.push(("FramedRead", format!("{lines:?}")));
    let (context, service) = context().await;
    printed.push(("Context", format!("{context:?}")));
    let timed = context.frames(lines);
    printed.push(("TimedStream", format!("{timed:?}")));
    printed.push((
        "UntilShutdown",
        format!("{:?}", context.until_shutdown(timed)),
    ));
    printed.push(("TimedSink", format!("{:?}", context.sink(sink))));
    let (channel, _other) = Channel::<String, String>::pair(Text);
    printed.push(("Receiver", format!("{channel:?}")));
    printed.push((
        "Stdin",
        format!("{:?}", stdio::stdin().expect("it is there")),
    ));
    printed.push((
        "Stdout",
        format!("{:?}", stdio::stdout().expect("it is there")),
    ));
    for (name, text) in printed {
        assert!(text.contains(name) && !text.contains(SECRET), "{text}");
    }
    service.abort();
}
