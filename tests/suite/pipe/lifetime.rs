//! Ends and runtimes: none, one that has gone, another one.

use std::io::ErrorKind;

use aqueduct::pipe::{self, OpenOptions, Receiver, Sender, packet};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::{Builder, Runtime};
use tokio_test::{assert_pending, assert_ready, assert_ready_err, task};

use crate::pipe::Fifo;

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

#[test]
fn outside_a_runtime_every_way_to_make_an_end_is_an_error() {
    let fifo = Fifo::new();
    let ends = || std::io::pipe().unwrap();
    let errors = [
        pipe::pipe().err(),
        packet::pipe().err(),
        OpenOptions::new().open_receiver(&fifo).err(),
        OpenOptions::new().read_write(true).open_sender(&fifo).err(),
        Receiver::from_owned_fd(ends().0.into()).err(),
        Sender::from_owned_fd(ends().1.into()).err(),
        Receiver::from_shared_fd(ends().0).err(),
        packet::Sender::from_owned_fd(ends().1.into()).err(),
        packet::Receiver::from_owned_fd(ends().0.into()).err(),
    ];
    for error in errors {
        let text = error.expect("an error").to_string();
        assert!(text.contains("runtime"), "{text}");
    }
}

#[test]
fn a_waiting_end_is_woken_with_an_error_when_its_runtime_goes() {
    let first = runtime();
    let guard = first.enter();
    let (tx, rx) = pipe::pipe().unwrap();
    let (_packet_tx, packet_rx) = packet::pipe().unwrap();
    let mut readable = task::spawn(rx.readable());
    assert_pending!(readable.poll());
    let mut recv = task::spawn(packet_rx.recv());
    assert_pending!(recv.poll());
    drop(guard);
    drop(first);
    assert!(readable.is_woken() && recv.is_woken());
    assert_ready_err!(readable.poll());
    assert_ready_err!(recv.poll());
    drop((readable, recv));

    // So is whoever comes later, on whatever runtime.
    runtime().block_on(async {
        let (mut tx, mut rx) = (tx, rx);
        assert!(rx.readable().await.is_err());
        assert!(rx.read(&mut [0; 1]).await.is_err());
        assert!(tx.write(b"x").await.is_err());
        let error = rx.try_read(&mut [0; 1]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
    });
}

#[test]
fn a_descriptor_outlives_its_runtime_and_moves_to_another() {
    let first = runtime();
    let (mut tx, rx) = first.block_on(async { pipe::pipe() }).unwrap();
    first.block_on(tx.write_all(b"kept")).unwrap();
    drop(first);
    let (tx, rx) = (tx.into_nonblocking_fd(), rx.into_blocking_fd());
    runtime().block_on(async {
        let mut rx = Receiver::from_owned_fd(rx.unwrap()).unwrap();
        drop(tx);
        let mut all = Vec::new();
        rx.read_to_end(&mut all).await.unwrap();
        assert_eq!(all, b"kept");
    });
}

#[test]
fn a_peer_that_comes_after_the_runtime_has_gone_is_an_error() {
    let first = runtime();
    let fifo = Fifo::new();
    let mut rx = {
        let _guard = first.enter();
        OpenOptions::new().open_receiver(&fifo).unwrap()
    };
    drop(crate::pipe::raw_writer(&fifo));
    let n = first.block_on(async { rx.read(&mut [0; 1]).await.unwrap() });
    assert_eq!(n, 0);
    drop(first);
    let _second = crate::pipe::raw_writer(&fifo);
    assert!(assert_ready!(task::spawn(rx.readable()).poll()).is_err());
}
