//! A FIFO between two processes that have nothing in common but its path.

use aqueduct::Endpoint;

use super::stage::{Stage, count, tally};

const MANY: u64 = 100_000;
const SIZE: usize = 100;

pub(super) async fn run(stage: &mut Stage) -> anyhow::Result<()> {
    let address = Endpoint::new("fifo", stage.path("jobs"))?.to_string();
    stage.say("Two processes that know nothing of each other but an address:")?;
    stage.say(&address)?;
    for sender_first in [true, false] {
        let mut send = None;
        if sender_first {
            send = Some(sender(stage, &address)?);
        }
        // To the end of the stream, which it sees when the sender leaves.
        let receive = stage.start("receive", &[&address, &u64::MAX.to_string()])?;
        let mut send = match send {
            Some(send) => send,
            None => sender(stage, &address)?,
        };
        let first = if sender_first { "sender" } else { "receiver" };
        stage.sent(format_args!(
            "{} messages of {SIZE} bytes, the {first} started first",
            count(MANY)
        ))?;
        anyhow::ensure!(send.wait().await?.success(), "the sender failed");
        let tally = tally(receive).await?;
        stage.received(format_args!(
            "{} messages, then the end",
            count(tally.messages)
        ))?;
        tally.check_sender(0, MANY)?;
        stage.verified("every message, byte for byte, in order")?;
        if !sender_first {
            stage.speed(tally.messages, tally.bytes, tally.time)?;
        }
    }
    Ok(())
}

fn sender(stage: &Stage, address: &str) -> anyhow::Result<tokio::process::Child> {
    stage.start(
        "send",
        &[address, "0", &MANY.to_string(), &SIZE.to_string()],
    )
}
