//! What wraps a transport, a stream or a sink gives it back, and lends it.

use aqueduct::codec::Text;
use aqueduct::frame::{FramedRead, FramedWrite, Framing};
use aqueduct::service::{CancellationToken, Context, serve};
use aqueduct::{Channel, pipe, stdio};
use bytes::Bytes;
use futures_util::stream::{self, FusedStream};
use futures_util::{SinkExt, Stream, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio_util::codec::LinesCodec;

use crate::support::deadline;

/// A protocol that changes inside a connection: lines, and behind them what is no line.
#[tokio::test]
async fn a_reader_takes_over_read_ahead_and_gives_its_transport_back() {
    let (mut here, there) = UnixStream::pair().expect("a pair");
    here.write_all(b"one\ntwo\nrest")
        .await
        .expect("there is room");
    let mut lines = FramedRead::with_codec(there, LinesCodec::new());
    let line = deadline(lines.next()).await.expect("no end");
    assert_eq!(line.expect("it is whole"), "one");
    let (there, read) = lines.into_parts();
    assert_eq!(read, "two\nrest");
    let mut frames = FramedRead::new(there, Framing::lines()).with_read_buffer(read);
    let line = deadline(frames.next()).await.expect("no end");
    assert_eq!(line.expect("it is whole"), "two");
    assert_eq!(frames.read_buffer(), b"rest");
    here.write_all(b" of it\n").await.expect("there is room");
    let next = deadline(frames.next_borrowed()).await.expect("no end");
    assert_eq!(next.expect("it is whole"), b"rest of it");
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

async fn next<S>(stream: &mut S) -> Bytes
where
    S: Stream<Item = std::io::Result<Bytes>> + Unpin,
{
    let item = deadline(stream.next()).await.expect("no end");
    item.expect("it is whole")
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
async fn a_channel_has_its_halves_and_tells_that_it_has_ended() {
    let (here, mut there) = Channel::<String, String>::pair(Text);
    let (sender, receiver) = here.into_split();
    let mut here = Channel::new(sender.coalesced(), receiver);
    for item in ["one", "two"] {
        here.send(item.to_owned()).await.expect("there is room");
    }
    for expected in ["one", "two"] {
        let came = deadline(there.recv()).await.expect("no end");
        assert_eq!(came.expect("it is whole"), expected);
    }
    assert!(!there.is_terminated());
    drop(here);
    assert!(deadline(there.recv()).await.is_none());
    assert!(there.is_terminated());
    assert_eq!(there.size_hint(), (0, Some(0)));
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
    let until = context.until_shutdown(lines);
    printed.push(("UntilShutdown", format!("{until:?}")));
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
