//! Values of a type, serialised.

use aqueduct::codec::Codec;
use aqueduct::{Receiver, Sender};
use tokio::io::{AsyncRead, AsyncWrite};

use super::{Framed, ended};
use crate::check::Check;
use crate::implementations::play_halves;
use crate::message::{Item, Message};
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
