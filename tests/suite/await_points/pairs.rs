//! Two one-way endpoints as one connection.

use std::io;
use std::path::{Path, PathBuf};

use aqueduct::connect::{Connection, MessageReceiver, MessageSender, Options};
use aqueduct::frame::Framing;
use aqueduct::{Endpoint, fifo};
use aqueduct_conformance::every_point;
use futures_util::SinkExt;
use futures_util::stream::{BoxStream, StreamExt};
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;
use tokio::task::yield_now;

use super::NEVER;
use crate::mq::QueueName;

/// A FIFO for requests, and one or a queue for replies.
struct Pair {
    requests: PathBuf,
    replies: PathBuf,
    queue: Option<QueueName>,
    _dir: TempDir,
}

impl Pair {
    fn new(queue: Option<QueueName>) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        Self {
            requests: dir.path().join("requests"),
            replies: dir.path().join("replies"),
            queue,
            _dir: dir,
        }
    }

    fn addresses(&self) -> (Endpoint, Endpoint) {
        let replies = match &self.queue {
            Some(name) => endpoint(format!("mq:{}?capacity=2&max-message=64", name.0)),
            None => fifo_at(&self.replies),
        };
        (fifo_at(&self.requests), replies)
    }

    /// Waits until nobody reads replies any more. A process that another test is starting may hold
    /// the reader for a moment longer.
    async fn nobody_reads(&self) {
        let options = fifo::OpenOptions::new();
        while self.queue.is_none() && options.try_open_sender(&self.replies).is_ok() {
            yield_now().await;
        }
    }
}

fn fifo_at(path: &Path) -> Endpoint {
    endpoint(format!("fifo:{}", path.display()))
}

fn endpoint(address: String) -> Endpoint {
    address.parse().expect("it is one")
}

fn receiver(path: &Path) -> fifo::Receiver {
    let opened = fifo::OpenOptions::new().create(true).open_receiver(path);
    opened.expect("it is opened")
}

/// Dropped, it has left neither end open, and connects when it is tried again.
#[tokio::test]
async fn connecting_two_ends() {
    for mechanism in ["fifo", "mq"] {
        every_point(
            &format!("connect::Options::connect_pair, fifo: and {mechanism}:"),
            async || {
                let queue = (mechanism == "mq").then(QueueName::new);
                let pair = Pair::new(queue);
                (pair.addresses(), (pair, None))
            },
            async |(requests, replies): &mut (Endpoint, Endpoint)| {
                Options::new().connect_pair(requests, replies).await
            },
            async |(pair, server)| {
                server.get_or_insert_with(|| receiver(&pair.requests));
            },
            async |(requests, replies), (pair, server), output| {
                let server = server.unwrap_or_else(|| receiver(&pair.requests));
                let connected = match output {
                    Some(connected) => connected,
                    None => {
                        pair.nobody_reads().await;
                        Options::new().connect_pair(&requests, &replies).await
                    }
                };
                let (mut outgoing, incoming) = connected.expect("it is connected").into_split();
                outgoing.send("one".into()).await.expect("it is sent");
                drop(outgoing);
                let mut frames = server.framed(Framing::length());
                let came = frames.next().await.expect("no end");
                assert_eq!(came.expect("it is whole"), "one");
                assert!(frames.next().await.is_none(), "something was left open");
                drop(incoming);
                pair.nobody_reads().await;
            },
        )
        .await;
    }
}

type Clients = BoxStream<'static, io::Result<Connection>>;

/// Clients of a pair of FIFOs: one that is served, and the one behind it, step by step.
struct Asking {
    pair: Pair,
    /// Both sides of the conversation before.
    before: Option<((MessageSender, MessageReceiver), Connection)>,
    requests: Option<fifo::Sender>,
    replies: Option<fifo::Receiver>,
}

impl Asking {
    async fn step(&mut self) {
        if self.before.take().is_some() {
            return;
        }
        if self.requests.is_some() {
            self.replies
                .get_or_insert_with(|| receiver(&self.pair.replies));
            return;
        }
        // The server may not have opened its end once more.
        let opened = fifo::OpenOptions::new().try_open_sender(&self.pair.requests);
        if let Ok(mut sender) = opened {
            let request = sender.write_all(b"\0\0\0\x03one").await;
            request.expect("it is written");
            self.requests = Some(sender);
        }
    }
}

/// Dropped, it has lost neither the client nor what it had sent.
#[tokio::test]
async fn accepting_two_ends() {
    every_point(
        "connect::Options::accept_pairs, fifo:",
        async || {
            let pair = Pair::new(None);
            let (requests, replies) = pair.addresses();
            let mut options = Options::new();
            // For its end of the replies, too.
            options.wait(Some(NEVER));
            let mut clients = options
                .accept_pairs(requests.clone(), replies.clone())
                .boxed();
            let ask = async {
                let client = options.connect_pair(&requests, &replies).await;
                let (mut outgoing, incoming) = client.expect("it is connected").into_split();
                outgoing.send("first".into()).await.expect("it is sent");
                (outgoing, incoming)
            };
            let (client, server) = tokio::join!(ask, clients.next());
            let server = server.expect("no end").expect("it is accepted");
            let asking = Asking {
                pair,
                before: Some((client, server)),
                requests: None,
                replies: None,
            };
            (clients, asking)
        },
        async |clients: &mut Clients| clients.next().await,
        async |asking| asking.step().await,
        async |mut clients, mut asking, output| {
            let accepted = match output {
                Some(accepted) => accepted,
                None => {
                    let ask = async {
                        while asking.replies.is_none() {
                            asking.step().await;
                            yield_now().await;
                        }
                    };
                    tokio::join!(clients.next(), ask).0
                }
            };
            let accepted = accepted.expect("no end").expect("it is accepted");
            let (mut outgoing, mut incoming) = accepted.into_split();
            let came = incoming.next().await.expect("no end");
            assert_eq!(came.expect("it is whole").body(), "one");
            drop(asking.requests);
            assert!(incoming.next().await.is_none(), "it came once");
            outgoing.send("two".into()).await.expect("it is sent");
            drop(outgoing);
            let replies = asking.replies.expect("it was waited for");
            let replies: Vec<_> = replies.framed(Framing::length()).collect().await;
            let replies: Vec<_> = replies.into_iter().map(Result::unwrap).collect();
            assert_eq!(replies, ["two"]);
        },
    )
    .await;
}
