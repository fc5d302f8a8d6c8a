//! A message queue: priorities, messages that wait for their receiver, and many of them.

use aqueduct::mq::OpenOptions;

use super::stage::{Stage, count, tally};

const MANY: u64 = 50_000;
const SIZE: usize = 100;

pub(super) async fn run(stage: &mut Stage) -> anyhow::Result<()> {
    let name = format!("/aqueduct-tour-{}", std::process::id());
    // Small, to leave room for the user's other queues. Gone with this step, however it ends.
    let mut options = OpenOptions::new();
    options.create_new(true).capacity(10).max_message(128);
    let queue = options.unlink_on_drop(true).open(&name)?;
    let address = format!("mq:{name}");
    stage.say(&format!(
        "The queue {address} keeps messages whole, and keeps them"
    ))?;
    stage.say("until they are received, the most urgent one first.")?;
    for (priority, text) in [(0, "water the plants"), (9, "put out the fire"), (5, "eat")] {
        stage.sent(format_args!("priority {priority}  {text}"))?;
        queue.send(priority, text.as_bytes()).await?;
    }
    let mut order = Vec::new();
    for _ in 0..3 {
        let message = queue.recv().await?;
        let text = String::from_utf8_lossy(message.body()).into_owned();
        stage.received(format_args!(
            "priority {}  {text}",
            message.priority().unwrap_or_default()
        ))?;
        order.push(message.priority().unwrap_or_default());
    }
    anyhow::ensure!(order == [9, 5, 0], "in the wrong order");
    stage.verified("3 messages, in the order of their priorities")?;

    let many = MANY.to_string();
    let receive = stage.start("receive", &[&address, &many])?;
    let mut send = stage.start("send", &[&address, "0", &many, &SIZE.to_string()])?;
    let what = format!("{} messages of {SIZE} bytes from one process", count(MANY));
    stage.sent(what)?;
    anyhow::ensure!(send.wait().await?.success(), "the sender failed");
    let tally = tally(receive).await?;
    stage.received(format_args!(
        "{} messages in another",
        count(tally.messages)
    ))?;
    tally.check_sender(0, MANY)?;
    stage.verified("every message, byte for byte, in order")?;
    stage.speed(tally.messages, tally.bytes, tally.time)
}
