//! Datagrams over the limit are an error, skipped or truncated, and never truncated silently.

use aqueduct::Endpoint;
use aqueduct::connect::Options;
use aqueduct::frame::{FrameError, Framing, TooLong};
use futures_util::{SinkExt, StreamExt};

use super::{dir, endpoint, in_dir, limited, next};
use crate::support::{Log, deadline};

/// A receiver with these options, and a sender of larger ones.
async fn pair(
    address: &Endpoint,
    options: &Options,
) -> (
    aqueduct::connect::MessageReceiver,
    aqueduct::connect::MessageSender,
) {
    let listener = options.bind(address).await.unwrap();
    let to = listener.local_endpoint().clone();
    let outgoing = to.open_sender().await.unwrap();
    (listener.into_receiver(), outgoing)
}

#[tokio::test]
async fn a_datagram_over_the_limit_is_an_error_with_both_sizes() {
    let dir = dir();
    for address in [in_dir(&dir), endpoint("udp://127.0.0.1:0".into())] {
        let (mut incoming, mut outgoing) = pair(&address, &limited(100)).await;
        for len in [100, 101, 5000, 100] {
            let body = bytes::Bytes::from(vec![b'x'; len]);
            deadline(outgoing.send(body.into())).await.unwrap();
        }
        assert_eq!(next(&mut incoming).await.body().len(), 100);
        for len in [101, 5000] {
            let error = deadline(incoming.next()).await.unwrap().unwrap_err();
            assert_eq!(error.kind(), std::io::ErrorKind::InvalidData);
            let expected = FrameError::TooLarge { len, max: 100 };
            assert_eq!(FrameError::of(&error), Some(&expected));
        }
        assert_eq!(next(&mut incoming).await.body().len(), 100, "it goes on");
    }
}

#[tokio::test]
async fn a_datagram_over_the_limit_is_skipped_or_truncated() {
    let dir = dir();
    for (too_long, expected) in [
        (TooLong::Skip, &["ab"][..]),
        (TooLong::Truncate, &["long", "ab"]),
    ] {
        let (log, _recording) = Log::start();
        let mut options = Options::new();
        options.framing(Framing::length().max_frame(4).too_long(too_long));
        let (mut incoming, mut outgoing) = pair(&in_dir(&dir), &options).await;
        deadline(outgoing.send("longer".into())).await.unwrap();
        deadline(outgoing.send("ab".into())).await.unwrap();
        for body in expected {
            assert_eq!(next(&mut incoming).await.body(), body);
        }
        let log = log.text();
        assert!(
            log.contains("a datagram of 6 bytes, over the limit of 4 (1 so far)"),
            "{log}"
        );
    }
}

#[tokio::test]
async fn a_request_over_the_limit_costs_its_connection_alone() {
    let dir = dir();
    let address = in_dir(&dir);
    let mut listener = limited(4).bind(&address).await.unwrap();
    let mut outgoing = address.open_sender().await.unwrap();
    deadline(outgoing.send("longer".into())).await.unwrap();
    deadline(outgoing.send("ab".into())).await.unwrap();
    let over = deadline(listener.accept()).await.unwrap().unwrap();
    let mut over = over.into_receiver();
    let error = deadline(over.next()).await.unwrap().unwrap_err();
    let expected = FrameError::TooLarge { len: 6, max: 4 };
    assert_eq!(FrameError::of(&error), Some(&expected));
    let fits = deadline(listener.accept()).await.unwrap().unwrap();
    assert_eq!(next(&mut fits.into_receiver()).await.body(), "ab");
}

#[tokio::test]
async fn the_sender_refuses_what_is_over_its_own_limit() {
    let dir = dir();
    for address in [in_dir(&dir), endpoint("udp://127.0.0.1:0".into())] {
        let listener = address.bind().await.unwrap();
        let to = listener.local_endpoint().clone();
        let mut outgoing = limited(3).open_sender(&to).await.unwrap();
        let error = deadline(outgoing.send("four".into())).await.unwrap_err();
        let expected = FrameError::TooLarge { len: 4, max: 3 };
        assert_eq!(FrameError::of(&error), Some(&expected));
        deadline(outgoing.send("one".into())).await.unwrap();
    }
}

/// Of a framing only the largest size counts.
#[tokio::test]
async fn the_framing_of_the_options_is_ignored() {
    let dir = dir();
    let address = in_dir(&dir);
    let mut options = Options::new();
    options.framing("u8".parse().unwrap());
    let mut incoming = options.open_receiver(&address).await.unwrap();
    let mut outgoing = options.open_sender(&address).await.unwrap();
    let body = bytes::Bytes::from(vec![b'\n'; 1000]);
    deadline(outgoing.send(body.clone().into())).await.unwrap();
    assert_eq!(next(&mut incoming).await.body(), &body);
}
