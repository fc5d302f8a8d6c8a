//! Aqueduct, as its documentation says.

mod address;
mod call;
mod concurrent;
mod lent;
mod queue;
mod typed;

use std::io;
use std::time::Duration;

use aqueduct::Polled;
use aqueduct::codec::{Json, Postcard, Raw};
use aqueduct::frame::{FramedRead, FramedWrite, Framing};
use aqueduct::unix::seqpacket;
use aqueduct::{Endpoint, Sender, connect, fifo, pipe};
use bytes::Bytes;
use futures_util::{Sink, Stream};
use tokio::io::{AsyncRead, AsyncWrite};

use super::ends::{Borrows, Lends, Rx, Tx};
use super::{ended, place, play, play_halves};
use crate::case::{Case, Mechanism, Run, case, multi, one_way};
use crate::check::Check;
use crate::message::Message;
use crate::peer::ready;
use crate::sample::SideReport;
use crate::session::{Receives, Sends, Session};

/// Whether each message is flushed, as `send` does, or none before the end, as `feed`.
type Each = bool;
const SEND: Each = true;
const FEED: Each = false;

const POLL_FOR: Duration = Duration::from_micros(50);
const SOCKET_CHUNK: usize = 64 * 1024;

/// Whatever the address of the sample names, one way.
pub(super) const ADDRESS_ONE_WAY: Case = one_way("address", Mechanism::Own, address::run);
/// Whatever the address of the sample names, if it is two-way.
pub(super) const ADDRESS: Case = case("address", Mechanism::Own, address::run);

/// Each mechanism in its usual way.
pub(super) const CASES: &[Case] = &[
    case("aqueduct/pipe/feed", Mechanism::Pipe, |it| {
        frames(it, FEED, pipes)
    }),
    case("aqueduct/fifo/feed", Mechanism::Fifo, |it| {
        frames(it, FEED, fifos)
    }),
    case("aqueduct/unix/feed", Mechanism::Unix, |it| {
        frames(it, FEED, unix)
    }),
    case("aqueduct/shm/feed", Mechanism::Shm, |it| {
        frames(it, FEED, shm)
    }),
    case("aqueduct/tcp/feed", Mechanism::Tcp, |it| {
        frames(it, FEED, tcp)
    }),
    case("aqueduct/unixpacket", Mechanism::UnixPacket, packets),
    case("aqueduct/mq/asyncfd", Mechanism::Mq, queue::async_fd),
    case("aqueduct/mq/pool", Mechanism::Mq, queue::pool),
];

/// The other ways of each.
pub(super) const MORE: &[Case] = &[
    one_way("aqueduct/pipe/borrowed", Mechanism::Pipe, |it| {
        borrowed(it, pipes)
    }),
    one_way("aqueduct/fifo/borrowed", Mechanism::Fifo, |it| {
        borrowed(it, fifos)
    }),
    one_way("aqueduct/unix/borrowed", Mechanism::Unix, |it| {
        borrowed(it, unix)
    }),
    one_way("aqueduct/shm/borrowed", Mechanism::Shm, |it| {
        borrowed(it, shm)
    }),
    case("aqueduct/shm/lent", Mechanism::Shm, lent::run),
    one_way("aqueduct/tcp/borrowed", Mechanism::Tcp, |it| {
        borrowed(it, tcp)
    }),
    case("aqueduct/mq/asyncfd/latency", Mechanism::Mq, queue::latency),
    small("aqueduct/fifo/shared", Mechanism::Fifo, shared),
    case("aqueduct/pipe/feed/latency", Mechanism::Pipe, |it| {
        latency(it, 8192, pipes)
    }),
    case("aqueduct/unix/feed/latency", Mechanism::Unix, |it| {
        latency(it, SOCKET_CHUNK, unix)
    }),
    case("aqueduct/shm/feed/latency", Mechanism::Shm, |it| {
        frames(it, FEED, shm)
    }),
    case("aqueduct/tcp/feed/latency", Mechanism::Tcp, |it| {
        latency(it, SOCKET_CHUNK, tcp)
    }),
    one_way("aqueduct/pipe/coalesced", Mechanism::Pipe, |it| {
        coalesced(it, pipes)
    }),
    one_way("aqueduct/fifo/coalesced", Mechanism::Fifo, |it| {
        coalesced(it, fifos)
    }),
    one_way("aqueduct/unix/coalesced", Mechanism::Unix, |it| {
        coalesced(it, unix)
    }),
    one_way("aqueduct/tcp/coalesced", Mechanism::Tcp, |it| {
        coalesced(it, tcp)
    }),
    one_way("aqueduct/pipe/send", Mechanism::Pipe, |it| {
        frames(it, SEND, pipes)
    }),
    one_way("aqueduct/fifo/send", Mechanism::Fifo, |it| {
        frames(it, SEND, fifos)
    }),
    one_way("aqueduct/unix/send", Mechanism::Unix, |it| {
        frames(it, SEND, unix)
    }),
    one_way("aqueduct/shm/send", Mechanism::Shm, |it| {
        frames(it, SEND, shm)
    }),
    one_way("aqueduct/tcp/send", Mechanism::Tcp, |it| {
        frames(it, SEND, tcp)
    }),
    one_way("aqueduct/unix/endpoint", Mechanism::Unix, |it| {
        frames(it, FEED, endpoint)
    }),
    one_way("aqueduct/tcp/endpoint", Mechanism::Tcp, |it| {
        frames(it, FEED, endpoint)
    }),
    multi("aqueduct/pipe/feed/mt", Mechanism::Pipe, |it| {
        frames(it, FEED, pipes)
    }),
    multi("aqueduct/fifo/feed/mt", Mechanism::Fifo, |it| {
        frames(it, FEED, fifos)
    }),
    multi("aqueduct/unix/feed/mt", Mechanism::Unix, |it| {
        frames(it, FEED, unix)
    }),
    multi("aqueduct/shm/feed/mt", Mechanism::Shm, |it| {
        frames(it, FEED, shm)
    }),
    multi("aqueduct/tcp/feed/mt", Mechanism::Tcp, |it| {
        frames(it, FEED, tcp)
    }),
    multi("aqueduct/mq/asyncfd/mt", Mechanism::Mq, queue::async_fd),
    value("aqueduct/pipe/postcard", Mechanism::Pipe, |it| {
        typed::run(it, Postcard, pipes)
    }),
    value("aqueduct/unix/postcard", Mechanism::Unix, |it| {
        typed::run(it, Postcard, unix)
    }),
    value("aqueduct/tcp/postcard", Mechanism::Tcp, |it| {
        typed::run(it, Postcard, tcp)
    }),
    value("aqueduct/pipe/json", Mechanism::Pipe, |it| {
        typed::run(it, Json, pipes)
    }),
    value("aqueduct/unix/json", Mechanism::Unix, |it| {
        typed::run(it, Json, unix)
    }),
    value("aqueduct/tcp/json", Mechanism::Tcp, |it| {
        typed::run(it, Json, tcp)
    }),
    value("aqueduct/pipe/postcard/address", Mechanism::Pipe, |it| {
        typed::by_address(it, Postcard)
    }),
    value("aqueduct/pipe/json/address", Mechanism::Pipe, |it| {
        typed::by_address(it, Json)
    }),
    value("aqueduct/unix/postcard/address", Mechanism::Unix, |it| {
        typed::by_address(it, Postcard)
    }),
    value("aqueduct/unix/json/address", Mechanism::Unix, |it| {
        typed::by_address(it, Json)
    }),
    value("aqueduct/tcp/postcard/address", Mechanism::Tcp, |it| {
        typed::by_address(it, Postcard)
    }),
    value("aqueduct/tcp/json/address", Mechanism::Tcp, |it| {
        typed::by_address(it, Json)
    }),
    value("aqueduct/unix/call", Mechanism::Unix, call::run),
    value("aqueduct/unix/turns", Mechanism::Unix, call::turns),
    concurrent("aqueduct/unix/concurrent", concurrent::handles),
    concurrent("aqueduct/unix/concurrent/mutex", concurrent::mutex),
    concurrent("aqueduct/unix/concurrent/task", concurrent::queue),
];

/// A case that refuses larger messages.
const fn small(name: &'static str, mechanism: Mechanism, run: Run) -> Case {
    Case {
        sizes: &[64, 1024],
        ..one_way(name, mechanism, run)
    }
}

/// A case that moves values of 64 bytes.
const fn value(name: &'static str, mechanism: Mechanism, run: Run) -> Case {
    Case {
        sizes: &[64],
        ..case(name, mechanism, run)
    }
}

/// A case of several sends of such values at a time.
const fn concurrent(name: &'static str, run: Run) -> Case {
    Case {
        sizes: &[64],
        ..one_way(name, Mechanism::Unix, run)
    }
}

/// Both halves of the waist; each where it is needed.
type Halves<S, R> = (Option<S>, Option<R>);

type Framed<W, R> = Halves<FramedWrite<W>, FramedRead<R>>;

fn frames<S, R>(
    session: &Session,
    each: Each,
    open: fn(&Session) -> anyhow::Result<Halves<S, R>>,
) -> anyhow::Result<SideReport>
where
    S: Sink<Bytes, Error = io::Error> + Send + Unpin + 'static,
    R: Stream<Item = io::Result<Bytes>> + Send + Unpin + 'static,
{
    let (tx, rx) = open(session)?;
    play_halves(session, (tx.map(|sink| Tx { sink, each }), rx.map(Rx)))
}

/// For as long as its documentation proposes.
fn latency<W, R>(
    session: &Session,
    chunk: usize,
    open: fn(&Session) -> anyhow::Result<Framed<W, R>>,
) -> anyhow::Result<SideReport>
where
    W: AsyncWrite + Send + Unpin + 'static,
    R: AsyncRead + Send + Unpin + 'static,
{
    let (tx, rx) = open(session)?;
    let tx = tx.map(|sink| Tx { sink, each: FEED });
    let rx = rx.map(|rx| {
        let polled = Polled::new(rx.into_parts().0, POLL_FOR);
        Rx(FramedRead::new(polled, Framing::length()).with_chunk(chunk))
    });
    play_halves(session, (tx, rx))
}

/// Plain `send`s that may go together.
struct Coalesced(Sender<Bytes>);

impl Sends for Coalesced {
    async fn send(&mut self, message: &'static Message) -> anyhow::Result<()> {
        Ok(self.0.send(message.bytes.clone()).await?)
    }

    async fn flush(&mut self) -> anyhow::Result<()> {
        Ok(self.0.flush().await?)
    }
}

fn coalesced<S, R>(
    session: &Session,
    open: fn(&Session) -> anyhow::Result<Halves<S, R>>,
) -> anyhow::Result<SideReport>
where
    S: Sink<Bytes, Error = io::Error> + Send + Unpin + 'static,
    R: Stream<Item = io::Result<Bytes>> + Send + Unpin + 'static,
{
    let (tx, rx) = open(session)?;
    let tx = tx.map(|sink| Coalesced(Sender::new(sink, Raw).coalesced()));
    play_halves(session, (tx, rx.map(Rx)))
}

fn borrowed<W, R>(
    session: &Session,
    open: fn(&Session) -> anyhow::Result<Framed<W, R>>,
) -> anyhow::Result<SideReport>
where
    W: AsyncWrite + Send + Unpin + 'static,
    R: AsyncRead + Send + Unpin + 'static,
{
    let (tx, rx) = open(session)?;
    play_halves(session, (tx.map(Lends), rx.map(Borrows)))
}

fn pipes(session: &Session) -> anyhow::Result<Framed<pipe::Sender, pipe::Receiver>> {
    ready("")?;
    let (tx, rx) = place::pipes(session)?;
    session.exec().run(async move {
        let tx = tx.map(pipe::Sender::from_owned_fd).transpose()?;
        let rx = rx.map(pipe::Receiver::from_owned_fd).transpose()?;
        Ok((
            tx.map(|it| it.framed(Framing::length())),
            rx.map(|it| it.framed(Framing::length())),
        ))
    })
}

fn fifos(session: &Session) -> anyhow::Result<Framed<fifo::Sender, fifo::Receiver>> {
    let (sends, receives) = place::ends(session);
    let (to, from) = place::fifos(session);
    session.exec().run(async move {
        let options = fifo::OpenOptions::new();
        let mut rx = None;
        if receives {
            rx = Some(options.open_receiver(from)?.framed(Framing::length()));
        }
        ready("")?;
        let mut tx = None;
        if sends {
            tx = Some(options.open_sender(to).await?.framed(Framing::length()));
        }
        Ok((tx, rx))
    })
}

/// A FIFO with several writers: no write tears a frame of another.
fn shared(session: &Session) -> anyhow::Result<SideReport> {
    let (to, from) = place::fifos(session);
    let first = session.is_first();
    let (tx, rx) = session.exec().run(async move {
        let options = fifo::OpenOptions::new();
        if first {
            let sender = options.open_sender(to).await?;
            // Within what one write takes, so that no lock is needed.
            let framing = Framing::length().max_frame(4092);
            return Ok((Some(fifo::SharedSender::new(sender, framing)), None));
        }
        let receiver = options.open_receiver(from)?;
        ready("")?;
        Ok((None, Some(receiver.framed(Framing::length()))))
    })?;
    play_halves(
        session,
        (tx.map(|sink| Tx { sink, each: FEED }), rx.map(Rx)),
    )
}

fn unix(
    session: &Session,
) -> anyhow::Result<
    Framed<impl AsyncWrite + Send + Unpin + use<>, impl AsyncRead + Send + Unpin + use<>>,
> {
    let path = session.spec().path("socket");
    let first = session.is_first();
    session.exec().run(async move {
        let stream = if first {
            aqueduct::unix::connect(path).await?
        } else {
            let listener = aqueduct::unix::bind(path)?;
            ready("")?;
            listener.accept().await?.0
        };
        let (rx, tx) = aqueduct::unix::into_split(stream)?;
        Ok((
            Some(FramedWrite::new(tx, Framing::length())),
            Some(FramedRead::new(rx, Framing::length())),
        ))
    })
}

/// By address, since the memory is set up there. A case of latency mode polls.
fn shm(
    session: &Session,
) -> anyhow::Result<
    Framed<impl AsyncWrite + Send + Unpin + use<>, impl AsyncRead + Send + Unpin + use<>>,
> {
    let bytes = connection(session)?.into_bytes();
    let (rx, tx) = bytes.map_err(|_| anyhow::anyhow!("no bytes"))?.into_split();
    Ok((
        Some(FramedWrite::new(tx, Framing::length())),
        Some(FramedRead::new(rx, Framing::length())),
    ))
}

type TcpHalves = Framed<tokio::net::tcp::OwnedWriteHalf, tokio::net::tcp::OwnedReadHalf>;

fn tcp(session: &Session) -> anyhow::Result<TcpHalves> {
    let address = session.spec().address.clone();
    let first = session.is_first();
    session.exec().run(async move {
        let stream = if first {
            aqueduct::tcp::connect(address).await?
        } else {
            let listener = aqueduct::tcp::bind("127.0.0.1:0").await?;
            ready(&listener.local_addr()?.to_string())?;
            listener.accept().await?.0
        };
        let (rx, tx) = stream.into_split();
        Ok((
            Some(FramedWrite::new(tx, Framing::length())),
            Some(FramedRead::new(rx, Framing::length())),
        ))
    })
}

/// By an address, as `Endpoint` users have it.
fn endpoint(
    session: &Session,
) -> anyhow::Result<Halves<aqueduct::frame::BoxFrameSink, aqueduct::frame::BoxFrameStream>> {
    let (tx, rx) = connection(session)?.into_split();
    Ok((Some(tx.into_frames()), Some(rx.into_frames())))
}

fn connection(session: &Session) -> anyhow::Result<connect::Connection> {
    let case = &session.spec().case;
    let scheme = ["tcp", "shm"]
        .into_iter()
        .find(|it| case.contains(&format!("/{it}/")));
    let mut options = connect::Options::new();
    if case.ends_with("/latency") {
        options.poll_for(POLL_FOR);
    }
    let path = session.spec().path("socket");
    let address = session.spec().address.clone();
    let first = session.is_first();
    let large = case.ends_with("/lent") && session.spec().size > 256 << 10;
    session.exec().run(async move {
        let here = match scheme {
            Some("tcp") => "tcp://127.0.0.1:0".parse()?,
            // A message that is lent has to fit the ring.
            Some("shm") if large => format!("shm:{}?capacity=4MiB", path.display()).parse()?,
            scheme => Endpoint::new(scheme.unwrap_or("unix"), path)?,
        };
        if first {
            return Ok(options.connect(&address.parse()?).await?);
        }
        let mut listener = options.bind(&here).await?;
        ready(&listener.local_endpoint().to_string())?;
        let connection: Option<io::Result<connect::Connection>> = listener.accept().await;
        Ok(connection.ok_or_else(ended)??)
    })
}

struct Packets(seqpacket::Socket);

impl Sends for Packets {
    async fn send(&mut self, message: &'static Message) -> anyhow::Result<()> {
        Ok(self.0.send(&message.bytes).await?)
    }
}

impl Receives for Packets {
    async fn receive(&mut self, check: &mut Check) -> anyhow::Result<()> {
        let packet = self.0.recv().await?;
        check.frame(&packet.ok_or_else(ended)?)
    }
}

fn packets(session: &Session) -> anyhow::Result<SideReport> {
    let path = session.spec().path("socket");
    let first = session.is_first();
    let socket = session.exec().run(async move {
        if first {
            return Ok(aqueduct::unix::ConnectOptions::new()
                .connect_seqpacket(path)
                .await?);
        }
        let listener = aqueduct::unix::BindOptions::new().bind_seqpacket(path)?;
        ready("")?;
        Ok(listener.accept().await?)
    })?;
    play(session, Packets(socket))
}
