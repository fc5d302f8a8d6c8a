//! Moves so many messages within one process, to have its instructions counted:
//! `aqueduct-counts PATH MESSAGES`; without arguments it names the paths.
//!
//! `crates/aqueduct-bench/instructions` runs it under valgrind with two numbers of messages; the
//! difference is what messages cost, whatever the start of the process does.

use std::io;

use anyhow::{Context, bail};
use aqueduct::codec::{Codec, Json, Postcard, Raw};
use aqueduct::connect::{Connection, Message};
use aqueduct::frame::{FramedRead, FramedWrite, Framing};
use aqueduct::mq::OpenOptions;
use aqueduct::{Sender, pipe};
use aqueduct_measure::{Item, Ring};
use bytes::Bytes;
use futures_util::{Sink, SinkExt, Stream, StreamExt, future};
use tokio::net::UnixStream;

/// Messages between two flushes: fewer than a pipe has room for.
const BATCH: u64 = 100;

const LINE: &[u8] = b"a line of forty bytes, as many logs have";

const PATHS: &[&str] = &[
    "pipe-feed",
    "pipe-send",
    "pipe-borrowed",
    "pipe-64k",
    "pipe-lines",
    "lines-boxed",
    "unix-feed",
    "unix-coalesced",
    "postcard",
    "json",
    "queue",
];

fn main() -> anyhow::Result<()> {
    let mut args = std::env::args().skip(1);
    let Some(path) = args.next() else {
        PATHS.iter().for_each(|it| println!("{it}"));
        return Ok(());
    };
    let messages = args.next().context("how many messages?")?.parse()?;
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(run(&path, messages))
}

async fn run(path: &str, messages: u64) -> anyhow::Result<()> {
    let small = Ring::new(64).get(0).bytes.clone();
    match path {
        "pipe-feed" => {
            let (tx, rx) = pipes()?;
            owned(tx, rx, &small, messages, BATCH).await
        }
        "pipe-send" => {
            let (tx, rx) = pipes()?;
            owned(tx, rx, &small, messages, 1).await
        }
        "pipe-borrowed" => {
            let (tx, rx) = pipes()?;
            borrowed(tx, rx, &small, messages).await
        }
        "pipe-64k" => {
            let (tx, rx) = pipes()?;
            let large = Ring::new(64 << 10).get(0).bytes.clone();
            owned(tx, rx, &large, messages, 1).await
        }
        "pipe-lines" => {
            let (tx, rx) = pipe::pipe()?;
            let (tx, rx) = (tx.framed(Framing::lines()), rx.framed(Framing::lines()));
            owned(tx, rx, &Bytes::from_static(LINE), messages, BATCH).await
        }
        "lines-boxed" => lines(messages).await,
        "unix-feed" => {
            let (a, b) = UnixStream::pair()?;
            let tx = FramedWrite::new(a, Framing::length());
            let rx = FramedRead::new(b, Framing::length());
            owned(tx, rx, &small, messages, BATCH).await
        }
        "unix-coalesced" => coalesced(&small, messages).await,
        "postcard" => typed(Postcard, messages).await,
        "json" => typed(Json, messages).await,
        "queue" => queue(&small, messages).await,
        _ => bail!("there is no path {path:?}"),
    }
}

type Pipes = (FramedWrite<pipe::Sender>, FramedRead<pipe::Receiver>);

fn pipes() -> io::Result<Pipes> {
    let (tx, rx) = pipe::pipe()?;
    Ok((tx.framed(Framing::length()), rx.framed(Framing::length())))
}

async fn owned<S, R>(
    mut tx: S,
    mut rx: R,
    body: &Bytes,
    messages: u64,
    batch: u64,
) -> anyhow::Result<()>
where
    S: Sink<Bytes, Error = io::Error> + Unpin,
    R: Stream<Item = io::Result<Bytes>> + Unpin,
{
    for _ in 0..messages / batch {
        let send = async {
            for _ in 0..batch {
                tx.feed(body.clone()).await?;
            }
            tx.flush().await
        };
        let receive = async {
            for _ in 0..batch {
                let frame = rx.next().await.context("it has ended")??;
                anyhow::ensure!(frame.len() == body.len());
            }
            Ok(())
        };
        let (sent, received) = future::join(send, receive).await;
        sent?;
        received?;
    }
    Ok(())
}

/// Lines over a connection as an address opens it.
async fn lines(messages: u64) -> anyhow::Result<()> {
    let (a, b) = UnixStream::pair()?;
    let mut tx = Connection::from_io(a, Framing::lines()).into_sender();
    let mut rx = Connection::from_io(b, Framing::lines()).into_receiver();
    for _ in 0..messages / BATCH {
        for _ in 0..BATCH {
            tx.feed(Message::new(LINE)).await?;
        }
        tx.flush().await?;
        for _ in 0..BATCH {
            let line = rx.next().await.context("it has ended")??;
            anyhow::ensure!(line.body() == LINE);
        }
    }
    Ok(())
}

/// A loop of sends that may go together.
async fn coalesced(body: &Bytes, messages: u64) -> anyhow::Result<()> {
    let (a, b) = UnixStream::pair()?;
    let tx = FramedWrite::new(a, Framing::length());
    let mut tx = Sender::<Bytes>::new(tx, Raw).coalesced();
    let mut rx = FramedRead::new(b, Framing::length());
    for _ in 0..messages / BATCH {
        for _ in 0..BATCH {
            tx.send(body.clone()).await?;
        }
        for _ in 0..BATCH {
            let frame = rx.next().await.context("it has ended")??;
            anyhow::ensure!(frame.len() == body.len());
        }
    }
    Ok(())
}

async fn borrowed(
    mut tx: FramedWrite<pipe::Sender>,
    mut rx: FramedRead<pipe::Receiver>,
    body: &Bytes,
    messages: u64,
) -> anyhow::Result<()> {
    for _ in 0..messages / BATCH {
        for _ in 0..BATCH {
            tx.feed_borrowed(body).await?;
        }
        tx.flush().await?;
        for _ in 0..BATCH {
            let frame = rx.next_borrowed().await.context("it has ended")??;
            anyhow::ensure!(frame.len() == body.len());
        }
    }
    Ok(())
}

async fn typed<C>(codec: C, messages: u64) -> anyhow::Result<()>
where
    C: Codec<Item> + Clone + 'static,
{
    let item = Ring::new(64).get(0).item;
    let (tx, rx) = pipes()?;
    let mut tx = tx.typed::<Item>(codec.clone());
    let mut rx = rx.typed::<Item>(codec);
    for _ in 0..messages / BATCH {
        for _ in 0..BATCH {
            tx.feed(item).await?;
        }
        tx.flush().await?;
        for _ in 0..BATCH {
            let got = rx.recv().await.context("it has ended")??;
            anyhow::ensure!(got == item);
        }
    }
    Ok(())
}

async fn queue(body: &Bytes, messages: u64) -> anyhow::Result<()> {
    let name = format!("/aqueduct-counts-{}", std::process::id());
    let mut options = OpenOptions::new();
    options.read(true).write(true).create_new(true);
    let queue = options.max_message(body.len()).open(&name)?;
    aqueduct::mq::unlink(&name)?;
    for _ in 0..messages {
        queue.send(0, body).await?;
        let got = queue.recv().await?;
        anyhow::ensure!(got.body().len() == body.len());
    }
    Ok(())
}
