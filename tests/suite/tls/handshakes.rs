//! Handshakes that never finish, and those that stopping interrupts.

use std::time::Duration;

use aqueduct::connect::Listener;
use futures_util::{SinkExt, StreamExt};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::files::Authority;
use super::{bound, first, greeting, options, port, to};
use crate::support::{Log, alone, deadline};

/// As in `tls/accept.rs`.
const PLACES: usize = 512;

async fn raw(port: u16) -> TcpStream {
    let connecting = TcpStream::connect(("127.0.0.1", port));
    deadline(connecting).await.expect("connected")
}

/// The first bytes of a record with a hello.
async fn begun(port: u16) -> TcpStream {
    let mut stream = raw(port).await;
    stream.write_all(&[22, 3, 1]).await.expect("written");
    stream
}

#[tokio::test]
async fn stopping_waits_for_no_silent_client() {
    let (log, _recording) = Log::start();
    let authority = Authority::with_both();
    let listener = bound(&authority, "").await;
    let at = port(&listener);
    let address = to(&listener, "localhost", &authority.trusting());
    let mut receiver = listener.into_receiver();
    let connecting = options();
    // One that is accepted, one whose handshake the server has not finished, and two that have sent
    // nothing: one in its handshake, one not accepted yet.
    let (sending, got) = deadline(async {
        tokio::join!(
            async {
                let client = connecting.connect(&address).await.expect("connected");
                let mut sink = client.into_sender();
                sink.send("one".into()).await.expect("sent");
                sink
            },
            receiver.next()
        )
    })
    .await;
    assert_eq!(got.expect("one").expect("received").body(), "one");
    let mut silent = raw(at).await;
    let client = deadline(async {
        tokio::select! {
            biased;
            client = connecting.connect(&address) => client,
            _ = receiver.next() => panic!("nothing was sent"),
        }
    });
    let mut late = client.await.expect("connected").into_sender();
    late.send("two".into()).await.expect("sent");
    let mut waiting = raw(at).await;
    receiver.stop();
    let clients = async {
        for silent in [&mut silent, &mut waiting] {
            assert!(!matches!(silent.read(&mut [0]).await, Ok(1..)));
        }
        drop((sending, late));
    };
    let rest = async {
        let mut rest = Vec::new();
        while let Some(message) = receiver.next().await {
            rest.push(message.expect("received").into_body());
        }
        rest
    };
    let ((), rest) = deadline(async { tokio::join!(clients, rest) }).await;
    assert_eq!(rest, ["two"]);
    let log = log.text();
    let count = log.matches("disconnected a silent client").count();
    assert_eq!(count, 2, "{log}");
}

#[tokio::test]
async fn a_stopped_service_keeps_its_clients_and_drops_handshakes() {
    let authority = Authority::with_both();
    let mut listener = bound(&authority, "").await;
    let at = port(&listener);
    let address = to(&listener, "localhost", &authority.trusting());
    let mut begun = begun(at).await;
    let connecting = options();
    let (client, server) =
        deadline(async { tokio::join!(connecting.connect(&address), listener.accept()) }).await;
    drop(listener);
    // The client that was in its handshake is told at once.
    assert!(!matches!(deadline(begun.read(&mut [0])).await, Ok(1..)));
    assert!(TcpStream::connect(("127.0.0.1", at)).await.is_err());
    let mut client = client.expect("connected").into_sender();
    client.send("kept".into()).await.expect("sent");
    let kept = first(server.expect("one").expect("accepted")).await;
    assert_eq!(kept.expect("received"), "kept");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_goes_silent_is_disconnected_after_10_s() {
    let (log, _recording) = Log::start();
    let authority = Authority::with_both();
    let listener = bound(&authority, "").await;
    let at = port(&listener);
    let serving = greeting(listener);
    let mut silent = TcpStream::connect(("127.0.0.1", at))
        .await
        .expect("connected");
    silent.write_all(&[22, 3, 1]).await.expect("written");
    assert!(!matches!(silent.read(&mut [0]).await, Ok(1..)));
    let log = log.text();
    let words = "the client did not finish the TLS handshake within 10s";
    assert!(log.contains(words), "{log}");
    serving.abort();
}

fn open_files() -> usize {
    std::fs::read_dir("/proc/self/fd").expect("/proc").count()
}

fn resident_kib() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("/proc");
    let line = status.lines().find(|it| it.starts_with("VmRSS"));
    let number = line.and_then(|it| it.split_whitespace().nth(1));
    number.expect("a number").parse().expect("a number")
}

async fn open_files_become(expected: usize, listener: &mut Listener) {
    let settled = async {
        while open_files() != expected {
            // No client finishes its handshake.
            assert!(futures_util::poll!(Box::pin(listener.accept())).is_pending());
            tokio::task::yield_now().await;
        }
    };
    let settled = tokio::time::timeout(Duration::from_secs(30), settled).await;
    settled.unwrap_or_else(|_| panic!("{} open files, not {expected}", open_files()));
}

#[test]
fn unfinished_handshakes_are_bounded_and_keep_nobody_out() {
    alone(
        "tls::handshakes::unfinished_handshakes_are_bounded_and_keep_nobody_out",
        || {
            let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("limits");
            setrlimit(Resource::RLIMIT_NOFILE, hard.min(soft.max(4096)), hard).expect("raised");
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime");
            runtime.block_on(flooded());
        },
    );
}

async fn flooded() {
    const CLIENTS: usize = PLACES + 40;
    let (log, _recording) = Log::start();
    let authority = Authority::with_both();
    let mut listener = bound(&authority, "").await;
    let at = port(&listener);
    let address = to(&listener, "localhost", &authority.trusting());
    let connecting = options();
    let before = open_files();
    let mut memory = Vec::new();
    for _ in 0..4 {
        let mut clients = Vec::new();
        for _ in 0..CLIENTS {
            clients.push(raw(at).await);
        }
        // All places are taken by clients that say nothing, and another is served.
        let (client, server) =
            deadline(async { tokio::join!(connecting.connect(&address), listener.accept()) }).await;
        drop(client.expect("connected"));
        drop(server.expect("one").expect("accepted"));
        drop(clients);
        open_files_become(before, &mut listener).await;
        memory.push(resident_kib());
    }
    let log = log.text();
    assert!(log.contains("and all 512 places for handshakes were taken"));
    // The first floods fill the allocator's lists.
    assert!(memory[3] < memory[1] + 4096, "{memory:?} KiB");
    // Those that have begun keep their places for a while, and no more are accepted.
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        clients.push(begun(at).await);
    }
    let bound = before + CLIENTS + PLACES + 1;
    let mut most = 0;
    for _ in 0..100 {
        assert!(futures_util::poll!(Box::pin(listener.accept())).is_pending());
        tokio::task::yield_now().await;
        most = most.max(open_files());
    }
    // On a slow machine the second half has left by then.
    assert!((bound - PLACES / 2..=bound).contains(&most), "{most}");
}
