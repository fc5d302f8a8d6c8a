//! Connections to the server that are cut, with every message numbered. `AQUEDUCT_NATS_KILLS` is how many
//! times (2).

use std::sync::{Arc, Mutex};
use std::time::Duration;

use aqueduct_conformance::deadline;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::broadcast;

use crate::kills::{Fate, Numbers, drain, kills, relay};
use crate::receiver;
use crate::server::Server;

/// Passes connections on to a server, until they are cut. Bytes on their way are lost then.
pub(crate) struct Forwarder {
    port: u16,
    cut: broadcast::Sender<()>,
    /// See [`Self::cut_at`].
    cut_at: Arc<Mutex<Option<&'static str>>>,
}

impl Forwarder {
    pub(crate) async fn new(server: &Server) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("it is bound").port();
        let (cut, _) = broadcast::channel(1);
        let (cuts, to) = (cut.clone(), server.port());
        let cut_at = Arc::new(Mutex::new(None));
        let texts = Arc::clone(&cut_at);
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let (mut cut, texts) = (cuts.subscribe(), Arc::clone(&texts));
                tokio::spawn(async move {
                    let mut server = TcpStream::connect(("127.0.0.1", to)).await?;
                    let (mut replies, mut requests) = server.split();
                    let (mut from_client, mut to_client) = client.split();
                    tokio::select! {
                        _ = copy(&mut replies, &mut to_client) => {}
                        _ = pass(&mut from_client, &mut requests, &texts) => {}
                        _ = cut.recv() => {}
                    }
                    Ok::<_, std::io::Error>(())
                });
            }
        });
        Self { port, cut, cut_at }
    }

    pub(crate) fn at(&self, rest: &str) -> String {
        format!("nats://127.0.0.1:{}/{rest}", self.port)
    }

    /// Cuts the next connection whose client sends this.
    pub(crate) fn cut_at(&self, text: &'static str) {
        *self.cut_at.lock().expect("no panic") = Some(text);
    }

    pub(crate) fn has_cut(&self) -> bool {
        self.cut_at.lock().expect("no panic").is_none()
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

/// Passes on what a client sends, until it sends the text.
async fn pass(
    from: &mut ReadHalf<'_>,
    to: &mut WriteHalf<'_>,
    cut_at: &Mutex<Option<&'static str>>,
) -> std::io::Result<()> {
    let mut buf = vec![0; 64 * 1024];
    loop {
        let sent = from.read(&mut buf).await?;
        if sent == 0 {
            return Ok(());
        }
        {
            let mut cut_at = cut_at.lock().expect("no panic");
            let is_in = |text: &str| {
                let mut windows = buf[..sent].windows(text.len());
                windows.any(|it| it == text.as_bytes())
            };
            if cut_at.is_some_and(is_in) {
                *cut_at = None;
                return Ok(());
            }
        }
        to.write_all(&buf[..sent]).await?;
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
    let (fate, count) = numbers.fate(&server).await;
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
