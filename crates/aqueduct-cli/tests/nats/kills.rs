//! Servers and relays that are killed, with every message numbered. `AQUEDUCT_NATS_KILLS` is how many of
//! each (2).

use std::collections::BTreeMap;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use aqueduct::connect::Message;
use aqueduct_conformance::deadline;
use futures_util::SinkExt;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

use crate::server::Server;
use crate::{next, receiver, sender};

pub(crate) fn kills() -> usize {
    let kills = std::env::var("AQUEDUCT_NATS_KILLS").ok();
    kills.and_then(|it| it.parse().ok()).unwrap_or(2)
}

/// What became of numbered messages.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Fate {
    lost: usize,
    doubled: usize,
    reordered: usize,
}

impl Fate {
    pub(crate) fn of(seen: &[usize], count: usize) -> Self {
        let mut times = BTreeMap::new();
        let mut fate = Self::default();
        let mut highest = None;
        for number in seen {
            let first = *times.entry(number).and_modify(|n| *n += 1).or_insert(1) == 1;
            if !first {
                fate.doubled += 1;
            } else if highest.is_some_and(|it| number < it) {
                fate.reordered += 1;
            }
            highest = highest.max(Some(number));
        }
        fate.lost = count - times.len();
        fate
    }
}

/// Numbered messages that are sent one after the other.
pub(crate) struct Numbers {
    sent: watch::Receiver<usize>,
    stop: oneshot::Sender<()>,
    sending: JoinHandle<usize>,
}

impl Numbers {
    pub(crate) async fn send(address: &str) -> Self {
        let mut outgoing = sender(address).await;
        let (progress, sent) = watch::channel(0);
        let (stop, mut stopped) = oneshot::channel::<()>();
        let sending = tokio::spawn(async move {
            let mut number = 0;
            while stopped.try_recv().is_err() {
                let fed = outgoing.feed(Message::new(number.to_string())).await;
                fed.expect("it goes on");
                number += 1;
                progress.send_replace(number);
            }
            outgoing.close().await.expect("all is stored");
            number
        });
        Self {
            sent,
            stop,
            sending,
        }
    }

    /// Waits until this many more messages are sent.
    pub(crate) async fn reach(&self, more: usize) {
        let mut sent = self.sent.clone();
        let count = *sent.borrow() + more;
        let reached = deadline(sent.wait_for(|it| *it >= count)).await;
        assert!(reached.is_ok(), "it has ended");
    }

    /// How many there were.
    pub(crate) async fn stop(self) -> usize {
        let _ = self.stop.send(());
        deadline(self.sending).await.expect("no panic")
    }

    /// Stops, and compares what the stream `JOBS` has with how many were sent.
    pub(crate) async fn fate(self, server: &Server) -> (Fate, usize) {
        let count = self.stop().await;
        let address = server.at("jobs?stream=JOBS&consumer=check&create=true");
        let seen = drain(&address, count).await;
        (Fate::of(&seen, count), count)
    }
}

/// Takes messages out of a stream, until one has this number.
async fn drain_until(address: &str, last: usize) -> Vec<usize> {
    let mut incoming = receiver(address).await;
    let mut seen = Vec::new();
    while seen.last() != Some(&last) {
        let mut message = next(&mut incoming).await;
        seen.push(number(&message));
        message.take_receipt().expect("it has one").settle();
    }
    seen
}

fn number(message: &Message) -> usize {
    let text = std::str::from_utf8(message.body()).ok();
    text.and_then(|it| it.parse().ok()).expect("a number")
}

/// Takes all messages out of a stream.
pub(crate) async fn drain(address: &str, count: usize) -> Vec<usize> {
    let mut incoming = receiver(address).await;
    let mut seen = Vec::new();
    loop {
        let left = count.saturating_sub(seen.len());
        let wait = if left > 0 {
            Duration::from_secs(20)
        } else {
            Duration::from_millis(500)
        };
        let Ok(message) = tokio::time::timeout(wait, next(&mut incoming)).await else {
            break;
        };
        let mut message = message;
        seen.push(number(&message));
        message.take_receipt().expect("it has one").settle();
    }
    incoming.stop();
    while let Some(message) = deadline(futures_util::StreamExt::next(&mut incoming)).await {
        drop(message);
    }
    seen
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_server_loses_doubles_and_reorders_nothing() {
    let mut server = Server::new();
    let address = server.at("jobs?stream=JOBS&consumer=check&create=true");
    let numbers = Numbers::send(&address).await;
    for kill in 0..kills() {
        tokio::time::sleep(Duration::from_millis(100 + 37 * (kill as u64 % 7))).await;
        tokio::task::block_in_place(|| server.restart());
    }
    let count = numbers.stop().await;
    let seen = drain(&address, count).await;
    println!(
        "server killed {} times: {:?} of {count}",
        kills(),
        Fate::of(&seen, count)
    );
    assert_eq!(Fate::of(&seen, count), Fate::default());
}

/// Starts `aqueduct relay`.
pub(crate) fn relay(from: &str, to: &str) -> std::process::Child {
    Command::new(env!("CARGO_BIN_EXE_aqueduct"))
        .args(["--quiet", "relay", from, to])
        .stdin(Stdio::null())
        .spawn()
        .expect("it can be run")
}

#[tokio::test]
async fn a_killed_relay_between_streams_delivers_once_in_order() {
    let count = 10_000 * kills();
    let server = Server::new();
    let from = server.at("from?stream=FROM&consumer=relay&create=true&ack-wait=1");
    let to = server.at("to?stream=TO&consumer=check&create=true");
    let mut outgoing = sender(&from).await;
    for number in 0..count {
        outgoing
            .feed(Message::new(number.to_string()))
            .await
            .expect("it goes on");
    }
    outgoing.close().await.expect("all is stored");
    drop(receiver(&from).await);
    for kill in 0..kills() {
        let mut child = relay(&from, &to);
        // Some die while they wait for what the one before had in hand.
        tokio::time::sleep(Duration::from_millis(60 + 373 * (kill as u64 % 7))).await;
        child.kill().expect("it is a child");
        child.wait().expect("it is a child");
    }
    let mut child = relay(&from, &to);
    let since = Instant::now();
    let seen = drain(&to, count).await;
    child.kill().expect("it is a child");
    child.wait().expect("it is a child");
    let fate = Fate::of(&seen, count);
    println!(
        "relay killed {} times: {fate:?} of {count} in {:?}",
        kills(),
        since.elapsed()
    );
    assert_eq!(fate, Fate::default());
}

/// A queue forgets what was taken from it: what the relay has in hand is in its spool.
#[tokio::test(flavor = "multi_thread")]
async fn a_killed_relay_with_a_spool_loses_at_most_one_message() {
    let server = Server::new();
    let spool = server.dir().join("relay.spool");
    let queue = format!("/aqueduct-nats-{}", std::process::id());
    let from = format!("mq:{queue}");
    let to = server.at("to?stream=TO&consumer=check&create=true");
    let mut outgoing = sender(&from).await;
    let (stop, mut stopped) = oneshot::channel::<()>();
    let sending = tokio::spawn(async move {
        let mut number = 0;
        while stopped.try_recv().is_err() {
            let message = Message::new(number.to_string());
            outgoing.send(message).await.expect("it goes on");
            number += 1;
        }
        number
    });
    let relay = || {
        Command::new(env!("CARGO_BIN_EXE_aqueduct"))
            .args(["--quiet", "relay", &from, &to, "--spool"])
            .arg(&spool)
            .stdin(Stdio::null())
            .spawn()
            .expect("it can be run")
    };
    for kill in 0..kills() {
        let mut child = relay();
        tokio::time::sleep(Duration::from_millis(80 + 43 * (kill as u64 % 5))).await;
        child.kill().expect("it is a child");
        child.wait().expect("it is a child");
    }
    let mut child = relay();
    let _ = stop.send(());
    let count = deadline(sending).await.expect("no panic");
    let seen = drain_until(&to, count - 1).await;
    child.kill().expect("it is a child");
    child.wait().expect("it is a child");
    let removed = crate::endpoint(&from).remove().await;
    removed.expect("it is there");
    let fate = Fate::of(&seen, count);
    println!(
        "relay with a spool killed {} times: {fate:?} of {count}",
        kills()
    );
    assert!(fate.lost <= kills(), "{fate:?}");
    assert_eq!((fate.doubled, fate.reordered), (0, 0));
}

#[test]
fn fates_are_counted() {
    let fate = Fate::of(&[0, 2, 1, 2, 4], 6);
    assert_eq!(
        fate,
        Fate {
            lost: 2,
            doubled: 1,
            reordered: 1
        }
    );
}
