//! Sends lines from standard input over any address, and prints the replies.
//!
//! ```text
//! terminal 1:  cargo run --example echo_server -- tcp://127.0.0.1:7000
//! terminal 2:  cargo run --example echo_client -- tcp://127.0.0.1:7000
//! ```
//!
//! Either may start first. With a one-way mechanism it takes two addresses, as the server does: one
//! to send to and one to receive from, such as `mq:/there mq:/back`. Ctrl-D ends it.

use anyhow::{Context, Result, bail};
use aqueduct::bytes::Bytes;
use aqueduct::codec::Raw;
use aqueduct::connect::Options;
use aqueduct::frame::{FramedRead, Framing};
use aqueduct::{Channel, Endpoint, stdio};
use futures_util::StreamExt;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let addresses = std::env::args().skip(1).map(|address| address.parse());
    let addresses: Vec<Endpoint> = addresses.collect::<Result<_, _>>()?;
    let mut server = open(&addresses).await?;

    let mut typed = FramedRead::new(stdio::stdin()?, Framing::lines());
    while let Some(line) = typed.next().await {
        server.send(line?).await?;
        let back = server.recv().await.context("the server has gone")??;
        println!("{}", String::from_utf8_lossy(&back));
    }
    server.close().await?;
    // The server ends its direction too: of two one-way addresses the next client may come now.
    while let Some(line) = server.recv().await {
        println!("{}", String::from_utf8_lossy(&line?));
    }
    Ok(())
}

/// The same channel, over any mechanism.
async fn open(addresses: &[Endpoint]) -> Result<Channel<Bytes, Bytes>> {
    let mut options = Options::new();
    options.framing(Framing::lines());
    match addresses {
        [both_ways] => Ok(options.connect(both_ways).await?.channel(Raw)),
        [requests, replies] => Ok(options.connect_pair(requests, replies).await?.channel(Raw)),
        _ => bail!("usage: echo_client ADDRESS | echo_client REQUESTS REPLIES"),
    }
}
