//! Handshake, service, conversation, relay: what is dropped with them, and that nothing comes twice.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream as StdStream;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use aqueduct::codec::Text;
use aqueduct::connect::{Connection, MessageReceiver, MessageSender, Options, Reconnect};
use aqueduct::frame::{FramedRead, FramedWrite, Framing};
use aqueduct::handshake::{Error, Handshake};
use aqueduct::relay::Relay;
use aqueduct::service::{self, CancellationToken, Context};
use aqueduct::{Channel, unix};
use aqueduct_conformance::every_point;
use bytes::Bytes;
use futures_util::stream::{self, StreamExt};
use futures_util::{FutureExt, SinkExt};
use tempfile::TempDir;
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::task::{JoinHandle, yield_now};

use super::place;

type Texts = Channel<String, String>;
type Shaking = Pin<Box<dyn Future<Output = Result<Texts, Error>>>>;

fn shake(stream: UnixStream) -> Shaking {
    Box::pin(async {
        let handshake = Handshake::new("chat/2");
        handshake
            .channel(Connection::from_io(stream, Framing::length()), Text)
            .await
    })
}

/// Dropped, it closes the connection, so that the other side does not wait.
#[tokio::test]
async fn a_handshake() {
    every_point(
        "handshake::Handshake::channel",
        async || {
            let (here, there) = UnixStream::pair().expect("a pair");
            (Some(here), (shake(there), None))
        },
        async |here: &mut Option<UnixStream>| shake(here.take().expect("it is there")).await,
        async |(other, done)| {
            if done.is_none() {
                *done = other.as_mut().now_or_never();
            }
        },
        async |_, (other, done), ours| {
            let theirs = match done {
                Some(done) => done,
                None => other.await,
            };
            match (ours, theirs) {
                (Some(ours), theirs) => {
                    let (mut ours, mut theirs) = (ours.expect("ours"), theirs.expect("theirs"));
                    ours.send("hello".into()).await.expect("it is sent");
                    let came = theirs.recv().await.expect("no end").expect("it is whole");
                    assert_eq!(came, "hello");
                }
                // All had been said before it was dropped.
                (None, Ok(mut theirs)) => {
                    let end = theirs.recv().await;
                    assert!(matches!(end, None | Some(Err(_))), "{end:?}");
                }
                (None, Err(error)) => {
                    assert!(matches!(error, Error::Closed | Error::Io(_)), "{error:?}");
                }
            }
        },
    )
    .await;
}

/// A client of a service, step by step.
struct Client {
    path: PathBuf,
    stream: Option<StdStream>,
    served: bool,
    stop: CancellationToken,
    /// Held by each handler.
    at_work: Arc<()>,
    _dir: TempDir,
}

impl Client {
    fn step(&mut self) {
        let Some(stream) = &mut self.stream else {
            let mut stream = StdStream::connect(&self.path).expect("it listens");
            stream.write_all(b"\0\0\0\x01x").expect("it is written");
            stream.set_nonblocking(true).expect("an option");
            self.stream = Some(stream);
            return;
        };
        if self.served {
            self.stop.cancel();
        } else if stream.read(&mut [0; 5]).is_ok_and(|it| it == 5) {
            self.served = true;
        }
    }
}

/// Dropped, it drops its listener, and its handlers with their connections.
#[tokio::test]
async fn a_service() {
    every_point(
        "service::Options::serve",
        async || {
            let (dir, path) = place();
            let listener = unix::bind(&path).expect("bound");
            let (stop, at_work) = (CancellationToken::new(), Arc::new(()));
            let client = Client {
                path,
                stream: None,
                served: false,
                stop: stop.clone(),
                at_work: Arc::clone(&at_work),
                _dir: dir,
            };
            (Some((listener, stop, at_work)), client)
        },
        async |service: &mut Option<(unix::Listener, CancellationToken, Arc<()>)>| {
            let (listener, stop, at_work) = service.take().expect("it is there");
            let handler = move |stream: UnixStream, cx: Context| {
                let at_work = Arc::clone(&at_work);
                async move {
                    let _at_work = at_work;
                    let channel: Texts =
                        cx.channel(Connection::from_io(stream, Framing::length()), Text);
                    service::respond(channel, &cx, async |request| request).await
                }
            };
            service::serve(listener, stop, handler).await
        },
        async |client| client.step(),
        async |_, client, output| {
            if let Some(stats) = output {
                let stats = stats.expect("the listener is sound");
                assert_eq!((stats.accepted, stats.finished), (1, 1));
            }
            while Arc::strong_count(&client.at_work) > 1 {
                yield_now().await;
            }
            if let Some(mut stream) = client.stream {
                stream.set_nonblocking(false).expect("an option");
                // Where it had not read the request, a reset comes in place of the end.
                if let Err(error) = stream.read_to_end(&mut Vec::new()) {
                    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
                }
            }
            drop(unix::bind(&client.path).expect("the path is free"));
        },
    )
    .await;
}

/// A context as a service makes it, and the service.
async fn context() -> (Context, JoinHandle<()>) {
    let (give, mut given) = tokio::sync::mpsc::channel(1);
    let service = tokio::spawn(async {
        let one = stream::iter([Ok(())]).chain(stream::pending());
        let handler = move |(), cx| {
            let give = give.clone();
            async move {
                let _ = give.send(cx).await;
                std::future::pending::<Result<(), aqueduct::Error>>().await
            }
        };
        let _ = service::serve(one, CancellationToken::new(), handler).await;
    });
    let context = given.recv().await.expect("it comes");
    (context, service)
}

const REQUESTS: usize = 4;

/// Who asks, step by step.
struct Asking {
    requests: Option<FramedWrite<OwnedWriteHalf>>,
    replies: FramedRead<OwnedReadHalf>,
    sent: usize,
    came: Vec<Bytes>,
    _service: JoinHandle<()>,
}

/// Dropped, it drops the channel: each reply comes whole, once, in order, or not.
#[tokio::test]
async fn a_conversation() {
    every_point(
        "service::respond",
        async || {
            let (here, there) = UnixStream::pair().expect("a pair");
            let (context, service) = context().await;
            let (read, write) = there.into_split();
            let asking = Asking {
                requests: Some(FramedWrite::new(write, Framing::length())),
                replies: FramedRead::new(read, Framing::length()),
                sent: 0,
                came: Vec::new(),
                _service: service,
            };
            (Some((here, context)), asking)
        },
        async |conversation: &mut Option<(UnixStream, Context)>| {
            let (stream, context) = conversation.take().expect("it is there");
            let channel: Texts =
                context.channel(Connection::from_io(stream, Framing::length()), Text);
            let answer = async |request| {
                yield_now().await;
                request
            };
            service::respond(channel, &context, answer).await
        },
        async |asking| {
            if let Some(reply) = asking.replies.next().now_or_never().flatten() {
                asking.came.push(reply.expect("it is whole"));
            }
            if asking.sent == REQUESTS {
                asking.requests = None;
            } else if let Some(requests) = &mut asking.requests {
                let request = asking.sent.to_string();
                requests.send(request.into()).await.expect("it is sent");
                asking.sent += 1;
            }
        },
        async |_, asking, output| {
            let mut came = asking.came;
            drop(asking.requests);
            let mut replies = asking.replies;
            // Where requests were left unread, a reset may come in place of the end.
            while let Some(Ok(reply)) = replies.next().await {
                came.push(reply);
            }
            for (number, reply) in came.iter().enumerate() {
                assert_eq!(*reply, number.to_string());
            }
            assert!(came.len() <= asking.sent);
            if let Some(done) = output {
                done.expect("it ends in order");
                assert_eq!(came.len(), REQUESTS);
            }
        },
    )
    .await;
}

const RELAYED: usize = 4;

/// Both sides of a relay.
struct Sides {
    sender: Option<MessageSender>,
    receiver: MessageReceiver,
    sent: usize,
    came: Vec<Bytes>,
    _dir: TempDir,
}

/// Dropped, it loses what it has in hand; nothing comes twice, torn or out of its order, and both of
/// its ends are closed.
#[tokio::test]
async fn a_relay() {
    every_point(
        "relay::Relay::run",
        async || {
            let dir = tempfile::tempdir().expect("a directory");
            let fifo = |name| format!("fifo:{}/{name}", dir.path().display());
            let address = |name| fifo(name).parse().expect("it is one");
            let (from, to) = (address("from"), address("to"));
            let options = Options::new();
            let receiver = options.open_receiver(&to).await.expect("opened");
            let outgoing = options.open_sender(&to).await.expect("opened");
            let incoming = options.open_receiver(&from).await.expect("opened");
            let sender = options.open_sender(&from).await.expect("opened");
            let sides = Sides {
                sender: Some(sender),
                receiver,
                sent: 0,
                came: Vec::new(),
                _dir: dir,
            };
            (Some(Relay::new(incoming, outgoing)), sides)
        },
        async |relay: &mut Option<Relay<'static>>| {
            let relay = relay.take().expect("it is there");
            relay.run(CancellationToken::new()).await
        },
        async |sides| {
            if let Some(message) = sides.receiver.next().now_or_never().flatten() {
                let message = message.expect("it is whole");
                sides.came.push(message.into_body());
            }
            if sides.sent == RELAYED {
                sides.sender = None;
            } else if let Some(sender) = &mut sides.sender {
                let message = Bytes::from(sides.sent.to_string());
                sender.send(message.into()).await.expect("it is sent");
                sides.sent += 1;
            }
        },
        async |_, mut sides, output| {
            while let Some(message) = sides.receiver.next().await {
                let message = message.expect("it is whole");
                sides.came.push(message.into_body());
            }
            for (number, came) in sides.came.iter().enumerate() {
                assert_eq!(*came, number.to_string());
            }
            if let Some(done) = output {
                done.expect("it ends in order");
                assert_eq!(sides.came.len(), RELAYED);
            } else if let Some(sender) = &mut sides.sender {
                let message = Bytes::from("nobody reads it").into();
                let error = sender.send(message).await.expect_err("nobody reads it");
                assert_eq!(error.kind(), ErrorKind::BrokenPipe);
            }
        },
    )
    .await;
}

/// Connections that break and are made again: dropped, a receive goes on with the next one.
#[tokio::test]
async fn a_client_that_connects_again() {
    every_point(
        "connect::Reconnect::connect",
        async || {
            // Taken by the client's next attempt; none is there at first.
            let offered: Arc<Mutex<Option<UnixStream>>> = Arc::default();
            let take = Arc::clone(&offered);
            let pause = std::time::Duration::from_millis(1);
            let policy = Reconnect::new().pauses(pause, pause);
            let client = policy.connect(move || {
                let stream = take.lock().expect("nobody panics").take();
                async move {
                    let stream = stream.ok_or(ErrorKind::ConnectionRefused)?;
                    Ok(Connection::from_io(stream, Framing::length()))
                }
            });
            (client.into_receiver(), (offered, None, 0))
        },
        async |client: &mut MessageReceiver| client.next().await,
        async |(offered, connection, sent): &mut (_, Option<_>, _)| {
            // One connection breaks, and the next one brings a message.
            if *sent == 2 || offered.lock().expect("nobody panics").is_some() {
                return;
            }
            let (here, there) = UnixStream::pair().expect("a pair");
            *offered.lock().expect("nobody panics") = Some(there);
            *sent += 1;
            if *sent == 2 {
                let mut server = FramedWrite::new(here, Framing::length());
                let one = Bytes::from_static(b"one");
                server.send(one).await.expect("it is sent");
                *connection = Some(server);
            }
        },
        async |mut client, (offered, connection, _), output| {
            let message = match output {
                Some(message) => message,
                None => {
                    let _connection = match connection {
                        Some(connection) => connection,
                        None => {
                            let (here, there) = UnixStream::pair().expect("a pair");
                            *offered.lock().expect("nobody panics") = Some(there);
                            let mut server = FramedWrite::new(here, Framing::length());
                            let one = Bytes::from_static(b"one");
                            server.send(one).await.expect("it is sent");
                            server
                        }
                    };
                    client.next().await
                }
            };
            let message = message.expect("no end").expect("it is whole");
            assert_eq!(message.body(), "one");
        },
    )
    .await;
}
