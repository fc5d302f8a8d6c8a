//! Prints the lines that arrive on a FIFO, until the last writer leaves.
//!
//! Terminal 1:
//!
//! ```text
//! cargo run --example fifo_reader -- /tmp/greetings
//! ```
//!
//! Terminal 2, this or any other program that writes lines:
//!
//! ```text
//! cargo run --example fifo_writer -- /tmp/greetings hello "how are you"
//! echo hello > /tmp/greetings
//! ```
//!
//! Either may be started first. With `--persist` as a second argument the reader goes on when
//! writers leave; Ctrl-C ends it. At the end the reader removes the FIFO if it created it.

use anyhow::{Context, Result, bail};
use aqueduct::codec::Text;
use aqueduct::fifo;
use aqueduct::frame::Framing;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let path = args.next().context("usage: fifo_reader PATH [--persist]")?;
    let persist = match args.next().as_deref() {
        None => false,
        Some("--persist") => true,
        Some(other) => bail!("unknown argument {other:?}"),
    };

    let fifo = fifo::OpenOptions::new()
        .create(true)
        .persist(persist)
        .unlink_on_drop(true)
        .open_receiver(&path)?;
    // Below the codec it is a stream of frames, here lines; above it, a stream of `String`s.
    let mut lines = fifo.framed(Framing::lines()).typed::<String>(Text);
    eprintln!("reading {path}");
    loop {
        tokio::select! {
            interrupted = tokio::signal::ctrl_c() => {
                interrupted?;
                break;
            }
            line = lines.recv() => match line {
                Some(Ok(line)) => println!("{line}"),
                // A line that is not UTF-8 costs that line alone.
                Some(Err(aqueduct::Error::Decode { .. })) => eprintln!("(a line that is no text)"),
                Some(Err(error)) => return Err(error.into()),
                None => break,
            },
        }
    }
    eprintln!("done");
    Ok(())
}
