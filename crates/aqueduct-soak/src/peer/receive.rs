use std::path::Path;

use aqueduct::frame::{BoxFrameStream, Framing};
use aqueduct::{fifo, inherited, mq, pipe};
use futures_util::StreamExt;

use super::{End, LINK_FD, Link, end_of};
use crate::ledger::Received;
use crate::message;

pub(super) async fn run(link: &Link, notes: &Path) -> anyhow::Result<End> {
    let mut stream = open(link)?;
    let mut received = Received::create(notes)?;
    while let Some(message) = stream.next().await {
        match message {
            Ok(body) => received.note(message::read(&body))?,
            Err(error) => return Ok(end_of(&error)),
        }
    }
    Ok(End::Whole)
}

fn open(link: &Link) -> anyhow::Result<BoxFrameStream> {
    Ok(match link {
        Link::Pipe => Box::pin(inherited::receiver(LINK_FD)?.framed(Framing::length())),
        Link::Packets => Box::pin(pipe::packet::Receiver::from_owned_fd(inherited::take(
            LINK_FD,
        )?)?),
        Link::Fifo(path) | Link::SharedFifo(path) => {
            let mut options = fifo::OpenOptions::new();
            let receiver = options
                .create(true)
                .unlink_on_drop(true)
                .open_receiver(path)?;
            Box::pin(receiver.framed(Framing::length()))
        }
        Link::Queue { name, driver } => {
            let mut options = mq::OpenOptions::new();
            options.driver(driver.parse()?).end_marker(true);
            options.open_receiver(name)?.into_frames()
        }
        Link::Lines(address) => anyhow::bail!("{address} is collected from"),
    })
}
