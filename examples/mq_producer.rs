//! Sends messages with priorities to a queue.
//!
//! Start either side first; here the producer, so that the queue has time to sort:
//!
//! ```text
//! cargo run --example mq_producer -- /demo 0:tidy 9:fire 5:lunch 9:flood
//! cargo run --example mq_consumer -- /demo
//! ```
//!
//! The consumer gets `fire`, `flood`, `lunch`, `tidy`: the highest priority first, and equal
//! priorities in the order they were sent. Until then the messages wait in the system, even when no
//! program runs. The consumer removes the queue on request; see `mq_consumer`.

use anyhow::{Context, Result, bail};
use aqueduct::mq::{Driver, OpenOptions};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let Some(name) = args.next() else {
        bail!("which queue, and what? For example: /demo 0:tidy 9:fire");
    };
    let messages = args.map(|it| parse(&it)).collect::<Result<Vec<_>>>()?;

    let queue = OpenOptions::new()
        .write(true)
        .create(true)
        // Of a new queue. Small: this user's queues have 800 KB together, unless more is allowed.
        .capacity(10)
        .max_message(256)
        .driver(Driver::AsyncFd)
        .open(&name)?;
    for (priority, text) in messages {
        // Waits while the queue is full.
        tokio::select! {
            sent = queue.send(priority, text.as_bytes()) => sent?,
            interrupted = tokio::signal::ctrl_c() => {
                interrupted?;
                println!("not sent: {text}");
                break;
            }
        }
        println!("sent {text} with priority {priority}");
    }
    let is = queue.attributes()?;
    println!(
        "{} of at most {} messages wait in {name}",
        is.messages, is.capacity
    );
    Ok(())
}

/// `9:fire`: a priority and a text.
fn parse(arg: &str) -> Result<(u32, String)> {
    let (priority, text) = arg
        .split_once(':')
        .with_context(|| format!("no priority in {arg:?}"))?;
    let priority = priority
        .parse()
        .with_context(|| format!("no priority in {arg:?}"))?;
    Ok((priority, text.to_owned()))
}
