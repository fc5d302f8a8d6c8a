//! What a process of the tour reports to the tour.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use aqueduct::bytes::Bytes;
use futures_util::{Stream, StreamExt};
use serde::{Deserialize, Serialize};

use super::numbered;

/// What came, verified message by message.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Tally {
    pub(super) messages: u64,
    pub(super) bytes: u64,
    /// From the first message to the last.
    pub(super) time: Duration,
    /// How many came of each sender, each in the order it was sent and none missing in between.
    pub(super) senders: BTreeMap<u32, u64>,
    /// The first message that was torn, doubled, missing or out of order.
    pub(super) wrong: Option<String>,
}

impl Tally {
    /// Takes messages to the end of the stream, or `limit` of them.
    pub(super) async fn of<E>(
        mut messages: impl Stream<Item = Result<Bytes, E>> + Unpin,
        limit: u64,
    ) -> anyhow::Result<Self>
    where
        anyhow::Error: From<E>,
    {
        let mut tally = Self::default();
        let mut start = None;
        while tally.messages < limit
            && let Some(body) = messages.next().await
        {
            start.get_or_insert_with(Instant::now);
            tally.add(&body?);
        }
        tally.time = start.map_or(Duration::ZERO, |it| it.elapsed());
        Ok(tally)
    }

    fn add(&mut self, body: &[u8]) {
        self.messages += 1;
        self.bytes += body.len() as u64;
        if let Some((sender, number)) = numbered::read(body) {
            let next = self.senders.entry(sender).or_default();
            if *next == number {
                *next += 1;
                return;
            }
        }
        let head = String::from_utf8_lossy(&body[..body.len().min(40)]);
        self.wrong.get_or_insert_with(|| head.into_owned());
    }

    /// Fails if a message was wrong.
    pub(super) fn check(&self) -> anyhow::Result<()> {
        match &self.wrong {
            None => Ok(()),
            Some(body) => anyhow::bail!("a message is torn, doubled or out of order: {body:?}"),
        }
    }

    /// Fails if a message was wrong, or if not exactly `count` came of `sender`.
    pub(super) fn check_sender(&self, sender: u32, count: u64) -> anyhow::Result<()> {
        self.check()?;
        let came = self.senders.get(&sender).copied().unwrap_or_default();
        anyhow::ensure!(
            came == count,
            "{came} messages of {count} arrived from sender {sender}"
        );
        Ok(())
    }
}
