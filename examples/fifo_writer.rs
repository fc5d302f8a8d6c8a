//! Writes lines to a FIFO: its arguments, or lines from standard input.
//!
//! Terminal 1:
//!
//! ```text
//! cargo run --example fifo_writer -- /tmp/greetings hello "how are you"
//! ```
//!
//! Terminal 2, this or any other program that reads:
//!
//! ```text
//! cargo run --example fifo_reader -- /tmp/greetings
//! cat /tmp/greetings
//! ```
//!
//! Either may be started first: the writer waits for a reader; Ctrl-C ends the wait. Several
//! writers may run at the same time, and their lines never mix.

use anyhow::{Context, Result};
use aqueduct::codec::Text;
use aqueduct::fifo::{self, SharedSender};
use aqueduct::frame::{FramedRead, Framing};
use aqueduct::{Receiver, Sender, stdio};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    tokio::select! {
        interrupted = tokio::signal::ctrl_c() => Ok(interrupted?),
        written = write() => written,
    }
}

async fn write() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let path = args.next().context("usage: fifo_writer PATH [LINE]...")?;
    let lines: Vec<String> = args.collect();

    eprintln!("waiting for a reader of {path}");
    let fifo = fifo::OpenOptions::new()
        .create(true)
        .open_sender(&path)
        .await?;
    // Whole lines in each write, so that those of several writers never mix.
    let shared = SharedSender::new(fifo, Framing::lines().max_frame(4095));
    let mut sender = Sender::<String>::new(shared, Text);
    if lines.is_empty() {
        eprintln!("type lines, and Ctrl-D to end");
        let typed = FramedRead::new(stdio::stdin()?, Framing::lines());
        let mut typed = Receiver::<String>::new(typed, Text);
        while let Some(line) = typed.recv().await {
            sender.send(line?).await?;
        }
    }
    for line in lines {
        // Many together, by few system calls.
        sender.feed(line).await?;
    }
    // What is not closed or flushed is not sent.
    sender.close().await?;
    Ok(())
}
