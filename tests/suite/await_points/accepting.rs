use std::fmt::Debug;
use std::io::Write;
use std::net::TcpStream as StdTcpStream;
use std::os::unix::net::UnixStream as StdStream;
use std::path::{Path, PathBuf};

use aqueduct::connect;
use aqueduct::tcp;
use aqueduct::unix::{self, seqpacket};
use aqueduct_conformance::every_point;
use futures_util::StreamExt;
use tokio::io::AsyncReadExt;

use super::{address, place};

/// A client that comes while it waits: dropped before, the next one accepts that client.
async fn accepting<L, A, C, S, E: Debug>(
    name: &str,
    bind: impl AsyncFn() -> (L, A),
    accept: impl AsyncFn(&mut L) -> Result<S, E>,
    connect: impl AsyncFn(&A) -> C,
    is_same: impl AsyncFn(C, S),
) {
    every_point(
        name,
        async || {
            let (listener, at) = bind().await;
            (listener, (at, None))
        },
        &accept,
        async |(at, client)| {
            if client.is_none() {
                *client = Some(connect(at).await);
            }
        },
        async |mut listener, (at, client), output| {
            let client = match client {
                Some(client) => client,
                None => connect(&at).await,
            };
            let accepted = match output {
                Some(accepted) => accepted,
                None => accept(&mut listener).await,
            };
            is_same(client, accepted.expect("it is accepted")).await;
        },
    )
    .await;
}

/// A listener at a path of its own.
async fn at_path<L>(bind: impl AsyncFn(&Path) -> L) -> (L, (PathBuf, impl Sized)) {
    let (dir, path) = place();
    (bind(&path).await, (path, dir))
}

#[tokio::test]
async fn accepting_loses_no_connection() {
    accepting(
        "unix::Listener::accept",
        async || at_path(async |path| unix::bind(path).expect("bound")).await,
        async |listener: &mut unix::Listener| listener.accept().await,
        async |(path, _)| StdStream::connect(path).expect("it listens"),
        async |mut client, (mut server, _)| {
            client.write_all(b"x").expect("it is written");
            assert_eq!(server.read_u8().await.expect("the same one"), b'x');
        },
    )
    .await;
    accepting(
        "unix::seqpacket::Listener::accept",
        async || {
            at_path(async |path| {
                unix::BindOptions::new()
                    .bind_seqpacket(path)
                    .expect("bound")
            })
            .await
        },
        async |listener: &mut seqpacket::Listener| listener.accept().await,
        async |(path, _)| {
            unix::ConnectOptions::new()
                .connect_seqpacket(path)
                .await
                .expect("it listens")
        },
        async |client, server| {
            client.send(b"x").await.expect("it is sent");
            let came = server.recv().await.expect("the same one");
            assert_eq!(came.expect("no end"), "x");
        },
    )
    .await;
    accepting(
        "tcp::Listener::accept",
        async || {
            let listener = tcp::bind(":0").await.expect("a port");
            let at = listener.local_addr().expect("bound");
            (listener, at)
        },
        async |listener: &mut tcp::Listener| listener.accept().await,
        async |at| StdTcpStream::connect(at).expect("it listens"),
        async |client, (_, peer)| assert_eq!(client.local_addr().ok(), Some(peer)),
    )
    .await;
    accepting(
        "connect::Listener::accept",
        async || at_path(async |path| address(path).bind().await.expect("bound")).await,
        async |listener: &mut connect::Listener| listener.accept().await.expect("no end"),
        async |(path, _)| StdStream::connect(path).expect("it listens"),
        async |mut client, server| {
            let (_, mut incoming) = server.into_split();
            client.write_all(b"\0\0\0\x01x").expect("it is written");
            let message = incoming.next().await.expect("no end");
            assert_eq!(message.expect("the same one").body(), "x");
        },
    )
    .await;
}
