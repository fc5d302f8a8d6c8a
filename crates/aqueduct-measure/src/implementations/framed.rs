//! Tokio and tokio-util's `Framed`, as a good Tokio programmer writes it.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::unix::pipe;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio_util::codec::{Framed, FramedRead, FramedWrite, LengthDelimitedCodec};

use super::{ended, place, play, play_halves};
use crate::case::{Case, Mechanism, case, multi, one_way};
use crate::check::Check;
use crate::message::Message;
use crate::peer::ready;
use crate::sample::SideReport;
use crate::session::{Receives, Sends, Session};

/// How a case sends, and the size of its buffers.
#[derive(Clone, Copy, Debug)]
pub struct How {
    /// Whether each message is flushed, as `send` does.
    each: bool,
    /// Bytes of both buffers, if not the default of 8 KiB.
    buffer: Option<usize>,
}

/// Flushes once at the end.
pub const FEED: How = How {
    each: false,
    buffer: None,
};
const SEND: How = How {
    each: true,
    buffer: None,
};
/// The same, with buffers of 64 KiB.
pub const FEED_64K: How = How {
    each: false,
    buffer: Some(64 << 10),
};

pub(super) const CASES: &[Case] = &[
    case("tokio/pipe/feed", Mechanism::Pipe, |it| pipes(it, FEED)),
    case("tokio/fifo/feed", Mechanism::Fifo, |it| fifos(it, FEED)),
    case("tokio/unix/feed", Mechanism::Unix, |it| unix(it, FEED)),
    case("tokio/tcp/feed", Mechanism::Tcp, |it| tcp(it, FEED)),
    one_way("tokio/pipe/send", Mechanism::Pipe, |it| pipes(it, SEND)),
    one_way("tokio/fifo/send", Mechanism::Fifo, |it| fifos(it, SEND)),
    one_way("tokio/unix/send", Mechanism::Unix, |it| unix(it, SEND)),
    one_way("tokio/tcp/send", Mechanism::Tcp, |it| tcp(it, SEND)),
    one_way("tokio/pipe/feed-64k", Mechanism::Pipe, |it| {
        pipes(it, FEED_64K)
    }),
    one_way("tokio/unix/feed-64k", Mechanism::Unix, |it| {
        unix(it, FEED_64K)
    }),
    one_way("tokio/tcp/feed-64k", Mechanism::Tcp, |it| tcp(it, FEED_64K)),
    multi("tokio/pipe/feed/mt", Mechanism::Pipe, |it| pipes(it, FEED)),
    multi("tokio/unix/feed/mt", Mechanism::Unix, |it| unix(it, FEED)),
    multi("tokio/tcp/feed/mt", Mechanism::Tcp, |it| tcp(it, FEED)),
];

/// Both directions of a stream.
#[derive(Debug)]
pub struct Both<T> {
    framed: Framed<T, LengthDelimitedCodec>,
    each: bool,
}

impl<T: AsyncRead + AsyncWrite> Both<T> {
    /// Cuts the stream into frames by their length.
    pub fn new(io: T, how: How) -> Self {
        let codec = LengthDelimitedCodec::new();
        let framed = match how.buffer {
            None => Framed::new(io, codec),
            Some(bytes) => {
                let mut framed = Framed::with_capacity(io, codec, bytes);
                framed.set_backpressure_boundary(bytes);
                framed
            }
        };
        Self {
            framed,
            each: how.each,
        }
    }
}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Sends for Both<T> {
    async fn send(&mut self, message: &'static Message) -> anyhow::Result<()> {
        if self.each {
            return Ok(self.framed.send(message.bytes.clone()).await?);
        }
        Ok(self.framed.feed(message.bytes.clone()).await?)
    }

    async fn flush(&mut self) -> anyhow::Result<()> {
        Ok(SinkExt::<bytes::Bytes>::flush(&mut self.framed).await?)
    }
}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Receives for Both<T> {
    async fn receive(&mut self, check: &mut Check) -> anyhow::Result<()> {
        let frame = self.framed.next().await;
        check.frame(&frame.ok_or_else(ended)??)
    }
}

struct Tx {
    framed: FramedWrite<pipe::Sender, LengthDelimitedCodec>,
    each: bool,
}

impl Tx {
    fn new(io: pipe::Sender, how: How) -> Self {
        let codec = LengthDelimitedCodec::new();
        let mut framed = match how.buffer {
            None => FramedWrite::new(io, codec),
            Some(bytes) => FramedWrite::with_capacity(io, codec, bytes),
        };
        if let Some(bytes) = how.buffer {
            framed.set_backpressure_boundary(bytes);
        }
        Self {
            framed,
            each: how.each,
        }
    }
}

impl Sends for Tx {
    async fn send(&mut self, message: &'static Message) -> anyhow::Result<()> {
        if self.each {
            return Ok(self.framed.send(message.bytes.clone()).await?);
        }
        Ok(self.framed.feed(message.bytes.clone()).await?)
    }

    async fn flush(&mut self) -> anyhow::Result<()> {
        Ok(SinkExt::<bytes::Bytes>::flush(&mut self.framed).await?)
    }
}

struct Rx(FramedRead<pipe::Receiver, LengthDelimitedCodec>);

impl Rx {
    fn new(io: pipe::Receiver, how: How) -> Self {
        let codec = LengthDelimitedCodec::new();
        Self(match how.buffer {
            None => FramedRead::new(io, codec),
            Some(bytes) => FramedRead::with_capacity(io, codec, bytes),
        })
    }
}

impl Receives for Rx {
    async fn receive(&mut self, check: &mut Check) -> anyhow::Result<()> {
        let frame = self.0.next().await;
        check.frame(&frame.ok_or_else(ended)??)
    }
}

fn pipes(session: &Session, how: How) -> anyhow::Result<SideReport> {
    ready("")?;
    let (tx, rx) = place::pipes(session)?;
    let ends = session.exec().run(async move {
        let tx = tx.map(pipe::Sender::from_owned_fd).transpose()?;
        let rx = rx.map(pipe::Receiver::from_owned_fd).transpose()?;
        Ok((tx.map(|it| Tx::new(it, how)), rx.map(|it| Rx::new(it, how))))
    })?;
    play_halves(session, ends)
}

fn fifos(session: &Session, how: How) -> anyhow::Result<SideReport> {
    let (sends, receives) = place::ends(session);
    let (to, from) = place::fifos(session);
    let first = session.is_first();
    let ends = session.exec().run(async move {
        // Open for writing, too: else it is at its end until the writer comes.
        let rx = receives.then(|| {
            pipe::OpenOptions::new()
                .read_write(true)
                .open_receiver(from)
        });
        let rx = rx.transpose()?;
        if !first {
            ready("")?;
        }
        let mut tx = None;
        while sends && tx.is_none() {
            match pipe::OpenOptions::new().open_sender(&to) {
                Ok(opened) => tx = Some(opened),
                // Nobody reads yet.
                Err(e) if e.raw_os_error() == Some(nix::libc::ENXIO) => {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                Err(e) => return Err(e.into()),
            }
        }
        Ok((tx.map(|it| Tx::new(it, how)), rx.map(|it| Rx::new(it, how))))
    })?;
    play_halves(session, ends)
}

fn unix(session: &Session, how: How) -> anyhow::Result<SideReport> {
    let path = session.spec().path("socket");
    let first = session.is_first();
    let stream = session.exec().run(async move {
        if first {
            return Ok(UnixStream::connect(path).await?);
        }
        let listener = UnixListener::bind(path)?;
        ready("")?;
        Ok(listener.accept().await?.0)
    })?;
    play(session, Both::new(stream, how))
}

fn tcp(session: &Session, how: How) -> anyhow::Result<SideReport> {
    let address = session.spec().address.clone();
    let first = session.is_first();
    let stream = session.exec().run(async move {
        let stream = if first {
            TcpStream::connect(address).await?
        } else {
            let listener = TcpListener::bind("127.0.0.1:0").await?;
            ready(&listener.local_addr()?.to_string())?;
            listener.accept().await?.0
        };
        stream.set_nodelay(true)?;
        Ok(stream)
    })?;
    play(session, Both::new(stream, how))
}
