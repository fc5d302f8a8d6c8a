//! Peers that lie about the descriptors that they pass.

use std::io;
use std::os::fd::AsRawFd;

use aqueduct::shm::PeerError;
use futures_util::StreamExt;
use tokio_test::{assert_pending, task};

use super::lend::raw_client;
use super::passing::open_files;
use super::raw::{self, HEAD, PASSED, Raw};
use super::{accept, place, serves};
use crate::support::{alone, deadline};

/// Publishes empty messages up to this number, and this count of messages with descriptors.
fn publish(raw: &Raw, messages: u64, passed: u64) {
    raw::set(&raw.memory, PASSED, passed);
    raw.write(HEAD, messages * 4);
}

fn number(raw: &Raw, number: u64, fds: usize) {
    let fds = vec![raw.socket.as_raw_fd(); fds];
    raw::send(&raw.socket, &number.to_le_bytes(), &fds).expect("it is sent");
}

#[tokio::test]
async fn each_lie_about_descriptors_is_a_typed_error() {
    type Lie = (&'static str, fn(&Raw));
    let lies: [Lie; 9] = [
        ("fewer", |raw| publish(raw, 2, 1)),
        ("fewer", |raw| publish(raw, 2, u64::MAX)),
        ("fewer", |raw| {
            number(raw, 0, 1);
            publish(raw, 2, 2);
        }),
        ("fewer", |raw| {
            let _ = raw.socket.shutdown(std::net::Shutdown::Both);
            publish(raw, 2, 1);
        }),
        ("without any", |raw| {
            number(raw, 1, 0);
            publish(raw, 2, 1);
        }),
        ("earlier", |raw| {
            number(raw, 0, 1);
            number(raw, 0, 1);
            publish(raw, 2, 2);
        }),
        ("earlier", |raw| {
            number(raw, 1, 1);
            number(raw, 0, 1);
            publish(raw, 3, 2);
        }),
        ("with a number", |raw| {
            raw::send(&raw.socket, b"abc", &[raw.socket.as_raw_fd()]).expect("sent");
            publish(raw, 2, 1);
        }),
        ("fewer", |raw| {
            number(raw, 0, 1);
            publish(raw, 2, 1);
            // It takes one back.
            raw::set(&raw.memory, PASSED, 1 << 40);
        }),
    ];
    for (name, lie) in lies {
        let (_dir, path, address) = place("");
        let (mut listener, raw, (_sender, mut receiver)) = raw_client(&path, &address).await;
        let mut lend = task::spawn(receiver.lend());
        assert_pending!(lend.poll());
        drop(lend);
        lie(&raw);
        // It is told by the message itself, or by the next one if nobody asked.
        let error = loop {
            match deadline(receiver.lend()).await.expect("no end before it") {
                Ok(mut lent) if name == "without any" => match lent.take_fds(9) {
                    Ok(fds) => assert!(fds.is_empty()),
                    Err(error) => break error,
                },
                Ok(lent) => drop(lent),
                Err(error) => break error,
            }
        };
        match PeerError::of(&error) {
            Some(PeerError::Passing(why)) => assert!(why.contains(name), "{name}: {why}"),
            other => panic!("{name}: {other:?}"),
        }
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        serves(&address, &mut listener).await;
    }
}

#[tokio::test]
async fn an_ordinary_end_is_told_of_a_lie_about_descriptors() {
    let (_dir, path, address) = place("");
    let mut listener = address.bind().await.expect("it is bound");
    let raw = Raw::connect(&path);
    let (_sink, mut stream) = accept(&mut listener).await.into_frames();
    let mut next = task::spawn(stream.next());
    assert_pending!(next.poll());
    publish(&raw, 1, u64::MAX);
    let first = deadline(next).await.expect("a frame").expect("whole");
    assert!(first.is_empty());
    let error = deadline(stream.next()).await.expect("no end");
    let error = error.expect_err("a lie");
    let expected = PeerError::Passing("there are fewer than it says");
    assert_eq!(PeerError::of(&error), Some(&expected));
    serves(&address, &mut listener).await;
}

/// A message that never comes: what it would bring waits, and what follows is not received.
#[test]
fn descriptors_of_a_message_to_come_are_kept_apart() {
    const TEST: &str = "shm::liars::descriptors_of_a_message_to_come_are_kept_apart";
    alone(TEST, || {
        crate::actor::runtime().block_on(async {
            let (_dir, path, address) = place("");
            let (_listener, raw, (_sender, mut receiver)) = raw_client(&path, &address).await;
            let mut lend = task::spawn(receiver.lend());
            assert_pending!(lend.poll());
            drop(lend);
            let before = open_files().len();
            number(&raw, 2, 1);
            number(&raw, u64::MAX, 200);
            number(&raw, u64::MAX, 200);
            publish(&raw, 5, 3);
            for n in 0..5 {
                let mut lent = deadline(receiver.lend()).await.expect("a message");
                let fds = lent.as_mut().expect("whole").take_fds(1).expect("as sent");
                assert_eq!(fds.len(), usize::from(n == 2));
            }
            assert_eq!(open_files().len(), before + 200);
            drop((receiver, _sender));
            // The socket and the bell are closed too, and nothing of the hostile peer is left.
            assert!(open_files().len() < before);
        });
    });
}
