//! What the kernel does with pipes, as a user of the ends sees it.

use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsFd;

use aqueduct::pipe::{self, OpenOptions, Receiver, Sender};
use nix::fcntl::OFlag;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_test::{assert_pending, assert_ready_ok, task};

use crate::pipe::{Fifo, fill, next_read, raw_reader, raw_writer, take};
use crate::support::{deadline, woken};

/// A pipe of four pages, which everybody may have.
fn four_pages() -> (Sender, Receiver) {
    let (tx, rx) = pipe::pipe().unwrap();
    tx.set_capacity(4 * 4096).unwrap();
    (tx, rx)
}

fn refused(tx: &Sender, len: usize) -> bool {
    let result = nix::unistd::write(tx, &vec![0; len]);
    result == Err(nix::errno::Errno::EAGAIN)
}

#[tokio::test]
async fn a_fifo_without_a_reader_cannot_be_opened_for_writing() {
    let fifo = Fifo::new();
    let error = OpenOptions::new().open_sender(&fifo).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::ENXIO));
}

#[tokio::test]
async fn the_first_reader_waits_though_read_would_return_zero() {
    let fifo = Fifo::new();
    let mut rx = OpenOptions::new().open_receiver(&fifo).unwrap();
    assert_eq!(nix::unistd::read(&rx, &mut [0; 8]), Ok(0));
    let error = rx.try_read(&mut [0; 8]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WouldBlock);
    let mut buf = [0; 8];
    let mut reading = task::spawn(rx.read(&mut buf));
    assert_pending!(reading.poll());
    raw_writer(&fifo).write_all(b"hi").unwrap();
    woken(&reading).await;
    assert_eq!(assert_ready_ok!(reading.poll()), 2);
}

#[tokio::test]
async fn the_end_of_the_stream_is_seen_and_a_new_writer_restarts_it() {
    let fifo = Fifo::new();
    let mut rx = OpenOptions::new().open_receiver(&fifo).unwrap();
    raw_writer(&fifo).write_all(b"abc").unwrap();
    let mut buf = [0; 8];
    assert_eq!(deadline(rx.read(&mut buf)).await.unwrap(), 3);
    assert_eq!(deadline(rx.read(&mut buf)).await.unwrap(), 0);
    assert_eq!(deadline(rx.read(&mut buf)).await.unwrap(), 0, "it stays");
    let mut second = raw_writer(&fifo);
    assert_pending!(task::spawn(rx.read(&mut buf)).poll());
    second.write_all(b"defg").unwrap();
    assert_eq!(deadline(rx.read(&mut buf)).await.unwrap(), 4);
    drop(second);
    assert_eq!(deadline(rx.read(&mut buf)).await.unwrap(), 0);
}

#[tokio::test]
async fn readiness_does_not_say_closed_of_a_fifo_with_a_new_writer() {
    let fifo = Fifo::new();
    let rx = OpenOptions::new().open_receiver(&fifo).unwrap();
    drop(raw_writer(&fifo));
    let interest = tokio::io::Interest::READABLE;
    assert!(deadline(rx.ready(interest)).await.unwrap().is_read_closed());
    let mut second = raw_writer(&fifo);
    second.write_all(b"x").unwrap();
    let ready = deadline(rx.ready(interest)).await.unwrap();
    assert!(ready.is_readable() && !ready.is_read_closed(), "{ready:?}");
}

#[tokio::test]
async fn a_receiver_opened_for_both_never_sees_the_end() {
    let fifo = Fifo::new();
    let mut rx = OpenOptions::new()
        .read_write(true)
        .open_receiver(&fifo)
        .unwrap();
    for _ in 0..3 {
        raw_writer(&fifo).write_all(b"abc").unwrap();
        let mut buf = [0; 8];
        assert_eq!(deadline(rx.read(&mut buf)).await.unwrap(), 3);
        assert_pending!(task::spawn(rx.read(&mut buf)).poll());
    }
}

#[tokio::test]
async fn a_writer_without_a_reader_gets_epipe_and_works_for_the_next() {
    let fifo = Fifo::new();
    let first = raw_reader(&fifo);
    let mut tx = OpenOptions::new().open_sender(&fifo).unwrap();
    tx.write_all(b"one").await.unwrap();
    drop(first);
    let error = deadline(tx.write_all(b"two")).await.unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EPIPE));
    let mut second = raw_reader(&fifo);
    deadline(tx.write_all(b"three")).await.unwrap();
    let mut buf = [0; 16];
    let n = second.read(&mut buf).unwrap();
    assert!(buf[..n].ends_with(b"three"));
}

#[tokio::test]
async fn a_write_goes_whole_into_the_last_page_or_not_at_all() {
    let (tx, rx) = four_pages();
    deadline(tx.writable()).await.unwrap();
    let mut first = 3 * 4096;
    while first > 0 {
        first -= tx.try_write(&vec![1; first]).unwrap();
    }
    assert_eq!(tx.try_write(&[1; 100]).unwrap(), 100);
    assert!(refused(&tx, 4096), "3996 bytes are free");
    assert_eq!(nix::unistd::write(&tx, &[1; 3996]), Ok(3996));

    // A write above PIPE_BUF takes what room there is.
    take(&rx, 4096).await;
    assert_eq!(nix::unistd::write(&tx, &[1; 5000]), Ok(4096));
}

#[tokio::test]
async fn a_full_pipe_has_room_again_by_whole_pages() {
    let (tx, rx) = four_pages();
    fill(&tx).await;
    let mut waiting = task::spawn(tx.writable());
    assert_pending!(waiting.poll());
    take(&rx, 4095).await;
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    assert!(!waiting.is_woken());
    take(&rx, 1).await;
    woken(&waiting).await;
    assert_ready_ok!(waiting.poll());
}

#[tokio::test]
async fn a_pipe_holds_pages_and_not_bytes() {
    let (tx, _rx) = four_pages();
    for _ in 0..4 {
        assert_eq!(nix::unistd::write(&tx, &[0; 2049]), Ok(2049));
    }
    assert!(refused(&tx, 2049), "although half of its bytes are free");
}

#[tokio::test]
async fn what_a_short_read_leaves_is_seen() {
    let (mut tx, mut rx) = pipe::pipe().unwrap();
    tx.write_all(b"0123456789").await.unwrap();
    for expected in [&b"0123"[..], b"4567", b"89"] {
        let mut buf = [0; 4];
        let n = deadline(rx.read(&mut buf)).await.unwrap();
        assert_eq!(&buf[..n], expected);
    }
    assert_pending!(task::spawn(rx.read(&mut [0; 4])).poll());
}

/// A writer in packet mode makes every read short of its buffer; there is more all the same. Taking
/// a short read for "empty", as is done for sockets, leaves the reader asleep on a full pipe.
#[tokio::test]
async fn short_reads_from_a_packet_writer_do_not_mean_empty() {
    let (reader, writer) = nix::unistd::pipe2(OFlag::O_DIRECT | OFlag::O_CLOEXEC).unwrap();
    for packet in [b"one", b"two", b"six"] {
        nix::unistd::write(&writer, packet).unwrap();
    }
    let mut rx = Receiver::from_owned_fd(reader).unwrap();
    for expected in [b"one", b"two", b"six"] {
        let mut buf = [0; 64];
        let n = deadline(rx.read(&mut buf)).await.unwrap();
        assert_eq!(&buf[..n], expected);
    }
}

#[tokio::test]
async fn only_the_last_poller_is_woken_but_every_awaiting_task_is() {
    let (mut tx, rx) = pipe::pipe().unwrap();
    let mut polling =
        [(); 2].map(|()| task::spawn(std::future::poll_fn(|cx| rx.poll_read_ready(cx))));
    let mut awaiting = [(); 2].map(|()| task::spawn(rx.readable()));
    assert_pending!(polling[0].poll());
    assert_pending!(polling[1].poll());
    assert_pending!(awaiting[0].poll());
    assert_pending!(awaiting[1].poll());
    tx.write_all(b"x").await.unwrap();
    woken(&polling[1]).await;
    woken(&awaiting[0]).await;
    woken(&awaiting[1]).await;
    assert!(!polling[0].is_woken());
}

/// It does not stop the runtime.
#[tokio::test]
async fn a_blocking_descriptor_is_made_non_blocking() {
    let (reader, _writer) = std::io::pipe().unwrap();
    assert!(!crate::support::is_nonblocking(&reader).unwrap());
    let rx = Receiver::from_owned_fd(reader.into()).unwrap();
    assert!(crate::support::is_nonblocking(&rx).unwrap());
    assert_pending!(task::spawn(next_read(&rx)).poll());
}

#[tokio::test]
async fn an_end_can_go_while_a_duplicate_of_it_lives() {
    let (tx, rx) = pipe::pipe().unwrap();
    let duplicate = rx.as_fd().try_clone_to_owned().unwrap();
    drop(rx);
    // The number is free for another pipe, whose events must be its own.
    let (_other_tx, other_rx) = pipe::pipe().unwrap();
    tx.writable().await.unwrap();
    tx.try_write(b"for the duplicate").unwrap();
    let mut waiting = task::spawn(other_rx.readable());
    assert_pending!(waiting.poll());
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    assert!(!waiting.is_woken());
    drop(waiting);
    // The duplicate can be registered in its turn, and has the bytes.
    let rx = Receiver::from_owned_fd(duplicate).unwrap();
    assert_eq!(
        deadline(next_read(&rx)).await.unwrap(),
        b"for the duplicate"
    );
}

#[tokio::test]
async fn unread_bytes_outlive_a_reader_if_a_writer_stays() {
    let fifo = Fifo::new();
    let first = OpenOptions::new().open_receiver(&fifo).unwrap();
    let mut tx = OpenOptions::new().open_sender(&fifo).unwrap();
    tx.write_all(b"kept").await.unwrap();
    drop(first);
    let second = OpenOptions::new().open_receiver(&fifo).unwrap();
    assert_eq!(deadline(next_read(&second)).await.unwrap(), b"kept");

    tx.write_all(b"gone").await.unwrap();
    drop((tx, second));
    let third = OpenOptions::new().open_receiver(&fifo).unwrap();
    let _tx = OpenOptions::new().open_sender(&fifo).unwrap();
    assert_pending!(task::spawn(third.readable()).poll());
    assert_eq!(
        nix::unistd::read(&third, &mut [0; 8]),
        Err(nix::errno::Errno::EAGAIN)
    );
}

#[tokio::test]
async fn an_empty_read_or_write_does_nothing() {
    let (mut tx, mut rx) = pipe::pipe().unwrap();
    assert_eq!(deadline(tx.write(b"")).await.unwrap(), 0);
    tx.write_all(b"x").await.unwrap();
    assert_eq!(deadline(rx.read(&mut [])).await.unwrap(), 0);
    assert_eq!(deadline(rx.read(&mut [0; 4])).await.unwrap(), 1);
}
