//! Calls that are dropped before their reply has arrived: it is not taken for that of the next.

use std::future::Future;

use aqueduct::Endpoint;
use aqueduct::codec::Text;
use aqueduct::connect::{Connection, Options};
use aqueduct::frame::Framing;
use futures_util::FutureExt;
use tokio::net::UdpSocket;
use tokio_test::{assert_pending, task};

use crate::support::deadline;

/// Calls and drops twice, then calls once more. The server replies to all once it has the third request.
async fn calls_after_dropped_ones(here: Connection, there: impl Future<Output = Connection>) {
    let mut here = here.channel::<String, String>(Text);
    for n in 0..2 {
        let mut dropped = task::spawn(here.call(format!("dropped {n}")));
        // Until it is sent, which may take several polls.
        for _ in 0..10 {
            assert_pending!(dropped.poll());
            tokio::task::yield_now().await;
        }
    }
    let serving = async {
        let mut there = there.await.channel::<String, String>(Text);
        let mut requests = Vec::new();
        for _ in 0..3 {
            requests.push(deadline(there.recv()).await.unwrap().unwrap());
        }
        for request in requests {
            there.send(request.to_uppercase()).await.unwrap();
        }
        let request = deadline(there.recv()).await.unwrap().unwrap();
        there.send(request).await.unwrap();
        there
    };
    let calling = async {
        let reply = deadline(here.call("three".into())).await;
        assert_eq!(reply.unwrap(), "THREE");
        let reply = deadline(here.call("four".into())).await;
        assert_eq!(reply.unwrap(), "four");
    };
    let (_there, ()) = tokio::join!(serving, calling);
}

#[tokio::test]
async fn dropped_calls_leave_the_next_its_reply_over_any_socket() {
    let dir = tempfile::tempdir().unwrap();
    let at = |scheme: &str| format!("{scheme}:{}", dir.path().join(scheme).display());
    let addresses = [
        at("unix"),
        at("unixpacket"),
        at("shm"),
        "tcp://127.0.0.1:0".into(),
    ];
    for address in addresses {
        let address: Endpoint = address.parse().unwrap();
        let mut listener = deadline(address.bind()).await.unwrap();
        let local = listener.local_endpoint().clone();
        let here = deadline(local.connect()).await.unwrap();
        let accepted = async { deadline(listener.accept()).await.unwrap().unwrap() };
        calls_after_dropped_ones(here, accepted).await;
    }
}

#[tokio::test]
async fn a_program_replies_to_dropped_calls_before_the_next() {
    let program: Endpoint = "exec:cat".parse().unwrap();
    let mut options = Options::new();
    options.framing(Framing::lines());
    let program = options.connect(&program).await.unwrap();
    let mut program = program.channel::<String, String>(Text);
    for n in 0..20 {
        // It may be answered.
        drop(program.call(format!("dropped {n}")).now_or_never());
        let reply = deadline(program.call(n.to_string())).await;
        assert_eq!(reply.unwrap(), n.to_string());
    }
}

/// The reply may be lost: a count of replies would wait for ever for the next.
#[tokio::test]
async fn a_call_over_udp_after_a_dropped_one_is_an_error() {
    let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let at = server.local_addr().unwrap();
    let address: Endpoint = format!("udp://{at}").parse().unwrap();
    let here = deadline(address.connect()).await.unwrap();
    let mut here = here.channel::<String, String>(Text);
    {
        let mut dropped = task::spawn(here.call("one".into()));
        assert_pending!(dropped.poll());
    }
    let mut buf = [0; 8];
    let (_, from) = deadline(server.recv_from(&mut buf)).await.unwrap();
    let error = deadline(here.call("two".into())).await.unwrap_err();
    let text = std::error::Error::source(&error).unwrap().to_string();
    assert!(text.contains("connect again"), "{text}");
    // Once it was received, the next reply is that of the next call.
    server.send_to(b"one", from).await.unwrap();
    assert_eq!(deadline(here.recv()).await.unwrap().unwrap(), "one");
    let calling = here.call("three".into());
    let serving = async {
        let (len, from) = deadline(server.recv_from(&mut buf)).await.unwrap();
        server.send_to(&buf[..len], from).await.unwrap();
    };
    let (reply, ()) = tokio::join!(deadline(calling), serving);
    assert_eq!(reply.unwrap(), "three");
}
