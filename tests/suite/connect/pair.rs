//! Two one-way endpoints as one connection.

use std::time::Duration;

use aqueduct::codec::{Raw, Text};
use aqueduct::connect::{Connection, Message, Options};
use aqueduct::frame::{FrameError, Framing};
use aqueduct::service::{self, CancellationToken, Limit, TimedOut};
use aqueduct::{Channel, Endpoint};
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use tempfile::TempDir;
use tokio_test::assert_pending;

use super::{dir, endpoint, options};
use crate::mq::QueueName;
use crate::support::{Log, deadline};

/// Two one-way addresses.
struct Pair {
    requests: Endpoint,
    replies: Endpoint,
    _dir: TempDir,
    _names: [QueueName; 2],
}

impl Pair {
    fn new([there, back]: [&str; 2]) -> Self {
        let dir = dir();
        let names = [QueueName::new(), QueueName::new()];
        let address = |scheme, name: &QueueName, file| match scheme {
            "mq" => endpoint(format!("mq:{}?capacity=2&max-message=64", name.0)),
            _ => endpoint(format!("fifo:{}/{file}", dir.path().display())),
        };
        Self {
            requests: address(there, &names[0], "requests"),
            replies: address(back, &names[1], "replies"),
            _dir: dir,
            _names: names,
        }
    }

    /// Of every mechanism, and mixed.
    fn all() -> impl Iterator<Item = Self> {
        let schemes = [
            ["fifo", "fifo"],
            ["mq", "mq"],
            ["fifo", "mq"],
            ["mq", "fifo"],
        ];
        schemes.into_iter().map(Self::new)
    }

    async fn connect(&self) -> Channel<String, String> {
        let options = Options::new();
        let connected = options.connect_pair(&self.requests, &self.replies);
        deadline(connected)
            .await
            .expect("it is opened")
            .channel(Text)
    }
}

/// Replies in capitals until `stop`, and says how many clients there were.
async fn serve(pair: &Pair, stop: CancellationToken) -> u64 {
    let clients = Options::new().accept_pairs(pair.requests.clone(), pair.replies.clone());
    let shout = |client: Connection, cx: service::Context| async move {
        let client = cx.channel::<String, String>(client, Text);
        service::respond(client, &cx, |text| async move { text.to_uppercase() }).await
    };
    let stats = aqueduct::serve(clients, stop, shout).await.expect("served");
    assert_eq!((stats.failed, stats.aborted, stats.panicked), (0, 0, 0));
    stats.finished
}

#[tokio::test]
async fn one_client_after_the_other_is_answered_and_sees_the_end() {
    for pair in Pair::all() {
        let stop = CancellationToken::new();
        let clients = async {
            for client in 0..3 {
                let mut server = pair.connect().await;
                for n in 0..20 {
                    server
                        .send(format!("n{n} of {client}"))
                        .await
                        .expect("sent");
                    let reply = deadline(server.recv()).await.expect("not the end");
                    assert_eq!(reply.expect("whole"), format!("N{n} OF {client}"));
                }
                // More than two queues hold: each side has to wait for the other.
                let (mut sender, receiver) = server.into_split();
                let asking = tokio::spawn(async move {
                    for n in 0..50 {
                        sender.send(format!("m{n}")).await.expect("sent");
                    }
                    sender.close().await.expect("closed");
                });
                let replies: Vec<_> = deadline(receiver.map(Result::unwrap).collect()).await;
                let expected: Vec<_> = (0..50).map(|n| format!("M{n}")).collect();
                assert_eq!(replies, expected);
                asking.await.expect("no panic");
            }
            stop.cancel();
        };
        let (served, ()) = tokio::join!(serve(&pair, stop.clone()), clients);
        assert_eq!(served, 3);
    }
}

#[tokio::test]
async fn shutdown_answers_a_received_request_and_reports_the_end() {
    for pair in Pair::all() {
        let stop = CancellationToken::new();
        let client = async {
            let mut server = pair.connect().await;
            server.send("a".into()).await.expect("sent");
            assert_eq!(deadline(server.recv()).await.unwrap().unwrap(), "A");
            stop.cancel();
            assert!(deadline(server.recv()).await.is_none());
        };
        let (served, ()) = tokio::join!(serve(&pair, stop.clone()), client);
        assert_eq!(served, 1);
    }
}

#[tokio::test]
async fn an_end_that_is_dropped_tells_its_peer_as_one_that_is_closed() {
    for pair in Pair::all() {
        let (requests, replies) = (pair.requests.clone(), pair.replies.clone());
        let mut clients = Options::new().accept_pairs(requests, replies);
        let ask = async {
            let mut server = pair.connect().await;
            server.send("a".into()).await.expect("sent");
            server
        };
        let (server, client) = tokio::join!(ask, deadline(clients.next()));
        let client = client.expect("one came").expect("it is accepted");
        let mut client: Channel<String, String> = client.channel(Text);
        assert_eq!(deadline(client.recv()).await.unwrap().unwrap(), "a");
        let (sender, mut receiver) = server.into_split();
        drop(sender);
        assert!(deadline(client.recv()).await.is_none());
        drop(client);
        assert!(deadline(receiver.recv()).await.is_none());
    }
}

/// A reply that nobody took, and the end behind it, are not for the next client.
#[tokio::test]
async fn replies_left_by_an_earlier_conversation_are_not_taken() {
    let pair = Pair::new(["mq", "mq"]);
    let mut old = options(Framing::length())
        .open_sender(&pair.replies)
        .await
        .expect("made");
    old.send("old".into()).await.expect("there is room");
    old.send("".into()).await.expect("there is room");
    let stop = CancellationToken::new();
    let client = async {
        let mut server = pair.connect().await;
        server.send("new".into()).await.expect("sent");
        assert_eq!(deadline(server.recv()).await.unwrap().unwrap(), "NEW");
        // What looks like the end is refused.
        let Err(aqueduct::Error::Io(error)) = server.send(String::new()).await else {
            panic!("an empty message is the end")
        };
        let refused = error.get_ref().and_then(|it| it.downcast_ref());
        assert!(matches!(refused, Some(FrameError::Empty)), "{error}");
        server.close().await.expect("closed");
        assert!(deadline(server.recv()).await.is_none());
        stop.cancel();
    };
    tokio::join!(serve(&pair, stop.clone()), client);
}

#[tokio::test]
async fn the_next_client_waits_until_the_one_before_has_gone() {
    let pair = Pair::new(["mq", "mq"]);
    let mut clients = Options::new().accept_pairs(pair.requests.clone(), pair.replies.clone());
    let mut first = pair.connect().await;
    first.send("a".into()).await.expect("there is room");
    let connection = deadline(clients.next())
        .await
        .expect("one came")
        .expect("whole");
    let (outgoing, mut incoming) = connection.into_split();
    assert!(deadline(incoming.next()).await.is_some());
    first.send("b".into()).await.expect("there is room");
    let mut next = tokio_test::task::spawn(clients.next());
    assert_pending!(next.poll());
    drop(outgoing);
    assert_pending!(next.poll());
    // Given up by the server: the rest of it is the next conversation.
    drop(incoming);
    let connection = deadline(next).await.expect("another one").expect("whole");
    let (_, mut incoming) = connection.into_split();
    let message = deadline(incoming.next())
        .await
        .expect("one")
        .expect("whole");
    assert_eq!(message.body(), "b");
}

#[tokio::test]
async fn a_client_with_an_unfinished_message_meets_its_limit() {
    let pair = Pair::new(["fifo", "fifo"]);
    let mut service = service::Options::new();
    service
        .first_timeout(None)
        .message_timeout(Duration::from_millis(50))
        .idle_timeout(None);
    let stop = CancellationToken::new();
    let (told, mut seen) = tokio::sync::mpsc::unbounded_channel();
    let clients =
        options(Framing::lines()).accept_pairs(pair.requests.clone(), pair.replies.clone());
    let serving = service.serve(clients, stop.clone(), move |client, cx| {
        let told = told.clone();
        async move {
            let mut client = cx.channel::<Bytes, Bytes>(client, Raw);
            while let Some(request) = client.recv().await {
                if let Err(error) = &request
                    && let aqueduct::Error::Io(error) = error
                {
                    let limit = TimedOut::of(error).map(|it| it.limit);
                    told.send(limit).expect("somebody waits");
                }
                client.send(request?).await?;
            }
            Ok::<_, aqueduct::Error>(())
        }
    });
    let client = async {
        let raw = options(Framing::raw())
            .connect_pair(&pair.requests, &pair.replies)
            .await;
        let mut server: Channel<Bytes, Bytes> = raw.expect("it is opened").channel(Raw);
        server.send("whole\n".into()).await.expect("sent");
        assert_eq!(deadline(server.recv()).await.unwrap().unwrap(), "whole\n");
        server.send("ha".into()).await.expect("sent");
        assert_eq!(deadline(seen.recv()).await, Some(Some(Limit::Message)));
        stop.cancel();
    };
    let (served, ()) = tokio::join!(serving, client);
    assert_eq!(served.expect("served").timed_out, 1);
}

#[tokio::test]
async fn one_direction_alone_has_the_other_looked_after() {
    for pair in Pair::all() {
        let (requests, replies) = (pair.requests.clone(), pair.replies.clone());
        let mut clients = Options::new().accept_pairs(requests, replies);
        let send = async {
            let options = Options::new();
            let server = options.connect_pair(&pair.requests, &pair.replies);
            let mut outgoing = server.await.expect("opened").into_sender();
            for n in 0..20 {
                outgoing
                    .send(Message::new(format!("n{n}")))
                    .await
                    .expect("sent");
            }
            deadline(outgoing.close()).await.expect("closed");
        };
        let receive = async {
            let client = deadline(clients.next()).await.expect("one came");
            let mut incoming = client.expect("accepted").into_receiver();
            let mut count = 0;
            while let Some(message) = deadline(incoming.next()).await {
                assert_eq!(message.expect("whole").body(), format!("n{count}").as_str());
                count += 1;
            }
            assert_eq!(count, 20);
        };
        tokio::join!(send, receive);
    }
}

/// Of which the first message was taken to know that there is one.
#[tokio::test]
async fn a_stopped_conversation_leaves_the_rest_to_the_next() {
    for (limit, expected) in [
        (None, &["a"][..]),
        (Some(1), &["a"]),
        (Some(2), &["a", "b"]),
    ] {
        for pair in Pair::all() {
            let (requests, replies) = (pair.requests.clone(), pair.replies.clone());
            let mut clients = Options::new().accept_pairs(requests, replies);
            let ask = async {
                let mut server = pair.connect().await;
                server.send("a".into()).await.expect("there is room");
                server
            };
            let (mut server, client) = tokio::join!(ask, deadline(clients.next()));
            let (outgoing, mut incoming) = client.expect("one").expect("accepted").into_split();
            match limit {
                Some(limit) => incoming.limit(limit),
                None => incoming.stop(),
            }
            for message in ["b", "c"] {
                server.send(message.into()).await.expect("there is room");
            }
            for message in expected {
                let came = deadline(incoming.next()).await.expect("no end");
                assert_eq!(came.expect("whole").body(), *message);
            }
            assert!(deadline(incoming.next()).await.is_none());
            drop((outgoing, incoming));
            let next = deadline(clients.next()).await.expect("one");
            let (_outgoing, mut incoming) = next.expect("accepted").into_split();
            for message in &["a", "b", "c"][expected.len()..] {
                let came = deadline(incoming.next()).await.expect("no end");
                assert_eq!(came.expect("whole").body(), *message);
            }
        }
    }
}

/// Its server waited for it, and then answered the next client with its replies.
#[tokio::test]
async fn a_client_that_left_before_its_replies_costs_only_itself() {
    let (log, _recording) = Log::start();
    let pair = Pair::new(["fifo", "fifo"]);
    let mut options = Options::new();
    options.wait(Some(Duration::from_millis(50)));
    let mut clients = options.accept_pairs(pair.requests.clone(), pair.replies.clone());
    let gone = async {
        let options = Options::new();
        let mut outgoing = options.open_sender(&pair.requests).await.expect("opened");
        outgoing.send("gone".into()).await.expect("sent");
        outgoing.close().await.expect("closed");
    };
    let serve = async {
        let client = deadline(clients.next()).await.expect("one came");
        let mut client: Channel<String, String> = client.expect("accepted").channel(Text);
        let request = deadline(client.recv()).await.expect("one").expect("whole");
        client.send(request).await.expect("sent");
        client
    };
    let ask = async {
        gone.await;
        log.until("cannot serve a client").await;
        let mut server = pair.connect().await;
        server.send("here".into()).await.expect("sent");
        assert_eq!(deadline(server.recv()).await.unwrap().unwrap(), "here");
    };
    let (_client, ()) = tokio::join!(serve, ask);
}

#[tokio::test]
async fn a_pair_has_messages_and_no_bytes_and_tells_the_largest() {
    let pair = Pair::new(["mq", "mq"]);
    let options = Options::new();
    let connected = options.connect_pair(&pair.requests, &pair.replies);
    let connection = connected.await.expect("opened");
    assert_eq!(connection.max_message(), 64);
    assert!(connection.into_bytes().is_err());
}
