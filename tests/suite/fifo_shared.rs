//! Many writers, one FIFO: frames arrive whole, once and in order, whoever is killed when.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};

use aqueduct::fifo::{OpenOptions, Receiver, Sender, SharedSender};
use aqueduct::frame::{FrameError, Framing};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use futures_util::{FutureExt, SinkExt, StreamExt};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use tokio::io::AsyncReadExt;
use tokio_test::task;

use crate::fifo::with_fifo;
use crate::support::{Log, Peer, deadline, is_peer, peer_command};

mod large;

const PIPE_BUF: usize = libc::PIPE_BUF;

/// Frames that one write takes, so that no lock is needed.
fn small(framing: Framing) -> Framing {
    framing.max_frame(4092)
}

fn open(path: &Path) -> Sender {
    OpenOptions::new().try_open_sender(path).unwrap()
}

/// Reads one write at a time: each becomes a packet (O_DIRECT, pipe(2)) of its own.
fn in_packets(sender: &Sender) {
    let flags = OFlag::O_DIRECT | OFlag::O_NONBLOCK;
    fcntl(sender, FcntlArg::F_SETFL(flags)).unwrap();
}

async fn next_write(receiver: &mut Receiver) -> Vec<u8> {
    let mut buf = vec![0; 2 * PIPE_BUF];
    let n = deadline(receiver.read(&mut buf)).await.unwrap();
    buf.truncate(n);
    buf
}

#[tokio::test]
async fn each_write_holds_whole_frames_within_the_limit() {
    let (_dir, path) = with_fifo();
    let mut receiver = Receiver::open(&path).unwrap();
    let sender = open(&path);
    in_packets(&sender);
    let mut shared = SharedSender::new(sender, Framing::lines().max_frame(4095));
    for size in [10, 20, 4000, 61, 1, 4095, 4094, 0, 300] {
        shared.feed(Bytes::from(vec![b'x'; size])).await.unwrap();
    }
    let flush = async { deadline(shared.flush()).await.unwrap() };
    let check = check_writes(&mut receiver);
    let ((), ()) = tokio::join!(flush, check);
}

async fn check_writes(receiver: &mut Receiver) {
    // With their newlines.
    for expected in [
        vec![11, 21, 4001, 62],
        vec![2],
        vec![4096],
        vec![4095, 1],
        vec![301],
    ] {
        let write = next_write(receiver).await;
        assert!(write.len() <= PIPE_BUF);
        let frames: Vec<_> = write.split_inclusive(|it| *it == b'\n').collect();
        let sizes: Vec<_> = frames.iter().map(|it| it.len()).collect();
        assert_eq!(sizes, expected);
    }
}

/// The error names the size and the limit.
#[tokio::test]
async fn a_frame_that_does_not_fit_one_write_is_refused() {
    let (_dir, path) = with_fifo();
    for (framing, max) in [
        (small(Framing::length()), 4092),
        (Framing::lines().max_frame(4095), 4095),
        (Framing::nul().max_frame(4095), 4095),
        (Framing::length().max_frame(100), 100),
    ] {
        let mut frames = Receiver::open(&path).unwrap().framed(framing.clone());
        let mut shared = SharedSender::new(open(&path), framing);
        let fits = Bytes::from(vec![7; max]);
        let too_large = Bytes::from(vec![7; max + 1]);
        let error = shared.feed(too_large).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        let expected = FrameError::TooLarge { len: max + 1, max };
        assert_eq!(FrameError::of(&error), Some(&expected));
        // Nothing of it is left, and the sender goes on.
        deadline(shared.send(fits.clone())).await.unwrap();
        assert_eq!(deadline(frames.next()).await.unwrap().unwrap(), fits);
    }
}

#[tokio::test]
async fn frames_are_gathered_up_to_the_high_water_mark() {
    let (_dir, path) = with_fifo();
    let mut receiver = Receiver::open(&path).unwrap();
    let mut shared = SharedSender::new(open(&path), small(Framing::raw()));
    let body = Bytes::from(vec![0; 1000]);
    for _ in 0..66 {
        shared.feed(body.clone()).await.unwrap();
    }
    let mut buf = [0; 8192];
    let nothing = receiver.read(&mut buf).now_or_never();
    assert!(nothing.is_none(), "below 64 KiB nothing is written");
    // One write is enough to be below it again.
    deadline(shared.feed(body)).await.unwrap();
    assert_eq!(deadline(receiver.read(&mut buf)).await.unwrap(), 4000);
    let close = async { deadline(shared.close()).await.unwrap() };
    let mut all = vec![0; 67_000 - 4000];
    let (read, ()) = tokio::join!(deadline(receiver.read_exact(&mut all)), close);
    read.unwrap();
}

#[tokio::test]
async fn frames_wait_for_the_next_reader_when_the_last_has_gone() {
    let (_dir, path) = with_fifo();
    let first = Receiver::open(&path).unwrap();
    let mut shared = SharedSender::new(open(&path), Framing::lines());
    drop(first);
    let error = deadline(shared.send(Bytes::from("kept")))
        .await
        .unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EPIPE));
    let mut second = Receiver::open(&path).unwrap().framed(Framing::lines());
    deadline(shared.flush()).await.unwrap();
    assert_eq!(deadline(second.next()).await.unwrap().unwrap(), "kept");
}

#[tokio::test]
async fn what_is_dropped_unsent_is_told_unless_an_error_has_told_it() {
    let (_dir, path) = with_fifo();
    let (log, _recording) = Log::start();
    let told = || log.text().matches("dropped with unsent data").count();
    let reader = Receiver::open(&path).unwrap();
    let mut forgets = SharedSender::new(open(&path), Framing::lines());
    let mut fails = SharedSender::new(open(&path), Framing::lines());
    forgets.feed(Bytes::from("unsent")).await.unwrap();
    drop(forgets);
    assert_eq!(told(), 1);
    drop(reader);
    deadline(fails.send(Bytes::from("unsent")))
        .await
        .unwrap_err();
    drop(fails);
    assert_eq!(told(), 1);
}

#[tokio::test]
async fn send_dropped_at_any_await_point_tears_and_doubles_nothing() {
    let (_dir, path) = with_fifo();
    for large in [false, true] {
        let mut frames = Receiver::open(&path).unwrap().framed(Framing::length());
        let framing = match large {
            true => Framing::length(),
            false => small(Framing::length()),
        };
        let mut shared = SharedSender::new(open(&path), framing);
        let mut sent = Vec::new();
        let mut got = Vec::new();
        let mut dropped = 0;
        for i in 0..200u32 {
            let size = if large { 5000 + 100 * i } else { 20 * i };
            let mut body = vec![i as u8; size as usize];
            body.splice(..0, i.to_be_bytes());
            let body = Bytes::from(body);
            // What `start_send` took is sent, whatever becomes of the futures around it.
            while task::spawn(futures_util::future::poll_fn(|cx| {
                shared.poll_ready_unpin(cx)
            }))
            .poll()
            .is_pending()
            {
                dropped += 1;
                if let Some(frame) = frames.next().now_or_never() {
                    got.push(frame.unwrap().unwrap());
                }
                tokio::task::yield_now().await;
            }
            shared.start_send_unpin(body.clone()).unwrap();
            sent.push(body);
            if task::spawn(shared.flush()).poll().is_pending() {
                dropped += 1;
            }
        }
        let close = async {
            shared.close().await.unwrap();
            drop(shared);
        };
        let rest = async {
            while let Some(frame) = frames.next().await {
                got.push(frame.unwrap());
            }
        };
        deadline(async { tokio::join!(close, rest) }).await;
        assert!(dropped > 10, "{dropped}");
        assert!(got == sent, "{} of {}", got.len(), sent.len());
    }
}

/// One message of a writer: who, which, and a body that its reader can check.
fn message(writer: u32, number: u64, size: usize) -> Bytes {
    let mut body = BytesMut::with_capacity(12 + size);
    body.put_u32(writer);
    body.put_u64(number);
    body.put_bytes(writer as u8 ^ number as u8, size);
    body.freeze()
}

/// Panics unless it is one whole message; returns who and which.
fn check(mut body: Bytes) -> (u32, u64) {
    assert!(body.len() >= 12, "a frame of {} bytes", body.len());
    let (writer, number) = (body.get_u32(), body.get_u64());
    let fill = writer as u8 ^ number as u8;
    assert!(body.iter().all(|it| *it == fill), "a torn frame");
    (writer, number)
}

/// Sizes that neither divide a page nor are divided by one, small and large ones mixed.
fn size(number: u64, limit: usize) -> usize {
    (number as usize).wrapping_mul(2_654_435_761) % limit
}

fn spawn_writer(path: &Path, writer: u32, messages: u64, limit: usize, large: bool) -> Peer {
    let mut command = peer_command("fifo_shared::peer_writer");
    command.env("TEST_FIFO", path).env(
        "TEST_WRITER",
        format!("{writer} {messages} {limit} {large}"),
    );
    Peer::spawn(command.stdout(std::process::Stdio::null()))
}

#[test]
fn peer_writer() {
    if !is_peer("fifo_shared::peer_writer") {
        return;
    }
    let path = PathBuf::from(std::env::var_os("TEST_FIFO").unwrap());
    let args = std::env::var("TEST_WRITER").unwrap();
    let args: Vec<_> = args.split(' ').collect();
    let writer: u32 = args[0].parse().unwrap();
    let messages: u64 = args[1].parse().unwrap();
    let limit: usize = args[2].parse().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let sender = Sender::open(&path).await.unwrap();
        let framing = match args[3] {
            "true" => Framing::length(),
            _ => small(Framing::length()),
        };
        let mut shared = SharedSender::new(sender, framing);
        for number in 0..messages {
            let body = message(writer, number, size(number, limit));
            // A few alone, most in full batches.
            if number % 50 == 0 {
                shared.send(body).await.unwrap();
            } else {
                shared.feed(body).await.unwrap();
            }
        }
        shared.close().await.unwrap();
    });
}

/// What the receiver saw of each writer: always the numbers 0, 1, 2 and so on.
#[derive(Default)]
struct Seen(HashMap<u32, u64>);

impl Seen {
    fn take(&mut self, body: Bytes) -> u32 {
        let (writer, number) = check(body);
        let next = self.0.entry(writer).or_default();
        assert_eq!(number, *next, "writer {writer}");
        *next += 1;
        writer
    }

    fn of(&self, writer: u32) -> u64 {
        self.0.get(&writer).copied().unwrap_or_default()
    }

    fn total(&self) -> u64 {
        self.0.values().sum()
    }
}

/// Eight writer processes at once; three are killed by SIGKILL when the receiver has seen some
/// number of their messages, drawn anew in each run, and the others send to the end.
#[tokio::test]
async fn eight_writers_some_killed_move_a_hundred_thousand_messages() {
    const WRITERS: u32 = 8;
    const KILLED: u32 = 3;
    const EACH: u64 = 20_000;
    let (_dir, path) = with_fifo();
    let mut frames = Receiver::open(&path).unwrap().framed(Framing::length());
    // Keeps the stream from ending before the last writer has come.
    let mut gate = Some(open(&path));
    let mut peers: Vec<_> = (0..WRITERS)
        .map(|writer| spawn_writer(&path, writer, EACH, 700, false))
        .collect();
    let random = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), 0);
    let kill_at: Vec<u64> = (0..KILLED).map(|i| (random >> (16 * i)) % 10_000).collect();

    let mut seen = Seen::default();
    let all = async {
        while let Some(frame) = frames.next().await {
            let writer = seen.take(frame.unwrap());
            if writer < KILLED && seen.of(writer) > kill_at[writer as usize] {
                peers[writer as usize].kill();
            }
            if seen.0.len() == WRITERS as usize {
                gate = None;
            }
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(120), all)
        .await
        .unwrap();
    for (writer, peer) in (0..).zip(&mut peers) {
        if writer < KILLED {
            // What it had handed to the kernel when it died has come too.
            assert!((kill_at[writer as usize] + 1..EACH).contains(&seen.of(writer)));
        } else {
            assert!(peer.exit().await.unwrap().success());
            assert_eq!(seen.of(writer), EACH);
        }
    }
    assert!(seen.total() >= 100_000, "{}", seen.total());
}
