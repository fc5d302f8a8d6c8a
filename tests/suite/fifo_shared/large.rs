//! Frames above `PIPE_BUF`, under the lock.

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::task::Poll;

use aqueduct::fifo::{Receiver, Sender, SharedSender};
use aqueduct::frame::{FrameError, Framing};
use bytes::Bytes;
use futures_util::{FutureExt, SinkExt, StreamExt};
use tokio::io::AsyncReadExt;
use tokio_test::{assert_pending, task};

use super::{PIPE_BUF, Seen, message, open, spawn_writer};
use crate::fifo::with_fifo;
use crate::support::{Log, Peer, deadline, is_peer, peer_command};

/// More than a pipe may hold, so that it is written in parts.
const LARGER_THAN_A_PIPE: usize = 3_000_000;

fn length() -> Framing {
    Framing::length().max_frame(LARGER_THAN_A_PIPE)
}

fn lines() -> Framing {
    Framing::lines().max_frame(LARGER_THAN_A_PIPE)
}

/// Under the lock frames of any size stay whole among those of others, small ones included.
#[tokio::test]
async fn large_frames_of_several_writers_stay_whole_under_the_lock() {
    const WRITERS: u32 = 4;
    const EACH: u64 = 300;
    let (_dir, path) = with_fifo();
    let mut frames = Receiver::open(&path).unwrap().framed(length());
    let mut gate = Some(open(&path));
    let mut peers: Vec<_> = (0..WRITERS)
        .map(|writer| spawn_writer(&path, writer, EACH, 50_000, true))
        .collect();
    let mut seen = Seen::default();
    let all = async {
        while let Some(frame) = frames.next().await {
            seen.take(frame.unwrap());
            if seen.0.len() == WRITERS as usize {
                gate = None;
            }
        }
    };
    deadline(all).await;
    for peer in &mut peers {
        assert!(peer.exit().await.unwrap().success());
    }
    assert_eq!(seen.total(), EACH * u64::from(WRITERS));
}

#[tokio::test]
async fn under_the_lock_the_framings_limit_holds_to_the_byte() {
    const LIMIT: usize = 20_000;
    let (_dir, path) = with_fifo();
    let framing = Framing::length().max_frame(LIMIT);
    let mut frames = Receiver::open(&path).unwrap().framed(framing.clone());
    let mut sender = SharedSender::new(open(&path), framing);
    for _ in 0..2 {
        let (sent, came) = tokio::join!(
            deadline(sender.send(vec![1; LIMIT].into())),
            deadline(frames.next())
        );
        sent.unwrap();
        assert_eq!(came.unwrap().unwrap().len(), LIMIT);
        // The sender goes on.
        let error = deadline(sender.send(vec![1; LIMIT + 1].into())).await;
        let (len, max) = (LIMIT + 1, LIMIT);
        let expected = FrameError::TooLarge { len, max };
        assert_eq!(FrameError::of(&error.unwrap_err()), Some(&expected));
    }
}

#[tokio::test]
async fn a_small_frame_waits_for_the_end_of_anothers_large_one() {
    let (_dir, path) = with_fifo();
    let framing = length();
    let mut frames = Receiver::open(&path).unwrap().framed(framing.clone());
    let mut large = SharedSender::new(open(&path), framing.clone());
    let mut small = SharedSender::new(open(&path), framing);
    let body = Bytes::from(vec![7; LARGER_THAN_A_PIPE]);
    let mut sending = task::spawn(large.send(body.clone()));
    while sending.poll().is_pending() && fill_of(&path) < PIPE_BUF {
        tokio::task::yield_now().await;
    }
    let mut other = task::spawn(small.send(Bytes::from("small")));
    assert_pending!(other.poll());

    let receiving = async { (frames.next().await.unwrap(), frames.next().await.unwrap()) };
    let ((first, second), sent, other) =
        deadline(async { tokio::join!(receiving, sending, other) }).await;
    sent.unwrap();
    other.unwrap();
    assert!(first.unwrap() == body);
    assert_eq!(second.unwrap(), "small");
}

/// How many bytes wait in a FIFO.
fn fill_of(path: &Path) -> usize {
    let file = std::fs::File::options().read(true).write(true).open(path);
    let mut file = file.unwrap();
    // FIONREAD without `unsafe`: poll for nothing, ask tee(2) for a copy of what is there.
    let (mut copy, into) = io::pipe().unwrap();
    let flags = nix::fcntl::SpliceFFlags::SPLICE_F_NONBLOCK;
    let n = nix::fcntl::tee(&mut file, &into, 1 << 20, flags).unwrap_or_default();
    drop(into);
    let mut all = Vec::new();
    copy.read_to_end(&mut all).unwrap();
    assert_eq!(all.len(), n);
    n
}

/// Just as documented: its first part stays, the lock is free, and the next frame follows.
#[tokio::test]
async fn a_writer_killed_inside_a_large_frame_releases_the_lock() {
    let (_dir, path) = with_fifo();
    for framing in [lines(), length()] {
        let is_lines = framing == lines();
        let mut frames = Receiver::open(&path).unwrap().framed(framing.clone());
        let mut command = peer_command("fifo_shared::large::peer_stuck");
        command.env("TEST_FIFO", &path);
        command.env("TEST_FRAMING", if is_lines { "lines" } else { "length" });
        let mut peer = Peer::spawn(command.stdout(std::process::Stdio::null()));
        // It holds the lock as soon as a part of its frame is there.
        deadline(async {
            while fill_of(&path) < PIPE_BUF {
                tokio::time::sleep(std::time::Duration::from_millis(2)).await;
            }
        })
        .await;
        let mut next = SharedSender::new(open(&path), framing);
        let body = Bytes::from(vec![0xff; 9000]);
        let mut sending = task::spawn(async {
            for _ in 0..400 {
                next.feed(body.clone()).await.unwrap();
            }
            next.close().await.unwrap();
            drop(next);
        });
        assert_pending!(sending.poll());
        peer.kill();

        let receiving = async {
            let mut items = Vec::new();
            while let Some(item) = frames.next().await {
                items.push(item);
            }
            // Lets go of what is left, so that the sender sees no full FIFO.
            tokio::io::copy(frames.get_mut(), &mut tokio::io::sink())
                .await
                .unwrap();
            items
        };
        let (items, ()) = deadline(async { tokio::join!(receiving, sending) }).await;
        let mut items = items.into_iter();
        let torn = items.next().unwrap().unwrap();
        let part = torn.iter().take_while(|it| **it == b'x').count();
        assert!((PIPE_BUF..LARGER_THAN_A_PIPE).contains(&part), "{part}");
        if is_lines {
            // The part and the next frame arrive as one, and the rest is whole.
            assert!(torn[part..] == body);
            let rest: Vec<_> = items.map(Result::unwrap).collect();
            assert_eq!(rest.len(), 399);
            assert!(rest.iter().all(|it| *it == body));
        } else {
            // The frame is filled up with those that follow, and then comes garbage.
            assert_eq!(torn.len(), LARGER_THAN_A_PIPE);
            let error = items.next().unwrap().unwrap_err();
            assert!(
                matches!(FrameError::of(&error), Some(FrameError::TooLarge { .. })),
                "{error}"
            );
            assert!(items.next().is_none());
        }
    }
}

#[test]
fn peer_stuck() {
    if !is_peer("fifo_shared::large::peer_stuck") {
        return;
    }
    let path = PathBuf::from(std::env::var_os("TEST_FIFO").unwrap());
    let framing = match std::env::var("TEST_FRAMING").unwrap().as_str() {
        "lines" => lines(),
        _ => length(),
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let sender = Sender::open(&path).await.unwrap();
        let mut shared = SharedSender::new(sender, framing);
        shared
            .send(Bytes::from(vec![b'x'; LARGER_THAN_A_PIPE]))
            .await
            .unwrap();
    });
}

/// A line that fits into a pipe of the largest size that anybody may have goes by one write.
#[tokio::test]
async fn a_killed_writer_leaves_all_of_a_large_line_or_none() {
    for round in 0..20 {
        let (_dir, path) = with_fifo();
        let mut receiver = Receiver::open(&path).unwrap();
        let mut command = peer_command("fifo_shared::large::peer_with_large_lines");
        let command = command.env("TEST_FIFO", &path);
        let mut peer = Peer::spawn(command.stdout(std::process::Stdio::null()));
        let mut bytes = vec![0; 1_000_000 + 173_000 * round];
        deadline(receiver.read_exact(&mut bytes)).await.unwrap();
        peer.kill();
        deadline(receiver.read_to_end(&mut bytes)).await.unwrap();
        assert_eq!(bytes.len() % LARGE_LINE, 0, "round {round}");
        for line in bytes.chunks(LARGE_LINE) {
            assert!(line.ends_with(b"x\n"), "round {round}");
        }
    }
}

/// With its newline.
const LARGE_LINE: usize = 900_001;

#[test]
fn peer_with_large_lines() {
    if !is_peer("fifo_shared::large::peer_with_large_lines") {
        return;
    }
    let path = PathBuf::from(std::env::var_os("TEST_FIFO").unwrap());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let sender = Sender::open(&path).await.unwrap();
        let mut shared = SharedSender::new(sender, Framing::lines());
        let line = Bytes::from(vec![b'x'; LARGE_LINE - 1]);
        // Until it is killed.
        while shared.send(line.clone()).await.is_ok() {}
    });
}

/// Nobody is woken when the lock is released, so one that always wants it could always have it.
#[tokio::test]
async fn a_sender_that_never_stops_lets_others_have_the_lock() {
    let (_dir, path) = with_fifo();
    let framing = length();
    let mut frames = Receiver::open(&path).unwrap().framed(framing.clone());
    let greedy = spawn_writer(&path, 7, u64::MAX, 100_000, true);
    let mut seen = Seen::default();
    for _ in 0..1000 {
        seen.take(deadline(frames.next()).await.unwrap().unwrap());
    }
    let mut modest = SharedSender::new(open(&path), framing);
    let asking = async {
        for number in 0..20 {
            modest.send(message(1, number, 10)).await.unwrap();
        }
    };
    let receiving = async {
        while seen.of(1) < 20 {
            seen.take(frames.next().await.unwrap().unwrap());
        }
    };
    deadline(async { tokio::join!(asking, receiving) }).await;
    drop(greedy);
    // For each of ours a few of the other's, not thousands.
    assert!(seen.of(7) < 1000 + 20 * 100, "{}", seen.of(7));
}

#[tokio::test]
async fn dropping_a_sender_inside_a_large_frame_releases_the_lock() {
    let (_dir, path) = with_fifo();
    let framing = lines();
    let mut frames = Receiver::open(&path).unwrap().framed(framing.clone());
    let mut torn = SharedSender::new(open(&path), framing.clone());
    let mut next = SharedSender::new(open(&path), framing);
    let mut sending = task::spawn(torn.send(Bytes::from(vec![b'x'; LARGER_THAN_A_PIPE])));
    while sending.poll().is_pending() && fill_of(&path) < PIPE_BUF {
        tokio::task::yield_now().await;
    }
    drop(sending);
    let mut other = task::spawn(next.send(Bytes::from("next")));
    assert!(matches!(other.poll(), Poll::Pending));
    drop(torn);
    let (first, sent) = deadline(async { tokio::join!(frames.next(), other) }).await;
    sent.unwrap();
    assert!(first.unwrap().unwrap().ends_with(b"next"));
}

/// Of a frame that is half in the FIFO when its sender is dropped, the log says so.
#[tokio::test]
async fn a_frame_torn_by_dropping_its_sender_is_told_of() {
    let (_dir, path) = with_fifo();
    let _receiver = Receiver::open(&path).unwrap();
    let mut shared = SharedSender::new(open(&path), length());
    let body = vec![7; LARGER_THAN_A_PIPE];
    shared.feed(Bytes::from(body)).await.unwrap();
    while fill_of(&path) < PIPE_BUF {
        assert!(shared.flush().now_or_never().is_none(), "the FIFO is full");
        tokio::task::yield_now().await;
    }
    let ((), log) = Log::record(|| drop(shared));
    let warnings: Vec<_> = log.iter().filter(|it| it.contains("WARN")).collect();
    assert_eq!(warnings.len(), 1, "{log:?}");
    for part in ["unsent data", "frames=1", "torn=true"] {
        assert!(warnings[0].contains(part), "{part}: {log:?}");
    }
}
