//! Shared memory: the hello, peers that break the protocol, shortages, and what is left behind.

mod forbidden;
mod hello;
mod indexes;
mod killed;
mod left;
mod lend;
mod liars;
mod passing;
mod raw;
mod shortage;

use std::path::PathBuf;

use aqueduct::connect::{Connection, Listener, Options};
use aqueduct::frame::Framing;
use aqueduct::shm::PeerError;
use aqueduct::{Endpoint, bytes::Bytes};
use futures_util::{SinkExt, StreamExt};
use tempfile::TempDir;

use crate::support::deadline;

/// A place for a socket, and its address with these options.
fn place(options: &str) -> (TempDir, PathBuf, Endpoint) {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("socket");
    let address = format!("shm:{}{options}", path.display());
    (dir, path, address.parse().expect("an address"))
}

async fn accept(listener: &mut Listener) -> Connection {
    let accepted = deadline(listener.accept()).await;
    accepted.expect("it has no end").expect("a connection")
}

/// Both ends of one connection.
async fn pair(address: &Endpoint) -> (Connection, Connection, Listener) {
    let mut listener = address.bind().await.expect("it is bound");
    let client = address.connect().await.expect("it connects");
    let server = accept(&mut listener).await;
    (client, server, listener)
}

/// The error of the next message, which is the peer's.
async fn refusal(connection: Connection) -> PeerError {
    let next = deadline(connection.into_receiver().next()).await;
    let error = next.expect("an error and no end").expect_err("an error");
    let text = error.to_string();
    assert!(!text.contains('\n') && text.len() < 200, "{text}");
    PeerError::of(&error)
        .cloned()
        .unwrap_or_else(|| panic!("not of the peer: {error:?}"))
}

/// Another client is served.
async fn serves(address: &Endpoint, listener: &mut Listener) {
    deadline(served(address, listener)).await;
}

async fn served(address: &Endpoint, listener: &mut Listener) {
    let mut client = address.connect().await.expect("it connects").into_frames();
    client
        .0
        .send(Bytes::from("hello"))
        .await
        .expect("it is sent");
    let mut server = accept(listener).await.into_frames();
    let asked = deadline(server.1.next())
        .await
        .expect("a message")
        .expect("it is whole");
    server.0.send(asked).await.expect("it is sent");
    let echo = deadline(client.1.next())
        .await
        .expect("a message")
        .expect("it is whole");
    assert_eq!(echo, "hello");
}

#[tokio::test]
async fn messages_of_every_size_pass_through_rings_of_every_size() {
    for options in ["?capacity=4KiB", "?capacity=64KiB", "", "?capacity=8MiB"] {
        let (_dir, _, address) = place(options);
        let (client, server, _listener) = pair(&address).await;
        let (mut sink, _rest) = client.into_frames();
        let (_other, mut stream) = server.into_frames();
        let sizes = [0, 1, 4095, 4096, 65_536, 1 << 20, 100, 777_777];
        let body = |n: usize, size: usize| -> Bytes {
            (0..size)
                .map(|i| (i * 31 + n) as u8)
                .collect::<Vec<u8>>()
                .into()
        };
        let sending = async {
            for (n, size) in sizes.into_iter().cycle().take(40).enumerate() {
                sink.send(body(n, size)).await.expect("it is sent");
            }
            sink.close().await.expect("it is closed");
        };
        let receiving = async {
            for (n, size) in sizes.into_iter().cycle().take(40).enumerate() {
                let frame = stream
                    .next()
                    .await
                    .expect("a message")
                    .expect("it is whole");
                assert_eq!(frame, body(n, size), "message {n} of {size} bytes");
            }
            assert!(stream.next().await.is_none());
        };
        deadline(async { tokio::join!(sending, receiving) }).await;
    }
}

/// As with every stream: a client sends, closes and exits before the server has accepted it.
#[tokio::test]
async fn what_a_client_sent_before_it_left_arrives() {
    let (_dir, _, address) = place("");
    let mut listener = address.bind().await.expect("it is bound");
    let mut client = address.open_sender().await.expect("it connects");
    client
        .send(Bytes::from("left").into())
        .await
        .expect("it is sent");
    client.close().await.expect("it is closed");
    drop(client);
    let mut stream = accept(&mut listener).await.into_receiver();
    let message = deadline(stream.next())
        .await
        .expect("a message")
        .expect("it is whole");
    assert_eq!(message.body(), "left");
    assert!(deadline(stream.next()).await.is_none());
}

/// Sent before the server's hello, while the server went to sleep: it is woken once the client knows.
#[tokio::test]
async fn a_message_written_before_the_hello_wakes_the_server() {
    let (_dir, _, address) = place("");
    let mut listener = address.bind().await.expect("it is bound");
    let (mut sink, _stream) = address.connect().await.expect("it connects").into_frames();
    let (_sink, mut stream) = accept(&mut listener).await.into_frames();
    let mut next = tokio_test::task::spawn(async move { stream.next().await });
    // The server says its hello and sleeps; the client has seen nothing of that.
    assert!(next.poll().is_pending());
    sink.send(Bytes::from("now")).await.expect("it is sent");
    let body = deadline(next)
        .await
        .expect("a message")
        .expect("it is whole");
    assert_eq!(body, "now");
}

/// Closed before the server's hello was seen, while the server went to sleep, and waiting for an answer.
#[tokio::test]
async fn an_end_before_the_hello_wakes_the_server() {
    for options in ["", "?fallback=true"] {
        let (_dir, _, address) = place(options);
        let mut listener = address.bind().await.expect("it is bound");
        let (mut sink, mut answers) = address.connect().await.expect("it connects").into_frames();
        let (mut answer, mut stream) = accept(&mut listener).await.into_frames();
        let mut next = tokio_test::task::spawn(async move { stream.next().await });
        assert!(next.poll().is_pending());
        // It polls a few times before it sleeps.
        for _ in 0..100 {
            tokio::task::yield_now().await;
            if next.is_woken() {
                assert!(next.poll().is_pending());
            }
        }
        deadline(sink.close()).await.expect("it is closed");
        let woken = async {
            while !next.is_woken() {
                tokio::task::yield_now().await;
            }
        };
        deadline(woken).await;
        assert!(deadline(next).await.is_none());
        answer.send(Bytes::from("bye")).await.expect("it is sent");
        let bye = deadline(answers.next()).await.expect("a message");
        assert_eq!(bye.expect("it is whole"), "bye");
    }
}

#[tokio::test]
async fn options_print_and_parse_and_are_checked() {
    let address = "shm:@app?capacity=65536&fallback=true&frame=lines";
    let parsed: Endpoint = address.parse().expect("an address");
    assert_eq!(
        parsed.to_string().parse::<Endpoint>().expect("an address"),
        parsed
    );
    for (bad, said) in [
        ("capacity=5000", "power of two"),
        ("capacity=1KiB", "power of two"),
        ("capacity=128MiB", "power of two"),
        ("fallback=maybe", "true or false"),
        ("kapacity=4KiB", "capacity"),
    ] {
        let error = format!("shm:@app?{bad}")
            .parse::<Endpoint>()
            .expect_err(bad);
        assert!(error.to_string().contains(said), "{error}");
    }
}

#[tokio::test]
async fn opening_errors_name_the_address_that_was_asked_for() {
    let (_dir, path, address) = place("?capacity=64KiB");
    let mut options = Options::new();
    options
        .wait(Some(std::time::Duration::ZERO))
        .framing(Framing::length());
    let error = options
        .connect(&address)
        .await
        .expect_err("nobody is there");
    assert_eq!(error.object(), address.to_string());
    assert_eq!(error.kind(), &aqueduct::OpenErrorKind::NotFound);
    let listener = address.bind().await.expect("it is bound");
    let error = address.bind().await.expect_err("it is in use");
    assert_eq!(error.object(), address.to_string());
    assert_eq!(error.kind(), &aqueduct::OpenErrorKind::InUse);
    drop(listener);
    assert!(!path.exists());
}
