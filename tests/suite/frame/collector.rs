//! One receiver for many clients: what one of them breaks is not the end for the others.

use aqueduct::connect::{MessageReceiver, Options};
use aqueduct::frame::{Framing, Partial, TooLong};
use futures_util::StreamExt;
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;

use crate::conformance::links::endpoint;
use crate::support::deadline;

async fn next(incoming: &mut MessageReceiver) -> String {
    let message = deadline(incoming.next()).await.expect("it goes on");
    let body = message.expect("it is whole").into_body();
    String::from_utf8(body.to_vec()).expect("it is text")
}

/// A collector, and how to write to it as another program would.
async fn collector(framing: Framing) -> (tempfile::TempDir, MessageReceiver) {
    let dir = tempfile::tempdir().expect("a directory");
    let address = endpoint(format!("unix:{}", dir.path().join("s").display()));
    let listener = Options::new().framing(framing).bind(&address).await;
    let listener = listener.expect("it is bound");
    (dir, listener.into_receiver())
}

async fn client(dir: &tempfile::TempDir, wire: &str) -> UnixStream {
    let path = dir.path().join("s");
    let mut stream = UnixStream::connect(path).await.expect("it listens");
    let written = stream.write_all(wire.as_bytes()).await;
    written.expect("there is room");
    stream
}

#[tokio::test]
async fn a_line_torn_by_its_clients_death_is_no_message() {
    for (framing, end) in [(Framing::lines(), "\n"), (Framing::nul(), "\0")] {
        let (dir, mut incoming) = collector(framing.clone()).await;
        drop(client(&dir, &format!("whole{end}torn")).await);
        assert_eq!(next(&mut incoming).await, "whole");
        // The first client has ended before another is there.
        assert!(tokio_test::task::spawn(incoming.next()).poll().is_pending());
        drop(client(&dir, &format!("next{end}")).await);
        assert_eq!(next(&mut incoming).await, "next");

        let (dir, mut incoming) = collector(framing.partial(Partial::Keep)).await;
        drop(client(&dir, "kept").await);
        assert_eq!(next(&mut incoming).await, "kept");
    }
}

#[tokio::test]
async fn a_line_over_the_limit_is_skipped_and_its_client_goes_on() {
    for (framing, end) in [(Framing::lines(), "\n"), (Framing::nul(), "\0")] {
        let framing = framing.max_frame(10);
        let long = "x".repeat(1000);
        let wire = format!("one{end}{long}{end}two{end}");
        let (dir, mut incoming) = collector(framing.clone()).await;
        let _client = client(&dir, &wire).await;
        assert_eq!(next(&mut incoming).await, "one");
        assert_eq!(next(&mut incoming).await, "two");

        // Where it is to fail, the client that sends it is closed, and no other.
        let (dir, mut incoming) = collector(framing.too_long(TooLong::Fail)).await;
        let _client = client(&dir, &wire).await;
        assert_eq!(next(&mut incoming).await, "one");
        let _other = client(&dir, &format!("other{end}")).await;
        assert_eq!(next(&mut incoming).await, "other");
    }
}

/// A connection that is accepted is a conversation: its owner hears of what is wrong with it.
#[tokio::test]
async fn an_accepted_connection_is_one_input() {
    let dir = tempfile::tempdir().expect("a directory");
    let address = endpoint(format!("unix:{}", dir.path().join("s").display()));
    let mut options = Options::new();
    let bound = options.framing(Framing::lines()).bind(&address).await;
    let mut listener = bound.expect("it is bound");
    drop(client(&dir, "no end").await);
    let connection = deadline(listener.accept()).await.expect("it comes");
    let mut incoming = connection.expect("it is accepted").into_receiver();
    assert_eq!(next(&mut incoming).await, "no end");
}
