//! Publishing with acknowledgements, beside `async-nats` by hand: `.ci/nats speed`.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use aqueduct::connect::Message;
use async_nats::HeaderMap;
use bytes::Bytes;
use futures_util::SinkExt;

use crate::sender;
use crate::server::Server;

/// Windows, and how many messages are measured with each.
const WINDOWS: [(usize, usize); 3] = [(1, 2_000), (16, 20_000), (256, 50_000)];
const ROUNDS: usize = 7;

/// The client alone: the oldest acknowledgement is waited for once the window is full.
async fn by_hand(server: &str, body: &Bytes, run: (usize, usize), ids: bool) -> Duration {
    let (window, messages) = run;
    let client = async_nats::connect(server).await.expect("it is there");
    let context = async_nats::jetstream::new(client);
    let mut open = VecDeque::new();
    let run = format!("{:?}", Instant::now());
    let since = Instant::now();
    for number in 0..messages {
        if open.len() == window
            && let Some(oldest) = open.pop_front()
        {
            let oldest: async_nats::jetstream::context::PublishAckFuture = oldest;
            oldest.await.expect("it is stored");
        }
        let sent = match ids {
            true => {
                let mut headers = HeaderMap::new();
                headers.insert("Nats-Msg-Id", format!("{run}:{number}"));
                context
                    .publish_with_headers("jobs", headers, body.clone())
                    .await
            }
            false => context.publish("jobs", body.clone()).await,
        };
        open.push_back(sent.expect("it is sent"));
    }
    for ack in open {
        ack.await.expect("it is stored");
    }
    since.elapsed()
}

async fn with_aqueduct(address: &str, body: &Bytes, messages: usize) -> Duration {
    let mut outgoing = sender(address).await;
    let since = Instant::now();
    for _ in 0..messages {
        let fed = outgoing.feed(Message::new(body.clone())).await;
        fed.expect("it is sent");
    }
    outgoing.flush().await.expect("all is stored");
    since.elapsed()
}

/// A measurement, which asserts nothing. They take turns; the median of each is printed.
#[tokio::test]
#[ignore = "a measurement: .ci/nats speed"]
async fn publishing_beside_the_client_by_hand() {
    let server = Server::new();
    let client = server.url();
    println!("thousand messages a second, median of {ROUNDS}");
    for (window, messages) in WINDOWS {
        let address = server.at(&format!("jobs?stream=JOBS&create=true&window={window}"));
        let without = format!("{address}&id=false");
        drop(sender(&address).await);
        let run = (window, messages);
        for size in [64, 1024] {
            let body = Bytes::from(vec![b'.'; size]);
            let mut times: [Vec<Duration>; 4] = Default::default();
            for _ in 0..ROUNDS {
                times[0].push(by_hand(&client, &body, run, false).await);
                times[1].push(with_aqueduct(&without, &body, messages).await);
                times[2].push(by_hand(&client, &body, run, true).await);
                times[3].push(with_aqueduct(&address, &body, messages).await);
                server.purge("JOBS").await;
            }
            let rates = times.map(|mut it| {
                it.sort();
                messages as f64 / it[ROUNDS / 2].as_secs_f64() / 1000.0
            });
            let [hand, ours, hand_ids, ours_ids] = rates;
            println!(
                "window {window}, {size} B: async-nats {hand:.1}, aqueduct {ours:.1} ({:.2}); with ids \
                 {hand_ids:.1}, {ours_ids:.1} ({:.2})",
                ours / hand,
                ours_ids / hand_ids
            );
        }
    }
}
