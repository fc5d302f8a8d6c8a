//! The cases with a process at the other end: one typed program over every transport.
//!
//! Each takes the link and the path of the module whose test `far_end` runs [`far_end`].
//!
//! [`far_end`]: crate::far_end

mod load;

use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use aqueduct::Error;
use aqueduct::codec::{Encode, Postcard};
use bytes::BytesMut;
use nix::sys::signal::Signal;
use tokio::task::yield_now;
use tokio_test::assert_pending;

pub use self::load::{idle, timer};
use crate::cases::GONE;
use crate::link::Link;
use crate::program::{Ask, Client, Reply, Talk, body};
use crate::{deadline, program};

/// The largest frame where a case is about something else.
const USUAL: usize = 1 << 20;

/// Sizes around the limits of pipes, pages and read buffers, as far as `most` allows.
fn size(number: u64, most: usize) -> usize {
    const SIZES: [usize; 12] = [
        0, 1, 7, 100, 900, 4090, 4096, 4097, 8192, 12_288, 65_536, 200_001,
    ];
    let size = SIZES[number as usize % SIZES.len()];
    if size + 32 > most { size % 900 } else { size }
}

async fn next(channel: &mut Client) -> Reply {
    let item = deadline(channel.recv()).await;
    item.expect("the stream goes on").expect("it is whole")
}

fn has_end(link: &impl Link) -> bool {
    link.promises().end_of_stream
}

/// Messages of all sizes come back in order, with both directions busy.
pub async fn order(link: &impl Link, module: &str) {
    const MESSAGES: u64 = 240;
    let most = link.promises().limit(USUAL);
    let Talk { channel, peer, .. } = &mut Talk::open(link, module, USUAL, USUAL).await;
    let (sender, receiver) = channel.split_mut();
    let ask = async {
        for number in 0..MESSAGES {
            let body = body(number, size(number, most));
            sender.feed(Ask::Echo { number, body }).await?;
            if number % 10 == 0 {
                sender.flush().await?;
            }
        }
        sender.send(Ask::Finish).await
    };
    let answer = async {
        for number in 0..MESSAGES {
            let body = body(number, size(number, most));
            let echo = receiver.recv().await;
            let echo = echo.expect("it goes on").expect("it is whole");
            assert!(
                echo == Reply::Echo { number, body },
                "message {number} is wrong"
            );
        }
    };
    let (asked, ()) = deadline(async { tokio::join!(ask, answer) }).await;
    asked.expect("all is sent");
    assert!(matches!(
        next(channel).await,
        Reply::Report { counted: 0, .. }
    ));
    assert!(peer.exit().await.success());
}

/// Closing our direction ends the peer's stream after all messages; its answers still arrive.
pub async fn end(link: &impl Link, module: &str) {
    const MESSAGES: u64 = 25;
    let Talk { channel, peer, .. } = &mut Talk::open(link, module, USUAL, USUAL).await;
    for number in 0..MESSAGES {
        let body = body(number, 100);
        deadline(channel.feed(Ask::Count { number, body }))
            .await
            .expect("it is sent");
    }
    if !has_end(link) {
        deadline(channel.send(Ask::Finish))
            .await
            .expect("it is sent");
    }
    deadline(channel.close()).await.expect("it closes");
    let report = Reply::Report {
        counted: MESSAGES,
        ordered: true,
    };
    assert_eq!(next(channel).await, report);
    assert!(peer.exit().await.success());
    if has_end(link) {
        assert!(deadline(channel.recv()).await.is_none());
        assert!(deadline(channel.recv()).await.is_none(), "it stays ended");
    } else {
        assert_pending!(tokio_test::task::spawn(channel.recv()).poll());
    }
}

/// The other side sends its last messages, closes and exits: they arrive, then the end.
pub async fn peer_ends(link: &impl Link, module: &str) {
    let Talk { channel, peer, .. } = &mut Talk::open(link, module, USUAL, USUAL).await;
    deadline(channel.send(Ask::Flood {
        count: 5,
        size: 300,
    }))
    .await
    .expect("it is sent");
    deadline(channel.send(Ask::Finish))
        .await
        .expect("it is sent");
    for expected in 0..5 {
        let body = body(expected, 300);
        let number = expected;
        assert_eq!(next(channel).await, Reply::Number { number, body });
    }
    assert!(matches!(next(channel).await, Reply::Report { .. }));
    assert!(peer.exit().await.success());
    if has_end(link) {
        assert!(deadline(channel.recv()).await.is_none());
        sending_fails(channel).await;
    } else {
        assert_pending!(tokio_test::task::spawn(channel.recv()).poll());
        if link.promises().receivers_told {
            return sending_fails(channel).await;
        }
        // The message waits.
        deadline(channel.send(Ask::Report))
            .await
            .expect("a queue needs nobody");
    }
}

/// The peer is killed before the first message, between messages, and amid a flood.
pub async fn killed(link: &impl Link, module: &str) {
    let large = link.promises().limit(20_000) - 30;
    for (echoes, numbers, size) in [
        (0, 0, 700),
        (1, 0, 700),
        (3, 0, 700),
        (0, 1, 700),
        (1, 2, 700),
        (0, 3, large),
        (0, 40, large),
        (2, 500, 700),
    ] {
        let Talk { channel, peer, .. } = &mut Talk::open(link, module, USUAL, USUAL).await;
        if link.promises().halves_told_apart || !has_end(link) {
            // Its sending end may not be open yet; a receiver then waits for another sender.
            deadline(channel.send(Ask::Report))
                .await
                .expect("it is sent");
            assert!(matches!(next(channel).await, Reply::Report { .. }));
        }
        for number in 0..echoes {
            let body = body(number, size);
            let ask = Ask::Echo { number, body };
            deadline(channel.send(ask)).await.expect("it is sent");
            assert!(matches!(next(channel).await, Reply::Echo { .. }));
        }
        let mut came = 0;
        if numbers > 0 {
            let flood = Ask::Flood {
                count: u64::MAX,
                size,
            };
            deadline(channel.send(flood)).await.expect("it is sent");
            while came < numbers {
                whole(next(channel).await, came, size);
                came += 1;
            }
        }
        peer.signal(Signal::SIGKILL);
        if !has_end(link) {
            peer.exit().await;
            // What it had sent is whole and stays; then nothing ever comes.
            let rest = async {
                while let Some(item) = polled(channel.recv(), 20).await {
                    whole(
                        item.expect("there is no end").expect("it is whole"),
                        came,
                        size,
                    );
                    came += 1;
                }
            };
            deadline(rest).await;
            continue;
        }
        let error = loop {
            match deadline(channel.recv()).await {
                Some(Ok(reply)) => whole(reply, came, size),
                Some(Err(error)) => break Some(error),
                None => break None,
            }
            came += 1;
        };
        if let Some(error) = error {
            let kind = error.kind();
            let expected = [
                // The last message was cut off.
                io::ErrorKind::UnexpectedEof,
                // It died with messages of ours unread.
                io::ErrorKind::ConnectionReset,
            ];
            assert!(expected.contains(&kind), "{error:?}");
            assert!(deadline(channel.recv()).await.is_none(), "an error ends it");
        }
        sending_fails(channel).await;
        peer.exit().await;
    }
}

fn whole(reply: Reply, number: u64, size: usize) {
    let body = body(number, size);
    assert!(
        reply == Reply::Number { number, body },
        "message {number} is wrong"
    );
}

/// With nobody there any more, sending fails after a few messages, and does not hang.
async fn sending_fails(channel: &mut Client) {
    let failed = async {
        for _ in 0..10_000 {
            if let Err(error) = channel.send(Ask::Report).await {
                return error;
            }
            yield_now().await;
        }
        panic!("it can still be sent to");
    };
    let error = deadline(failed).await;
    assert!(GONE.contains(&error.kind()), "{error:?}");
}

/// Sends until there is no room; gives how many went.
async fn fill(channel: &mut Client, size: usize) -> u64 {
    let mut number = 0;
    loop {
        // The peer is stopped: once it is full, it stays so.
        let room =
            tokio::time::timeout(Duration::from_millis(200), channel.split_mut().0.reserve()).await;
        let Ok(permit) = room else {
            return number;
        };
        let body = body(number, size);
        let ask = Ask::Count { number, body };
        permit.expect("there is room").send(ask).expect("it fits");
        number += 1;
        assert!(
            number * (size as u64) < 64 << 20,
            "nothing ever makes it wait"
        );
    }
}

/// A stopped peer makes the sender wait; when it continues, everything arrives.
pub async fn full(link: &impl Link, module: &str) {
    let size = link.promises().limit(5000).min(4900) - 30;
    let Talk { channel, peer, .. } = &mut Talk::open(link, module, USUAL, USUAL).await;
    deadline(channel.send(Ask::Report))
        .await
        .expect("it is sent");
    assert!(matches!(next(channel).await, Reply::Report { .. }));
    peer.signal(Signal::SIGSTOP);
    let sent = fill(channel, size).await;
    assert!(sent > 0);
    assert_pending!(tokio_test::task::spawn(channel.flush()).poll());
    peer.signal(Signal::SIGCONT);
    deadline(channel.send(Ask::Finish))
        .await
        .expect("it is sent");
    let report = Reply::Report {
        counted: sent,
        ordered: true,
    };
    assert_eq!(next(channel).await, report);
    assert!(peer.exit().await.success());
}

/// A sender that waits for room gets an error when its peer is killed.
pub async fn killed_full(link: &impl Link, module: &str) {
    let size = link.promises().limit(5000).min(4900) - 30;
    let Talk { channel, peer, .. } = &mut Talk::open(link, module, USUAL, USUAL).await;
    deadline(channel.send(Ask::Report))
        .await
        .expect("it is sent");
    assert!(matches!(next(channel).await, Reply::Report { .. }));
    peer.signal(Signal::SIGSTOP);
    fill(channel, size).await;
    if !link.promises().receivers_told {
        // A queue tells nobody: the sender waits on.
        peer.signal(Signal::SIGKILL);
        peer.exit().await;
        assert_pending!(tokio_test::task::spawn(channel.flush()).poll());
        return;
    }
    let mut flush = tokio_test::task::spawn(channel.flush());
    assert_pending!(flush.poll());
    peer.signal(Signal::SIGKILL);
    let error = deadline(flush).await.expect_err("nobody takes it");
    assert!(GONE.contains(&error.kind()), "{error:?}");
}

/// Polls `future` up to `times` times, letting the runtime run between, and drops it.
async fn polled<F: Future>(future: F, times: usize) -> Option<F::Output> {
    let mut future = pin!(future);
    for _ in 0..times {
        let polled = poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx))).await;
        if let Poll::Ready(output) = polled {
            return Some(output);
        }
        yield_now().await;
    }
    None
}

/// Futures are dropped after one, two, three polls: nothing is lost or doubled.
pub async fn cancel(link: &impl Link, module: &str) {
    const MESSAGES: u64 = 300;
    let most = link.promises().limit(USUAL);
    let Talk { channel, peer, .. } = &mut Talk::open(link, module, USUAL, USUAL).await;
    let exchange = async {
        let (mut sent, mut came, mut dropped) = (0, 0, 0_u64);
        while came < MESSAGES {
            let times = (dropped % 3) as usize + 1;
            if sent < MESSAGES {
                match polled(channel.split_mut().0.reserve(), times).await {
                    Some(permit) => {
                        let body = body(sent, size(sent, most));
                        let ask = Ask::Echo { number: sent, body };
                        permit.expect("there is room").send(ask).expect("it fits");
                        sent += 1;
                    }
                    None => dropped += 1,
                }
            }
            match polled(channel.flush(), times).await {
                Some(flushed) => flushed.expect("the peer is there"),
                None => dropped += 1,
            }
            match polled(channel.recv(), times).await {
                Some(item) => {
                    let reply = item.expect("it goes on").expect("it is whole");
                    let body = body(came, size(came, most));
                    let number = came;
                    assert!(
                        reply == Reply::Echo { number, body },
                        "message {came} is wrong"
                    );
                    came += 1;
                }
                None => dropped += 1,
            }
        }
        assert!(dropped > 0, "nothing was dropped: this tested nothing");
        channel.send(Ask::Finish).await.expect("it is sent");
    };
    deadline(exchange).await;
    let report = Reply::Report {
        counted: 0,
        ordered: true,
    };
    assert_eq!(next(channel).await, report);
    // Closing, dropped and taken up again.
    let closed = async { while polled(channel.close(), 1).await.is_none() {} };
    deadline(closed).await;
    assert!(peer.exit().await.success());
}

/// A message that takes up `len` bytes as a frame.
fn echo_of(len: usize) -> Ask {
    let encoded = |body: usize| {
        let ask = Ask::Echo {
            number: 0,
            body: program::body(7, body),
        };
        let mut bytes = BytesMut::new();
        Postcard
            .encode(&ask, &mut bytes)
            .expect("it can be encoded");
        (ask, bytes.len())
    };
    let overhead = encoded(len).1 - len;
    let (ask, is) = encoded(len - overhead);
    assert_eq!(is, len);
    ask
}

/// A message at the limit passes in both directions, and one byte more is refused.
///
/// It is refused before it is sent, or by the receiver if only the receiver has the limit.
pub async fn largest(link: &impl Link, module: &str) {
    for limit in [1000, 3000, 70_000] {
        let limit = link.promises().limit(limit);
        let Talk { channel, peer, .. } = &mut Talk::open(link, module, limit, limit).await;
        for _ in 0..2 {
            deadline(channel.send(echo_of(limit)))
                .await
                .expect("it fits");
            assert!(matches!(next(channel).await, Reply::Echo { .. }));
            let error = deadline(channel.send(echo_of(limit + 1))).await;
            let error = error.expect_err("it is too large");
            refused(&error, limit + 1, limit);
        }
        deadline(channel.send(Ask::Finish))
            .await
            .expect("it goes on");
        assert!(matches!(next(channel).await, Reply::Report { .. }));
        assert!(peer.exit().await.success());
    }
    if link.promises().largest.is_some() {
        // The limit is the queue's: there is no other one to go by.
        return;
    }
    let Talk { channel, .. } = &mut Talk::open(link, module, USUAL, 2000).await;
    deadline(channel.send(echo_of(2001)))
        .await
        .expect("we may send it");
    let Reply::Broken(error) = next(channel).await else {
        panic!("the other side took it");
    };
    let told = error.contains("TooLarge") || error.contains("Truncated");
    assert!(
        told && error.contains("2001") && error.contains("2000"),
        "{error}"
    );
}

/// Checks that the error names the size and the limit.
pub(crate) fn refused(error: &Error, size: usize, limit: usize) {
    let mut told = String::new();
    let mut cause: Option<&dyn std::error::Error> = Some(error);
    while let Some(error) = cause {
        told += &format!("{error}; ");
        cause = error.source();
    }
    let has = |number: usize| told.contains(&number.to_string());
    assert!(has(size) && has(limit), "{told}");
}
