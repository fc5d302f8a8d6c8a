//! Both directions of two connections, passed on to each other.

use std::future::ready;
use std::io;
use std::time::Duration;

use aqueduct::connect::{ByteStream, Connection, Message};
use aqueduct::frame::{FramedRead, FramedWrite, Framing};
use futures_util::{SinkExt, Stream, StreamExt, TryStreamExt};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

use crate::forward::{End, Stopped, forward};

/// What one direction of a connection holds at first. One that fills it gets [`LARGE`].
const SMALL: usize = 8 * 1024;
const LARGE: usize = 64 * 1024;
/// How long a peer that has stopped reading may go on sending what nobody takes, before its
/// connection is closed: a socket that is closed with input unread takes back what is on its way.
const DRAIN: Duration = Duration::from_secs(1);

/// Which way something went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// From the first to the second.
    There,
    /// From the second to the first.
    Back,
}

/// Passes bytes, or messages cut by `framing` where one of the two has no bytes, until both directions
/// have ended, or `over` says why they must. `seen` looks on; where it fails all ends.
///
/// If a sender is reset, so is the other side.
pub(crate) async fn pass(
    first: Connection,
    second: Connection,
    framing: &Framing,
    seen: impl Fn(Way, &[u8]) -> io::Result<()>,
    over: impl Future<Output = io::Error>,
) -> io::Result<()> {
    let (first, second) = match (first.into_bytes(), second.into_bytes()) {
        (Ok(first), Ok(second)) => return bytes(first, second, seen, over).await,
        (Ok(first), Err(second)) => {
            let ways = (Way::There, Way::Back);
            return mixed(first, second, framing, ways, seen, over).await;
        }
        (Err(first), Ok(second)) => {
            let ways = (Way::Back, Way::There);
            return mixed(second, first, framing, ways, seen, over).await;
        }
        (Err(first), Err(second)) => (first, second),
    };
    let (mut to_first, from_first) = first.into_split();
    let (mut to_second, from_second) = second.into_split();
    let from_first = looked_at(from_first, |it| seen(Way::There, it));
    let from_second = looked_at(from_second, |it| seen(Way::Back, it));
    let there = forward(from_first, &mut to_second, End::Passed, |_| {});
    let back = forward(from_second, &mut to_first, End::Passed, |_| {});
    both(there, back, over).await
}

/// Bytes on one side and messages on the other. `ways` are those from the bytes and to them.
async fn mixed(
    mut stream: ByteStream,
    other: Connection,
    framing: &Framing,
    ways: (Way, Way),
    seen: impl Fn(Way, &[u8]) -> io::Result<()>,
    over: impl Future<Output = io::Error>,
) -> io::Result<()> {
    let passed = {
        let (reader, writer) = tokio::io::split(&mut stream);
        let from_stream = FramedRead::new(reader, framing.clone()).map_ok(Message::new);
        let writer = FramedWrite::new(writer, framing.clone());
        let mut to_stream = writer.with(|it: Message| ready(io::Result::Ok(it.into_body())));
        let (mut to_other, from_other) = other.into_split();
        let from_stream = looked_at(from_stream, |it| seen(ways.0, it));
        let from_other = looked_at(from_other, |it| seen(ways.1, it));
        let from = forward(from_stream, &mut to_other, End::Passed, |_| {});
        let to = forward(from_other, &mut to_stream, End::Passed, |_| {});
        both(from, to, over).await
    };
    match passed {
        Ok(()) => drained(&mut stream).await,
        Err(_) => stream.reset(),
    }
    passed
}

async fn bytes(
    mut first: ByteStream,
    mut second: ByteStream,
    seen: impl Fn(Way, &[u8]) -> io::Result<()>,
    over: impl Future<Output = io::Error>,
) -> io::Result<()> {
    let passed = {
        let (mut from_first, mut to_first) = tokio::io::split(&mut first);
        let (mut from_second, mut to_second) = tokio::io::split(&mut second);
        let there = stream(&mut from_first, &mut to_second, |it| seen(Way::There, it));
        let back = stream(&mut from_second, &mut to_first, |it| seen(Way::Back, it));
        both(there, back, over).await
    };
    match passed {
        Ok(()) => {
            // What a peer still sends to one that reads no more is thrown away, not what it was sent.
            let _ = tokio::join!(drained(&mut first), drained(&mut second));
        }
        Err(_) => {
            first.reset();
            second.reset();
        }
    }
    passed
}

/// Goes on until both directions have ended, or one cannot be trusted any more.
async fn both(
    there: impl Future<Output = Result<(), Stopped<io::Error>>>,
    back: impl Future<Output = Result<(), Stopped<io::Error>>>,
    over: impl Future<Output = io::Error>,
) -> io::Result<()> {
    let unless_deaf = |ended: Result<(), Stopped<io::Error>>| match ended {
        // A receiver that takes no more may still have something to say.
        Ok(()) | Err(Stopped::To(_)) => Ok(()),
        // The sender is gone: the other side must not take that for an end.
        Err(Stopped::From(error)) => Err(error),
    };
    let there = async { unless_deaf(there.await) };
    let back = async { unless_deaf(back.await) };
    tokio::select! {
        ended = async { tokio::try_join!(there, back) } => ended.map(drop),
        error = over => Err(error),
    }
}

/// One direction as bytes.
async fn stream(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    seen: impl Fn(&[u8]) -> io::Result<()>,
) -> Result<(), Stopped<io::Error>> {
    let mut buf = vec![0; SMALL];
    loop {
        let n = from.read(&mut buf).await.map_err(Stopped::From)?;
        if n == 0 {
            break;
        }
        seen(&buf[..n]).map_err(Stopped::From)?;
        to.write_all(&buf[..n]).await?;
        if n == SMALL && buf.len() == SMALL {
            buf = vec![0; LARGE];
        }
    }
    Ok(to.shutdown().await?)
}

/// Messages that `seen` has looked at.
fn looked_at(
    from: impl Stream<Item = io::Result<Message>> + Unpin,
    seen: impl Fn(&[u8]) -> io::Result<()>,
) -> impl Stream<Item = io::Result<Message>> + Unpin {
    from.map(move |message| {
        let message = message?;
        seen(message.body())?;
        Ok(message)
    })
}

/// Reads what still comes, for a while.
async fn drained(stream: &mut ByteStream) {
    let mut sink = tokio::io::sink();
    // It is over, also after an error.
    let _ = timeout(DRAIN, tokio::io::copy(stream, &mut sink)).await;
}
