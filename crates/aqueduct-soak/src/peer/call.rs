use std::net::Shutdown;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use aqueduct::connect::Options;
use aqueduct::frame::{BoxFrameSink, BoxFrameStream, FramedRead, FramedWrite, Framing};
use aqueduct::{Endpoint, tcp, unix};
use futures_util::{SinkExt, StreamExt};
use socket2::SockRef;

use super::{End, WINDOW, end_of};
use crate::ledger::{Progress, Received, Sent};
use crate::message::{self, Sizes};

/// How long a client waits for a server that is being started again.
const PATIENCE: Duration = Duration::from_secs(30);

/// A client that sends numbered messages, each once, and notes down which were answered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Client {
    pub(super) id: u32,
    pub(super) sizes: Sizes,
    pub(super) count: u64,
    pub(super) cut_every: u64,
}

/// One connection, and the means to cut it.
struct Connected {
    sink: BoxFrameSink,
    stream: BoxFrameStream,
    /// `None`: it is cut by dropping it.
    socket: Option<OwnedFd>,
}

impl Client {
    pub(super) async fn run(
        self,
        server: &Endpoint,
        sent: &Path,
        answered: &Path,
    ) -> anyhow::Result<End> {
        let sent = Sent::create(sent)?;
        let mut answered = Received::create(answered)?;
        let mut progress = Progress::default();
        while progress.done < self.count {
            let connected = connect(server).await?;
            match self
                .talk(connected, &sent, &mut answered, &mut progress)
                .await?
            {
                End::Whole => {}
                End::Failed(error) => return Ok(End::Failed(error)),
                // What was not answered by then is never sent again: it may have been received.
                End::PeerGone | End::Truncated => {
                    progress.breaks += 1;
                    progress.done = progress.begun;
                    sent.note(progress)?;
                }
            }
        }
        Ok(End::Whole)
    }

    async fn talk(
        self,
        connected: Connected,
        sent: &Sent,
        answered: &mut Received,
        progress: &mut Progress,
    ) -> anyhow::Result<End> {
        let Connected {
            mut sink,
            mut stream,
            socket,
        } = connected;
        let mut until_cut = fastrand::u64(1..=self.cut_every);
        while progress.done < self.count {
            let room = (WINDOW - (progress.begun - progress.done)).min(self.count - progress.begun);
            if room > 0 {
                let first = progress.begun;
                progress.begun += fastrand::u64(1..=room);
                sent.note(*progress)?;
                let pushed = async {
                    for number in first..progress.begun {
                        let size = self.sizes.of(self.id, number);
                        sink.feed(message::make(self.id, number, size)).await?;
                    }
                    sink.flush().await
                };
                if let Err(error) = pushed.await {
                    return Ok(end_of(&error));
                }
            }
            match stream.next().await {
                None => return Ok(End::PeerGone),
                Some(Err(error)) => return Ok(end_of(&error)),
                Some(Ok(head)) => {
                    let number = message::number(&head);
                    anyhow::ensure!(
                        number == Some(progress.done),
                        "the answer to {number:?} came in place of {}",
                        progress.done
                    );
                    answered.note(Some((self.id, progress.done)))?;
                    progress.done += 1;
                }
            }
            until_cut -= 1;
            if until_cut == 0 {
                progress.cuts += 1;
                sent.note(*progress)?;
                // As if the network had gone, while messages are on their way in both directions.
                match &socket {
                    Some(socket) => SockRef::from(socket).shutdown(Shutdown::Both)?,
                    None => return Ok(End::PeerGone),
                }
                until_cut = u64::MAX;
            }
        }
        match sink.close().await {
            Ok(()) => Ok(End::Whole),
            Err(error) => Ok(end_of(&error)),
        }
    }
}

async fn connect(server: &Endpoint) -> anyhow::Result<Connected> {
    let address = server.to_string();
    match (server.scheme().name, server.path()) {
        ("tcp", _) => {
            let mut options = tcp::ConnectOptions::new();
            options.wait(PATIENCE);
            let address = address.trim_start_matches("tcp://");
            let stream = options.connect(address).await?;
            let socket = stream.as_fd().try_clone_to_owned()?;
            Ok(bytes(stream.into_split(), socket))
        }
        ("unix", Some(path)) => {
            let stream = unix_options().connect(path).await?;
            let socket = stream.as_fd().try_clone_to_owned()?;
            Ok(bytes(stream.into_split(), socket))
        }
        ("unixpacket", Some(path)) => {
            let connected = unix_options().connect_seqpacket(path).await?;
            let socket = connected.as_fd().try_clone_to_owned()?;
            let (sink, stream) = connected.into_split();
            Ok(Connected {
                sink: Box::pin(sink),
                stream: Box::pin(stream),
                socket: Some(socket),
            })
        }
        ("shm", _) => {
            let mut options = Options::new();
            options.wait(Some(PATIENCE));
            let (sink, stream) = options.connect(server).await?.into_frames();
            let socket = None;
            Ok(Connected {
                sink,
                stream,
                socket,
            })
        }
        _ => anyhow::bail!("{server} is not two-way"),
    }
}

fn unix_options() -> unix::ConnectOptions {
    let mut options = unix::ConnectOptions::new();
    options.wait(PATIENCE);
    options
}

fn bytes<R, W>((read, write): (R, W), socket: OwnedFd) -> Connected
where
    R: tokio::io::AsyncRead + Send + Unpin + 'static,
    W: tokio::io::AsyncWrite + Send + Unpin + 'static,
{
    Connected {
        sink: Box::pin(FramedWrite::new(write, Framing::length())),
        stream: Box::pin(FramedRead::new(read, Framing::length())),
        socket: Some(socket),
    }
}
