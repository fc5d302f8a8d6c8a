//! Clients whose server restarts: they receive, or talk, over one connection after another.

use std::time::Duration;

use aqueduct::Endpoint;
use aqueduct::codec::Text;
use aqueduct::connect::{Connection, Listener, Reconnect, ReconnectEvent};
use aqueduct::frame::Framing;
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use tokio::sync::mpsc;

use crate::connect::{dir, options, unserved};
use crate::support::deadline;

const SCHEMES: [&str; 3] = ["unix", "unixpacket", "tcp"];

fn quick() -> Reconnect {
    let ms = Duration::from_millis(1);
    Reconnect::new().pauses(ms, 10 * ms)
}

/// Served again where a server has just gone.
async fn bind(address: &Endpoint) -> Listener {
    loop {
        match options(Framing::length()).bind(address).await {
            Ok(listener) => return listener,
            Err(_) => tokio::time::sleep(Duration::from_millis(1)).await,
        }
    }
}

async fn client_of(mut listener: Listener) -> Connection {
    let client = listener.accept().await.expect("it goes on");
    client.expect("one comes")
}

/// It ended with the first server.
#[tokio::test]
async fn a_receiving_client_goes_on_when_its_server_restarts() {
    let dir = dir();
    for scheme in SCHEMES {
        let address = unserved(scheme, &dir);
        let mut listener = Some(deadline(bind(&address)).await);
        let mut options = options(Framing::length());
        let client = deadline(options.reconnect(quick()).connect(&address)).await;
        let mut incoming = client.expect("there is a server").into_receiver();
        for n in 0..5 {
            let body = Bytes::from(format!("{scheme} {n}"));
            let serving = async {
                let listener = match listener.take() {
                    Some(listener) => listener,
                    None => bind(&address).await,
                };
                let (mut to_client, _from_client) = client_of(listener).await.into_split();
                let sent = to_client.send(body.clone().into()).await;
                sent.expect("it is sent");
                to_client.close().await.expect("it is closed");
            };
            let receiving = async { incoming.next().await.expect("no end").expect("whole") };
            let ((), message) = deadline(async { tokio::join!(serving, receiving) }).await;
            assert_eq!(message.body(), &body);
        }
        incoming.stop();
        assert!(deadline(incoming.next()).await.is_none(), "{scheme}");
    }
}

#[tokio::test]
async fn a_talking_client_goes_on_when_its_server_restarts() {
    let dir = dir();
    for scheme in SCHEMES {
        let address = unserved(scheme, &dir);
        let mut listener = Some(deadline(bind(&address)).await);
        let (losses, mut lost) = mpsc::unbounded_channel();
        let policy = quick().on_event(move |event| {
            if let ReconnectEvent::Lost { .. } = event {
                let _ = losses.send(());
            }
        });
        let mut options = options(Framing::length());
        let client = deadline(options.reconnect(policy).connect(&address)).await;
        let client = client.expect("there is a server");
        let mut client = client.channel::<String, String>(Text);
        for n in 0..5 {
            let serving = async {
                let listener = match listener.take() {
                    Some(listener) => listener,
                    None => bind(&address).await,
                };
                let server = client_of(listener).await;
                let mut server = server.channel::<String, String>(Text);
                let request = server.recv().await.expect("one comes").expect("whole");
                server.send(request).await.expect("it is sent");
            };
            let request = format!("{scheme} {n}");
            let talking = async {
                client.send(request.clone()).await.expect("it is sent");
                client.recv().await.expect("no end").expect("whole")
            };
            let ((), reply) = deadline(async { tokio::join!(serving, talking) }).await;
            assert_eq!(reply, request);
            // Sees that its server has gone, so that the next request is not lost with it.
            tokio::select! {
                item = deadline(client.recv()) => panic!("{item:?}"),
                _ = lost.recv() => {}
            }
        }
        deadline(client.close()).await.expect("nothing is left");
    }
}
