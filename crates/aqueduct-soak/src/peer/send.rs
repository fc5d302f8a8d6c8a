use std::path::Path;
use std::time::Duration;

use aqueduct::OpenErrorKind;
use aqueduct::connect::Reconnect;
use aqueduct::fifo::{self, SharedSender};
use aqueduct::frame::{BoxFrameSink, Framing};
use aqueduct::{inherited, mq, pipe};
use futures_util::SinkExt;

use super::{End, LINK_FD, Link, end_of, lines};
use crate::ledger::{Progress, Sent};
use crate::message::{self, Sizes};

/// How many messages are handed over at a time, at most.
const BATCH: u64 = 32;
/// Messages that are usually larger are handed over one at a time.
const LARGE: usize = 64 * 1024;
/// How long a receiver is waited for.
const PATIENCE: Duration = Duration::from_secs(40);

pub(super) async fn run(
    link: &Link,
    id: u32,
    sizes: Sizes,
    count: u64,
    notes: &Path,
) -> anyhow::Result<End> {
    let mut sink = open(link).await?;
    let sent = Sent::create(notes)?;
    let mut progress = Progress::default();
    let most = if sizes.usual > LARGE { 1 } else { BATCH };
    while progress.done < count {
        let batch = fastrand::u64(1..=most).min(count - progress.done);
        progress.begun = progress.done + batch;
        sent.note(progress)?;
        let pushed = async {
            for number in progress.done..progress.begun {
                let size = sizes.of(id, number);
                sink.feed(message::make(id, number, size)).await?;
            }
            sink.flush().await
        };
        if let Err(error) = pushed.await {
            return Ok(end_of(&error));
        }
        progress.done = progress.begun;
        sent.note(progress)?;
    }
    match sink.close().await {
        Ok(()) => Ok(End::Whole),
        Err(error) => Ok(end_of(&error)),
    }
}

/// Opens the FIFO once its receiver has made it.
pub(crate) async fn wait_for_fifo(
    options: &fifo::OpenOptions,
    path: &Path,
) -> anyhow::Result<fifo::Sender> {
    let deadline = std::time::Instant::now() + PATIENCE;
    loop {
        match options.open_sender(path).await {
            Err(error)
                if *error.kind() == OpenErrorKind::NotFound
                    && std::time::Instant::now() < deadline =>
            {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            opened => return Ok(opened?),
        }
    }
}

async fn open(link: &Link) -> anyhow::Result<BoxFrameSink> {
    Ok(match link {
        Link::Pipe => Box::pin(inherited::sender(LINK_FD)?.framed(Framing::length())),
        Link::Packets => Box::pin(pipe::packet::Sender::from_owned_fd(inherited::take(
            LINK_FD,
        )?)?),
        Link::Fifo(path) => {
            // Its receiver makes it, and so is the one that removes it.
            let sender = wait_for_fifo(&fifo::OpenOptions::new(), path).await?;
            Box::pin(sender.framed(Framing::length()))
        }
        Link::SharedFifo(path) => {
            let sender = fifo::OpenOptions::new().open_sender(path).await?;
            // Within what one write takes, so that no lock is needed.
            Box::pin(SharedSender::new(sender, Framing::length().max_frame(4092)))
        }
        Link::Queue { name, driver } => {
            let mut options = mq::OpenOptions::new();
            options
                .driver(driver.parse()?)
                .open_sender(name)?
                .into_frames()
        }
        Link::Lines(address) => {
            let mut options = lines();
            options.wait(Some(PATIENCE)).reconnect(Reconnect::new());
            options.open_sender(&address.parse()?).await?.into_frames()
        }
    })
}
