//! Sends every line back, over whatever the address names.
//!
//! ```text
//! terminal 1:  cargo run --example echo_server -- unix:/tmp/echo.sock
//! terminal 2:  cargo run --example echo_client -- unix:/tmp/echo.sock
//!              socat - UNIX-CONNECT:/tmp/echo.sock
//! ```
//!
//! `tcp://127.0.0.1:7000` and `unixpacket:/tmp/echo.sock` work the same way. Of a one-way mechanism
//! it takes two, one for each direction, and serves one client after the other:
//!
//! ```text
//! terminal 1:  cargo run --example echo_server -- fifo:/tmp/there fifo:/tmp/back
//! terminal 2:  cargo run --example echo_client -- fifo:/tmp/there fifo:/tmp/back
//! ```
//!
//! and likewise `mq:/there mq:/back`. With `stdio:` it serves whoever started it:
//! `cargo run --example echo_client -- "exec:target/debug/examples/echo_server stdio:"`.
//!
//! Ctrl-C or SIGTERM ends it: what was received is answered before.

use std::pin::pin;

use anyhow::{Result, bail};
use aqueduct::bytes::Bytes;
use aqueduct::codec::Raw;
use aqueduct::connect::{Connection, Options};
use aqueduct::frame::Framing;
use aqueduct::serve::{self, CancellationToken};
use aqueduct::{Endpoint, Receiver};
use futures_util::StreamExt;
use tokio::signal::unix::{SignalKind, signal};

#[tokio::main]
async fn main() -> Result<()> {
    let addresses = std::env::args().skip(1).map(|address| address.parse());
    let addresses: Vec<Endpoint> = addresses.collect::<Result<_, _>>()?;
    let stop = CancellationToken::new();
    tokio::spawn(stop_at_signal(stop.clone()));
    match &addresses[..] {
        [both_ways] => serve_all(both_ways, stop).await,
        [requests, replies] => {
            while !stop.is_cancelled() {
                serve_one(requests, replies, &stop).await?;
            }
            Ok(())
        }
        _ => bail!("usage: echo_server ADDRESS | echo_server REQUESTS REPLIES"),
    }
}

fn lines() -> Options {
    let mut options = Options::new();
    options.framing(Framing::lines());
    options
}

/// All clients of a two-way address at the same time.
async fn serve_all(address: &Endpoint, stop: CancellationToken) -> Result<()> {
    let listener = lines().bind(address).await?;
    // Standard output may be the connection.
    eprintln!("listening on {}", listener.local_endpoint());
    let echo = |connection: Connection, cx: serve::Context| async move {
        let client = connection.channel_within::<Bytes, Bytes>(&cx, Raw);
        serve::respond(client, &cx, |line| async { line }).await
    };
    let stats = aqueduct::serve(listener, stop, echo).await?;
    eprintln!("served {} connections", stats.accepted);
    Ok(())
}

/// One client over two one-way addresses, until it ends its direction.
async fn serve_one(
    requests: &Endpoint,
    replies: &Endpoint,
    stop: &CancellationToken,
) -> Result<()> {
    let options = lines();
    let requests: Receiver<Bytes> = options.open_receiver(requests).await?.typed(Raw);
    let mut requests = pin!(requests.take_until(stop.cancelled()).peekable());
    // Not before there is a request: the client before this one has to see the end of its replies.
    if requests.as_mut().peek().await.is_none() {
        return Ok(());
    }
    let replies = tokio::select! {
        opened = options.open_sender(replies) => opened?,
        () = stop.cancelled() => return Ok(()),
    };
    let mut replies = replies.typed(Raw);
    while let Some(line) = requests.next().await {
        replies.send(line?).await?;
    }
    Ok(replies.close().await?)
}

async fn stop_at_signal(stop: CancellationToken) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        interrupted = tokio::signal::ctrl_c() => interrupted?,
        _ = terminate.recv() => {}
    }
    stop.cancel();
    Ok(())
}
