//! Prints the messages of a queue, the most urgent first, until Ctrl-C.
//!
//! ```text
//! cargo run --example mq_consumer -- /demo              # leaves the queue
//! cargo run --example mq_consumer -- /demo --unlink     # removes it at the end
//! cargo run --example mq_producer -- /demo 0:tidy 9:fire 5:lunch    # in another terminal
//! ```
//!
//! A queue has no end of stream: it cannot tell that its last sender has gone. So this ends on
//! Ctrl-C or SIGTERM, and loses nothing: a message is either printed or still in the queue. If you
//! start it twice, each message goes to one of the two.

use anyhow::{Result, bail};
use aqueduct::mq::{Driver, OpenOptions};
use tokio::signal::unix::{SignalKind, signal};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let (name, unlink) = match &args[..] {
        [name] => (name, false),
        [name, flag] if flag == "--unlink" => (name, true),
        _ => bail!("which queue? For example: /demo, or /demo --unlink"),
    };
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;

    let queue = OpenOptions::new()
        .read(true)
        .create(true)
        .capacity(10)
        .max_message(256)
        .driver(Driver::AsyncFd)
        .open(name)?;
    println!("waiting for messages in {name}");
    loop {
        // The first one that completes: dropping the other futures loses no message.
        let message = tokio::select! {
            message = queue.recv() => message?,
            _ = interrupt.recv() => break,
            _ = terminate.recv() => break,
        };
        let text = String::from_utf8_lossy(message.body());
        println!("{:5} {text}", message.priority().unwrap_or_default());
    }
    let left = queue.attributes()?.messages;
    println!("stopped; {left} messages are left in {name}");
    if unlink {
        queue.unlink()?;
        println!("{name} is removed, and what was in it");
    }
    Ok(())
}
