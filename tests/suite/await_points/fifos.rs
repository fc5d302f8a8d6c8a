use std::path::PathBuf;
use std::time::Duration;

use aqueduct::Endpoint;
use aqueduct::fifo::{OpenOptions, Receiver, Sender, SharedSender};
use aqueduct::frame::Framing;
use aqueduct_conformance::every_point;
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::place;

fn receiver(path: &PathBuf) -> Receiver {
    let opened = OpenOptions::new().create(true).open_receiver(path);
    opened.expect("it is opened")
}

/// Whether a reader's stream ends with the sender, as it does not if anything else has it open.
async fn ends_with(sender: Sender, mut receiver: Receiver) {
    drop(sender);
    let read = receiver.read(&mut [0]).await.expect("it is read");
    assert_eq!(read, 0, "something was left open");
}

#[tokio::test]
async fn opening_leaves_nothing_open() {
    every_point(
        "fifo::OpenOptions::open_sender",
        async || {
            let (dir, path) = place();
            (path.clone(), (path, None, dir))
        },
        async |path: &mut PathBuf| {
            let mut options = OpenOptions::new();
            options.create(true).open_sender(&*path).await
        },
        async |(path, there, _)| {
            there.get_or_insert_with(|| receiver(path));
        },
        async |path, (_, there, _dir), output| {
            let there = there.unwrap_or_else(|| receiver(&path));
            let sender = match output {
                Some(sender) => sender.expect("it is opened"),
                None => Sender::open(&path).await.expect("there is a reader"),
            };
            ends_with(sender, there).await;
        },
    )
    .await;
    every_point(
        "connect::Options::open_sender, fifo:",
        async || {
            let (dir, path) = place();
            (path.clone(), (path, None, dir))
        },
        async |path: &mut PathBuf| {
            let address: Endpoint = format!("fifo:{}", path.display()).parse().expect("one");
            let mut options = aqueduct::connect::Options::new();
            options.create(true).open_sender(&address).await
        },
        async |(path, there, _)| {
            there.get_or_insert_with(|| receiver(path));
        },
        async |path, (_, there, _dir), output| {
            let there = there.unwrap_or_else(|| receiver(&path));
            if let Some(sender) = output {
                drop(sender.expect("it is opened"));
            }
            let sender = Sender::open(&path).await.expect("there is a reader");
            ends_with(sender, there).await;
        },
    )
    .await;
}

#[tokio::test]
async fn noticing_a_removed_fifo_takes_nothing() {
    every_point(
        "fifo::Receiver::read, until the path is removed",
        async || {
            let (dir, path) = place();
            let mut options = OpenOptions::new();
            options
                .create(true)
                .watch_name(Some(Duration::from_secs(1)));
            let opened = options.open_receiver(&path);
            (opened.expect("it is opened"), (path, dir))
        },
        async |receiver: &mut Receiver| receiver.read(&mut [0; 8]).await,
        async |(path, _)| drop(std::fs::remove_file(path)),
        async |mut receiver, (path, _dir), output| {
            if let Ok(mut sender) = OpenOptions::new().try_open_sender(&path) {
                sender.write_all(b"x").await.expect("it is written");
                assert_eq!(receiver.read_u8().await.expect("it is read"), b'x');
            }
            drop(std::fs::remove_file(path));
            if let Some(read) = output {
                let error = read.expect_err("there is nothing to read");
                assert_eq!(error.kind(), std::io::ErrorKind::Other, "{error}");
            }
        },
    )
    .await;
}

async fn both_ends() -> (Sender, (Receiver, usize, TempDir)) {
    let (dir, path) = place();
    let receiver = receiver(&path);
    let sender = OpenOptions::new().try_open_sender(&path);
    (sender.expect("there is a reader"), (receiver, 0, dir))
}

#[tokio::test]
async fn reading_and_writing() {
    every_point(
        "fifo::Receiver::read",
        async || {
            let (sender, (receiver, sent, dir)) = both_ends().await;
            (receiver, (sender, sent, dir))
        },
        async |receiver: &mut Receiver| receiver.read(&mut [0; 8]).await,
        async |(sender, sent, _)| {
            if *sent == 0 {
                *sent = sender.write(b"one").await.expect("it is written");
            }
        },
        async |mut receiver, (sender, sent, _dir), output| {
            drop(sender);
            let taken = output.map_or(0, |it| it.expect("it is read"));
            let mut rest = Vec::new();
            receiver.read_to_end(&mut rest).await.expect("it is read");
            assert_eq!(taken + rest.len(), sent);
        },
    )
    .await;
    every_point(
        "fifo::Sender::write",
        async || {
            let (sender, (receiver, _, dir)) = both_ends().await;
            let mut filled = 0;
            while let Ok(n) = nix::unistd::write(&sender, &[0; 4096]) {
                filled += n;
            }
            (sender, (receiver, filled, 0, dir))
        },
        async |sender: &mut Sender| sender.write(b"item").await,
        async |(receiver, filled, taken, _)| {
            if taken < filled {
                *taken += receiver.read(&mut [0; 65_536]).await.expect("it is full");
            }
        },
        async |sender, (mut receiver, filled, taken, _dir), output| {
            let written = output.map_or(0, |it| it.expect("it is written"));
            drop(sender);
            let mut rest = Vec::new();
            receiver.read_to_end(&mut rest).await.expect("it is read");
            assert_eq!(taken + rest.len(), filled + written);
        },
    )
    .await;
}

/// A frame that a shared sender has taken goes out whole, once, with the next flush.
#[tokio::test]
async fn shared_senders_of_small_and_of_large_frames() {
    for large in [false, true] {
        let size = if large { 9000 } else { 900 };
        let name = format!("fifo::SharedSender::send, {size} bytes");
        every_point(
            &name,
            async || {
                let (sender, (receiver, _, dir)) = both_ends().await;
                let framing = match large {
                    true => Framing::length(),
                    false => Framing::length().max_frame(4092),
                };
                let mut sender = SharedSender::new(sender, framing.clone());
                let mut sent = 0_usize;
                // Until neither the FIFO nor the sink has room.
                while let Some(ready) = polled(sender.feed(frame(sent, size))) {
                    ready.expect("it is taken");
                    sent += 1;
                    let _ = polled(sender.flush());
                }
                (sender, (receiver.framed(framing), Vec::new(), sent, dir))
            },
            async |sender: &mut SharedSender| sender.send(Bytes::from_static(b"item")).await,
            async |(frames, came, ..)| {
                if let Some(item) = polled(frames.next()) {
                    came.push(item.expect("no end").expect("it is whole"));
                }
            },
            async |mut sender, (mut frames, mut came, sent, _dir), output| {
                let done = output.is_some();
                let last = Bytes::from_static(b"last");
                let (flushed, ()) = tokio::join!(sender.send(last.clone()), async {
                    while came.last() != Some(&last) {
                        let item = frames.next().await.expect("no end");
                        came.push(item.expect("it is whole"));
                    }
                });
                flushed.expect("it is sent");
                came.pop();
                let items = came.iter().filter(|it| **it == "item").count();
                assert!(items == 1 || items == 0 && !done, "{items} came");
                let rest: Vec<_> = came.into_iter().filter(|it| *it != "item").collect();
                assert_eq!(rest.len(), sent);
                for (number, came) in rest.into_iter().enumerate() {
                    assert!(came == frame(number, size), "frame {number} is wrong");
                }
            },
        )
        .await;
    }
}

fn frame(number: usize, size: usize) -> Bytes {
    vec![(number % 251) as u8; size].into()
}

/// Polls once.
fn polled<F: Future>(future: F) -> Option<F::Output> {
    futures_util::FutureExt::now_or_never(future)
}
