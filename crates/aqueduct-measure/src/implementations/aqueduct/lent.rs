//! Messages that are written into shared memory and looked at where they lie: one copy, by the sender.

use std::io::Write;

use aqueduct::shm::{Receiver, Sender, into_split};

use super::{connection, ended};
use crate::check::Check;
use crate::implementations::play_halves;
use crate::message::Message;
use crate::sample::SideReport;
use crate::session::{Receives, Sends, Session};

pub(super) fn run(session: &Session) -> anyhow::Result<SideReport> {
    let halves = into_split(connection(session)?);
    let (tx, rx) = halves.map_err(|_| anyhow::anyhow!("nothing can be lent"))?;
    let copy = Vec::new();
    play_halves(session, (Some(tx), Some(Looks { rx, copy })))
}

impl Sends for Sender {
    async fn send(&mut self, message: &'static Message) -> anyhow::Result<()> {
        let mut room = self.reserve(message.bytes.len()).await?;
        room.write_all(&message.bytes)?;
        Ok(room.publish(message.bytes.len())?)
    }
}

struct Looks {
    rx: Receiver,
    copy: Vec<u8>,
}

impl Receives for Looks {
    async fn receive(&mut self, check: &mut Check) -> anyhow::Result<()> {
        let lent = self.rx.lend().await.ok_or_else(ended)??;
        let len = lent.len();
        if !check.is_measuring() {
            self.copy.resize(len, 0);
            lent.copy_to(0, &mut self.copy);
            return check.frame(&self.copy);
        }
        let mut ends = [[0; 8]; 2];
        if len < 8 {
            anyhow::bail!("a message of {len} bytes came");
        }
        lent.copy_to(0, &mut ends[0]);
        lent.copy_to(len - 8, &mut ends[1]);
        check.ends(len, ends[0], ends[1], None)
    }
}
