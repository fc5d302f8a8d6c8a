//! A thousand clients at once, a tenth of them hostile. Server and clients are processes of their
//! own: so that the server's memory is its own, and the limit of descriptors is raised for no other
//! test.

use std::io::{self, BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use aqueduct::connect::Connection;
use aqueduct::frame::{FramedRead, FramedWrite, Framing};
use aqueduct::service::{CancellationToken, Options};
use aqueduct::{Channel, codec::Raw, service};
use bytes::Bytes;
use futures_util::future::join_all;
use futures_util::{SinkExt, StreamExt};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpStream, UnixStream};

use super::{Conn, Sockets, until_closed};
use crate::support::{DEADLINE, Peer, deadline, is_peer, peer_command};

const CLIENTS: usize = 1000;
const HOSTILE: usize = 100;
const REQUESTS: usize = 10;
const MAX_FRAME: usize = 16 * 1024;
/// What a connection may cost the server, by the documentation of `serve`, and something for its
/// task and socket.
const PER_CONNECTION: usize = 2 * (2 * MAX_FRAME + 128 * 1024) + 16 * 1024;

/// Memory is bounded.
#[test]
fn a_thousand_clients_are_served_beside_a_hundred_hostile() {
    let mut server = peer_command("serve::many::server");
    server.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut server = Peer::spawn(&mut server);
    let mut said = BufReader::new(server.0.stdout.take().unwrap());
    let mut at = || {
        // The test harness talks as well.
        let mut line = String::new();
        while !line.starts_with("at ") {
            line.clear();
            assert!(said.read_line(&mut line).unwrap() > 0, "the server is gone");
        }
        line[3..].trim().to_owned()
    };
    let (path, address) = (at(), at());

    let mut clients = peer_command("serve::many::clients");
    clients
        .env("SERVER_PATH", path)
        .env("SERVER_ADDRESS", address);
    clients.stdout(Stdio::null());
    let mut clients = Peer::spawn(&mut clients);
    assert!(exit(&mut clients).success(), "all good clients were served");

    drop(server.0.stdin.take());
    let mut report = String::new();
    said.read_to_string(&mut report).unwrap();
    assert!(exit(&mut server).success(), "{report}");
    let report = report.lines().find(|line| line.contains("VmHWM"));
    println!("{}", report.expect("the server reports"));
}

fn exit(peer: &mut Peer) -> std::process::ExitStatus {
    let end = Instant::now() + 2 * DEADLINE;
    loop {
        if let Some(status) = peer.0.try_wait().unwrap() {
            return status;
        }
        assert!(Instant::now() < end, "still running");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn raise_descriptors() {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, hard.min(4096), hard).unwrap();
}

fn runtime() -> tokio::runtime::Runtime {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(2).enable_all().build().unwrap()
}

/// A line of `/proc/self/status`, in KiB.
fn status(key: &str) -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(key)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn server() {
    if !is_peer("serve::many::server") {
        return;
    }
    raise_descriptors();
    let before = status("VmRSS");
    let stats = runtime().block_on(async {
        let (sockets, listener) = Sockets::bind().await;
        println!("\nat {}", sockets.dir.path().join("socket").display());
        println!("at 127.0.0.1:{}", sockets.port);
        let shutdown = CancellationToken::new();
        let mut options = Options::new();
        options
            .max_connections(CLIENTS)
            .first_timeout(Duration::from_secs(20));
        let service = options.serve(listener, shutdown.clone(), |conn, cx| async move {
            let framing = Framing::length().max_frame(MAX_FRAME);
            let channel: Channel<Bytes, Bytes> =
                cx.channel(Connection::from_io(conn, framing), Raw);
            service::respond(channel, &cx, |request| async { request }).await
        });
        let service = tokio::spawn(service);
        // The other process closes it when its clients are done.
        let told = tokio::task::spawn_blocking(|| io::stdin().read_to_end(&mut Vec::new()));
        told.await.unwrap().unwrap();
        shutdown.cancel();
        service.await.unwrap().unwrap()
    });
    let peak = status("VmHWM");
    let bound = CLIENTS * PER_CONNECTION / 1024;
    println!("VmHWM {peak} KiB, {before} before; bound {bound} more; {stats:?}");
    assert!(peak - before <= bound, "{peak} KiB");
    assert_eq!(stats.accepted, CLIENTS as u64);
    // Some of the hostile ones are cut at once.
    assert!(stats.most_at_once >= (CLIENTS - HOSTILE) as u64);
    assert_eq!(stats.panicked, 0);
}

#[test]
fn clients() {
    if !is_peer("serve::many::clients") {
        return;
    }
    raise_descriptors();
    let path = std::env::var("SERVER_PATH").unwrap();
    let address = std::env::var("SERVER_ADDRESS").unwrap().parse().unwrap();
    runtime().block_on(async {
        let start = Instant::now();
        let mut hostile = Vec::new();
        for n in 0..HOSTILE {
            let conn = connect(n, path.as_ref(), address).await;
            hostile.push(tokio::spawn(harm(n / 2, conn)));
        }
        // All are connected before any is served and gone.
        let mut good = Vec::new();
        for n in HOSTILE..CLIENTS {
            good.push(connect(n, path.as_ref(), address).await);
        }
        deadline(join_all(good.into_iter().map(use_service))).await;
        eprintln!("served in {:?}", start.elapsed());
        for one in hostile {
            one.abort();
        }
    });
}

async fn connect(n: usize, path: &Path, address: SocketAddr) -> Conn {
    if !n.is_multiple_of(2) {
        return Box::new(TcpStream::connect(address).await.unwrap());
    }
    loop {
        match UnixStream::connect(path).await {
            Ok(conn) => return Box::new(conn),
            // The backlog is full.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            Err(error) => panic!("{error}"),
        }
    }
}

/// Requests of all sizes up to the largest, each checked.
async fn use_service(conn: Conn) {
    let (read, write) = tokio::io::split(conn);
    let mut requests = FramedWrite::new(write, Framing::length());
    let mut replies = FramedRead::new(read, Framing::length());
    for n in 1..=REQUESTS {
        let request = Bytes::from(vec![n as u8; MAX_FRAME * n / REQUESTS]);
        requests.send(request.clone()).await.unwrap();
        assert_eq!(replies.next().await.unwrap().unwrap(), request);
    }
    requests.close().await.unwrap();
    assert!(replies.next().await.is_none());
}

/// One of the ways to do harm.
async fn harm(kind: usize, mut conn: Conn) {
    match kind % 5 {
        // Says nothing.
        0 => until_closed(conn).await,
        // Says little: a byte of a small message at a time.
        1 => {
            let message = [0, 0, 1, 0].into_iter().chain(std::iter::repeat(b'x'));
            for byte in message {
                if conn.write_all(&[byte]).await.is_err() {
                    break;
                }
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
        // Announces the largest frame there is, and begins to send it.
        2 => {
            conn.write_all(&u32::MAX.to_be_bytes()).await.unwrap();
            let flood = vec![0; 1 << 20];
            while conn.write_all(&flood).await.is_ok() {}
        }
        // Begins the largest frame that is allowed and stops one byte before its end.
        3 => {
            let mut frame = (MAX_FRAME as u32).to_be_bytes().to_vec();
            frame.resize(4 + MAX_FRAME - 1, b'x');
            conn.write_all(&frame).await.unwrap();
            until_closed(conn).await;
        }
        // Asks without end and never reads.
        _ => {
            let mut request = (MAX_FRAME as u32).to_be_bytes().to_vec();
            request.resize(4 + MAX_FRAME, b'x');
            while conn.write_all(&request).await.is_ok() {}
        }
    }
}
