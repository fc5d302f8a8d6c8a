use std::fmt::Debug;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdStream;
use std::path::{Path, PathBuf};

use aqueduct::unix::seqpacket::{self, Socket};
use aqueduct::unix::{self, ConnectOptions};
use aqueduct::{Endpoint, connect, tcp};
use aqueduct_conformance::every_point;
use bytes::Bytes;
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;

use super::{NEVER, place};

fn null() -> OwnedFd {
    let file = std::fs::File::open("/dev/null");
    file.expect("every system has it").into()
}

#[tokio::test]
async fn accepting_loses_no_connection() {
    every_point(
        "unix::Listener::accept",
        async || {
            let (dir, path) = place();
            (unix::bind(&path).expect("bound"), (path, None, dir))
        },
        async |listener: &mut unix::Listener| listener.accept().await,
        async |(path, client, _)| {
            client.get_or_insert_with(|| StdStream::connect(path).expect("it listens"));
        },
        async |listener, (path, client, _dir), output| {
            let mut client = client.unwrap_or_else(|| StdStream::connect(&path).expect("it does"));
            let accepted = match output {
                Some(accepted) => accepted,
                None => listener.accept().await,
            };
            let (mut server, _) = accepted.expect("it is accepted");
            client.write_all(b"x").expect("it is written");
            assert_eq!(server.read_u8().await.expect("the same one"), b'x');
        },
    )
    .await;
    every_point(
        "unix::seqpacket::Listener::accept",
        async || {
            let (dir, path) = place();
            (seqpacket::bind(&path).expect("bound"), (path, None, dir))
        },
        async |listener: &mut seqpacket::Listener| listener.accept().await,
        async |(path, client, _)| {
            if client.is_none() {
                *client = Some(seqpacket::connect(&*path).await.expect("it listens"));
            }
        },
        async |listener, (path, client, _dir), output| {
            let client = match client {
                Some(client) => client,
                None => seqpacket::connect(path).await.expect("it listens"),
            };
            let accepted = match output {
                Some(accepted) => accepted,
                None => listener.accept().await,
            };
            client.send(b"x").await.expect("it is sent");
            let came = accepted.expect("it is accepted").recv().await;
            assert_eq!(came.expect("the same one"), Some(Bytes::from_static(b"x")));
        },
    )
    .await;
    every_point(
        "tcp::Listener::accept",
        async || {
            let listener = tcp::bind(":0").await.expect("a port");
            let at = listener.local_addr().expect("bound");
            (listener, (at, None))
        },
        async |listener: &mut tcp::Listener| listener.accept().await,
        async |(at, client)| {
            client.get_or_insert_with(|| std::net::TcpStream::connect(*at).expect("it listens"));
        },
        async |listener, (at, client), output| {
            let connect = || std::net::TcpStream::connect(at).expect("it listens");
            let client = client.unwrap_or_else(connect);
            let accepted = match output {
                Some(accepted) => accepted,
                None => listener.accept().await,
            };
            let (_, peer) = accepted.expect("it is accepted");
            assert_eq!(client.local_addr().ok(), Some(peer));
        },
    )
    .await;
    every_point(
        "connect::Listener::accept",
        async || {
            let (dir, path) = place();
            let listener = address(&path).bind().await.expect("bound");
            (listener, (path, None, dir))
        },
        async |listener: &mut connect::Listener| listener.accept().await.expect("no end"),
        async |(path, client, _)| {
            client.get_or_insert_with(|| StdStream::connect(path).expect("it listens"));
        },
        async |mut listener, (path, client, _dir), output| {
            let mut client = client.unwrap_or_else(|| StdStream::connect(&path).expect("it does"));
            let accepted = match output {
                Some(accepted) => accepted,
                None => listener.accept().await.expect("no end"),
            };
            let (_, mut incoming) = accepted.expect("it is accepted").into_split();
            client.write_all(b"\0\0\0\x01x").expect("it is written");
            let message = futures_util::StreamExt::next(&mut incoming).await;
            let message = message.expect("no end").expect("the same one");
            assert_eq!(message.body(), "x");
        },
    )
    .await;
}

/// A server that comes late: dropped before, there is no connection; the next attempt has one.
async fn connecting<L, C, S, E: Debug>(
    name: &str,
    connect: impl AsyncFn(&mut PathBuf) -> Result<C, E>,
    bind: impl AsyncFn(&Path) -> L,
    accept: impl AsyncFn(&mut L) -> S,
) {
    every_point(
        name,
        async || {
            let (dir, path) = place();
            (path.clone(), (path, None, dir))
        },
        connect,
        async |(path, listener, _)| {
            if listener.is_none() {
                *listener = Some(bind(path).await);
            }
        },
        async |path, (_, listener, _dir), output| {
            let mut listener = match listener {
                Some(listener) => listener,
                None => bind(&path).await,
            };
            if let Some(client) = output {
                let _client = client.expect("it is connected");
                accept(&mut listener).await;
            }
            nobody_waits(accept(&mut listener)).await;
        },
    )
    .await;
}

#[tokio::test]
async fn connecting_leaves_nothing_open() {
    connecting(
        "unix::ConnectOptions::connect",
        async |path: &mut PathBuf| ConnectOptions::new().retry(true).connect(&*path).await,
        async |path| unix::bind(path).expect("bound"),
        async |listener| listener.accept().await.expect("it is there"),
    )
    .await;
    connecting(
        "unix::ConnectOptions::connect_seqpacket",
        async |path: &mut PathBuf| {
            let mut options = ConnectOptions::new();
            options.retry(true).connect_seqpacket(&*path).await
        },
        async |path| seqpacket::bind(path).expect("bound"),
        async |listener| listener.accept().await.expect("it is there"),
    )
    .await;
    connecting(
        "connect::Options::connect, unix:",
        async |path: &mut PathBuf| address(path).connect().await,
        async |path| address(path).bind().await.expect("bound"),
        async |listener| {
            let accepted = listener.accept().await.expect("no end");
            accepted.expect("it is there")
        },
    )
    .await;
    // TCP completes a connection without the server: what was begun is closed.
    every_point(
        "tcp::connect",
        async || {
            let listener = tcp::bind(":0").await.expect("a port");
            (listener.local_addr().expect("bound"), listener)
        },
        async |at: &mut std::net::SocketAddr| tcp::connect(*at).await,
        async |_| {},
        async |at, listener, output| {
            drop(output);
            let client = tcp::connect(at).await.expect("connected");
            loop {
                let (mut server, peer) = listener.accept().await.expect("accepted");
                if client.local_addr().ok() == Some(peer) {
                    break;
                }
                let end = server.read(&mut [0]).await;
                assert!(matches!(end, Ok(0) | Err(_)), "an abandoned one is closed");
            }
        },
    )
    .await;
    every_point(
        "tcp::bind, by name",
        async || ((), ()),
        async |()| tcp::bind("localhost:0").await,
        async |()| {},
        async |(), (), output| {
            if let Some(listener) = output {
                drop(listener.expect("it is bound"));
            }
        },
    )
    .await;
}

fn address(path: &Path) -> Endpoint {
    format!("unix:{}", path.display()).parse().expect("one")
}

async fn nobody_waits<T>(accept: impl Future<Output = T>) {
    let mut accept = tokio_test::task::spawn(accept);
    for _ in 0..3 {
        assert!(accept.poll().is_pending(), "a connection was left behind");
        tokio::task::yield_now().await;
    }
}

/// Two seqpacket sockets, and how many messages were sent by the other side.
fn pair() -> (Socket, (Socket, usize)) {
    let (here, there) = seqpacket::pair().expect("a pair");
    (here, (there, 0))
}

async fn send_once((socket, sent): &mut (Socket, usize)) {
    if *sent == 0 {
        let sent_now = socket.send_with_fds(b"one", &[null()]).await;
        sent_now.expect("it is sent");
        *sent = 1;
    }
}

async fn send_plain_once((socket, sent): &mut (Socket, usize)) {
    if *sent == 0 {
        socket.send(b"one").await.expect("it is sent");
        *sent = 1;
    }
}

/// What was not received is still there, once, with its descriptors.
async fn still_there(here: &Socket, there: (Socket, usize), taken: usize, fds: usize) {
    let sent = there.1;
    drop(there);
    let mut left = 0;
    while let Some(message) = here.recv_with_fds(1).await.expect("it is read") {
        assert_eq!((&message.body[..], message.fds.len()), (&b"one"[..], fds));
        left += 1;
    }
    assert_eq!(taken + left, sent);
}

#[tokio::test]
async fn seqpacket_sockets() {
    every_point(
        "unix::seqpacket::Socket::recv_with_fds",
        async || pair(),
        async |socket: &mut Socket| socket.recv_with_fds(1).await,
        send_once,
        async |here, there, output| {
            let taken = usize::from(output.is_some());
            if let Some(message) = output {
                let message = message.expect("it is read").expect("no end");
                assert_eq!((&message.body[..], message.fds.len()), (&b"one"[..], 1));
            }
            still_there(&here, there, taken, 1).await;
        },
    )
    .await;
    every_point(
        "unix::seqpacket::Socket::recv",
        async || pair(),
        async |socket: &mut Socket| socket.recv().await,
        send_plain_once,
        async |here, there, output| {
            let taken = usize::from(output.is_some());
            if let Some(message) = output {
                assert_eq!(message.expect("it is read").expect("no end"), "one");
            }
            still_there(&here, there, taken, 0).await;
        },
    )
    .await;
    every_point(
        "unix::seqpacket::Socket::recv_into",
        async || pair(),
        async |socket: &mut Socket| socket.recv_into(&mut [0; 8]).await,
        send_plain_once,
        async |here, there, output| {
            let taken = usize::from(output.is_some());
            if let Some(len) = output {
                assert_eq!(len.expect("it is read"), 3);
            }
            still_there(&here, there, taken, 0).await;
        },
    )
    .await;
    let full = async || {
        let (here, there) = seqpacket::pair().expect("a pair");
        let mut filled = 0;
        while here.try_send(&[0; 1000]).is_ok() {
            filled += 1;
        }
        (here, (there, filled))
    };
    every_point(
        "unix::seqpacket::Socket::send_with_fds",
        full,
        async |socket: &mut Socket| socket.send_with_fds(b"item", &[null()]).await,
        async |(socket, filled)| {
            if *filled > 0 {
                socket.recv().await.expect("it is full");
                *filled -= 1;
            }
        },
        async |here, (there, filled), output| {
            let mut expected = 0;
            if let Some(done) = output {
                done.expect("it is sent");
                expected = 1;
            }
            drop(here);
            let (mut rest, mut items) = (0, 0);
            while let Some(message) = there.recv_with_fds(1).await.expect("it is read") {
                if message.body == "item" {
                    assert_eq!(message.fds.len(), 1);
                    items += 1;
                } else {
                    rest += 1;
                }
            }
            assert_eq!((rest, items), (filled, expected));
        },
    )
    .await;
    // `close` owns the socket: dropped, it is closed at once.
    every_point(
        "unix::seqpacket::Socket::close",
        async || {
            let (here, there) = seqpacket::pair().expect("a pair");
            (Some(here), Some(there))
        },
        async |socket: &mut Option<Socket>| {
            let socket = socket.take().expect("it is there");
            socket.close(NEVER).await
        },
        async |there| drop(there.take()),
        async |_, there, _| {
            if let Some(there) = there {
                assert_eq!(there.recv().await.expect("it is read"), None);
            }
        },
    )
    .await;
}

#[tokio::test]
async fn stream_sockets_with_descriptors() {
    every_point(
        "unix::recv_with_fds",
        async || {
            let (here, there) = UnixStream::pair().expect("a pair");
            (here, (there, 0))
        },
        async |stream: &mut UnixStream| {
            let mut buf = [0; 8];
            let received = unix::recv_with_fds(stream, &mut buf, 1).await;
            received.map(|(n, fds)| (n, fds.len()))
        },
        async |(stream, sent)| {
            if *sent == 0 {
                let sent_now = unix::send_with_fds(stream, b"one", &[null()]).await;
                *sent = sent_now.expect("it is sent");
            }
        },
        async |here, (there, sent), output| {
            drop(there);
            let taken = output.map(|it| it.expect("it is read"));
            let mut buf = [0; 8];
            let left = unix::recv_with_fds(&here, &mut buf, 1).await;
            let (n, fds) = left.expect("it is read");
            let all = taken.map_or((n, fds.len()), |(m, more)| (n + m, fds.len() + more));
            assert_eq!(all, (sent, usize::from(sent > 0)));
        },
    )
    .await;
    every_point(
        "unix::send_with_fds",
        async || {
            let (here, there) = UnixStream::pair().expect("a pair");
            let mut filled = 0;
            while let Ok(n) = here.try_write(&[0; 4096]) {
                filled += n;
            }
            (here, (there, filled, 0))
        },
        async |stream: &mut UnixStream| unix::send_with_fds(stream, b"!", &[null()]).await,
        async |(stream, _, taken)| {
            *taken += stream.try_read(&mut [0; 65_536]).unwrap_or_default();
        },
        async |here, (there, filled, mut taken), output| {
            let expected = output.map_or(0, |it| it.expect("it is sent"));
            drop(here);
            let mut descriptors = 0;
            loop {
                let mut buf = [0; 65_536];
                let read = unix::recv_with_fds(&there, &mut buf, 1).await;
                let (n, fds) = read.expect("it is read");
                if n == 0 {
                    break;
                }
                taken += n;
                descriptors += fds.len();
            }
            assert_eq!((taken - filled, descriptors), (expected, expected));
        },
    )
    .await;
    // `unix::close` owns the stream: dropped, it is closed at once.
    every_point(
        "unix::close",
        async || {
            let (here, there) = StdStream::pair().expect("a pair");
            here.set_nonblocking(true).expect("an option");
            let here = UnixStream::from_std(here).expect("registered");
            (Some(here), Some(there))
        },
        async |stream: &mut Option<UnixStream>| {
            unix::close(stream.take().expect("it is there"), NEVER).await
        },
        async |there| drop(there.take()),
        async |_, there, _| {
            if let Some(mut there) = there {
                let end = there.read(&mut [0]);
                assert!(matches!(end, Ok(0)), "{end:?}");
                let gone = there.write(b"x").expect_err("it is closed");
                assert_eq!(gone.kind(), io::ErrorKind::BrokenPipe);
            }
        },
    )
    .await;
}
