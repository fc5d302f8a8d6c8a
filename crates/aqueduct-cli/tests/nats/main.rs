//! The `nats:` address with a real server: `.ci/nats` installs it and runs this; plain `cargo test` leaves
//! it out.

#[path = "../../../../tests/suite/tls/files.rs"]
mod certificates;
mod conformance;
mod cuts;
mod doctor;
mod faults;
mod jobs;
mod kills;
mod leaving;
mod requests;
mod server;
mod speed;
mod stalls;
mod tls;

use std::time::Duration;

use aqueduct::connect::{Message, MessageReceiver, MessageSender, Options, Receipt};
use aqueduct::{Endpoint, OpenErrorKind};
use aqueduct_conformance::deadline;
use aqueduct_conformance::settlement::{self, Store};
// Ends a test that hangs.
use aqueduct_watchdog as _;
use futures_util::{SinkExt, StreamExt};
use nix::sys::signal::Signal;

use server::Server;

/// A stream and its consumer, which are created.
const JOBS: &str = "jobs?stream=JOBS&consumer=work&create=true&ack-wait=5";

fn endpoint(address: &str) -> Endpoint {
    address.parse().expect(address)
}

async fn sender(address: &str) -> MessageSender {
    let endpoint = endpoint(address);
    let opened = deadline(endpoint.open_sender());
    opened.await.expect("it is there")
}

async fn receiver(address: &str) -> MessageReceiver {
    let endpoint = endpoint(address);
    let opened = deadline(endpoint.open_receiver());
    opened.await.expect("it is there")
}

async fn next(incoming: &mut MessageReceiver) -> Message {
    let next = deadline(incoming.next()).await;
    next.expect("it goes on").expect("it is whole")
}

impl Store for Server {
    async fn sender(&self) -> MessageSender {
        sender(&self.at(JOBS)).await
    }

    async fn receiver(&self) -> MessageReceiver {
        receiver(&self.at(JOBS)).await
    }
}

#[tokio::test]
async fn settled_messages_do_not_come_again() {
    settlement::settled_or_given_back(&Server::new()).await;
}

#[tokio::test]
async fn a_typed_receiver_settles_an_item_with_the_next() {
    settlement::typed_receivers(&Server::new()).await;
}

#[tokio::test]
async fn deliveries_are_settled_in_any_order() {
    settlement::deliveries(&Server::new()).await;
}

#[tokio::test]
async fn a_dropped_relay_gives_back_what_was_not_flushed() {
    settlement::dropped_relays(&Server::new()).await;
}

#[tokio::test]
async fn core_messages_reach_each_queue_group_once() {
    let server = Server::with(&[]);
    let mut all = receiver(&server.at("news.>")).await;
    let mut one = receiver(&server.at("news.*?queue=a")).await;
    let mut other = receiver(&server.at("news.*?queue=a")).await;
    let mut outgoing = sender(&server.at("news.today")).await;
    // A subscription is there once the server has seen it.
    let probe = async { while deadline(async { all.next().await }).await.is_none() {} };
    outgoing.send("first".into()).await.expect("it is sent");
    tokio::time::timeout(Duration::from_secs(5), probe)
        .await
        .expect("it arrives");
    outgoing.send("second".into()).await.expect("it is sent");
    assert_eq!(next(&mut all).await.body(), "second");
    for _ in 0..2 {
        tokio::select! {
            message = one.next() => drop(message),
            message = other.next() => drop(message),
        }
    }
    for mut end in [all, one, other] {
        end.stop();
        assert!(deadline(end.next()).await.is_none());
    }
}

#[tokio::test]
async fn each_message_of_a_stalled_consumer_arrives_once() {
    // Longer than the acknowledgement may take: what is held is reported as in progress.
    let server = Server::new();
    let address = server.at("jobs?stream=JOBS&consumer=work&create=true&ack-wait=1");
    let mut outgoing = sender(&address).await;
    for number in 0..3 {
        outgoing
            .feed(Message::new(number.to_string()))
            .await
            .expect("it is sent");
    }
    outgoing.close().await.expect("it is stored");
    let mut incoming = receiver(&address).await;
    let mut held = Vec::new();
    for number in 0..3 {
        let mut message = next(&mut incoming).await;
        assert_eq!(message.body(), number.to_string().as_bytes());
        held.push(message.take_receipt().expect("it has one"));
    }
    let again = tokio::time::timeout(Duration::from_millis(2500), incoming.next()).await;
    assert!(again.is_err(), "one is delivered again: {again:?}");
    for receipt in held {
        receipt.settle();
    }
    incoming.stop();
    assert!(deadline(incoming.next()).await.is_none());
}

#[tokio::test]
async fn a_full_stream_is_waited_for_in_order() {
    let server = Server::new();
    let address =
        server.at("jobs?stream=JOBS&consumer=work&create=true&retention=workqueue&max-messages=5");
    let mut outgoing = sender(&address).await;
    let sending = tokio::spawn(async move {
        for number in 0..40 {
            outgoing.feed(Message::new(number.to_string())).await?;
        }
        outgoing.close().await
    });
    let mut incoming = receiver(&address).await;
    let mut seen = Vec::new();
    for _ in 0..40 {
        let mut message = next(&mut incoming).await;
        seen.push(String::from_utf8_lossy(message.body()).into_owned());
        message.take_receipt().expect("it has one").settle();
    }
    deadline(sending)
        .await
        .expect("no panic")
        .expect("all is stored");
    seen.sort_by_key(|it| it.parse::<u32>().unwrap_or(0));
    assert_eq!(seen, (0..40).map(|it| it.to_string()).collect::<Vec<_>>());
}

/// Not only when a flush has succeeded, for which a relay may not wait.
#[tokio::test]
async fn a_message_is_settled_as_soon_as_it_is_stored() {
    let server = Server::new();
    let mut outgoing = sender(&server.at("jobs?stream=JOBS&create=true")).await;
    let (told, mut outcomes) = tokio::sync::mpsc::unbounded_channel();
    let mut feed = async |number: usize| {
        let told = told.clone();
        let receipt = Receipt::new(move |settled| {
            let _ = told.send((number, settled));
        });
        let message = Message::new(number.to_string()).with_receipt(receipt);
        deadline(outgoing.feed(message)).await.expect("it is sent");
    };
    feed(0).await;
    assert_eq!(deadline(outcomes.recv()).await, Some((0, true)));
    assert_eq!(server.messages("JOBS").await, 1);
    server.stall();
    feed(1).await;
    let early = tokio::time::timeout(Duration::from_millis(300), outcomes.recv());
    assert!(early.await.is_err(), "the server had no chance to store it");
    server.signal(Signal::SIGCONT);
    assert_eq!(deadline(outcomes.recv()).await, Some((1, true)));
}

#[tokio::test]
async fn errors_have_a_kind_and_a_cure() {
    let server = Server::new();
    let locked = Server::with(&["--user", "me", "--pass", "secret", "-js"]);
    let plain = Server::with(&[]);
    let mut none = Server::with(&[]);
    none.kill();
    let with_user = |user: &str| locked.at("jobs").replace("//", &format!("//{user}@"));
    for (address, sends, kind, words) in [
        (
            none.at("jobs"),
            true,
            OpenErrorKind::Refused,
            "start the server",
        ),
        (
            with_user("me:wrong"),
            true,
            OpenErrorKind::PermissionDenied,
            "password",
        ),
        (
            plain.at("jobs?stream=JOBS"),
            true,
            OpenErrorKind::Unsupported,
            "-js",
        ),
        (
            server.at("jobs?stream=JOBS"),
            true,
            OpenErrorKind::NotFound,
            "create=true",
        ),
        (
            server.at("jobs?stream=JOBS"),
            false,
            OpenErrorKind::InvalidOption,
            "consumer",
        ),
        (
            server.at("jobs.*"),
            true,
            OpenErrorKind::InvalidName,
            "receivers only",
        ),
        (
            server.at("jobs?creds=/nowhere"),
            true,
            OpenErrorKind::InvalidOption,
            "path",
        ),
    ] {
        let mut options = Options::new();
        options.wait(Duration::ZERO);
        let endpoint = endpoint(&address);
        let error = deadline(async {
            match sends {
                true => options.open_sender(&endpoint).await.expect_err(&address),
                false => options.open_receiver(&endpoint).await.expect_err(&address),
            }
        });
        let error = error.await;
        let text = error.to_string();
        assert_eq!(error.kind(), &kind, "{text}");
        assert!(text.contains(words) && !text.contains("wrong"), "{text}");
    }
    let mut good = sender(&with_user("me:secret")).await;
    good.send("hello".into()).await.expect("it is sent");
}

#[tokio::test]
async fn a_missing_consumer_is_not_created() {
    let server = Server::new();
    drop(sender(&server.at("jobs?stream=JOBS&create=true")).await);
    let endpoint = endpoint(&server.at("jobs?stream=JOBS&consumer=work"));
    let error = deadline(endpoint.open_receiver())
        .await
        .expect_err("there is none");
    assert_eq!(error.kind(), &OpenErrorKind::NotFound);
    let other = self::endpoint(&server.at("other?stream=JOBS&consumer=work"));
    drop(receiver(&server.at(JOBS)).await);
    let error = deadline(other.open_receiver())
        .await
        .expect_err("it has another subject");
    assert_eq!(error.kind(), &OpenErrorKind::Mismatch);
}

#[tokio::test]
async fn a_message_over_the_limit_is_refused_and_the_end_goes_on() {
    let server = Server::new();
    let mut outgoing = sender(&server.at("jobs?stream=JOBS&create=true")).await;
    let large = vec![0_u8; 1 << 20];
    let error = deadline(outgoing.send(Message::new(large)))
        .await
        .expect_err("it is too large");
    assert!(aqueduct::frame::FrameError::of(&error).is_some(), "{error}");
    let largest = vec![0_u8; (1 << 20) - 512];
    deadline(outgoing.send(Message::new(largest)))
        .await
        .expect("it fits");
}
