//! Frames that are written and read where they lie.

use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

use aqueduct::Endpoint;
use aqueduct::bytes::Bytes;
use aqueduct::connect::{Connection, Listener};
use aqueduct::frame::{FrameError, Framing};
use aqueduct::shm::{self, PeerError, Receiver, Reserved, Sender};
use futures_util::{SinkExt, StreamExt};
use tokio_test::{assert_pending, assert_ready, task};

use super::raw::{DATA, FIN, HEAD, Raw};
use super::{accept, pair, place, serves};
use crate::support::{Peer, deadline, is_peer, peer_command, woken};

pub(super) fn lending(connection: Connection) -> (Sender, Receiver) {
    shm::into_split(connection).expect("a connection of shm:")
}

fn body(n: usize, size: usize) -> Vec<u8> {
    (0..size).map(|i| (i * 31 + n) as u8).collect()
}

/// Fills room from the front.
fn fill(mut room: Reserved<'_>, bytes: &[u8]) -> io::Result<()> {
    room.write_all(bytes)?;
    let len = room.written();
    room.publish(len)
}

pub(super) async fn send(sender: &mut Sender, bytes: &[u8]) -> io::Result<()> {
    fill(sender.reserve(bytes.len()).await?, bytes)
}

/// The next message, by each way to read it.
async fn receive(receiver: &mut Receiver) -> Option<io::Result<Vec<u8>>> {
    let lent = match receiver.lend().await? {
        Ok(lent) => lent,
        Err(error) => return Some(Err(error)),
    };
    let mut copy = vec![0; lent.len()];
    lent.copy_to(0, &mut copy);
    for at in (0..copy.len()).step_by(997) {
        assert_eq!(lent.get(at), Some(copy[at]));
        let mut rest = vec![0; (copy.len() - at).min(100)];
        lent.copy_to(at, &mut rest);
        assert_eq!(rest, copy[at..at + rest.len()]);
    }
    assert_eq!(
        (lent.get(copy.len()), lent.is_empty()),
        (None, copy.is_empty())
    );
    #[allow(unsafe_code)]
    // SAFETY: the peer is this test, which writes no message twice.
    let (first, second) = unsafe { lent.as_slices() };
    assert_eq!([first, second].concat(), copy);
    Some(Ok(copy))
}

const SIZES: [usize; 9] = [0, 1, 1000, 4092, 3000, 60_000, 65_532, 1 << 20, 65_533];

#[tokio::test]
async fn lending_ends_speak_with_ordinary_and_lending_peers() {
    for options in ["?capacity=4KiB", "?capacity=64KiB", "?capacity=4MiB"] {
        for (sends, receives) in [(true, true), (true, false), (false, true)] {
            let (_dir, _, address) = place(options);
            let (client, server, _listener) = pair(&address).await;
            let most = match options {
                "?capacity=4KiB" => 4092,
                "?capacity=64KiB" => 65_532,
                _ => 1 << 20,
            };
            // Only ordinary ends send what the ring does not hold.
            let sizes = SIZES.into_iter().filter(|it| !sends || *it <= most);
            let messages: Vec<_> = sizes.cycle().take(40).enumerate().collect();
            let sending = async {
                if sends {
                    let (mut sender, _receiver) = lending(client);
                    for (n, size) in &messages {
                        send(&mut sender, &body(*n, *size)).await.expect("sent");
                    }
                } else {
                    let (mut sink, _stream) = client.into_frames();
                    for (n, size) in &messages {
                        sink.send(body(*n, *size).into()).await.expect("sent");
                    }
                    sink.close().await.expect("closed");
                }
            };
            let receiving = async {
                if receives {
                    let (_sender, mut receiver) = lending(server);
                    for (n, size) in &messages {
                        let got = receive(&mut receiver).await.expect("a message");
                        assert!(got.expect("whole") == body(*n, *size), "{n}: {size}");
                    }
                    assert!(receiver.lend().await.is_none());
                    assert!(receiver.lend().await.is_none());
                } else {
                    let (_sink, mut stream) = server.into_frames();
                    for (n, size) in &messages {
                        let got = stream.next().await.expect("a message").expect("whole");
                        assert!(got == body(*n, *size), "{n}: {size}");
                    }
                    assert!(stream.next().await.is_none());
                }
            };
            deadline(async { tokio::join!(sending, receiving) }).await;
        }
    }
}

#[tokio::test]
async fn a_frame_over_a_limit_is_refused_and_the_sender_goes_on() {
    let (_dir, _, address) = place("?capacity=64KiB");
    let (client, server, _listener) = pair(&address).await;
    let ((mut sender, _r), (_s, mut receiver)) = (lending(client), lending(server));
    let hello = async { tokio::join!(sender.reserve(65_533), receiver.lend()) };
    // The server says its hello once it is read from, so the client knows the ring.
    let mut hello = task::spawn(hello);
    assert_pending!(hello.poll());
    drop(hello);
    for (len, max) in [(65_533, 65_532), ((1 << 20) + 1, 1 << 20)] {
        let error = deadline(sender.reserve(len)).await.expect_err("too large");
        assert_eq!(
            FrameError::of(&error),
            Some(&FrameError::TooLarge { len, max })
        );
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }
    let room = deadline(sender.reserve(5)).await.expect("room");
    let error = room.publish(6).expect_err("too much");
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    send(&mut sender, b"on").await.expect("sent");
    let got = deadline(receive(&mut receiver)).await.expect("a message");
    assert_eq!(got.expect("whole"), b"on");
}

#[tokio::test]
async fn a_dropped_reservation_or_future_sends_and_loses_nothing() {
    let (_dir, _, address) = place("?capacity=4KiB");
    let (client, server, _listener) = pair(&address).await;
    let ((mut sender, _r), (_s, mut receiver)) = (lending(client), lending(server));
    for _ in 0..3 {
        let mut room = sender.reserve(100).await.expect("room");
        room.write_all(b"not sent").expect("it fits");
        drop(room);
        let mut lend = task::spawn(receiver.lend());
        assert_pending!(lend.poll());
    }
    send(&mut sender, &body(1, 3000)).await.expect("sent");
    for _ in 0..3 {
        let mut reserve = task::spawn(sender.reserve(2000));
        assert_pending!(reserve.poll());
    }
    // A message that was lent and leaked is not lost.
    std::mem::forget(
        deadline(receiver.lend())
            .await
            .expect("a message")
            .expect("whole"),
    );
    let got = deadline(receive(&mut receiver)).await.expect("a message");
    assert_eq!(got.expect("whole"), body(1, 3000));
    deadline(send(&mut sender, b"next")).await.expect("sent");
    let got = deadline(receive(&mut receiver)).await.expect("a message");
    assert_eq!(got.expect("whole"), b"next");
}

#[tokio::test]
async fn a_lent_frame_holds_its_room_until_it_is_dropped() {
    let (_dir, _, address) = place("?capacity=4KiB");
    let (client, server, _listener) = pair(&address).await;
    let ((mut sender, _r), (_s, mut receiver)) = (lending(client), lending(server));
    send(&mut sender, &body(1, 3000)).await.expect("sent");
    let lent = deadline(receiver.lend())
        .await
        .expect("a message")
        .expect("whole");
    let mut reserve = task::spawn(sender.reserve(2000));
    for _ in 0..3 {
        assert_pending!(reserve.poll());
        tokio::task::yield_now().await;
    }
    let mut copy = vec![0; 3000];
    lent.copy_to(0, &mut copy);
    assert_eq!(copy, body(1, 3000));
    // Nothing else asks for the next message: the writer is woken by the drop.
    drop(lent);
    fill(deadline(&mut reserve).await.expect("room"), b"more").expect("sent");
    drop(reserve);
    let got = deadline(receive(&mut receiver)).await.expect("a message");
    assert_eq!(got.expect("whole"), b"more");
}

#[tokio::test]
async fn an_empty_ring_grows_at_once_for_a_reservation() {
    let (_dir, _, address) = place("?capacity=4MiB");
    let (client, server, _listener) = pair(&address).await;
    let ((mut sender, _r), (_s, mut receiver)) = (lending(client), lending(server));
    let mut lend = task::spawn(receiver.lend());
    assert_pending!(lend.poll());
    // No bell rings for a ring that was empty all the time.
    let mut reserve = task::spawn(sender.reserve(1 << 20));
    let room = assert_ready!(reserve.poll()).expect("room");
    fill(room, &body(1, 1 << 20)).expect("sent");
    woken(&lend).await;
    let lent = deadline(lend).await.expect("a message").expect("whole");
    assert_eq!(
        (lent.len(), lent.get(100_000)),
        (1 << 20, Some(body(1, 100_001)[100_000]))
    );
}

#[tokio::test]
async fn a_lending_end_that_closes_leaves_the_other_direction() {
    let (_dir, _, address) = place("");
    let (client, server, _listener) = pair(&address).await;
    let (mut sender, mut back) = lending(client);
    let (mut answers, mut receiver) = lending(server);
    send(&mut sender, b"last").await.expect("sent");
    drop(sender);
    let got = deadline(receive(&mut receiver)).await.expect("a message");
    assert_eq!(got.expect("whole"), b"last");
    assert!(deadline(receiver.lend()).await.is_none());
    deadline(send(&mut answers, b"answer")).await.expect("sent");
    let got = deadline(receive(&mut back)).await.expect("a message");
    assert_eq!(got.expect("whole"), b"answer");
}

#[tokio::test]
async fn only_length_frames_over_shared_memory_are_lent() {
    let (_dir, _, address) = place("?frame=lines");
    let (client, _server, _listener) = pair(&address).await;
    let client = shm::into_split(client).expect_err("lines");
    assert!(client.into_bytes().is_ok());
    let (a, _b) = Connection::pair();
    assert!(shm::into_split(a).is_err());
    let (a, _b) = tokio::io::duplex(100);
    let other = Connection::from_io(a, Framing::length());
    assert!(shm::into_split(other).is_err());
}

/// A message of a hand-written peer, of which `len` is said and `bytes` come.
fn write(raw: &Raw, len: u32, bytes: &[u8]) -> u64 {
    let frame = [&len.to_be_bytes()[..], bytes].concat();
    raw.memory.write_all_at(&frame, DATA).expect("written");
    frame.len() as u64
}

#[tokio::test]
async fn each_lie_to_a_lending_end_is_a_typed_error() {
    type Lie = (&'static str, fn(&Raw));
    let lies: [Lie; 6] = [
        ("index", |raw| raw.write(HEAD, 65_537)),
        ("index", |raw| raw.write(HEAD, u64::MAX)),
        ("large", |raw| {
            let n = write(raw, u32::MAX, b"x");
            raw.write(HEAD, n);
        }),
        ("truncated", |raw| {
            let n = write(raw, 6, b"xxx");
            raw.write(HEAD, n);
            raw.write(FIN, 1);
        }),
        ("truncated", |raw| {
            raw.write(HEAD, 3);
            raw.write(FIN, 1);
        }),
        ("truncated", |raw| {
            // More than the ring holds, of which nothing comes.
            let n = write(raw, 100_000, b"xxx");
            raw.write(HEAD, n);
            raw.write(FIN, 1);
        }),
    ];
    for (name, lie) in lies {
        let (_dir, path, address) = place("");
        let (mut listener, raw, (_sender, mut receiver)) = raw_client(&path, &address).await;
        let mut lend = task::spawn(receiver.lend());
        assert_pending!(lend.poll());
        lie(&raw);
        let error = deadline(lend).await.expect("no end").expect_err(name);
        match name {
            "index" => assert_eq!(PeerError::of(&error), Some(&PeerError::Index)),
            "large" => {
                assert_eq!(error.kind(), io::ErrorKind::InvalidData);
                let of = FrameError::of(&error);
                assert!(matches!(of, Some(FrameError::TooLarge { .. })), "{error}");
            }
            _ => {
                assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
                let of = FrameError::of(&error);
                assert!(matches!(of, Some(FrameError::Truncated { .. })), "{error}");
            }
        }
        assert!(deadline(receiver.lend()).await.is_none());
        serves(&address, &mut listener).await;
    }
}

#[tokio::test]
async fn a_frame_that_changes_while_lent_keeps_its_length() {
    let (_dir, path, address) = place("");
    let (_listener, raw, (_sender, mut receiver)) = raw_client(&path, &address).await;
    let n = write(&raw, 3, b"abc");
    raw.write(HEAD, n);
    let lent = deadline(receiver.lend())
        .await
        .expect("a frame")
        .expect("whole");
    assert_eq!((lent.len(), lent.get(2)), (3, Some(b'c')));
    let longer = write(&raw, 50_000, b"xyz");
    raw.write(HEAD, longer + 50_000);
    assert_eq!(
        (lent.len(), lent.get(2), lent.get(3)),
        (3, Some(b'z'), None)
    );
    drop(lent);
    // What follows is a frame of its own: zeros are empty ones.
    let next = deadline(receiver.lend())
        .await
        .expect("a frame")
        .expect("whole");
    assert!(next.is_empty());
}

/// A client made by hand, and the server's ends.
pub(super) async fn raw_client(
    path: &Path,
    address: &Endpoint,
) -> (Listener, Raw, (Sender, Receiver)) {
    let mut listener = address.bind().await.expect("it is bound");
    let raw = Raw::connect(path);
    let ends = lending(accept(&mut listener).await);
    (listener, raw, ends)
}

const ADDRESS: &str = "AQUEDUCT_TEST_ADDRESS";

/// Starts a process in this role, which connects, and accepts it.
pub(super) async fn peer(role: &str, address: &Endpoint) -> (Peer, (Sender, Receiver)) {
    let mut listener = address.bind().await.expect("it is bound");
    let mut command = peer_command(role);
    command.env(ADDRESS, address.to_string());
    let peer = Peer::spawn(&mut command);
    (peer, lending(accept(&mut listener).await))
}

/// What such a process does with its ends.
pub(super) fn as_peer(role: &str, run: impl AsyncFnOnce(Sender, Receiver)) {
    if !is_peer(role) {
        return;
    }
    crate::actor::runtime().block_on(async {
        let address = std::env::var(ADDRESS).expect("told");
        let address: Endpoint = address.parse().expect("an address");
        let (sender, receiver) = lending(address.connect().await.expect("it connects"));
        run(sender, receiver).await;
    });
}

/// Publishes two messages and is killed with room reserved and half of it written.
#[test]
fn role_reserves() {
    as_peer("shm::lend::role_reserves", async |mut sender, mut told| {
        send(&mut sender, &body(1, 1000)).await.expect("sent");
        send(&mut sender, &body(2, 40_000)).await.expect("sent");
        let mut room = sender.reserve(20_000).await.expect("room");
        room.as_mut_slices().0.fill(7);
        let _ = told.lend().await;
        room.publish(0).expect("it is not reached");
    });
}

#[tokio::test]
async fn a_peer_killed_during_a_reservation_sends_nothing_of_it() {
    let (_dir, _, address) = place("");
    let (mut peer, (mut sender, mut receiver)) = peer("shm::lend::role_reserves", &address).await;
    let got = deadline(receive(&mut receiver)).await.expect("a message");
    assert_eq!(got.expect("whole"), body(1, 1000));
    let lent = deadline(receiver.lend())
        .await
        .expect("a message")
        .expect("whole");
    peer.kill();
    // What was lent is still there.
    let mut copy = vec![0; 40_000];
    lent.copy_to(0, &mut copy);
    assert!(copy == body(2, 40_000));
    drop(lent);
    assert!(deadline(receiver.lend()).await.is_none());
    let error = loop {
        match deadline(sender.reserve(30_000)).await {
            Ok(room) => match room.publish(30_000) {
                Ok(()) => {}
                Err(error) => break error,
            },
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
}

/// Holds a message until it is killed.
#[test]
fn role_holds() {
    as_peer("shm::lend::role_holds", async |mut sender, mut receiver| {
        let lent = receiver.lend().await.expect("a message").expect("whole");
        send(&mut sender, b"held").await.expect("sent");
        std::future::pending::<()>().await;
        drop(lent);
    });
}

#[tokio::test]
async fn a_peer_killed_with_a_lent_frame_frees_the_writer() {
    let (_dir, _, address) = place("?capacity=4KiB");
    let (mut peer, (mut sender, mut receiver)) = peer("shm::lend::role_holds", &address).await;
    deadline(send(&mut sender, &body(1, 3000)))
        .await
        .expect("sent");
    let got = deadline(receive(&mut receiver)).await.expect("a message");
    assert_eq!(got.expect("whole"), b"held");
    let mut reserve = task::spawn(sender.reserve(2000));
    assert_pending!(reserve.poll());
    peer.kill();
    let error = deadline(&mut reserve).await.expect_err("it has gone");
    assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
}

/// A client reserves in its first ring, sends and exits before the server has accepted it.
#[tokio::test]
async fn what_was_published_before_the_hello_arrives() {
    let (_dir, _, address) = place("");
    let mut listener = address.bind().await.expect("it is bound");
    let (mut sender, receiver) = lending(address.connect().await.expect("it connects"));
    let mut early = task::spawn(send(&mut sender, b"early"));
    assert_ready!(early.poll()).expect("sent");
    drop(early);
    drop((sender, receiver));
    let (_sender, mut receiver) = lending(accept(&mut listener).await);
    let got = deadline(receive(&mut receiver)).await.expect("a message");
    assert_eq!(got.expect("whole"), b"early");
    assert!(deadline(receiver.lend()).await.is_none());
}

/// A reader that sleeps between the server's hello and the client's look at it is woken.
#[tokio::test]
async fn a_frame_published_before_the_hello_wakes_the_server() {
    let (_dir, _, address) = place("");
    let mut listener = address.bind().await.expect("it is bound");
    let (mut sender, _receiver) = lending(address.connect().await.expect("it connects"));
    let (_sender, mut receiver) = lending(accept(&mut listener).await);
    let mut lend = task::spawn(receiver.lend());
    // It says its hello, looks a few times, and sleeps.
    assert_pending!(lend.poll());
    for _ in 0..20 {
        tokio::task::yield_now().await;
        if lend.is_woken() {
            assert_pending!(lend.poll());
        }
    }
    send(&mut sender, b"now").await.expect("sent");
    woken(&lend).await;
    let lent = deadline(lend).await.expect("a message").expect("whole");
    assert_eq!(lent.len(), 3);
}

#[tokio::test]
async fn frames_of_both_kinds_alternate_with_echoes() {
    let (_dir, _, address) = place("?capacity=64KiB");
    let (client, server, _listener) = pair(&address).await;
    let (mut sender, mut receiver) = lending(client);
    let (mut sink, mut stream) = server.into_frames();
    let echo = async {
        while let Some(frame) = stream.next().await {
            let frame: Bytes = frame.expect("whole");
            sink.send(frame).await.expect("sent");
        }
    };
    let ask = async {
        for (n, size) in SIZES.into_iter().filter(|it| *it <= 65_532).enumerate() {
            send(&mut sender, &body(n, size)).await.expect("sent");
            let got = receive(&mut receiver).await.expect("a message");
            assert!(got.expect("whole") == body(n, size));
        }
        drop(sender);
    };
    deadline(async { tokio::join!(echo, ask) }).await;
}
