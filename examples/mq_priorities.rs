//! A producer and a consumer on a POSIX message queue, with priorities.
//!
//! The producer may run first: the messages wait in the kernel.
//!
//! ```text
//! terminal 1:  cargo run --example mq_priorities -- produce /demo
//! terminal 2:  cargo run --example mq_priorities -- consume /demo
//! ```
//!
//! The consumer prints the alarm first, then what is normal in the order it was sent, and ends
//! when the producer has announced its end. It then removes the queue.

use std::num::NonZeroUsize;

use anyhow::{Context, bail};
use aqueduct::mq::{OpenOptions, Queue, Receiver, Sender};
use futures_util::SinkExt;

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let (Some(role), Some(name)) = (arguments.next(), arguments.next()) else {
        bail!("usage: mq_priorities produce|consume /NAME");
    };
    let queue = OpenOptions::new()
        .create(true)
        .capacity(10)
        .max_message(256)
        .open(&name)?;
    match role.as_str() {
        "produce" => produce(queue).await,
        "consume" => consume(queue).await,
        _ => bail!("{role:?} is neither produce nor consume"),
    }
}

async fn produce(queue: Queue) -> anyhow::Result<()> {
    for i in 1..=5 {
        queue.send(1, format!("report {i}").as_bytes()).await?;
    }
    queue.send(20, b"alarm: the pump has stopped").await?;
    // The end is the last thing anybody receives: closing sends it with the lowest priority.
    let mut sender = Sender::new(queue)?.announces_end(NonZeroUsize::MIN);
    sender.close().await?;
    println!("sent 6 messages and the end");
    Ok(())
}

async fn consume(queue: Queue) -> anyhow::Result<()> {
    let mut receiver = Receiver::new(queue)?.ends_after(NonZeroUsize::MIN);
    while let Some(message) = receiver.recv().await.transpose()? {
        let text = std::str::from_utf8(&message.body).context("not text")?;
        println!("priority {:>2}: {text}", message.priority);
    }
    receiver.queue().unlink()?;
    Ok(())
}
