use std::path::Path;

use aqueduct::inherited;
use futures_util::StreamExt;
use tokio::io::AsyncReadExt;

use super::{End, STOP_FD, end_of, lines};
use crate::ledger::Received;
use crate::message;

/// Receives from all senders of an address, across replacements of its path, until told to stop.
pub(super) async fn run(address: &str, notes: &Path) -> anyhow::Result<End> {
    let mut told = inherited::receiver(STOP_FD)?;
    let mut options = lines();
    options.persist(true);
    let mut receiver = options.open_receiver(&address.parse()?).await?;
    let mut received = Received::create(notes)?;
    let (mut end, mut stopped) = ([0], false);
    loop {
        tokio::select! {
            message = receiver.next() => match message {
                Some(Ok(message)) => received.note(message::read(message.body()))?,
                Some(Err(error)) => return Ok(end_of(&error)),
                None => return Ok(End::Whole),
            },
            _ = told.read(&mut end), if !stopped => {
                stopped = true;
                receiver.stop();
            }
        }
    }
}
