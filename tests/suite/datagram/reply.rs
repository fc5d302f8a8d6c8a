//! Replies go to the sender of a datagram, if it has a name.

use std::io;
use std::net::UdpSocket as StdUdp;
use std::os::unix::net::UnixDatagram as StdDatagram;

use aqueduct::codec::Text;
use aqueduct::connect::Peer;
use aqueduct::service::{self, CancellationToken};
use futures_util::{SinkExt, StreamExt};

use super::{abstract_one, dir, endpoint, in_dir, next};
use crate::support::deadline;

#[tokio::test]
async fn a_connected_socket_gets_the_reply_to_its_datagram() {
    let dir = dir();
    for address in [
        in_dir(&dir),
        abstract_one(),
        endpoint("udp://127.0.0.1:0".into()),
        endpoint("udp://[::1]:0".into()),
    ] {
        let Ok(mut listener) = address.bind().await else {
            assert!(address.to_string().contains("::1"), "{address}");
            println!("SKIPPED: there is no IPv6 here");
            continue;
        };
        let client = listener.local_endpoint().connect().await.unwrap();
        let (mut requests, mut replies) = client.into_split();
        for word in ["hello", ""] {
            deadline(requests.send(word.into())).await.unwrap();
            let datagram = deadline(listener.accept()).await.unwrap().unwrap();
            match datagram.peer() {
                Peer::Process(sender) => assert!(sender.is_current_user()),
                Peer::Address(at) => assert!(at.ip().is_loopback()),
                other => panic!("{other:?}"),
            }
            let (mut outgoing, mut incoming) = datagram.into_split();
            assert_eq!(next(&mut incoming).await.body(), word);
            assert!(
                deadline(incoming.next()).await.is_none(),
                "it is one message"
            );
            for reply in ["first", "second"] {
                deadline(outgoing.send(reply.into())).await.unwrap();
                assert_eq!(next(&mut replies).await.body(), reply);
            }
        }
    }
}

#[tokio::test]
async fn a_sender_without_a_name_can_get_no_reply() {
    let dir = dir();
    let address = in_dir(&dir);
    let mut listener = address.bind().await.unwrap();
    let sender = StdDatagram::unbound().unwrap();
    sender.send_to(b"hi", address.path().unwrap()).unwrap();
    let datagram = deadline(listener.accept()).await.unwrap().unwrap();
    let (mut outgoing, _) = datagram.into_split();
    // An empty one is none.
    deadline(outgoing.send("".into())).await.unwrap();
    let error = deadline(outgoing.send("hi".into())).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::NotConnected);
    assert!(error.to_string().contains("has no name"), "{error}");
}

#[tokio::test]
async fn a_sender_that_has_gone_is_an_error_of_its_reply_alone() {
    let dir = dir();
    let address = in_dir(&dir);
    let mut listener = address.bind().await.unwrap();
    let client = address.connect().await.unwrap();
    let (mut outgoing, incoming) = client.into_split();
    deadline(outgoing.send("hi".into())).await.unwrap();
    drop((outgoing, incoming));
    let datagram = deadline(listener.accept()).await.unwrap().unwrap();
    let (mut reply, _) = datagram.into_split();
    let error = deadline(reply.send("too late".into())).await.unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::ECONNREFUSED));
    let mut sender = address.open_sender().await.unwrap();
    deadline(sender.send("next".into())).await.unwrap();
    drop(deadline(listener.accept()).await.unwrap().unwrap());
}

/// The kernel does not report when a client has room again: the reply is retried.
#[tokio::test]
async fn a_reply_waits_for_room_at_its_client() {
    let dir = dir();
    let address = in_dir(&dir);
    let mut listener = address.bind().await.unwrap();
    let client = StdDatagram::bind(dir.path().join("client")).unwrap();
    client.connect(address.path().unwrap()).unwrap();
    client.send(b"talk to me").unwrap();
    let datagram = deadline(listener.accept()).await.unwrap().unwrap();
    let (mut outgoing, _) = datagram.into_split();
    let mut sent = 0;
    loop {
        assert!(sent < 100_000, "nothing ever makes it wait");
        deadline(outgoing.feed("x".into())).await.unwrap();
        sent += 1;
        if tokio_test::task::spawn(outgoing.flush())
            .poll()
            .is_pending()
        {
            break;
        }
    }
    let reading = std::thread::spawn(move || {
        (0..sent).all(|_| client.recv(&mut [0; 8]).is_ok_and(|n| n == 1))
    });
    deadline(outgoing.flush()).await.unwrap();
    assert!(reading.join().unwrap());
}

/// Otherwise its queue of some ten datagrams fills, and the peer waits for room.
#[tokio::test]
async fn replies_are_discarded_once_nobody_receives_them() {
    let dir = dir();
    let address = in_dir(&dir);
    let mut listener = address.bind().await.unwrap();
    let (mut requests, replies) = address.connect().await.unwrap().into_split();
    drop(replies);
    for _ in 0..2_000 {
        deadline(requests.send("hi".into())).await.unwrap();
        let datagram = deadline(listener.accept()).await.unwrap().unwrap();
        let (mut outgoing, _) = datagram.into_split();
        deadline(outgoing.send("hello".into())).await.unwrap();
    }
}

#[tokio::test]
async fn a_service_answers_every_datagram_and_stops() {
    let dir = dir();
    for address in [in_dir(&dir), endpoint("udp://127.0.0.1:0".into())] {
        let listener = address.bind().await.unwrap();
        let address = listener.local_endpoint().clone();
        let stop = CancellationToken::new();
        let serving =
            service::Options::new().serve(listener, stop.clone(), |client, cx| async move {
                let channel = cx.channel::<String, String>(client, Text);
                service::respond(channel, &cx, async |it: String| it.to_uppercase()).await
            });
        let calling = async {
            for _ in 0..3 {
                let client = address.connect().await.unwrap();
                let mut client = client.channel::<String, String>(Text);
                for word in ["one", "two", "three"] {
                    let reply = client.call(word.to_owned()).await.unwrap();
                    assert_eq!(reply, word.to_uppercase());
                }
            }
            stop.cancel();
        };
        let (served, ()) = deadline(async { tokio::join!(serving, calling) }).await;
        let stats = served.unwrap();
        assert_eq!((stats.accepted, stats.aborted), (9, 0));
    }
}

#[tokio::test]
async fn a_plain_udp_client_is_answered_from_the_port_it_asked() {
    let mut listener = endpoint("udp://127.0.0.1:0".into()).bind().await.unwrap();
    let local = listener.local_endpoint().to_string();
    let client = StdUdp::bind("127.0.0.1:0").unwrap();
    client
        .connect(local.strip_prefix("udp://").unwrap())
        .unwrap();
    client.send(b"ping").unwrap();
    let datagram = deadline(listener.accept()).await.unwrap().unwrap();
    assert_eq!(
        datagram.peer(),
        &Peer::Address(client.local_addr().unwrap())
    );
    let (mut outgoing, _) = datagram.into_split();
    deadline(outgoing.send("pong".into())).await.unwrap();
    let mut buf = [0; 10];
    assert_eq!(client.recv(&mut buf).unwrap(), 4);
}
