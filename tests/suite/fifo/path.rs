//! What becomes of the path while a FIFO is open.

use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use aqueduct::connect::{MessageReceiver, Reconnect};
use aqueduct::fifo::{OpenOptions, ReaderGone, Receiver, Sender, SharedSender};
use aqueduct::frame::Framing;
use aqueduct::{Endpoint, OpenError, OpenErrorKind, connect};
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_test::{assert_pending, task};

use super::{cpu, plain_writer, with_fifo};
use crate::support::deadline;

/// Long enough that only an event can be in time.
const NEVER: Duration = Duration::from_secs(3600);

fn make(path: &Path) {
    mkfifo(path, Mode::from_bits_truncate(0o600)).unwrap();
}

fn watching(path: &Path, persistent: bool, interval: Duration) -> Receiver {
    let mut options = OpenOptions::new();
    options.persist(persistent).watch_name(Some(interval));
    options.open_receiver(path).unwrap()
}

fn assert_replaced(error: &io::Error) {
    let opened = OpenError::of(error).unwrap();
    assert_eq!(opened.kind(), &OpenErrorKind::Replaced, "{error}");
    assert_eq!(opened.raw_os_error(), Some(libc::ESTALE));
}

#[tokio::test]
async fn a_waiting_receiver_notices_a_removed_path() {
    for persistent in [false, true] {
        let (_dir, path) = with_fifo();
        let mut receiver = watching(&path, persistent, NEVER);
        let mut byte = [0];
        let mut read = task::spawn(receiver.read(&mut byte));
        assert_pending!(read.poll());
        fs::remove_file(&path).unwrap();
        let error = deadline(read).await.unwrap_err();
        assert_replaced(&error);
        assert!(error.to_string().contains("it was removed"), "{error}");
    }
}

#[tokio::test]
async fn a_waiting_receiver_notices_a_fifo_moved_over_its_path() {
    for persistent in [false, true] {
        let (dir, path) = with_fifo();
        let mut receiver = watching(&path, persistent, NEVER);
        let mut byte = [0];
        let mut read = task::spawn(receiver.read(&mut byte));
        assert_pending!(read.poll());
        let other = dir.path().join("other");
        make(&other);
        fs::rename(&other, &path).unwrap();
        let error = deadline(read).await.unwrap_err();
        assert_replaced(&error);
        assert!(error.to_string().contains("taken its place"), "{error}");
    }
}

/// No event tells of this one: checking finds it.
#[tokio::test]
async fn a_waiting_receiver_notices_a_moved_directory() {
    let dir = tempfile::tempdir().unwrap();
    let inner = dir.path().join("inner");
    fs::create_dir(&inner).unwrap();
    let path = inner.join("fifo");
    make(&path);
    let mut receiver = watching(&path, true, Duration::from_millis(50));
    let mut byte = [0];
    let mut read = task::spawn(receiver.read(&mut byte));
    assert_pending!(read.poll());
    fs::rename(&inner, dir.path().join("elsewhere")).unwrap();
    assert_replaced(&deadline(read).await.unwrap_err());
}

/// A program may remove the path once both ends are open, so that nobody else can open it.
#[tokio::test]
async fn a_removed_fifo_is_read_until_its_last_writer_leaves() {
    let (_dir, path) = with_fifo();
    let mut receiver = watching(&path, false, NEVER);
    let mut sender = OpenOptions::new().try_open_sender(&path).unwrap();
    let mut byte = [0];
    let mut read = task::spawn(receiver.read(&mut byte));
    assert_pending!(read.poll());
    fs::remove_file(&path).unwrap();
    assert!(
        tokio::time::timeout(Duration::from_millis(100), &mut read)
            .await
            .is_err()
    );
    sender.write_all(b"x").await.unwrap();
    assert_eq!(deadline(read).await.unwrap(), 1);
    drop(sender);
    assert_eq!(deadline(receiver.read(&mut byte)).await.unwrap(), 0);
}

#[tokio::test]
async fn a_sole_reader_is_that_of_the_fifo_made_anew_too() {
    let (_dir, path) = with_fifo();
    let address = format!("fifo:{}?persist=true", path.display());
    let address: Endpoint = address.parse().unwrap();
    let mut options = connect::Options::new();
    options.sole_reader(true).watch_name(Some(NEVER));
    let mut receiver = options.open_receiver(&address).await.unwrap();
    for message in ["old", "new"] {
        let mut next = task::spawn(receiver.next());
        assert_pending!(next.poll());
        let sending = async {
            let mut sender = options.open_sender(&address).await.unwrap();
            sender.send(message.into()).await.unwrap();
        };
        let (received, ()) = deadline(async { tokio::join!(next, sending) }).await;
        assert_eq!(received.unwrap().unwrap().body(), message);
        let error = deadline(options.open_receiver(&address)).await.unwrap_err();
        assert_eq!(error.kind(), &OpenErrorKind::InUse, "{error}");
        fs::remove_file(&path).unwrap();
        make(&path);
    }
    drop(receiver);
    let again = deadline(options.open_receiver(&address)).await;
    drop(again.unwrap());
}

#[tokio::test]
async fn watching_the_path_costs_no_cpu() {
    let (_dir, path) = with_fifo();
    let mut receiver = watching(&path, true, Duration::from_millis(500));
    let before = cpu();
    let waited = tokio::time::timeout(Duration::from_secs(1), receiver.read_u8()).await;
    let used = cpu() - before;
    assert!(waited.is_err());
    assert!(used < Duration::from_millis(10), "{used:?}");
}

fn by_address(path: &Path, options: &str) -> Endpoint {
    format!("fifo:{}{options}", path.display()).parse().unwrap()
}

fn lines() -> Framing {
    Framing::lines().max_frame(4_000_000)
}

fn options() -> connect::Options {
    let mut options = connect::Options::new();
    options.framing(lines()).watch_name(Some(NEVER));
    options
}

async fn next(messages: &mut MessageReceiver) -> Bytes {
    let message = deadline(messages.next()).await.expect("no end");
    message.unwrap().into_body()
}

/// As a log is rotated: removed and made anew under a reader that stays.
#[tokio::test]
async fn a_persistent_receiver_opens_a_new_fifo_at_its_path() {
    let (dir, path) = with_fifo();
    let address = by_address(&path, "?persist=true");
    let mut messages = options().open_receiver(&address).await.unwrap();
    let write = |text: &str| fs::write(&path, text).unwrap();
    write("one\n");
    assert_eq!(next(&mut messages).await, "one");

    let mut waiting = task::spawn(messages.next());
    assert_pending!(waiting.poll());
    fs::remove_file(&path).unwrap();
    make(&path);
    let (got, ()) = tokio::join!(deadline(waiting), write_when_read(&path, "two\n"));
    assert_eq!(got.unwrap().unwrap().into_body(), "two");

    // Moved over it.
    let other = dir.path().join("other");
    make(&other);
    fs::rename(&other, &path).unwrap();
    let (got, ()) = tokio::join!(next(&mut messages), write_when_read(&path, "three\n"));
    assert_eq!(got, "three");

    // Removed alone: it is made again.
    fs::remove_file(&path).unwrap();
    let (got, ()) = tokio::join!(next(&mut messages), write_when_read(&path, "four\n"));
    assert_eq!(got, "four");
}

/// As a program that does not block without a reader.
async fn write_when_read(path: &Path, text: &str) {
    let text = text.to_owned();
    let path = path.to_owned();
    deadline(async {
        loop {
            match OpenOptions::new().try_open_sender(&path) {
                Ok(mut sender) => return sender.write_all(text.as_bytes()).await.unwrap(),
                Err(_) => tokio::time::sleep(Duration::from_millis(2)).await,
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_replaced_fifo_is_read_for_the_writers_that_remain() {
    use std::io::Write;

    let (_dir, path) = with_fifo();
    let address = by_address(&path, "?persist=true");
    let mut messages = options().open_receiver(&address).await.unwrap();
    let mut old = plain_writer(&path);
    old.write_all(b"old: be").unwrap();
    let mut waiting = task::spawn(messages.next());
    assert_pending!(waiting.poll());
    fs::remove_file(&path).unwrap();
    make(&path);
    let (got, ()) = tokio::join!(deadline(waiting), write_when_read(&path, "new: one\n"));
    assert_eq!(got.unwrap().unwrap().into_body(), "new: one");
    // Each keeps its own frames.
    old.write_all(b"gin and end\nlast\n").unwrap();
    assert_eq!(next(&mut messages).await, "old: begin and end");
    write_when_read(&path, "new: two\n").await;
    let mut rest = [next(&mut messages).await, next(&mut messages).await];
    rest.sort();
    assert_eq!(rest, ["last", "new: two"]);
    // Then it is closed; a killed writer's torn line is no message.
    old.write_all(b"torn").unwrap();
    drop(old);
    write_when_read(&path, "new: three\n").await;
    assert_eq!(next(&mut messages).await, "new: three");
}

#[tokio::test]
async fn a_receiver_that_is_not_persistent_ends_with_an_error() {
    let (_dir, path) = with_fifo();
    let address = by_address(&path, "");
    let mut messages = options().open_receiver(&address).await.unwrap();
    let mut waiting = task::spawn(messages.next());
    assert_pending!(waiting.poll());
    fs::remove_file(&path).unwrap();
    make(&path);
    assert_replaced(&deadline(waiting).await.unwrap().unwrap_err());
}

#[tokio::test]
async fn a_stopped_or_limited_receiver_keeps_to_it_after_a_new_fifo() {
    let (_dir, path) = with_fifo();
    let address = by_address(&path, "?persist=true");
    let mut messages = options().open_receiver(&address).await.unwrap();
    messages.limit(3);
    write_when_read(&path, "one\n").await;
    assert_eq!(next(&mut messages).await, "one");
    fs::remove_file(&path).unwrap();
    make(&path);
    let (got, ()) = tokio::join!(next(&mut messages), write_when_read(&path, "two\n"));
    assert_eq!(got, "two");
    let mut sender = OpenOptions::new().try_open_sender(&path).unwrap();
    sender.write_all(b"three\nfour\n").await.unwrap();
    assert_eq!(next(&mut messages).await, "three");
    assert!(deadline(messages.next()).await.is_none());
    drop(messages);
    let mut rest = Receiver::open(&path).unwrap().framed(Framing::lines());
    assert_eq!(deadline(rest.next()).await.unwrap().unwrap(), "four");

    let mut messages = options().open_receiver(&address).await.unwrap();
    fs::remove_file(&path).unwrap();
    let mut waiting = task::spawn(messages.next());
    assert_pending!(waiting.poll());
    drop(waiting);
    messages.stop();
    assert!(deadline(messages.next()).await.is_none());
}

fn waiting_sender(path: &Path) -> Sender {
    let mut options = OpenOptions::new();
    options
        .on_reader_gone(ReaderGone::Wait)
        .watch_name(Some(NEVER));
    options.try_open_sender(path).unwrap()
}

#[tokio::test]
async fn a_sender_that_waits_for_a_reader_notices_a_new_fifo() {
    let (_dir, path) = with_fifo();
    let reader = Receiver::open(&path).unwrap();
    let mut sender = waiting_sender(&path);
    drop(reader);
    let mut write = task::spawn(sender.write(b"x"));
    for _ in 0..3 {
        assert_pending!(write.poll());
        tokio::task::yield_now().await;
    }
    fs::remove_file(&path).unwrap();
    assert_replaced(&deadline(write).await.unwrap_err());
}

#[tokio::test]
async fn a_sender_that_keeps_its_bytes_notices_a_new_fifo_when_full() {
    let (_dir, path) = with_fifo();
    let mut options = OpenOptions::new();
    options
        .on_reader_gone(ReaderGone::Keep)
        .watch_name(Some(NEVER));
    let mut sender = options.try_open_sender(&path).unwrap();
    let bytes = vec![7; 100_000];
    let mut write = task::spawn(sender.write_all(&bytes));
    assert_pending!(write.poll());
    fs::remove_file(&path).unwrap();
    assert_replaced(&deadline(write).await.unwrap_err());

    make(&path);
    let sender = options.try_open_sender(&path).unwrap();
    let mut shared = SharedSender::new(sender, Framing::lines());
    shared.feed(Bytes::from(bytes.clone())).await.unwrap();
    let (fed, removed) = tokio::join!(
        deadline(async {
            for _ in 0..20 {
                shared.send(Bytes::from(bytes.clone())).await?;
            }
            Ok::<_, io::Error>(())
        }),
        async { fs::remove_file(&path) }
    );
    removed.unwrap();
    assert_replaced(&fed.unwrap_err());
}

/// A frame of which the old FIFO has got a part begins again in the new one.
#[tokio::test]
async fn a_reconnecting_sender_goes_on_in_the_new_fifo() {
    let (_dir, path) = with_fifo();
    let reader = Receiver::open(&path).unwrap();
    let mut options = options();
    options.reconnect(Reconnect::new());
    let mut sender = options.open_sender(&by_address(&path, "")).await.unwrap();
    let body = Bytes::from(vec![b'x'; 3_000_000]);
    let mut sending = task::spawn(sender.send(body.clone().into()));
    for _ in 0..5 {
        assert_pending!(sending.poll());
        tokio::task::yield_now().await;
    }
    drop(reader);
    assert_pending!(sending.poll());
    fs::remove_file(&path).unwrap();
    make(&path);
    let mut lines = Receiver::open(&path).unwrap().framed(lines());
    let (sent, got) = deadline(async { tokio::join!(sending, lines.next()) }).await;
    sent.unwrap();
    assert!(got.unwrap().unwrap() == body);
}
