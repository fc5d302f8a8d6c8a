//! Peers that say a good hello and lie afterwards.

use std::io;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use aqueduct::bytes::Bytes;
use aqueduct::shm::PeerError;
use futures_util::{SinkExt, StreamExt};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use tokio_test::task;

use super::raw::{DATA, DATA_EPOCH, FIN, HEAD, ROOM_EPOCH, Raw, SIZE, TAIL, get};
use super::{accept, place, refusal, serves};
use crate::support::deadline;

#[tokio::test]
async fn each_lie_about_a_ring_is_a_typed_error() {
    type Lie = (&'static str, fn(&Raw));
    let lies: [Lie; 9] = [
        ("more than the ring holds", |it| it.write(HEAD, 65_537)),
        ("far beyond", |it| it.write(HEAD, u64::MAX)),
        ("a ring of no bytes", |it| it.write(SIZE, 0)),
        ("a tiny ring", |it| it.write(SIZE, 2048)),
        ("no power of two", |it| it.write(SIZE, 5000)),
        ("a ring beyond the memory", |it| it.write(SIZE, 1 << 17)),
        ("a ring beyond all memory", |it| it.write(SIZE, 1 << 63)),
        ("the end of an impossible ring", |it| {
            it.write(HEAD, 1 << 40);
            it.write(FIN, 1);
        }),
        ("backwards", |it| {
            it.write(HEAD, 3);
            it.write(HEAD, 2);
        }),
    ];
    for (name, lie) in lies {
        let (_dir, path, address) = place("");
        let mut listener = address.bind().await.expect("it is bound");
        let raw = Raw::connect(&path);
        let server = accept(&mut listener).await;
        if name == "backwards" {
            let mut stream = server.into_receiver();
            raw.write(HEAD, 3);
            let mut next = task::spawn(async move { stream.next().await });
            assert!(next.poll().is_pending());
            raw.write(HEAD, 2);
            let error = deadline(next).await.expect("no end").expect_err("an error");
            assert_eq!(PeerError::of(&error), Some(&PeerError::Index), "{name}");
        } else {
            lie(&raw);
            assert_eq!(refusal(server).await, PeerError::Index, "{name}");
        }
        // The other side is told: its socket has ended.
        use std::io::Read;
        let mut rest = Vec::new();
        let _ = (&raw.socket).read_to_end(&mut rest);
        serves(&address, &mut listener).await;
    }
}

/// Writes until there is no room.
async fn fill(sink: &mut (impl futures_util::Sink<Bytes, Error = io::Error> + Unpin)) {
    loop {
        let mut send = task::spawn(sink.send(Bytes::from(vec![7; 1000])));
        match send.poll() {
            std::task::Poll::Ready(sent) => sent.expect("it is sent"),
            std::task::Poll::Pending => break,
        }
        drop(send);
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn each_lie_about_what_was_read_is_a_typed_error() {
    for (before, then) in [(0, 1 << 20), (0, u64::MAX), (1000, 999), (1000, 1 << 30)] {
        let (_dir, path, address) = place("");
        let mut listener = address.bind().await.expect("it is bound");
        let mut raw = Raw::connect(&path);
        let (mut sink, stream) = accept(&mut listener).await.into_frames();
        fill(&mut sink).await;
        let head = get(raw.receive().await.0, HEAD);
        assert_eq!(head, 65_536);
        raw.write(TAIL, before);
        let mut send = task::spawn(sink.send(Bytes::from(vec![7; 5000])));
        assert!(send.poll().is_pending());
        raw.write(TAIL, then);
        let error = deadline(send).await.expect_err("a lie");
        assert_eq!(PeerError::of(&error), Some(&PeerError::Index), "{then}");
        drop(stream);
        serves(&address, &mut listener).await;
    }
}

/// It changes all of its words without pause, for a moment; `AQUEDUCT_TEST_SCRIBBLE` is for how many
/// seconds.
#[tokio::test]
async fn a_peer_that_scribbles_gets_an_error_and_harms_nobody() {
    let seconds = std::env::var("AQUEDUCT_TEST_SCRIBBLE")
        .ok()
        .and_then(|it| it.parse().ok());
    let limit = Duration::from_secs_f64(seconds.unwrap_or(0.5));
    let (_dir, path, address) = place("?capacity=64KiB");
    let mut listener = address.bind().await.expect("it is bound");
    let began = Instant::now();
    let (mut connections, mut errors, mut ends, mut messages) = (0, 0, 0, 0_u64);
    while began.elapsed() < limit {
        connections += 1;
        let raw = Raw::connect(&path);
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let seed = connections;
        let scribbler = std::thread::spawn(move || scribble(raw, seed, &stopped));
        let (mut sink, mut stream) = accept(&mut listener).await.into_frames();
        let sending = async {
            loop {
                if let Err(error) = sink.send(Bytes::from(vec![9; 3000])).await {
                    return error;
                }
            }
        };
        let receiving = async {
            while let Some(next) = stream.next().await {
                match next {
                    Ok(frame) => {
                        assert!(frame.len() <= 1 << 20);
                        messages += 1;
                    }
                    Err(error) => return Some(error),
                }
            }
            None
        };
        tokio::select! {
            error = sending => {
                let typed = PeerError::of(&error).is_some();
                assert!(typed || error.kind() == io::ErrorKind::BrokenPipe, "{error:?}");
                errors += 1;
            }
            end = receiving => match end {
                Some(_) => errors += 1,
                None => ends += 1,
            },
            () = tokio::time::sleep(Duration::from_millis(200)) => {}
        }
        drop((sink, stream));
        stop.store(true, Ordering::Relaxed);
        scribbler.join().expect("it ends");
    }
    println!("{connections} connections: {errors} errors, {ends} ends, {messages} messages");
    assert!(errors > 0);
    serves(&address, &mut listener).await;
}

fn scribble(raw: Raw, seed: u64, stop: &AtomicBool) {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut random = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let (mut head, mut tail, mut epoch) = (0_u64, 0_u64, 0_u64);
    // Mostly plausible, so that it gets far.
    let honesty = 1 << (seed % 12);
    while !stop.load(Ordering::Relaxed) {
        let lies = random() % honesty == 0;
        let step = random() % 5000;
        match random() % 7 {
            0 | 1 => {
                head = if lies {
                    random()
                } else {
                    head.wrapping_add(step)
                };
                super::raw::set(&raw.memory, HEAD, head);
            }
            2 => {
                tail = if lies {
                    random()
                } else {
                    tail.wrapping_add(step)
                };
                super::raw::set(&raw.memory, TAIL, tail);
            }
            3 => {
                epoch = if lies { random() } else { epoch + 1 };
                super::raw::set(&raw.memory, DATA_EPOCH, epoch);
                super::raw::set(&raw.memory, ROOM_EPOCH, epoch);
            }
            4 if lies => {
                let size = 1_u64.checked_shl((random() % 70) as u32).unwrap_or(3);
                super::raw::set(&raw.memory, SIZE, size);
            }
            5 => {
                use std::os::unix::fs::FileExt;
                let at = DATA + random() % 65_000;
                let _ = raw.memory.write_all_at(&(step as u32).to_be_bytes(), at);
            }
            _ => raw.ring(),
        }
    }
}

/// A peer whose bell rings without end, with nothing to be had.
#[tokio::test]
async fn a_bell_that_rings_without_end_leaves_turns_to_other_tasks() {
    let (_dir, path, address) = place("");
    let mut listener = address.bind().await.expect("it is bound");
    let raw = Raw::connect(&path);
    let mut stream = accept(&mut listener).await.into_receiver();
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    let ringing = std::thread::spawn(move || {
        while !stopped.load(Ordering::Relaxed) {
            raw.ring();
        }
        raw
    });
    let receiving = tokio::spawn(async move { stream.next().await.is_none() });
    for _ in 0..20 {
        let began = Instant::now();
        tokio::time::sleep(Duration::from_millis(10)).await;
        assert!(began.elapsed() < Duration::from_secs(5));
    }
    assert!(!receiving.is_finished());
    stop.store(true, Ordering::Relaxed);
    drop(ringing.join());
    assert!(deadline(receiving).await.expect("it ends"));
}

/// The peer shares the reading end of our bell, and so its mode; and it never empties it.
#[tokio::test]
async fn a_full_bell_in_blocking_mode_blocks_nobody() {
    let (_dir, path, address) = place("?capacity=16MiB");
    let mut listener = address.bind().await.expect("it is bound");
    let mut raw = Raw::connect(&path);
    let (mut sink, _stream) = accept(&mut listener).await.into_frames();
    sink.send(Bytes::from("first")).await.expect("it is sent");
    let (_, bell) = raw.receive().await;
    fcntl(bell, FcntlArg::F_SETFL(OFlag::empty())).expect("it blocks now");
    let began = Instant::now();
    for i in 0..10_000 {
        // Asleep again, each time.
        super::raw::set(&raw.memory, DATA_EPOCH, 2 * i + 1);
        super::raw::set(
            &raw.memory,
            TAIL,
            get(&raw.theirs.as_ref().expect("it came").0, HEAD),
        );
        deadline(sink.send(Bytes::from("x")))
            .await
            .expect("it is sent");
    }
    assert!(began.elapsed() < Duration::from_secs(20));
}

/// A peer that publishes and never wakes anybody is a silent one, and its end is noticed.
#[tokio::test]
async fn a_peer_that_never_rings_is_read_at_its_end() {
    let (_dir, path, address) = place("");
    let mut listener = address.bind().await.expect("it is bound");
    let raw = Raw::connect(&path);
    let mut stream = accept(&mut listener).await.into_receiver();
    let mut next = task::spawn(async move {
        let first = stream.next().await;
        (first, stream.next().await.is_none())
    });
    assert!(next.poll().is_pending());
    use std::os::unix::fs::FileExt;
    raw.memory
        .write_all_at(b"\0\0\0\x02hi", DATA)
        .expect("it is written");
    super::raw::set(&raw.memory, HEAD, 6);
    drop(raw);
    let (first, ended) = deadline(next).await;
    assert_eq!(first.expect("a message").expect("it is whole").body(), "hi");
    assert!(ended);
}

/// A server that lies to a client.
#[tokio::test]
async fn a_lie_of_a_server_is_an_error_of_its_client() {
    let (_dir, path, address) = place("");
    let listener = std::os::unix::net::UnixListener::bind(&path).expect("it is bound");
    let client = address.connect().await.expect("it connects");
    let (socket, _): (UnixStream, _) = listener.accept().expect("it came");
    let mut raw = Raw::greet(socket);
    raw.receive().await;
    raw.write(HEAD, 1 << 33);
    assert_eq!(refusal(client).await, PeerError::Index);
}
