//! Both directions of two connections, passed on to each other.

use std::io;
use std::time::Duration;

use aqueduct::connect::{ByteStream, Connection, MessageReceiver, MessageSender};
use aqueduct::frame::Framing;
use futures_util::{FutureExt, SinkExt, StreamExt};
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

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

/// Why a direction ended before its sender did.
#[derive(Debug)]
enum Broken {
    /// The sender is gone: the other side must not take that for an end.
    Reading(io::Error),
    /// The receiver takes no more; it may still have something to say.
    Writing,
    /// What looks on failed.
    Seen(io::Error),
}

/// Passes bytes, or messages cut by `framing` where one of the two has no bytes, until both directions
/// have ended. `seen` looks on; where it fails all ends.
///
/// If a sender is reset, so is the other side.
pub(crate) async fn pass(
    first: Connection,
    second: Connection,
    framing: &Framing,
    seen: impl Fn(Way, &[u8]) -> io::Result<()>,
) -> io::Result<()> {
    let framed = |it: ByteStream| Connection::from_io(it, framing.clone());
    let (first, second) = match (first.into_bytes(), second.into_bytes()) {
        (Ok(first), Ok(second)) => return bytes(first, second, seen).await,
        (first, second) => (
            first.map_or_else(|it| it, framed),
            second.map_or_else(|it| it, framed),
        ),
    };
    let (to_first, from_first) = first.into_split();
    let (to_second, from_second) = second.into_split();
    let there = messages(from_first, to_second, |it| seen(Way::There, it));
    let back = messages(from_second, to_first, |it| seen(Way::Back, it));
    both(there, back).await
}

async fn bytes(
    mut first: ByteStream,
    mut second: ByteStream,
    seen: impl Fn(Way, &[u8]) -> io::Result<()>,
) -> io::Result<()> {
    let passed = {
        let (mut from_first, mut to_first) = tokio::io::split(&mut first);
        let (mut from_second, mut to_second) = tokio::io::split(&mut second);
        let there = stream(&mut from_first, &mut to_second, |it| seen(Way::There, it));
        let back = stream(&mut from_second, &mut to_first, |it| seen(Way::Back, it));
        both(there, back).await
    };
    match passed {
        Ok(()) => {
            // What a peer still sends to one that reads no more is thrown away, not what it was sent.
            let _ = tokio::join!(drained(&mut first), drained(&mut second));
        }
        Err(_) => {
            reset(first);
            reset(second);
        }
    }
    passed
}

/// Goes on until both directions have ended, or one cannot be trusted any more.
async fn both(
    there: impl Future<Output = Result<(), Broken>>,
    back: impl Future<Output = Result<(), Broken>>,
) -> io::Result<()> {
    let unless_deaf = |ended: Result<(), Broken>| match ended {
        // What the other side has to say still arrives.
        Ok(()) | Err(Broken::Writing) => Ok(()),
        Err(Broken::Reading(error) | Broken::Seen(error)) => Err(error),
    };
    let there = async { unless_deaf(there.await) };
    let back = async { unless_deaf(back.await) };
    tokio::try_join!(there, back).map(drop)
}

/// One direction as bytes.
async fn stream(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    seen: impl Fn(&[u8]) -> io::Result<()>,
) -> Result<(), Broken> {
    let mut buf = vec![0; SMALL];
    loop {
        let n = from.read(&mut buf).await.map_err(Broken::Reading)?;
        if n == 0 {
            break;
        }
        seen(&buf[..n]).map_err(Broken::Seen)?;
        to.write_all(&buf[..n]).await.map_err(|_| Broken::Writing)?;
        if n == SMALL && buf.len() == SMALL {
            buf = vec![0; LARGE];
        }
    }
    to.shutdown().await.map_err(|_| Broken::Writing)
}

/// One direction as messages.
async fn messages(
    mut from: MessageReceiver,
    mut to: MessageSender,
    seen: impl Fn(&[u8]) -> io::Result<()>,
) -> Result<(), Broken> {
    while let Some(message) = from.next().await {
        let mut message = message.map_err(Broken::Reading)?;
        loop {
            seen(message.body()).map_err(Broken::Seen)?;
            to.feed(message).await.map_err(|_| Broken::Writing)?;
            // Those that are there already go together.
            match from.next().now_or_never() {
                Some(Some(next)) => message = next.map_err(Broken::Reading)?,
                Some(None) | None => break,
            }
        }
        to.flush().await.map_err(|_| Broken::Writing)?;
    }
    to.close().await.map_err(|_| Broken::Writing)
}

/// Reads what still comes, for a while.
async fn drained(stream: &mut ByteStream) {
    let mut sink = tokio::io::sink();
    // Whatever goes wrong, it is over.
    let _ = timeout(DRAIN, tokio::io::copy(stream, &mut sink)).await;
}

/// Closes a connection so that its peer cannot take that for an end, where the system has such:
/// with `SO_LINGER` of 0 TCP resets it (`tcp(7)`, `socket(7)`).
pub(crate) fn reset(stream: ByteStream) {
    if let Ok(socket) = stream.into_socket() {
        // A Unix socket has no such thing: its peer reads an end, or ECONNRESET if it was not read.
        let _ = SockRef::from(&socket).set_linger(Some(Duration::ZERO));
    }
}
