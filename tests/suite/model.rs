//! Real queues, FIFOs and socket pairs beside what they should be: a list, a string of bytes, two
//! lists. Both are driven by the same random operations (send, receive, drop the future, close, kill
//! the other process, open again) and must give the same after each.
//!
//! `PROPTEST_CASES=2000 cargo test --test suite model` for more of them.

mod fifo;
mod queue;
mod socket;

use std::future::Future;
use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;

use futures_util::FutureExt;
use proptest::test_runner::Config;

use crate::support::{Peer, deadline, is_peer, peer_command};

fn config() -> Config {
    Config {
        // Enough to see every two operations meet, and done in seconds.
        cases: match std::env::var_os("PROPTEST_CASES") {
            Some(_) => Config::default().cases,
            None => 60,
        },
        failure_persistence: None,
        max_shrink_time: 20_000,
        ..Config::default()
    }
}

/// What a future gives that has to be done at some time.
async fn done<F: Future>(future: F) -> F::Output {
    tokio::task::yield_now().await;
    deadline(future).await
}

/// Checks that a future has nothing to wait for that will come, and drops it.
async fn waits<F: Future>(future: F) {
    let mut future = std::pin::pin!(future);
    for _ in 0..3 {
        tokio::task::yield_now().await;
        assert!(future.as_mut().now_or_never().is_none(), "it does not wait");
    }
}

/// Polls a future once and drops it.
async fn dropped<F: Future>(future: F) -> Option<F::Output> {
    tokio::task::yield_now().await;
    future.now_or_never()
}

const PEER: &str = "model::peer";
const DO: &str = "AQUEDUCT_MODEL_DO";
const AT: &str = "AQUEDUCT_MODEL_AT";

/// Lets a process do something, and kills it once it has said how that went.
fn killed(what: &str, at: &str) -> String {
    let mut command = peer_command(PEER);
    command.env(DO, what).env(AT, at);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut peer = Peer::spawn(&mut command);
    let mut lines = BufReader::new(peer.0.stdout.take().expect("it is piped")).lines();
    let said = lines.find_map(|line| {
        let line = line.expect("it is text");
        line.split_once("model: ").map(|(_, said)| said.to_owned())
    });
    peer.kill();
    said.expect("it says how it went")
}

#[test]
fn peer() {
    if !is_peer(PEER) {
        return;
    }
    let variable = |name| std::env::var(name).expect("the test sets it");
    let (what, at) = (variable(DO), variable(AT));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime can be had");
    runtime.block_on(async {
        let (said, _open) = match what.split_once(' ').expect("a kind") {
            ("queue", what) => queue::peer(what, &at).await,
            ("fifo", what) => fifo::peer(what, &at).await,
            ("socket", what) => socket::peer(what, &at).await,
            other => panic!("{other:?} is no kind"),
        };
        println!("model: {said}");
        std::io::stdout().flush().expect("it is read");
        // Until it is killed.
        let _ = std::io::stdin().lines().next();
    });
}

/// What a peer keeps open.
type Open = Box<dyn std::any::Any>;
