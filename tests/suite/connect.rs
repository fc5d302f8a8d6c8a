//! From an address to its ends: who waits for whom, who may come, and what is refused.

mod activation;
mod closed;
mod crowd;
mod descriptors;
mod framing;
mod lasting;
mod latency;
mod one_way;
mod pair;
mod queues;
mod stop;
mod views;

use std::time::Duration;

use aqueduct::codec::{Raw, Text};
use aqueduct::connect::{Message, Options, Peer};
use aqueduct::endpoint::{Direction, EndOfStream, Sharing};
use aqueduct::frame::Framing;
use aqueduct::{Endpoint, OpenErrorKind};
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_test::assert_pending;

use crate::conformance::links::{Sockets, endpoint};
use crate::mq::QueueName;
use crate::support::deadline;

const SOCKETS: [&str; 5] = ["unix", "unix:@", "unixpacket", "unixpacket:@", "tcp"];

fn options(framing: Framing) -> Options {
    let mut options = Options::new();
    options.framing(framing);
    options
}

fn dir() -> TempDir {
    tempfile::tempdir().expect("a directory can be made")
}

/// An address that nobody serves yet.
fn unserved(scheme: &'static str, dir: &TempDir) -> Endpoint {
    match Sockets::new(scheme).address(dir) {
        address if address.scheme().name == "tcp" => {
            let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
            let at = free.local_addr().expect("it is bound");
            endpoint(format!("tcp://{at}"))
        }
        address => address,
    }
}

#[tokio::test]
async fn a_client_may_start_before_its_server() {
    for scheme in SOCKETS {
        let dir = dir();
        let address = unserved(scheme, &dir);
        let mut client = tokio_test::task::spawn(address.connect());
        assert_pending!(client.poll());
        let mut listener = address.bind().await.expect("it can be bound");
        let server = async {
            let connection = listener.accept().await.expect("it comes");
            let mut channel = connection
                .expect("it is accepted")
                .channel::<String, String>(Text);
            let word = channel
                .recv()
                .await
                .expect("it speaks")
                .expect("it is whole");
            channel.send(word).await.expect("it is sent");
        };
        let client = async {
            let connection = client.await.expect("it is connected");
            let mut channel = connection.channel::<String, String>(Text);
            channel.send("hello".into()).await.expect("it is sent");
            channel.recv().await
        };
        let ((), echo) = deadline(async { tokio::join!(server, client) }).await;
        assert_eq!(echo.expect("it answers").expect("it is whole"), "hello");
    }
}

#[tokio::test]
async fn a_server_that_does_not_come_is_a_timeout_with_its_reason() {
    for scheme in SOCKETS {
        let dir = dir();
        let address = unserved(scheme, &dir);
        let mut options = Options::new();
        let wait = Duration::from_millis(30);
        let error = deadline(options.wait(Some(wait)).connect(&address)).await;
        let error = error.expect_err("nobody serves it");
        assert_eq!(error.kind(), &OpenErrorKind::TimedOut { waited: wait });
        let said = error.to_string();
        assert!(said.contains("no server appeared within 30ms"), "{said}");
        assert!(error.raw_os_error().is_some(), "{scheme}: it says why");
        // A wait of nothing is one attempt, and its own error.
        let error = deadline(options.wait(Some(Duration::ZERO)).connect(&address)).await;
        let error = error.expect_err("nobody serves it");
        let errno = error.raw_os_error();
        let expected = [Some(libc::ENOENT), Some(libc::ECONNREFUSED)];
        assert!(expected.contains(&errno), "{error:?}");
    }
}

#[tokio::test]
async fn a_wait_that_is_dropped_leaves_nothing() {
    let dir = dir();
    let address = unserved("unix", &dir);
    let mut client = tokio_test::task::spawn(address.connect());
    assert_pending!(client.poll());
    drop(client);
    let mut listener = address.bind().await.expect("it can be bound");
    assert_pending!(tokio_test::task::spawn(listener.accept()).poll());
}

#[tokio::test]
async fn a_bound_socket_tells_its_address_and_its_peers() {
    for scheme in SOCKETS {
        let dir = dir();
        let asked = Sockets::new(scheme).address(&dir);
        let mut listener = asked.bind().await.expect("it can be bound");
        let local = listener.local_endpoint().clone();
        assert_eq!(listener.activation_name(), None);
        let client = deadline(local.connect()).await.expect("it is connected");
        let server = deadline(listener.accept()).await.expect("it comes");
        let server = server.expect("it is accepted");
        if local.scheme().name == "tcp" {
            assert_ne!(local, asked, "the system chose a port");
            assert_eq!(format!("tcp://{}", client.peer()), local.to_string());
            assert!(matches!(server.peer(), Peer::Address(_)));
        } else {
            assert_eq!(local, asked);
            for side in [&client, &server] {
                let credentials = side.peer().credentials().expect("the kernel knows them");
                assert_eq!(credentials.pid, Some(std::process::id() as i32));
            }
        }
    }
}

#[tokio::test]
async fn the_bytes_before_framing_are_there_for_every_byte_stream() {
    for scheme in SOCKETS {
        let dir = dir();
        let mut listener = Sockets::new(scheme)
            .address(&dir)
            .bind()
            .await
            .expect("it can be bound");
        let client = deadline(listener.local_endpoint().connect()).await;
        let server = deadline(listener.accept()).await.expect("it comes");
        let (client, server) = (client.expect("it is connected"), server.expect("it is"));
        if scheme.starts_with("unixpacket") {
            // It has none; the connection is given back, and is good.
            let client = client.into_bytes().expect_err("it has messages");
            let mut client = client.channel::<String, String>(Text);
            client.send("still here".into()).await.expect("it is sent");
            let mut server = server.channel::<String, String>(Text);
            let got = deadline(server.recv()).await.expect("it comes");
            assert_eq!(got.expect("it is whole"), "still here");
            continue;
        }
        let mut client = client.into_bytes().expect("it has bytes");
        let server = server.into_bytes().expect("it has bytes");
        client.write_all(b"GET").await.expect("it is sent");
        client.shutdown().await.expect("it can end its direction");
        let (mut reader, mut writer) = server.into_split();
        let mut all = String::new();
        deadline(reader.read_to_string(&mut all))
            .await
            .expect("it ends");
        assert_eq!(all, "GET");
        // And the other direction goes on.
        writer.write_all(b"OK").await.expect("it is sent");
        drop(writer);
        all.clear();
        deadline(client.read_to_string(&mut all))
            .await
            .expect("dropping ends it");
        assert_eq!(all, "OK");
    }
    let mut cat = endpoint("exec:cat".into())
        .connect()
        .await
        .expect("it starts");
    let mut child = cat.take_child().expect("it has a process");
    let mut cat = cat.into_bytes().expect("it has bytes");
    cat.write_all(b"meow").await.expect("it is sent");
    cat.shutdown().await.expect("it can end its direction");
    let mut all = String::new();
    deadline(cat.read_to_string(&mut all))
        .await
        .expect("it ends");
    assert_eq!(all, "meow");
    assert!(deadline(child.wait()).await.expect("it exits").success());
}

#[tokio::test]
async fn a_program_ends_with_its_exit_and_tells_its_status() {
    // It leaves a process behind that holds its output.
    let program = endpoint("exec:sh -c 'echo hi; sleep 60 & exit 7'".into());
    let connected = options(Framing::lines()).connect(&program).await;
    let mut connection = connected.expect("it starts");
    let mut child = connection.take_child().expect("it has a process");
    assert!(connection.take_child().is_none());
    assert_eq!(connection.peer(), &Peer::Child { pid: child.id() });
    let (outgoing, mut incoming) = connection.into_split();
    let hi = deadline(incoming.next()).await.expect("it speaks");
    assert_eq!(hi.expect("it is whole").body(), "hi");
    assert!(deadline(incoming.next()).await.is_none());
    drop(outgoing);
    let status = deadline(child.wait()).await.expect("it has exited");
    assert_eq!(status.code(), Some(7));
    let missing = endpoint("exec:/no/such/program".into()).connect().await;
    assert_eq!(missing.unwrap_err().kind(), &OpenErrorKind::NotFound);
}

#[tokio::test]
async fn what_has_one_peer_is_served_once() {
    let listener = endpoint("exec:cat".into()).bind().await;
    let mut listener = listener.expect("it starts");
    let first = deadline(listener.accept()).await.expect("there is one");
    let mut cat = first.expect("it started").channel::<String, String>(Text);
    cat.send("meow".into()).await.expect("it is sent");
    let echo = deadline(cat.recv()).await.expect("it answers");
    assert_eq!(echo.expect("it is whole"), "meow");
    assert!(deadline(listener.accept()).await.is_none());
}

#[tokio::test]
async fn a_queue_keeps_the_priority_of_a_message_both_ways() {
    for driver in ["pool", "asyncfd"] {
        let name = QueueName::new();
        let query = format!("capacity=4&max-message=64&priority=3&driver={driver}");
        let address = endpoint(format!("mq:{}?{query}", name.0));
        let options = Options::new();
        let mut outgoing = options.open_sender(&address).await.expect("it is made");
        let mut incoming = options.open_receiver(&address).await.expect("it is there");
        for message in [
            Message::new("usual"),
            Message::new("low").with_priority(1),
            Message::new("high").with_priority(9),
        ] {
            deadline(outgoing.send(message))
                .await
                .expect("there is room");
        }
        for (body, priority) in [("high", 9), ("usual", 3), ("low", 1)] {
            let message = deadline(incoming.next()).await.expect("a queue has no end");
            let message = message.expect("it is whole");
            assert_eq!(
                (message.body(), message.priority()),
                (&Bytes::from(body), Some(priority))
            );
        }
    }
}

/// Every capability that the conformance suite does not see: how many may read and write.
#[tokio::test]
async fn as_many_may_read_and_write_as_the_capabilities_say() {
    let dir = dir();
    // Each over a connection of its own, all at the same time.
    for scheme in SOCKETS {
        let address = Sockets::new(scheme).address(&dir);
        let capabilities = address.capabilities();
        assert_eq!(capabilities.direction, Direction::TwoWay);
        assert_eq!(capabilities.readers, Sharing::PerConnection);
        assert_eq!(capabilities.writers, Sharing::PerConnection);
        assert_eq!(capabilities.end_of_stream, EndOfStream::Peer);
        let mut listener = address.bind().await.expect("it can be bound");
        let local = listener.local_endpoint().clone();
        let mut clients = Vec::new();
        let mut servers = Vec::new();
        for _ in 0..3 {
            let client = deadline(local.connect()).await.expect("it is connected");
            clients.push(client.channel::<String, String>(Text));
            let server = deadline(listener.accept()).await.expect("it comes");
            servers.push(server.expect("it is").channel::<String, String>(Text));
        }
        for (i, client) in clients.iter_mut().enumerate() {
            client.send(i.to_string()).await.expect("it is sent");
        }
        for (i, server) in servers.iter_mut().enumerate().rev() {
            let word = deadline(server.recv()).await.expect("it speaks");
            assert_eq!(word.expect("it is whole"), i.to_string());
        }
    }
    // A FIFO has several writers, and ends with the last one.
    let fifo = endpoint(format!("fifo:{}/fifo", dir.path().display()));
    let capabilities = fifo.capabilities();
    assert_eq!(capabilities.writers, Sharing::UpTo(4096));
    assert_eq!(capabilities.end_of_stream, EndOfStream::LastWriter);
    let mut receiver = fifo
        .open_receiver()
        .await
        .expect("it is made")
        .typed::<Bytes>(Raw);
    let mut one = fifo
        .open_sender()
        .await
        .expect("it has a reader")
        .typed(Raw);
    let mut two = fifo
        .open_sender()
        .await
        .expect("it has a reader")
        .typed(Raw);
    let body = Bytes::from(vec![1; 4092]);
    for sender in [&mut one, &mut two] {
        deadline(sender.send(body.clone()))
            .await
            .expect("it is sent");
    }
    deadline(one.close()).await.expect("it closes");
    drop(one);
    for _ in 0..2 {
        let came = deadline(receiver.recv()).await.expect("it goes on");
        assert_eq!(came.expect("it is whole"), body);
    }
    assert_pending!(tokio_test::task::spawn(receiver.recv()).poll());
    drop(two);
    assert!(deadline(receiver.recv()).await.is_none());
    // Each message of a queue goes to one of its readers.
    let name = QueueName::new();
    let queue = endpoint(format!("mq:{}?capacity=4&max-message=64", name.0));
    assert_eq!(queue.capabilities().readers, Sharing::Many);
    assert_eq!(queue.capabilities().writers, Sharing::Many);
    let one = queue.open_receiver().await.expect("it is made");
    let two = queue.open_receiver().await.expect("it is there");
    let (mut one, mut two) = (one.typed::<Bytes>(Raw), two.typed::<Bytes>(Raw));
    for byte in 0..2_u8 {
        let sender = queue.open_sender().await.expect("it is there");
        let mut sender = sender.typed(Raw);
        let body = Bytes::from(vec![byte]);
        deadline(sender.send(body)).await.expect("there is room");
    }
    let first = deadline(one.recv()).await.expect("a queue has no end");
    let second = deadline(two.recv()).await.expect("a queue has no end");
    let both = (first.expect("it is whole"), second.expect("it is whole"));
    assert_eq!((&both.0[..], &both.1[..]), (&[0][..], &[1][..]));
    assert_pending!(tokio_test::task::spawn(one.recv()).poll());
}

/// Boundaries as the capabilities have them: without any framing, two writes are two messages where
/// they are kept.
#[tokio::test]
async fn capabilities_say_which_addresses_keep_boundaries() {
    for scheme in SOCKETS {
        let dir = dir();
        let address = Sockets::new(scheme).address(&dir);
        let keeps = address.capabilities().keeps_boundaries;
        let raw = options(Framing::raw());
        let mut listener = raw.bind(&address).await.expect("it can be bound");
        let client = raw.connect(listener.local_endpoint()).await;
        let (mut outgoing, _incoming) = client.expect("it is connected").into_split();
        for part in ["ab", "cd"] {
            outgoing.send(part.into()).await.expect("it is sent");
        }
        drop(outgoing);
        let server = deadline(listener.accept()).await.expect("it comes");
        let (_outgoing, mut incoming) = server.expect("it is accepted").into_split();
        let mut messages = Vec::new();
        while let Some(message) = deadline(incoming.next()).await {
            messages.push(message.expect("it is whole").into_body());
        }
        assert_eq!(messages.concat(), b"abcd");
        if scheme != "tcp" {
            // Over TCP nobody knows how many pieces arrive at a time.
            assert_eq!(keeps, Some(messages.len() == 2), "{scheme}: {messages:?}");
        }
    }
}
