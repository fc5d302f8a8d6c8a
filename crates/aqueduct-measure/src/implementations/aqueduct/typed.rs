//! Values of a type, serialised.

use aqueduct::codec::Codec;
use aqueduct::inherited::offer;
use aqueduct::{Receiver, Sender};
use tokio::io::{AsyncRead, AsyncWrite};

use super::{Framed, connection, ended};
use crate::check::Check;
use crate::implementations::{place, play_halves};
use crate::message::{Item, Message};
use crate::peer::ready;
use crate::sample::SideReport;
use crate::session::{Receives, Sends, Session};

impl Sends for Sender<Item> {
    async fn send(&mut self, message: &'static Message) -> anyhow::Result<()> {
        Ok(self.feed(message.item).await?)
    }

    async fn flush(&mut self) -> anyhow::Result<()> {
        Ok(Self::flush(self).await?)
    }
}

impl Receives for Receiver<Item> {
    async fn receive(&mut self, check: &mut Check) -> anyhow::Result<()> {
        let item = self.recv().await;
        check.item(&item.ok_or_else(ended)??)
    }
}

pub(super) fn run<W, R, C>(
    session: &Session,
    codec: C,
    open: fn(&Session) -> anyhow::Result<Framed<W, R>>,
) -> anyhow::Result<SideReport>
where
    W: AsyncWrite + Send + Unpin + 'static,
    R: AsyncRead + Send + Unpin + 'static,
    C: Codec<Item> + Clone + 'static,
{
    let (tx, rx) = open(session)?;
    let tx = tx.map(|it| it.typed::<Item>(codec.clone()));
    let rx = rx.map(|it| it.typed::<Item>(codec));
    play_halves(session, (tx, rx))
}

/// The same, opened by address.
pub(super) fn by_address<C>(session: &Session, codec: C) -> anyhow::Result<SideReport>
where
    C: Codec<Item> + Clone + 'static,
{
    let halves = if session.spec().case.contains("/pipe/") {
        ready("")?;
        let (tx, rx) = place::pipes(session)?;
        session.exec().run(async move {
            let (mut sender, mut receiver) = (None, None);
            if let Some(fd) = tx {
                sender = Some(offer(fd)?.open_sender().await?.typed(codec.clone()));
            }
            if let Some(fd) = rx {
                receiver = Some(offer(fd)?.open_receiver().await?.typed(codec));
            }
            Ok((sender, receiver))
        })?
    } else {
        let channel = connection(session)?.channel(codec);
        let (tx, rx) = channel.into_split();
        (Some(tx), Some(rx))
    };
    play_halves::<Sender<Item>, Receiver<Item>>(session, halves)
}
