//! Datagram sockets: `unixgram:` and `udp:`.

mod reply;
mod truncated;
mod udp;
mod unixgram;

use aqueduct::Endpoint;
use aqueduct::connect::{Message, MessageReceiver, Options};
use aqueduct::frame::Framing;
use futures_util::StreamExt;
use tempfile::TempDir;

use crate::conformance::links::{endpoint, fresh_name};
use crate::support::deadline;

fn dir() -> TempDir {
    tempfile::tempdir().expect("a directory can be made")
}

fn in_dir(dir: &TempDir) -> Endpoint {
    endpoint(format!("unixgram:{}", dir.path().join("g").display()))
}

fn abstract_one() -> Endpoint {
    endpoint(format!("unixgram:@{}", fresh_name()))
}

/// Options with this limit of a message.
fn limited(bytes: usize) -> Options {
    let mut options = Options::new();
    options.framing(Framing::length().max_frame(bytes));
    options
}

async fn next(incoming: &mut MessageReceiver) -> Message {
    let item = deadline(incoming.next()).await;
    item.expect("it goes on").expect("it is whole")
}
