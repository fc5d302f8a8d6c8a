//! Connections to the server that are cut, with every message numbered. `AQUEDUCT_NATS_KILLS` is how many
//! times (2).

use std::time::Duration;

use aqueduct_conformance::deadline;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::broadcast;

use crate::kills::{Fate, Numbers, drain, kills, relay};
use crate::receiver;
use crate::server::Server;

/// Passes connections on to a server, until they are cut. Bytes on their way are lost then.
struct Forwarder {
    port: u16,
    cut: broadcast::Sender<()>,
}

impl Forwarder {
    async fn new(server: &Server) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("it is bound").port();
        let (cut, _) = broadcast::channel(1);
        let (cuts, to) = (cut.clone(), server.port());
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let mut cut = cuts.subscribe();
                tokio::spawn(async move {
                    let mut server = TcpStream::connect(("127.0.0.1", to)).await?;
                    tokio::select! {
                        _ = copy_bidirectional(&mut client, &mut server) => {}
                        _ = cut.recv() => {}
                    }
                    Ok::<_, std::io::Error>(())
                });
            }
        });
        Self { port, cut }
    }

    fn at(&self, rest: &str) -> String {
        format!("nats://127.0.0.1:{}/{rest}", self.port)
    }

    /// Cuts what is connected, and waits until something is.
    async fn cut(&self) {
        deadline(async {
            while self.cut.send(()).is_err() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn cuts_under_a_sender_lose_double_and_reorder_nothing() {
    let server = Server::new();
    let forwarder = Forwarder::new(&server).await;
    let numbers = Numbers::send(&forwarder.at("jobs?stream=JOBS&create=true")).await;
    for cut in 0..kills() {
        numbers.reach(500 + 97 * (cut % 7)).await;
        forwarder.cut().await;
    }
    let count = numbers.stop().await;
    let seen = drain(
        &server.at("jobs?stream=JOBS&consumer=check&create=true"),
        count,
    )
    .await;
    let fate = Fate::of(&seen, count);
    println!("sender cut {} times: {fate:?} of {count}", kills());
    assert_eq!(fate, Fate::default());
}

#[tokio::test(flavor = "multi_thread")]
async fn cuts_around_a_relay_lose_double_and_reorder_nothing() {
    let server = Server::new();
    let forwarder = Forwarder::new(&server).await;
    let from = "from?stream=FROM&consumer=relay&create=true&ack-wait=1";
    let to = server.at("to?stream=TO&consumer=check&create=true");
    let numbers = Numbers::send(&server.at(from)).await;
    for _ in 0..kills() {
        numbers.reach(2000).await;
    }
    let count = numbers.stop().await;
    drop(receiver(&server.at(from)).await);
    let mut child = relay(
        &forwarder.at(from),
        &forwarder.at("to?stream=TO&create=true"),
    );
    for cut in 0..kills() {
        // Some come while the relay waits for what it had in hand before.
        tokio::time::sleep(Duration::from_millis(60 + 373 * (cut as u64 % 7))).await;
        forwarder.cut().await;
    }
    let seen = drain(&to, count).await;
    child.kill().expect("it is a child");
    child.wait().expect("it is a child");
    let fate = Fate::of(&seen, count);
    println!("relay cut {} times: {fate:?} of {count}", kills());
    assert_eq!(fate, Fate::default());
}
