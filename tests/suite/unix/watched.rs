//! A path that is removed or made anew under a listener.

use std::os::unix::net::{UnixDatagram as StdDatagram, UnixListener as StdListener};
use std::time::Duration;

use aqueduct::connect::{Options, Reconnect};
use aqueduct::{Endpoint, OpenError, OpenErrorKind as Kind};
use futures_util::{SinkExt, StreamExt};
use tokio_test::assert_pending;

use super::place;
use crate::support::deadline;

/// inotify tells of it, long before the path is looked at again.
const EVER: Duration = Duration::from_secs(3600);

/// It went on waiting for clients that met another server, or none.
#[tokio::test]
async fn a_listener_whose_path_is_lost_ends_with_an_error() {
    for scheme in ["unix", "unixpacket"] {
        for replaced in [false, true] {
            let (_dir, path) = place();
            let address: Endpoint = format!("{scheme}:{}", path.display()).parse().unwrap();
            let mut options = Options::new();
            options.watch_name(Some(EVER));
            let mut listener = options.bind(&address).await.expect("bound");
            let client = address.connect().await.expect("connected");
            let accepted = deadline(listener.accept()).await.expect("one");
            drop(accepted.expect("accepted"));
            assert_pending!(tokio_test::task::spawn(listener.accept()).poll());
            std::fs::remove_file(&path).expect("it is ours");
            let other = replaced.then(|| StdListener::bind(&path).expect("it is free"));
            let error = deadline(listener.accept()).await.expect("it is told");
            let error = error.expect_err("its path is lost");
            let kind = OpenError::of(&error).expect("it is inside").kind();
            assert_eq!(kind, &Kind::Replaced, "{error}");
            assert!(deadline(listener.accept()).await.is_none());
            drop((client, listener, other));
            assert_eq!(path.exists(), replaced, "another's stays");
        }
    }
}

#[tokio::test]
async fn a_receiver_that_lasts_binds_its_lost_path_again() {
    for scheme in ["unix", "unixpacket"] {
        let (_dir, path) = place();
        let address: Endpoint = format!("{scheme}:{}", path.display()).parse().unwrap();
        let mut options = Options::new();
        options.watch_name(Some(EVER)).persist(true);
        let mut receiver = options.open_receiver(&address).await.expect("bound");
        let mut first = address.open_sender().await.expect("connected");
        first.send("one".into()).await.expect("sent");
        let message = deadline(receiver.next()).await.expect("no end");
        assert_eq!(message.expect("received").body(), "one");
        for _ in 0..2 {
            // One that connects before and was not accepted yet is served all the same.
            let mut early = address.open_sender().await.expect("connected");
            std::fs::remove_file(&path).expect("it is ours");
            let sending = async {
                let mut sender = address.open_sender().await.expect("connected");
                sender.send("two".into()).await.expect("sent");
                sender.close().await.expect("closed");
            };
            let (message, ()) = deadline(async { tokio::join!(receiver.next(), sending) }).await;
            assert_eq!(message.expect("no end").expect("received").body(), "two");
            early.send("early".into()).await.expect("sent");
            let message = deadline(receiver.next()).await.expect("no end");
            assert_eq!(message.expect("received").body(), "early");
        }
        // Who was connected before still is.
        first.send("three".into()).await.expect("sent");
        let message = deadline(receiver.next()).await.expect("no end");
        assert_eq!(message.expect("received").body(), "three");
        // Another server has taken the path: that one is left alone.
        std::fs::remove_file(&path).expect("it is ours");
        let other = StdListener::bind(&path).expect("it is free");
        let error = deadline(receiver.next()).await.expect("it is told");
        let error = error.expect_err("another server has it");
        let kind = OpenError::of(&error).expect("it is inside").kind();
        assert_eq!(kind, &Kind::InUse, "{error}");
        drop(receiver);
        assert!(path.exists());
        drop(other);
    }
}

/// A directory that moves makes no event: the path is looked at as often as was asked for.
#[tokio::test]
async fn a_path_whose_directory_moves_is_noticed_by_looking() {
    let (dir, _) = place();
    let (inner, moved) = (dir.path().join("inner"), dir.path().join("moved"));
    std::fs::create_dir(&inner).expect("made");
    let address: Endpoint = format!("unix:{}/socket", inner.display()).parse().unwrap();
    let mut options = Options::new();
    options.watch_name(Some(Duration::from_millis(20)));
    let mut listener = options.bind(&address).await.expect("bound");
    assert_pending!(tokio_test::task::spawn(listener.accept()).poll());
    std::fs::rename(&inner, &moved).expect("moved");
    let error = deadline(listener.accept()).await.expect("it is told");
    let error = error.expect_err("its path is lost");
    assert!(
        error.to_string().contains("its path was removed"),
        "{error}"
    );
}

/// What was sent before is received, and senders that are connected get `EPIPE`.
#[tokio::test]
async fn a_datagram_socket_whose_path_is_lost_ends_with_an_error() {
    let (_dir, path) = place();
    let address: Endpoint = format!("unixgram:{}", path.display()).parse().unwrap();
    let mut options = Options::new();
    options.watch_name(Some(EVER));
    let mut receiver = options.open_receiver(&address).await.expect("bound");
    let mut sender = address.open_sender().await.expect("connected");
    assert_pending!(tokio_test::task::spawn(receiver.next()).poll());
    sender.send("before".into()).await.expect("sent");
    std::fs::remove_file(&path).expect("it is ours");
    let other = StdDatagram::bind(&path).expect("it is free");
    let message = deadline(receiver.next()).await.expect("no end");
    assert_eq!(message.expect("received").body(), "before");
    let error = deadline(receiver.next()).await.expect("it is told");
    let error = error.expect_err("its path is lost");
    let kind = OpenError::of(&error).expect("it is inside").kind();
    assert_eq!(kind, &Kind::Replaced, "{error}");
    assert!(deadline(receiver.next()).await.is_none());
    let error = deadline(sender.send("after".into())).await.unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EPIPE));
    drop(receiver);
    assert!(path.exists(), "another's stays");
    drop(other);
}

#[tokio::test]
async fn a_datagram_socket_that_lasts_binds_its_lost_path_again() {
    let (_dir, path) = place();
    let address: Endpoint = format!("unixgram:{}", path.display()).parse().unwrap();
    let mut options = Options::new();
    options.watch_name(Some(EVER)).persist(true);
    let mut lasting = Options::new();
    lasting.reconnect(Reconnect::new());
    let mut listener = options.bind(&address).await.expect("bound");
    let mut sender = lasting.open_sender(&address).await.expect("connected");
    for round in ["one", "two", "three"] {
        sender.send(round.into()).await.expect("sent");
        let datagram = deadline(listener.accept()).await.expect("no end");
        let mut datagram = datagram.expect("received").into_receiver();
        let message = deadline(datagram.next()).await.expect("it is one");
        assert_eq!(message.expect("received").body(), round);
        std::fs::remove_file(&path).expect("it is ours");
        let again = async {
            while !path.exists() {
                tokio::task::yield_now().await;
            }
        };
        let accepting = tokio_test::task::spawn(listener.accept());
        deadline(async {
            tokio::select! {
                biased;
                _ = accepting => panic!("nothing was sent"),
                () = again => {}
            }
        })
        .await;
    }
    drop(listener);
    assert!(!path.exists());
}

/// The receiver always has something to take.
#[tokio::test]
async fn a_lost_path_is_noticed_under_a_flood_of_datagrams() {
    let (_dir, path) = place();
    let address: Endpoint = format!("unixgram:{}", path.display()).parse().unwrap();
    let mut options = Options::new();
    options.watch_name(Some(EVER));
    let mut receiver = options.open_receiver(&address).await.expect("bound");
    let flood = StdDatagram::unbound().expect("a socket can be made");
    flood.connect(&path).expect("it is bound");
    flood.set_nonblocking(true).expect("it can be set");
    let mut removed = Some(path);
    let error = deadline(async {
        loop {
            while flood.send(b"more").is_ok() {}
            match receiver.next().await.expect("no end") {
                Ok(_) => drop(removed.take().map(std::fs::remove_file)),
                Err(error) => break error,
            }
        }
    })
    .await;
    let kind = OpenError::of(&error).expect("it is inside").kind();
    assert_eq!(kind, &Kind::Replaced, "{error}");
}
