//! The reconnecting end against servers that come and go, as processes that are killed too.

mod own_ends;

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use aqueduct::codec::Text;
use aqueduct::connect::{Connection, GaveUp, Reconnect, ReconnectEvent};
use aqueduct::frame::{FramedRead, FramedWrite, Framing};
use aqueduct::handshake::{self, Handshake};
use aqueduct::service::{self, CancellationToken};
use aqueduct::{Channel, Receiver, Sender};
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt, stream};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;

use crate::support::{Peer, deadline, is_peer, peer_command};

fn connect(policy: Reconnect, path: PathBuf) -> Connection {
    policy.connect(move || {
        let path = path.clone();
        async move {
            let stream = UnixStream::connect(path).await?;
            Ok(Connection::from_io(stream, Framing::length()))
        }
    })
}

fn quick() -> Reconnect {
    let ms = Duration::from_millis(1);
    Reconnect::new().pauses(ms, 5 * ms)
}

/// Serves on `path` in this process until the token is cancelled.
fn serve_here(path: &Path) -> (CancellationToken, tokio::task::JoinHandle<service::Stats>) {
    let _ = std::fs::remove_file(path);
    let listener = UnixListener::bind(path).unwrap();
    let connections = stream::poll_fn(move |cx| {
        listener
            .poll_accept(cx)
            .map(|conn| Some(conn.map(|(conn, _)| conn)))
    });
    let shutdown = CancellationToken::new();
    let token = shutdown.clone();
    let service = tokio::spawn(async move {
        // The client does not look while its server ends: do not wait long for it.
        let mut options = service::Options::new();
        options.grace(Duration::from_millis(100));
        let served = options.serve(connections, token, |conn, cx| async move {
            let channel: Channel<String, String> =
                cx.channel(Connection::from_io(conn, Framing::length()), Text);
            service::respond(channel, &cx, |request| async { request }).await
        });
        served.await.unwrap()
    });
    (shutdown, service)
}

#[tokio::test]
async fn a_client_goes_on_through_restarts_of_its_server() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("socket");
    let (events, mut lost) = mpsc::unbounded_channel();
    let options = quick().on_event(move |event| {
        if let ReconnectEvent::Lost { .. } = event {
            events.send(()).unwrap();
        }
    });
    let (sink, stream) = connect(options, path.clone()).into_frames();
    let mut sender: Sender<String> = Sender::new(sink, Text);
    let mut receiver: Receiver<String> = Receiver::new(stream, Text);
    for n in 0..10 {
        // Not yet there when the client begins to send.
        let sending = async { sender.send(format!("{n}")).await.unwrap() };
        let receiving = async {
            let reply = receiver.recv().await.unwrap().unwrap();
            assert_eq!(reply, format!("{n}"));
        };
        let starting = async { serve_here(&path) };
        let (_, _, (shutdown, service)) =
            deadline(async { tokio::join!(sending, receiving, starting) }).await;
        shutdown.cancel();
        assert_eq!(deadline(service).await.unwrap().aborted, 0);
        // Before the client knows, a request can be lost, as is promised: a process that another
        // test is starting may hold the server's socket open until it has begun its program.
        tokio::select! {
            item = deadline(receiver.recv()) => panic!("{item:?}"),
            _ = lost.recv() => {}
        }
    }
    sender.close().await.unwrap();
    assert!(deadline(receiver.recv()).await.is_none());
}

/// The server, a process, is killed again and again while numbered frames flow both ways.
#[tokio::test]
async fn killed_servers_tear_and_double_nothing_and_losses_are_known() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("socket");
    let (events, mut lost) = mpsc::unbounded_channel();
    let options = quick().on_event(move |event| {
        if let ReconnectEvent::Lost { at_risk, .. } = event {
            events.send(*at_risk).unwrap();
        }
    });
    let (mut sink, mut stream) = connect(options, path.clone()).into_frames();
    let sending = tokio::spawn(async move {
        let mut sent = 0_u32;
        loop {
            let frame = [sent.to_be_bytes().as_slice(), &[7; 3000]].concat();
            sink.send(Bytes::from(frame)).await.unwrap();
            sent += 1;
            if sent >= 20_000 {
                return (sink, sent);
            }
        }
    });
    let mut received = HashSet::new();
    let mut last = None;
    let mut kills = 0;
    let mut server = start(&path);
    let mut next_kill = 500;
    let (sent, mut sink) = {
        let mut sending = sending;
        loop {
            tokio::select! {
                frame = deadline(stream.next()) => {
                    let frame = frame.unwrap().unwrap();
                    assert_eq!((frame.len(), frame[4], frame[3003]), (3004, 7, 7), "torn");
                    let n = u32::from_be_bytes(frame[..4].try_into().unwrap());
                    assert!(received.insert(n), "{n} came twice");
                    assert!(last < Some(n), "{n} came after {last:?}");
                    last = Some(n);
                }
                done = &mut sending => {
                    let (sink, sent) = done.unwrap();
                    break (sent, sink);
                }
            }
            if received.len() >= next_kill && kills < 10 {
                server.kill();
                kills += 1;
                next_kill = received.len() + 500;
                server = start(&path);
            }
        }
    };
    sink.close().await.unwrap();
    while let Some(frame) = deadline(stream.next()).await {
        let frame = frame.unwrap();
        let n = u32::from_be_bytes(frame[..4].try_into().unwrap());
        assert!(received.insert(n), "{n} came twice");
    }
    drop((sink, stream));
    let mut at_risk = 0;
    while let Some(frames) = lost.recv().await {
        at_risk += frames;
    }
    let missing = u64::from(sent) - received.len() as u64;
    println!("{sent} sent, {missing} lost with {kills} kills, {at_risk} were at risk");
    assert_eq!(kills, 10);
    assert!(missing <= at_risk, "what is lost was at risk");
}

/// Starts the server; it is there when the client can connect.
fn start(path: &Path) -> Peer {
    let mut server = peer_command("reconnect::server");
    server.env("SERVER_PATH", path).stdout(Stdio::null());
    Peer::spawn(&mut server)
}

#[test]
fn server() {
    if !is_peer("reconnect::server") {
        return;
    }
    let path = PathBuf::from(std::env::var_os("SERVER_PATH").unwrap());
    let _ = std::fs::remove_file(&path);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.unwrap().block_on(async {
        let listener = UnixListener::bind(path).unwrap();
        loop {
            let (conn, _) = listener.accept().await.unwrap();
            let (read, write) = conn.into_split();
            let frames = FramedRead::new(read, Framing::length());
            let _ = frames
                .forward(FramedWrite::new(write, Framing::length()))
                .await;
        }
    });
}

#[tokio::test]
async fn a_handshake_that_does_not_match_ends_it_with_that_error() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("socket");
    let listener = UnixListener::bind(&path).unwrap();
    let server = tokio::spawn(async move {
        let (conn, _) = listener.accept().await.unwrap();
        let new = Handshake::new("chat/2");
        new.exchange(Connection::from_io(conn, Framing::length()), "text")
            .await
            .map(drop)
            .unwrap_err()
    });
    let client = Reconnect::new().connect(move || {
        let path = path.clone();
        async move {
            let conn = UnixStream::connect(path).await?;
            let old = Handshake::new("chat/1");
            let connection = Connection::from_io(conn, Framing::length());
            Ok(old.exchange(connection, "text").await?)
        }
    });
    let mut client = client.into_receiver();
    let error = deadline(client.next()).await.unwrap().unwrap_err();
    let gave_up = GaveUp::of(&error).unwrap();
    assert_eq!(gave_up.attempts, 1);
    let mismatch = handshake::Error::of(&gave_up.source).unwrap();
    assert!(
        matches!(mismatch, handshake::Error::Mismatch { .. }),
        "{mismatch}"
    );
    assert!(matches!(
        deadline(server).await.unwrap(),
        handshake::Error::Mismatch { .. }
    ));
}

#[tokio::test]
async fn only_the_errors_that_are_named_are_retried() {
    let mut attempts = 0;
    // By default it is the other way round.
    let options = quick().retry_if(|error| error.kind() == io::ErrorKind::PermissionDenied);
    let client = options.connect(move || {
        attempts += 1;
        let kind = if attempts < 5 {
            io::ErrorKind::PermissionDenied
        } else {
            io::ErrorKind::NotFound
        };
        async move { Err(kind.into()) }
    });
    let mut client = client.into_receiver();
    let error = deadline(client.next()).await.unwrap().unwrap_err();
    let gave_up = GaveUp::of(&error).unwrap();
    assert_eq!(gave_up.attempts, 5);
    assert_eq!(gave_up.source.kind(), io::ErrorKind::NotFound);
}

/// The reply goes with its connection. Waiting for it would take the reply of the next call.
#[tokio::test]
async fn a_call_does_not_wait_for_replies_of_a_lost_connection() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("socket");
    let listener = UnixListener::bind(&path).unwrap();
    let here = connect(quick(), path.clone());
    let mut here = here.channel::<String, String>(Text);
    let accepted = async || {
        let (stream, _) = deadline(listener.accept()).await.unwrap();
        Connection::from_io(stream, Framing::length()).channel::<String, String>(Text)
    };
    let serving = async {
        let mut there = accepted().await;
        assert_eq!(deadline(there.recv()).await.unwrap().unwrap(), "one");
        there
    };
    let there = tokio::select! {
        reply = here.call("one".into()) => panic!("{reply:?}"),
        there = serving => there,
    };
    drop(there);
    let serving = async {
        let mut there = accepted().await;
        while let Some(request) = there.recv().await {
            there.send(request.unwrap().to_uppercase()).await.unwrap();
        }
    };
    let calling = async {
        let reply = deadline(here.call("two".into())).await;
        assert_eq!(reply.unwrap(), "TWO");
        let reply = deadline(here.call("three".into())).await;
        assert_eq!(reply.unwrap(), "THREE");
    };
    tokio::select! {
        () = serving => panic!("it has ended"),
        () = calling => {}
    }
}
