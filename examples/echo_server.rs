//! Sends every line back, over any address.
//!
//! ```text
//! terminal 1:  cargo run --example echo_server -- unix:/tmp/echo.sock
//! terminal 2:  cargo run --example echo_client -- unix:/tmp/echo.sock
//!              socat - UNIX-CONNECT:/tmp/echo.sock
//! ```
//!
//! `tcp://127.0.0.1:7000` and `unixpacket:/tmp/echo.sock` work the same way. With a one-way
//! mechanism it takes two addresses, one for each direction, and serves one client after the other:
//!
//! ```text
//! terminal 1:  cargo run --example echo_server -- fifo:/tmp/there fifo:/tmp/back
//! terminal 2:  cargo run --example echo_client -- fifo:/tmp/there fifo:/tmp/back
//! ```
//!
//! and likewise `mq:/there mq:/back`. With `stdio:` it serves the program that started it: `cargo
//! run --example echo_client -- "exec:target/debug/examples/echo_server stdio:"`.
//!
//! Ctrl-C or SIGTERM ends it, after it has answered everything that it received.

use std::io;

use anyhow::{Result, bail};
use aqueduct::Endpoint;
use aqueduct::bytes::Bytes;
use aqueduct::codec::Raw;
use aqueduct::connect::{Connection, Options};
use aqueduct::frame::Framing;
use aqueduct::service::{self, serve};
use futures_util::Stream;

#[tokio::main]
async fn main() -> Result<()> {
    let addresses = std::env::args().skip(1).map(|address| address.parse());
    let addresses: Vec<Endpoint> = addresses.collect::<Result<_, _>>()?;
    let mut options = Options::new();
    options.framing(Framing::lines());
    match &addresses[..] {
        [both_ways] => {
            let listener = options.bind(both_ways).await?;
            // Standard output may be the connection.
            eprintln!("listening on {}", listener.local_endpoint());
            serve_all(listener).await
        }
        [requests, replies] => {
            eprintln!("listening on {requests}");
            serve_all(options.accept_pairs(requests.clone(), replies.clone())).await
        }
        _ => bail!("usage: echo_server ADDRESS | echo_server REQUESTS REPLIES"),
    }
}

/// Serves all clients, over any mechanism.
async fn serve_all(clients: impl Stream<Item = io::Result<Connection>> + 'static) -> Result<()> {
    let echo = |connection: Connection, cx: service::Context| async move {
        let client = cx.channel::<Bytes, Bytes>(connection, Raw);
        service::respond(client, &cx, |line| async { line }).await
    };
    let stats = serve(clients, service::shutdown_on_signal()?, echo).await?;
    eprintln!("served {} connections", stats.accepted);
    Ok(())
}
