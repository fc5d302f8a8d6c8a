//! Services over real sockets: limits, panics, shutdown, and many clients of which some are hostile.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use aqueduct::codec::{Raw, Text};
use aqueduct::connect::Connection;
use aqueduct::frame::{FramedRead, FramedWrite, Framing};
use aqueduct::service::{self, CancellationToken, Context, Limit, Options, TimedOut};
use aqueduct::{Channel, Error, tcp, unix};
use bytes::Bytes;
use futures_util::future::{Either, join_all};
use futures_util::stream::{self, Stream};
use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::{Semaphore, mpsc};

use crate::support::{Log, deadline};

mod blocked;
mod many;
mod signal;
mod supervisor;

/// Either kind of connection.
trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}
type Conn = Box<dyn Io>;

/// Takes either kind of listener.
fn boxed<T: Io + 'static>(
    listener: impl Stream<Item = io::Result<T>>,
) -> impl Stream<Item = io::Result<Conn>> {
    listener.map(|conn| conn.map(|conn| Box::new(conn) as Conn))
}

/// A service on a Unix and a TCP socket, and how to connect to it.
struct Sockets {
    dir: tempfile::TempDir,
    port: u16,
}

impl Sockets {
    async fn bind() -> (Self, impl Stream<Item = io::Result<Conn>>) {
        let dir = tempfile::tempdir().unwrap();
        let on_path = unix::bind(dir.path().join("socket")).unwrap();
        let on_port = tcp::bind("127.0.0.1:0").await.unwrap();
        let port = on_port.local_addr().unwrap().port();
        let both = stream::select(boxed(on_path), boxed(on_port));
        (Self { dir, port }, both)
    }

    /// Connects over the Unix socket if `n` is even, over TCP if it is odd.
    async fn connect(&self, n: usize) -> Conn {
        if n.is_multiple_of(2) {
            Box::new(
                UnixStream::connect(self.dir.path().join("socket"))
                    .await
                    .unwrap(),
            )
        } else {
            Box::new(TcpStream::connect(("127.0.0.1", self.port)).await.unwrap())
        }
    }
}

async fn echo(conn: Conn, cx: Context) -> Result<(), Error> {
    let channel: Channel<Bytes, Bytes> =
        cx.channel(Connection::from_io(conn, Framing::length()), Raw);
    service::respond(channel, &cx, |request| async { request }).await
}

/// Sends one request and checks that it comes back.
async fn is_served(conn: Conn) {
    let (read, write) = tokio::io::split(conn);
    let mut requests = FramedWrite::new(write, Framing::length());
    let mut replies = FramedRead::new(read, Framing::length());
    requests.send(Bytes::from("are you there?")).await.unwrap();
    let reply = deadline(replies.next()).await.unwrap().unwrap();
    assert_eq!(reply, "are you there?");
}

/// Waits until the other side has closed, whatever it sent until then.
async fn until_closed(mut conn: Conn) {
    let mut buf = vec![0; 1 << 16];
    deadline(async { while !matches!(conn.read(&mut buf).await, Ok(0) | Err(_)) {} }).await;
}

#[tokio::test]
async fn hostile_peers_meet_their_limit_and_others_are_served() {
    let (sockets, listener) = Sockets::bind().await;
    let (errors, mut seen) = mpsc::unbounded_channel();
    let handler = move |conn, cx| {
        let errors = errors.clone();
        async move {
            let served = echo(conn, cx).await;
            if let Err(Error::Io(error)) = &served {
                let limit = TimedOut::of(error).map(|it| it.limit);
                errors.send((limit, error.kind())).unwrap();
            }
            served
        }
    };
    let shutdown = CancellationToken::new();
    let limit = Duration::from_millis(300);
    let mut options = Options::new();
    options
        .first_timeout(limit)
        .message_timeout(limit)
        .idle_timeout(limit)
        .send_timeout(limit);
    let service = tokio::spawn(options.serve(listener, shutdown.clone(), handler));

    for transport in 0..2 {
        // Nothing at all.
        let silent = sockets.connect(transport).await;
        until_closed(silent).await;
        let timed_out = io::ErrorKind::TimedOut;
        assert_eq!(
            deadline(seen.recv()).await,
            Some((Some(Limit::First), timed_out))
        );

        // A byte at a time, each well within the limit.
        let (mut read, mut write) = tokio::io::split(sockets.connect(transport).await);
        let drip = async {
            let mut message = (100_u32).to_be_bytes().to_vec();
            message.resize(104, b'x');
            for byte in message {
                if write.write_all(&[byte]).await.is_err() {
                    break;
                }
                tokio::time::sleep(limit / 20).await;
            }
        };
        tokio::join!(drip, async { while read.read_u8().await.is_ok() {} });
        assert_eq!(
            deadline(seen.recv()).await,
            Some((Some(Limit::Message), timed_out))
        );

        // One request, then silence.
        let mut idle = sockets.connect(transport).await;
        idle.write_all(b"\0\0\0\x01x").await.unwrap();
        until_closed(idle).await;
        assert_eq!(
            deadline(seen.recv()).await,
            Some((Some(Limit::Idle), timed_out))
        );

        // A frame without end, and garbage: both announce more than is allowed.
        for start in [&b"\xff\xff\xff\xff"[..], b"GET / HTTP/1.1\r\n\r\n"] {
            let mut endless = sockets.connect(transport).await;
            let flood = vec![b'x'; 1 << 16];
            endless.write_all(start).await.unwrap();
            deadline(async { while endless.write_all(&flood).await.is_ok() {} }).await;
            let refused = deadline(seen.recv()).await;
            assert_eq!(refused, Some((None, io::ErrorKind::InvalidData)));
        }

        // Requests without end, and no reply is ever read.
        let mut deaf = sockets.connect(transport).await;
        let mut request = (1_u32 << 16).to_be_bytes().to_vec();
        request.resize(4 + (1 << 16), b'x');
        deadline(async { while deaf.write_all(&request).await.is_ok() {} }).await;
        assert_eq!(
            deadline(seen.recv()).await,
            Some((Some(Limit::Send), timed_out))
        );

        is_served(sockets.connect(transport).await).await;
    }
    shutdown.cancel();
    let stats = deadline(service).await.unwrap().unwrap();
    assert_eq!((stats.accepted, stats.timed_out), (14, 8));
    assert_eq!((stats.failed, stats.finished, stats.aborted), (4, 2, 0));
}

#[tokio::test]
async fn a_panic_costs_its_connection_only_and_its_message_is_told() {
    // For this thread, which runs all tasks of this test.
    let (told, _recording) = Log::start();

    let (sockets, listener) = Sockets::bind().await;
    let served = AtomicU64::new(1);
    let handler = move |conn, cx: Context| {
        let number = served.fetch_add(1, Ordering::Relaxed);
        async move {
            assert!(
                !number.is_multiple_of(3),
                "number {number} was one too many"
            );
            echo(conn, cx).await
        }
    };
    let shutdown = CancellationToken::new();
    let service = tokio::spawn(service::serve(listener, shutdown.clone(), handler));
    for n in 1..=9 {
        let conn = sockets.connect(n).await;
        if n % 3 == 0 {
            until_closed(conn).await;
        } else {
            is_served(conn).await;
        }
    }
    shutdown.cancel();
    let stats = deadline(service).await.unwrap().unwrap();
    assert_eq!((stats.accepted, stats.panicked, stats.finished), (9, 3, 6));
    let told = told.text();
    assert!(told.contains("number 6 was one too many"), "{told}");
}

#[tokio::test]
async fn clients_over_the_connection_limit_wait_and_are_served() {
    let (sockets, listener) = Sockets::bind().await;
    let live = Arc::new(AtomicU64::new(0));
    let most = Arc::new(AtomicU64::new(0));
    let handler = {
        let most = Arc::clone(&most);
        move |conn, cx| {
            let (live, most) = (Arc::clone(&live), Arc::clone(&most));
            async move {
                let now = live.fetch_add(1, Ordering::SeqCst) + 1;
                most.fetch_max(now, Ordering::SeqCst);
                let served = echo(conn, cx).await;
                live.fetch_sub(1, Ordering::SeqCst);
                served
            }
        }
    };
    let shutdown = CancellationToken::new();
    let mut options = Options::new();
    options.max_connections(3);
    let service = tokio::spawn(options.serve(listener, shutdown.clone(), handler));
    let sockets = &sockets;
    let clients = (0..40).map(|n| async move { is_served(sockets.connect(n).await).await });
    deadline(join_all(clients)).await;
    shutdown.cancel();
    let stats = deadline(service).await.unwrap().unwrap();
    assert_eq!((stats.accepted, stats.most_at_once), (40, 3));
    assert_eq!(most.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn after_shutdown_nobody_is_accepted_and_the_file_is_gone() {
    let (sockets, listener) = Sockets::bind().await;
    let shutdown = CancellationToken::new();
    let service = tokio::spawn(service::serve(listener, shutdown.clone(), echo));
    is_served(sockets.connect(0).await).await;
    shutdown.cancel();
    deadline(service).await.unwrap().unwrap();
    let path = sockets.dir.path().join("socket");
    let gone = UnixStream::connect(&path).await.unwrap_err();
    assert_eq!(gone.raw_os_error(), Some(libc::ENOENT));
    // A process that another test is starting holds the socket until it has begun its program.
    let refused = deadline(async {
        loop {
            if let Err(error) = TcpStream::connect(("127.0.0.1", sockets.port)).await {
                break error;
            }
        }
    });
    assert_eq!(refused.await.raw_os_error(), Some(libc::ECONNREFUSED));
}

/// Clients in lock-step and clients that never stop sending, over both kinds of sockets; handlers
/// that take their time. Requests that were given to a handler are counted on one side, replies on
/// the other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shutdown_under_load_answers_every_accepted_request() {
    let (sockets, listener) = Sockets::bind().await;
    let accepted = Arc::new(AtomicU64::new(0));
    let handler = {
        let accepted = Arc::clone(&accepted);
        move |conn, cx: Context| {
            let accepted = Arc::clone(&accepted);
            async move {
                let channel: Channel<String, String> =
                    cx.channel(Connection::from_io(conn, Framing::length()), Text);
                service::respond(channel, &cx, |request| {
                    let n = accepted.fetch_add(1, Ordering::SeqCst);
                    async move {
                        if n.is_multiple_of(7) {
                            tokio::time::sleep(Duration::from_millis(n % 20)).await;
                        }
                        request
                    }
                })
                .await
            }
        }
    };
    let shutdown = CancellationToken::new();
    // Half of it is what those who never stop sending are given; the rest has to do for a busy machine.
    let grace = Duration::from_secs(8);
    let mut options = Options::new();
    options.grace(grace);
    let service = tokio::spawn(options.serve(listener, shutdown.clone(), handler));

    let under_way = Arc::new(Semaphore::new(0));
    let mut clients = Vec::new();
    for n in 0..60 {
        let conn = sockets.connect(n).await;
        clients.push(tokio::spawn(if n % 3 == 0 {
            Either::Left(flooding(conn, Arc::clone(&under_way)))
        } else {
            Either::Right(in_lock_step(conn, Arc::clone(&under_way)))
        }));
    }
    // All of them are under way.
    let all = under_way.acquire_many(60);
    let _ = deadline(all).await.unwrap();
    let stopping = Instant::now();
    shutdown.cancel();
    let stats = deadline(service).await.unwrap().unwrap();
    let took = stopping.elapsed();
    let mut answered = 0;
    for client in clients {
        answered += deadline(client).await.unwrap();
    }
    let accepted = accepted.load(Ordering::SeqCst);
    println!("accepted {accepted}, answered {answered}, shut down in {took:?}; {stats:?}");
    assert_eq!(answered, accepted);
    assert_eq!((stats.accepted, stats.finished, stats.aborted), (60, 60, 0));
    assert!(took < grace + Duration::from_secs(1), "{took:?}");
}

/// Sends a request after each reply until the end, and counts the replies.
async fn in_lock_step(conn: Conn, under_way: Arc<Semaphore>) -> u64 {
    let (read, write) = tokio::io::split(conn);
    let mut requests = FramedWrite::new(write, Framing::length());
    let mut replies = FramedRead::new(read, Framing::length());
    let mut answered = 0;
    loop {
        // Past the shutdown this may fail; what was answered before still comes.
        let _ = requests.send(Bytes::from(answered.to_string())).await;
        match replies.next().await {
            Some(Ok(reply)) => assert_eq!(reply, answered.to_string()),
            _ => return answered,
        }
        answered += 1;
        if answered == 20 {
            under_way.add_permits(1);
        }
    }
}

/// Sends requests without waiting until the end, and counts the replies.
async fn flooding(conn: Conn, under_way: Arc<Semaphore>) -> u64 {
    let (read, write) = tokio::io::split(conn);
    let mut requests = FramedWrite::new(write, Framing::length());
    let flood = tokio::spawn(async move {
        for n in 0.. {
            if requests.send(Bytes::from(format!("{n}"))).await.is_err() {
                break;
            }
        }
    });
    let mut replies = FramedRead::new(read, Framing::length());
    let mut answered = 0_u64;
    while let Some(Ok(reply)) = replies.next().await {
        assert_eq!(reply, answered.to_string());
        answered += 1;
        if answered == 20 {
            under_way.add_permits(1);
        }
    }
    flood.abort();
    answered
}
