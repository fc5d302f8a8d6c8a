use std::fmt::Debug;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use aqueduct::codec::Text;
use aqueduct::unix::{self, ConnectOptions};
use aqueduct::{connect, tcp};
use aqueduct_conformance::every_point;
use tokio::io::AsyncReadExt;

use super::{address, place};

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
        async |path: &mut PathBuf| ConnectOptions::new().wait(None).connect(&*path).await,
        async |path| unix::bind(path).expect("bound"),
        async |listener| listener.accept().await.expect("it is there"),
    )
    .await;
    connecting(
        "unix::ConnectOptions::connect_seqpacket",
        async |path: &mut PathBuf| {
            let mut options = ConnectOptions::new();
            options.wait(None).connect_seqpacket(&*path).await
        },
        async |path| {
            unix::BindOptions::new()
                .bind_seqpacket(path)
                .expect("bound")
        },
        async |listener| listener.accept().await.expect("it is there"),
    )
    .await;
    connecting(
        "connect::Options::connect, unix:",
        async |path: &mut PathBuf| address(path).connect().await,
        async |path| address(path).bind().await.expect("bound"),
        accepted,
    )
    .await;
    connecting(
        "Endpoint::connect, unix:",
        async |path: &mut PathBuf| {
            let address = address(path);
            Ok::<_, aqueduct::OpenError>(address.connect().await?.channel::<String, String>(Text))
        },
        async |path| address(path).bind().await.expect("bound"),
        accepted,
    )
    .await;
    // TCP completes a connection without the server: what was begun is closed.
    every_point(
        "tcp::connect",
        async || {
            let listener = tcp::bind(":0").await.expect("a port");
            (listener.local_addr().expect("bound"), listener)
        },
        async |at: &mut SocketAddr| tcp::connect(*at).await,
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

async fn accepted(listener: &mut connect::Listener) -> connect::Connection {
    let accepted = listener.accept().await.expect("no end");
    accepted.expect("it is there")
}

async fn nobody_waits<T>(accept: impl Future<Output = T>) {
    let mut accept = tokio_test::task::spawn(accept);
    for _ in 0..3 {
        assert!(accept.poll().is_pending(), "a connection was left behind");
        tokio::task::yield_now().await;
    }
}
