//! One direction of a two-way endpoint: receiving from all clients, and sending alone.

use std::io::ErrorKind;

use aqueduct::connect::{Connection, Listener, MessageReceiver, Options};
use aqueduct::frame::Framing;
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use tokio::io::AsyncWriteExt;
use tokio_test::{assert_pending, assert_ready};

use super::{SOCKETS, dir, options};
use crate::conformance::links::{Sockets, endpoint};
use crate::support::deadline;

async fn bound(scheme: &'static str, dir: &tempfile::TempDir, options: &Options) -> Listener {
    let address = Sockets::new(scheme).address(dir);
    options.bind(&address).await.expect("it can be bound")
}

async fn accepted(listener: &mut Listener) -> Connection {
    let connection = deadline(listener.accept()).await.expect("somebody comes");
    connection.expect("it is accepted")
}

async fn next(incoming: &mut MessageReceiver) -> Bytes {
    let message = deadline(incoming.next()).await.expect("it goes on");
    message.expect("it is whole").into_body()
}

#[tokio::test]
async fn messages_come_from_all_clients_at_once_each_in_order() {
    const EACH: usize = 100;
    for scheme in SOCKETS {
        let dir = dir();
        let options = Options::new();
        let listener = bound(scheme, &dir, &options).await;
        let address = listener.local_endpoint().clone();
        let mut incoming = listener.into_receiver();
        let mut clients = Vec::new();
        for _ in 0..4 {
            // Nobody accepts yet: a backlog is enough.
            clients.push(
                deadline(options.open_sender(&address))
                    .await
                    .expect("it is"),
            );
        }
        let send = async {
            for number in 0..EACH {
                for (i, client) in clients.iter_mut().enumerate() {
                    let message = Bytes::from(format!("{i} {number}"));
                    client.send(message.into()).await.expect("it is sent");
                }
            }
            for client in &mut clients {
                client.close().await.expect("it closes");
            }
        };
        let receive = async {
            let mut seen = [0; 4];
            for _ in 0..4 * EACH {
                let body = next(&mut incoming).await;
                let text = std::str::from_utf8(&body).expect("it is text");
                let (client, number) = text.split_once(' ').expect("two numbers");
                let client: usize = client.parse().expect("a number");
                assert_eq!(number.parse(), Ok(seen[client]));
                seen[client] += 1;
            }
        };
        deadline(async { tokio::join!(send, receive) }).await;
        // All have gone, and the stream waits for more; the next one is heard.
        assert_pending!(tokio_test::task::spawn(incoming.next()).poll());
        let late = deadline(options.open_sender(&address)).await;
        let mut late = late.expect("it is connected");
        late.send("late".into()).await.expect("it is sent");
        assert_eq!(next(&mut incoming).await, "late");
    }
}

#[tokio::test]
async fn a_client_that_breaks_off_or_sends_garbage_costs_only_itself() {
    let dir = dir();
    let options = options(Framing::length().max_frame(100));
    let listener = bound("unix", &dir, &options).await;
    let address = listener.local_endpoint().clone();
    let mut incoming = listener.into_receiver();
    let good = deadline(options.open_sender(&address)).await;
    let mut good = good.expect("it is connected");
    good.send("one".into()).await.expect("it is sent");
    assert_eq!(next(&mut incoming).await, "one");
    let half: &[u8] = b"\0\0\0\x10half";
    for hostile in [half, b"\xff\xff\xff\xffgarbage"] {
        let connection = deadline(options.connect(&address)).await;
        let bytes = connection.expect("it is connected").into_bytes();
        let mut bytes = bytes.expect("it has bytes");
        bytes.write_all(hostile).await.expect("it is sent");
        drop(bytes);
        assert_pending!(tokio_test::task::spawn(incoming.next()).poll());
        good.send("more".into()).await.expect("it is sent");
        assert_eq!(next(&mut incoming).await, "more");
    }
    // Who is heard first is not promised.
    let gone = async {
        loop {
            assert_pending!(tokio_test::task::spawn(incoming.next()).poll());
            if incoming.unfinished() == 0 {
                break;
            }
            tokio::task::yield_now().await;
        }
    };
    deadline(gone).await;
}

#[tokio::test]
async fn a_stopped_stream_of_clients_takes_no_byte_more_and_ends() {
    let dir = dir();
    let options = options(Framing::lines());
    let listener = bound("unix", &dir, &options).await;
    let address = listener.local_endpoint().clone();
    let mut incoming = listener.into_receiver();
    let idle = deadline(options.connect(&address))
        .await
        .expect("it is connected");
    let busy = deadline(options.connect(&address))
        .await
        .expect("it is connected");
    let mut busy = busy.into_bytes().expect("it has bytes");
    busy.write_all(b"one\ntw").await.expect("it is sent");
    assert_eq!(next(&mut incoming).await, "one");
    assert_eq!(incoming.unfinished(), 2);
    incoming.stop();
    // Nobody is let in any more.
    let mut refused = Options::new();
    let refused = refused
        .wait(Some(std::time::Duration::ZERO))
        .connect(&address);
    assert!(deadline(refused).await.is_err());
    // Nor is the rest of what was begun, and that is known at the other end.
    let late = busy.write_all(b"o\nthree\n").await;
    assert_eq!(late.unwrap_err().kind(), ErrorKind::BrokenPipe);
    assert!(deadline(incoming.next()).await.is_none());
    drop(idle);
}

#[tokio::test]
async fn a_limited_stream_of_clients_ends_after_so_many() {
    let dir = dir();
    let options = Options::new();
    let listener = bound("unixpacket", &dir, &options).await;
    let address = listener.local_endpoint().clone();
    let mut incoming = listener.into_receiver();
    incoming.limit(2);
    let client = deadline(options.open_sender(&address)).await;
    let mut client = client.expect("it is connected");
    for word in ["one", "two", "three"] {
        client.send(word.into()).await.expect("it is sent");
    }
    assert_eq!(next(&mut incoming).await, "one");
    assert_eq!(next(&mut incoming).await, "two");
    assert!(assert_ready!(tokio_test::task::spawn(incoming.next()).poll()).is_none());
}

#[tokio::test]
async fn who_only_sends_is_never_stuck_on_a_peer_that_talks_back() {
    const MESSAGES: usize = 300;
    for scheme in SOCKETS {
        let dir = dir();
        let options = Options::new();
        let mut listener = bound(scheme, &dir, &options).await;
        let address = listener.local_endpoint().clone();
        let client = async {
            let sender = options.open_sender(&address).await;
            let mut sender = sender.expect("it is connected");
            for _ in 0..MESSAGES {
                let body = Bytes::from(vec![7; 40_000]);
                sender.feed(body.into()).await.expect("it is sent");
            }
            sender.close().await.expect("it closes in order");
        };
        let server = async {
            let (mut outgoing, mut incoming) = accepted(&mut listener).await.into_split();
            let mut came = 0;
            // An echo: it does not read on before its answer is taken.
            while let Some(message) = incoming.next().await {
                let message = message.expect("no reset takes the rest back");
                assert_eq!(message.body().len(), 40_000);
                outgoing.send(message).await.expect("it is taken");
                came += 1;
            }
            outgoing.close().await.expect("it closes");
            came
        };
        let ((), came) = deadline(async { tokio::join!(client, server) }).await;
        assert_eq!(came, MESSAGES, "{scheme}");
    }
}

#[tokio::test]
async fn closing_a_sending_end_does_not_wait_for_a_silent_peer() {
    for scheme in SOCKETS {
        let dir = dir();
        let options = Options::new();
        let mut listener = bound(scheme, &dir, &options).await;
        let sender = deadline(options.open_sender(listener.local_endpoint())).await;
        let mut sender = sender.expect("it is connected");
        let server = accepted(&mut listener).await;
        sender.send("bye".into()).await.expect("it is sent");
        let closed = tokio_test::task::spawn(sender.close()).poll();
        assert_ready!(closed).expect("it closes");
        let mut incoming = server.into_receiver();
        assert_eq!(next(&mut incoming).await, "bye");
        assert!(deadline(incoming.next()).await.is_none());
    }
}

/// Though nothing is to be sent: what it had given to the connection before may be lost.
#[tokio::test]
async fn a_send_only_end_learns_at_a_flush_that_its_peer_has_gone() {
    let dir = dir();
    let options = Options::new();
    let mut listener = bound("unix", &dir, &options).await;
    let sender = deadline(options.open_sender(listener.local_endpoint())).await;
    let mut sender = sender.expect("it is connected");
    let server = accepted(&mut listener).await;
    sender.send("unread".into()).await.expect("there is room");
    sender.flush().await.expect("the peer is there");
    drop(server);
    let error = deadline(async {
        loop {
            if let Err(error) = sender.flush().await {
                return error;
            }
            tokio::task::yield_now().await;
        }
    });
    assert_eq!(error.await.kind(), ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn who_only_receives_shows_the_peer_no_end_before_its_own() {
    for scheme in SOCKETS {
        let dir = dir();
        let options = Options::new();
        let mut listener = bound(scheme, &dir, &options).await;
        let client = deadline(options.connect(listener.local_endpoint())).await;
        let (mut outgoing, mut theirs) = client.expect("it is connected").into_split();
        let mut incoming = accepted(&mut listener).await.into_receiver();
        outgoing.send("one".into()).await.expect("it is sent");
        assert_eq!(next(&mut incoming).await, "one");
        assert_pending!(tokio_test::task::spawn(theirs.next()).poll());
        outgoing.close().await.expect("it closes");
        assert!(deadline(incoming.next()).await.is_none());
        // Now both directions have ended, though `incoming` is still there.
        assert!(deadline(theirs.next()).await.is_none());
    }
}

#[tokio::test]
async fn a_program_is_sent_to_and_received_from_alone() {
    let dir = dir();
    let file = dir.path().join("out");
    let program = format!("exec:sh -c 'cat >{}; exit 3'", file.display());
    let options = options(Framing::lines());
    let sender = options.open_sender(&endpoint(program)).await;
    let mut sender = sender.expect("it starts");
    let mut child = sender.take_child().expect("it has a process");
    sender.send("one".into()).await.expect("it is sent");
    // Closing is enough, without dropping.
    sender.close().await.expect("it closes");
    let status = deadline(child.wait()).await.expect("it exits");
    assert_eq!(status.code(), Some(3));
    assert_eq!(
        std::fs::read_to_string(file).expect("it was written"),
        "one\n"
    );

    let receiver = options
        .open_receiver(&endpoint("exec:echo hello".into()))
        .await;
    let mut receiver = receiver.expect("it starts");
    let mut child = receiver.take_child().expect("it has a process");
    assert_eq!(next(&mut receiver).await, "hello");
    assert!(deadline(receiver.next()).await.is_none());
    assert!(deadline(child.wait()).await.expect("it exits").success());
}
