//! Inherited descriptors: each taken over once, and none that the program has opened itself.

use std::io;
use std::os::fd::{AsRawFd, RawFd};

use aqueduct::codec::Raw;
use aqueduct::connect::Options;
use aqueduct::frame::Framing;
use aqueduct::{Endpoint, OpenErrorKind, Sender, inherited, pipe};
use bytes::Bytes;
use futures_util::StreamExt;

use super::{role, succeeds};
use crate::actor::runtime;
use crate::support::{claim, deadline, is_peer};

/// Asserts that `number` cannot be taken, for this reason.
fn refused(number: RawFd, reason: &str) {
    let error = inherited::take(number).unwrap_err();
    assert_eq!(error.kind(), &OpenErrorKind::NotInherited, "{error:?}");
    assert!(error.to_string().contains(reason), "{error}");
}

/// Asserts that nobody can take `number` again.
fn taken(number: RawFd) {
    refused(number, "already taken");
}

fn address(number: RawFd) -> Endpoint {
    format!("fd:{number}").parse().unwrap()
}

/// Runs `role` with pipes on its descriptors 3, which it reads, and 4, and as an echo of what it is
/// sent there.
async fn echoes(name: &str) {
    let mut command = role(name);
    command.pipe_to_child(3).pipe_from_child(4);
    let mut child = command.spawn().unwrap();
    let mut channel = child
        .channel::<Bytes, Bytes, _>(3, 4, Framing::length(), Raw)
        .unwrap();
    for size in [0, 1, 100_000] {
        deadline(channel.send(vec![7; size].into())).await.unwrap();
        let back = deadline(channel.recv()).await.unwrap().unwrap();
        assert_eq!(back.len(), size);
    }
    deadline(channel.close()).await.unwrap();
    assert!(
        deadline(channel.recv()).await.is_none(),
        "its end was closed"
    );
    succeeds(&mut child).await;
}

#[tokio::test]
async fn each_is_taken_once_and_only_if_inherited() {
    echoes("child::inherited::role_takes").await;
}

#[test]
fn role_takes() {
    if !is_peer("child::inherited::role_takes") {
        return;
    }
    claim();
    runtime().block_on(async {
        let mut parent =
            inherited::channel::<Bytes, Bytes, _>(4, 3, Framing::length(), Raw).unwrap();
        let own = std::fs::File::open("/dev/null").unwrap();
        for other in [-1, 1000, RawFd::MAX] {
            refused(other, "it is not open");
        }
        for standard in [0, 1, 2] {
            refused(standard, "it is a standard stream");
        }
        refused(own.as_raw_fd(), "it was not inherited");
        taken(3);
        taken(4);
        while let Some(item) = parent.recv().await {
            parent.send(item.unwrap()).await.unwrap();
        }
        parent.close().await.unwrap();
        // They are closed, and still cannot be taken again.
        drop(parent);
        taken(3);
        taken(4);
    });
}

#[tokio::test]
async fn an_address_and_a_call_take_from_the_same_descriptors() {
    echoes("child::inherited::role_opens").await;
}

#[test]
fn role_opens() {
    if !is_peer("child::inherited::role_opens") {
        return;
    }
    claim();
    runtime().block_on(async {
        let options = Options::new();
        // What it cannot do does not take it.
        let error = options.open_sender(&address(3)).await.unwrap_err();
        assert_eq!(error.kind(), &OpenErrorKind::Unsupported, "{error:?}");
        let mut incoming = options.open_receiver(&address(3)).await.unwrap();
        taken(3);
        let tx = inherited::sender(4).unwrap();
        let error = options.open_sender(&address(4)).await.unwrap_err();
        assert!(error.to_string().contains("already taken"), "{error:?}");
        let mut sender = Sender::<Bytes>::new(tx.framed(Framing::length()), Raw);

        while let Some(message) = incoming.next().await {
            sender.send(message.unwrap().into_body()).await.unwrap();
        }
        sender.close().await.unwrap();
    });
}

/// What a program has open that is started here by the standard library alone.
fn a_later_child_has() -> String {
    let mut command = std::process::Command::new("/bin/sh");
    command.args(["-c", "echo /proc/$$/fd/*"]);
    let output = command.output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test]
async fn what_was_taken_reaches_no_child_that_is_started_later() {
    let mut command = role("child::inherited::role_starts_another");
    command.pipe_to_child(70).pipe_from_child(71);
    let mut child = command.spawn().unwrap();
    succeeds(&mut child).await;
}

#[test]
fn role_starts_another() {
    if !is_peer("child::inherited::role_starts_another") {
        return;
    }
    claim();
    // As it was handed down, it is handed on.
    let before = a_later_child_has();
    assert!(
        before.contains("/fd/70") && before.contains("/fd/71"),
        "{before}"
    );
    let _taken = inherited::take(70).unwrap();
    let _opened = runtime().block_on(async {
        let options = Options::new();
        options.open_sender(&address(71)).await.unwrap()
    });
    let after = a_later_child_has();
    assert!(
        !after.contains("/fd/70") && !after.contains("/fd/71"),
        "{after}"
    );
}

/// An address used to take whatever was open when the process began, also what a library had opened in
/// a constructor, or what other code in the program had made its own since.
#[tokio::test]
async fn nothing_is_taken_that_the_program_has_not_claimed() {
    let mut command = role("child::inherited::role_claims_nothing");
    command.pipe_to_child(3);
    let mut child = command.spawn().unwrap();
    succeeds(&mut child).await;
}

#[test]
fn role_claims_nothing() {
    if !is_peer("child::inherited::role_claims_nothing") {
        return;
    }
    runtime().block_on(async {
        let error = Options::new().open_receiver(&address(3)).await.unwrap_err();
        assert_eq!(error.kind(), &OpenErrorKind::NotInherited, "{error:?}");
        let cure = error.cure().unwrap();
        assert!(
            cure.contains("inherited::claim first thing in main"),
            "{error}"
        );
    });
    refused(3, "has not claimed");
    assert!(a_later_child_has().contains("/fd/3"), "it is left as it is");
}

#[tokio::test]
async fn what_was_offered_before_a_claim_is_not_owned_twice() {
    let mut child = role("child::inherited::role_offers_and_claims")
        .spawn()
        .unwrap();
    succeeds(&mut child).await;
}

#[test]
fn role_offers_and_claims() {
    if !is_peer("child::inherited::role_offers_and_claims") {
        return;
    }
    // As nix opens it: without close-on-exec.
    let offered = nix::unistd::dup(io::stderr()).unwrap();
    let number = offered.as_raw_fd();
    inherited::offer(offered).unwrap();
    claim();
    drop(inherited::take(number).unwrap());
    taken(number);
}

/// The close-on-exec flag alone does not tell: a descriptor without it could be taken from the part of
/// the program that owned it, and then was closed twice.
#[tokio::test]
async fn a_descriptor_opened_by_the_program_stays_its_own() {
    let own = nix::unistd::dup(io::stderr()).unwrap();
    let number = own.as_raw_fd();
    // `Taken` where another test had one of this number.
    inherited::take(number).unwrap_err();
    let error = Options::new()
        .open_sender(&address(number))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), &OpenErrorKind::NotInherited, "{error:?}");
    nix::sys::stat::fstat(&own).expect("it is still open");
}

#[tokio::test]
async fn an_offered_one_is_found_by_its_address_once() {
    let (reader, writer) = io::pipe().unwrap();
    let address = inherited::offer(reader).unwrap();
    let options = Options::new();
    let mut incoming = options.open_receiver(&address).await.unwrap();
    let error = options.open_receiver(&address).await.unwrap_err();
    assert!(error.to_string().contains("already taken"), "{error:?}");
    drop(writer);

    assert!(deadline(incoming.next()).await.is_none());
    // And by its number.
    let (reader, mut writer) = io::pipe().unwrap();
    let number = reader.as_raw_fd();
    inherited::offer(reader).unwrap();
    let reader = inherited::take(number).unwrap();
    taken(number);
    io::Write::write_all(&mut writer, b"x").unwrap();
    let mut rx = pipe::Receiver::from_owned_fd(reader).unwrap();
    let read = tokio::io::AsyncReadExt::read_u8(&mut rx);
    assert_eq!(deadline(read).await.unwrap(), b'x');
}
