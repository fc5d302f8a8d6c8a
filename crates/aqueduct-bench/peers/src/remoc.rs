//! remoc over a Unix socket: values through its mpsc channel by Postcard, bytes through its binary
//! channel.

use bytes::Bytes;
use remoc::codec::Postcard;
use remoc::{chmux, rch};
use serde::{Deserialize, Serialize};
use tokio::net::{UnixListener, UnixStream};

use aqueduct_measure::case::{BOTH, Mechanism, Runtime};
use aqueduct_measure::implementations::Two;
use aqueduct_measure::peer::ready;
use aqueduct_measure::sample::SideReport;
use aqueduct_measure::{Case, Check, Item, Message, Receives, Sends, Session};

use crate::kept::Meeting;

pub(crate) const CASES: &[Case] = &[
    Case {
        name: "peer/remoc",
        mechanism: Mechanism::Own,
        runtime: Runtime::CurrentThread,
        works: BOTH,
        // A value of 64 bytes.
        sizes: &[64],
        run: values,
    },
    Case {
        name: "peer/remoc/bytes",
        mechanism: Mechanism::Own,
        runtime: Runtime::CurrentThread,
        works: BOTH,
        sizes: &[],
        run: bytes,
    },
];

/// The most bytes of a message, with room for what surrounds it.
const MOST: usize = 4 << 20;

/// What is sent over the first channel: the ends of those that are measured.
#[derive(Serialize, Deserialize)]
struct Ends {
    values: (
        rch::mpsc::Sender<Item, Postcard>,
        rch::mpsc::Receiver<Item, Postcard>,
    ),
    bytes: (rch::bin::Sender, rch::bin::Receiver),
}

/// This side's ends, and the first channel, which lives as long.
async fn ends(path: std::path::PathBuf, first: bool) -> anyhow::Result<Ends> {
    let stream = if first {
        UnixStream::connect(path).await?
    } else {
        let listener = UnixListener::bind(path)?;
        ready("")?;
        listener.accept().await?.0
    };
    let (read, write) = stream.into_split();
    let config = remoc::Cfg {
        max_data_size: MOST,
        ..remoc::Cfg::default()
    };
    let (connection, mut tx, mut rx): (
        _,
        rch::base::Sender<Ends, Postcard>,
        rch::base::Receiver<Ends, Postcard>,
    ) = remoc::Connect::io(config, read, write).await?;
    tokio::spawn(connection);
    if !first {
        let ends = rx.recv().await?;
        return ends.ok_or_else(|| anyhow::anyhow!("the connection has ended"));
    }
    let ((there, there_rx), (back_tx, back)) = (rch::mpsc::channel(), rch::mpsc::channel());
    let ((bytes, bytes_rx), (bytes_tx, bytes_back)) = (rch::bin::channel(), rch::bin::channel());
    let theirs = Ends {
        values: (back_tx, there_rx),
        bytes: (bytes_tx, bytes_rx),
    };
    let sent = tx.send(theirs).await;
    sent.map_err(|it| anyhow::anyhow!("{:?}", it.kind))?;
    Ok(Ends {
        values: (there, back),
        bytes: (bytes, bytes_back),
    })
}

struct Values<T>(T);

impl Sends for Values<rch::mpsc::Sender<Item, Postcard>> {
    async fn send(&mut self, message: &'static Message) -> anyhow::Result<()> {
        let sent = self.0.send(message.item).await;
        sent.map(drop).map_err(|it| it.without_item().into())
    }
}

impl Receives for Values<rch::mpsc::Receiver<Item, Postcard>> {
    async fn receive(&mut self, check: &mut Check) -> anyhow::Result<()> {
        let item = self.0.recv().await?;
        check.item(&item.ok_or_else(|| anyhow::anyhow!("the channel has ended"))?)
    }
}

struct Data<T>(T);

impl Sends for Data<chmux::Sender> {
    async fn send(&mut self, message: &'static Message) -> anyhow::Result<()> {
        Ok(self.0.send(message.bytes.clone()).await?)
    }
}

impl Receives for Data<chmux::Receiver> {
    async fn receive(&mut self, check: &mut Check) -> anyhow::Result<()> {
        let data = self.0.recv().await?;
        let data = data.ok_or_else(|| anyhow::anyhow!("the channel has ended"))?;
        check.frame(&Bytes::from(data))
    }
}

fn values(session: &Session) -> anyhow::Result<SideReport> {
    let meeting = Meeting::new(session)?;
    let opening = ends(session.spec().path("socket"), session.is_first());
    let Ends {
        values: (tx, rx), ..
    } = session.exec().run(opening)?;
    let (tx, rx) = (Values(tx), Values(rx));
    meeting.play(session, Two { tx, rx })
}

fn bytes(session: &Session) -> anyhow::Result<SideReport> {
    let meeting = Meeting::new(session)?;
    let opening = ends(session.spec().path("socket"), session.is_first());
    let (tx, rx) = session.exec().run(async move {
        let (tx, rx) = opening.await?.bytes;
        let (tx, mut rx) = (tx.into_inner().await?, rx.into_inner().await?);
        rx.set_max_data_size(MOST);
        Ok((tx, rx))
    })?;
    let (tx, rx) = (Data(tx), Data(rx));
    meeting.play(session, Two { tx, rx })
}
