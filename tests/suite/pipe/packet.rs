//! Packet pipes: a message in, the same message out.

use std::io::{self, ErrorKind};
use std::os::fd::AsFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Waker};

use aqueduct::frame::{BoxFrameSink, BoxFrameStream, FrameError};
use aqueduct::pipe;
use aqueduct::pipe::packet::{self, Receiver, Sender};
use bytes::Bytes;
use futures_util::stream::FusedStream;
use futures_util::{Sink, SinkExt, StreamExt};
use tokio_test::{assert_pending, task};

use crate::support::{deadline, woken};

/// The largest message.
const LARGEST: usize = libc::PIPE_BUF;

async fn fill(tx: &Sender) -> usize {
    deadline(tx.send(b"x")).await.unwrap();
    let mut count = 1;
    while tx.try_send(b"x").is_ok() {
        count += 1;
    }
    count
}

/// Changes the capacity through a second descriptor of the same pipe.
fn resize(tx: &Sender, bytes: usize) {
    let again = tx.as_fd().try_clone_to_owned().unwrap();
    let again = pipe::Sender::from_owned_fd(again).unwrap();
    again.set_capacity(bytes).unwrap();
}

#[tokio::test]
async fn messages_keep_their_boundaries_up_to_the_largest() {
    let (tx, rx) = packet::pipe().unwrap();
    for len in [1, 2, 4095, LARGEST, 3] {
        tx.send(&vec![7; len]).await.unwrap();
        // Two in a row, so that one could run into the other.
        tx.send(b"between").await.unwrap();
        assert_eq!(deadline(rx.recv()).await.unwrap().unwrap(), vec![7; len]);
        assert_eq!(deadline(rx.recv()).await.unwrap().unwrap(), "between");
    }
}

#[tokio::test]
async fn too_large_and_empty_messages_are_refused_and_harm_nothing() {
    let (mut tx, rx) = packet::pipe().unwrap();
    let large = vec![0; LARGEST + 1];
    let sunk = tx.feed(Bytes::from(large.clone())).await.unwrap_err();
    for error in [
        tx.send(&large).await.unwrap_err(),
        tx.try_send(&large).unwrap_err(),
        sunk,
    ] {
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        let (len, max) = (4097, 4096);
        let expected = FrameError::TooLarge { len, max };
        assert_eq!(FrameError::of(&error), Some(&expected));
    }
    let sunk = tx.feed(Bytes::new()).await.unwrap_err();
    for error in [
        tx.send(b"").await.unwrap_err(),
        tx.try_send(b"").unwrap_err(),
        sunk,
    ] {
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert_eq!(FrameError::of(&error), Some(&FrameError::Empty));
        assert!(error.to_string().contains("end of the stream"));
    }
    tx.flush().await.unwrap();
    tx.send(b"fine").await.unwrap();
    drop(tx);
    assert_eq!(deadline(rx.recv()).await.unwrap().unwrap(), "fine");
    assert_eq!(deadline(rx.recv()).await.unwrap(), None);
}

/// What the refusals are for: the kernel cuts the first and drops the second.
#[tokio::test]
async fn what_the_kernel_makes_of_too_large_and_empty() {
    let (tx, rx) = packet::pipe().unwrap();
    assert_eq!(nix::unistd::write(&tx, &[1; 6000]), Ok(6000));
    assert_eq!(nix::unistd::write(&tx, b""), Ok(0));
    assert_eq!(deadline(rx.recv()).await.unwrap().unwrap().len(), 4096);
    assert_eq!(deadline(rx.recv()).await.unwrap().unwrap().len(), 1904);
    assert_eq!(rx.try_recv().unwrap_err().kind(), ErrorKind::WouldBlock);

    // A buffer that is too small loses the rest; ours never is.
    tx.send(b"0123456789").await.unwrap();
    tx.send(b"next").await.unwrap();
    assert_eq!(nix::unistd::read(&rx, &mut [0; 4]), Ok(4));
    assert_eq!(deadline(rx.recv()).await.unwrap().unwrap(), "next");
}

#[tokio::test]
async fn one_message_waits_for_each_page_however_small() {
    let (tx, rx) = packet::pipe().unwrap();
    for pages in [1, 2, 4] {
        resize(&tx, pages * 4096);
        assert_eq!(fill(&tx).await, pages);
        assert_eq!(tx.try_send(b"x").unwrap_err().kind(), ErrorKind::WouldBlock);
        let mut sending = task::spawn(tx.send(b"last"));
        assert_pending!(sending.poll());
        for _ in 0..pages {
            assert_eq!(deadline(rx.recv()).await.unwrap().unwrap(), "x");
        }
        woken(&sending).await;
        deadline(sending).await.unwrap();
        assert_eq!(deadline(rx.recv()).await.unwrap().unwrap(), "last");
    }
}

#[tokio::test]
async fn the_sink_makes_one_message_of_each_item() {
    let (mut tx, mut rx) = packet::pipe().unwrap();
    resize(&tx, 4 * 4096);
    for item in ["one", "two", "three"] {
        tx.feed(Bytes::from(item)).await.unwrap();
    }
    tx.flush().await.unwrap();
    tx.close().await.unwrap();
    drop(tx);
    let mut items = Vec::new();
    while let Some(item) = deadline(rx.next()).await {
        items.push(item.unwrap());
    }
    assert_eq!(items, ["one", "two", "three"]);
    assert!(rx.is_terminated());
    assert!(deadline(rx.next()).await.is_none());
}

/// The pipe had room when the sink said it was ready, and was filled by another before it sent.
#[tokio::test]
async fn what_the_sink_holds_back_is_not_overtaken() {
    let (mut tx, rx) = packet::pipe().unwrap();
    deadline(std::future::poll_fn(|cx| Pin::new(&mut tx).poll_ready(cx)))
        .await
        .unwrap();
    while nix::unistd::write(&tx, b"x").is_ok() {}
    Pin::new(&mut tx).start_send(Bytes::from("first")).unwrap();
    assert_pending!(task::spawn(tx.flush()).poll());
    assert!(tx.try_send(b"second").is_err());
    let mut sending = task::spawn(tx.send(b"second"));
    assert_pending!(sending.poll());
    while let Ok(n) = nix::unistd::read(&rx, &mut [0; 8]) {
        assert_eq!(n, 1);
    }
    woken(&sending).await;
    deadline(sending).await.unwrap();
    deadline(tx.flush()).await.unwrap();
    assert_eq!(deadline(rx.recv()).await.unwrap().unwrap(), "first");
    assert_eq!(deadline(rx.recv()).await.unwrap().unwrap(), "second");
    assert_eq!(rx.try_recv().unwrap_err().kind(), ErrorKind::WouldBlock);
}

#[tokio::test]
async fn a_sender_without_a_receiver_fails_each_message_and_goes_on() {
    let (mut tx, rx) = packet::pipe().unwrap();
    drop(rx);
    for _ in 0..3 {
        let error = deadline(tx.send(b"x")).await.unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EPIPE));
        let sunk = deadline(SinkExt::send(&mut tx, Bytes::from("x"))).await;
        assert_eq!(sunk.unwrap_err().raw_os_error(), Some(libc::EPIPE));
    }
    // Nothing is left behind that would be reported again.
    deadline(tx.flush()).await.unwrap();
}

/// The error of a message that was held back is reported once, and its message is gone.
#[tokio::test]
async fn an_unsent_message_whose_receiver_leaves_is_one_error() {
    let (mut tx, rx) = packet::pipe().unwrap();
    deadline(std::future::poll_fn(|cx| Pin::new(&mut tx).poll_ready(cx)))
        .await
        .unwrap();
    while nix::unistd::write(&tx, b"x").is_ok() {}
    Pin::new(&mut tx).start_send(Bytes::from("held")).unwrap();
    drop(rx);
    let error = deadline(tx.flush()).await.unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EPIPE));
    deadline(tx.flush()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn senders_and_receivers_share_one_pipe_each_message_once() {
    const EACH: u32 = 2_000;
    let (tx, rx) = packet::pipe().unwrap();
    let (tx, rx) = (Arc::new(tx), Arc::new(rx));
    let senders: Vec<_> = (0..4)
        .map(|sender| {
            let tx = Arc::clone(&tx);
            tokio::spawn(async move {
                for i in 0..EACH {
                    tx.send(&(sender * EACH + i).to_ne_bytes()).await.unwrap();
                }
            })
        })
        .collect();
    drop(tx);
    let receivers: Vec<_> = (0..4)
        .map(|_| {
            let rx = Arc::clone(&rx);
            tokio::spawn(async move {
                let mut seen = Vec::new();
                while let Some(message) = rx.recv().await.unwrap() {
                    seen.push(u32::from_ne_bytes(message[..].try_into().unwrap()));
                }
                seen
            })
        })
        .collect();
    for sender in senders {
        deadline(sender).await.unwrap();
    }
    let mut all = Vec::new();
    for receiver in receivers {
        let seen = deadline(receiver).await.unwrap();
        // In order for each sender, also at each receiver.
        for sender in 0..4 {
            let of_it = seen.iter().filter(|n| **n / EACH == sender);
            assert!(of_it.is_sorted());
        }
        all.extend(seen);
    }
    all.sort_unstable();
    assert_eq!(all, (0..4 * EACH).collect::<Vec<_>>());
}

#[tokio::test]
async fn it_meets_the_waist() {
    let (tx, rx) = packet::pipe().unwrap();
    let mut sink: BoxFrameSink = Box::pin(tx);
    let mut stream: BoxFrameStream = Box::pin(rx);
    sink.send(Bytes::from("frame")).await.unwrap();
    assert_eq!(deadline(stream.next()).await.unwrap().unwrap(), "frame");
}

#[tokio::test]
async fn the_stream_ends_after_an_error() {
    let (_tx, mut rx) = {
        let runtime = std::thread::spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async { packet::pipe() }).unwrap()
        });
        runtime.join().unwrap()
    };
    let error: io::Error = deadline(rx.next()).await.unwrap().unwrap_err();
    assert_ne!(error.kind(), ErrorKind::WouldBlock);
    assert!(rx.is_terminated());
    assert!(deadline(rx.next()).await.is_none());
}

#[tokio::test]
async fn ends_move_between_threads_and_print() {
    fn check<T: Send + Sync + Unpin>(_: &T) {}
    let (tx, rx) = packet::pipe().unwrap();
    check(&tx);
    check(&rx);
    assert!(format!("{tx:?} {rx:?}").contains("packet::Receiver"));
    let tx = Sender::try_from(tx.as_fd().try_clone_to_owned().unwrap()).unwrap();
    let rx = Receiver::try_from(rx.as_fd().try_clone_to_owned().unwrap()).unwrap();
    let mut cx = Context::from_waker(Waker::noop());
    assert!(
        Pin::new(&mut Box::pin(rx.recv()))
            .as_mut()
            .poll(&mut cx)
            .is_pending()
    );
    tx.send(b"x").await.unwrap();
    assert_eq!(deadline(rx.recv()).await.unwrap().unwrap(), "x");
}
